// Modulated deformable convolution: samples at moved taps, each times its mask, multiplied by the filters.
//
// A block computes OUTPUTS output channels of PIXELS neighbouring positions, for one group of one image. It goes
// through the products (channel, tap) DEPTH at a time: samples and weights are left in shared memory, then every thread
// adds them up for one position and kRows output channels. Samples are taken anew by each block that needs them.
//
// Macros: SCALAR (float or __half), KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE, PADDING, DILATION, PIXELS, OUTPUTS, DEPTH,
// THREADS. Positions, samples and sums are FP32 for either SCALAR.

#include <cuda_fp16.h>

constexpr int kTaps = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int kRows = OUTPUTS * PIXELS / THREADS;

__device__ float pixel(const SCALAR* plane, int x, int y, int width, int height) {
  const bool inside = x >= 0 && x < width && y >= 0 && y < height;
  return inside ? static_cast<float>(plane[y * width + x]) : 0.f;
}

// Average of the four pixels around a position, zeros outside. No position far outside is converted to an integer.
__device__ float bilinear(const SCALAR* plane, float x, float y, int width, int height) {
  if (!(x > -1.f && x < width && y > -1.f && y < height)) return 0.f;
  const int left = __float2int_rd(x), top = __float2int_rd(y);
  const float right = x - left, bottom = y - top;
  return (1.f - bottom) * ((1.f - right) * pixel(plane, left, top, width, height) +
                           right * pixel(plane, left + 1, top, width, height)) +
         bottom * ((1.f - right) * pixel(plane, left, top + 1, width, height) +
                   right * pixel(plane, left + 1, top + 1, width, height));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    modulated_deformable_convolution(const SCALAR* __restrict__ image, const SCALAR* __restrict__ offset,
                                     const SCALAR* __restrict__ mask, const SCALAR* __restrict__ weight, int channels,
                                     int height, int width, int outputs, int out_height, int out_width, int groups,
                                     int offset_groups, SCALAR* __restrict__ output) {
  __shared__ float samples[DEPTH][PIXELS];
  __shared__ float weights[DEPTH][OUTPUTS + 1];  // odd rows: a column is written without bank conflicts
  const int group_channels = channels / groups, group_outputs = outputs / groups;
  const int tiles = (group_outputs + OUTPUTS - 1) / OUTPUTS;
  const int group = blockIdx.y / tiles, first_output = blockIdx.y % tiles * OUTPUTS;
  const int area = out_height * out_width, depth = group_channels * kTaps;
  const long long batch = blockIdx.z;
  const int column = threadIdx.x % PIXELS, row = threadIdx.x / PIXELS;
  const int position = blockIdx.x * PIXELS + column;
  const int out_y = position / out_width, out_x = position % out_width;

  image += batch * channels * height * width;
  offset += batch * offset_groups * kTaps * 2 * area;
  mask += batch * offset_groups * kTaps * area;
  weight += static_cast<long long>(group * group_outputs + first_output) * depth;
  float sum[kRows] = {};

  for (int start = 0; start < depth; start += DEPTH) {
    for (int i = row; i < DEPTH; i += THREADS / PIXELS) {
      const int channel = group * group_channels + (start + i) / kTaps, tap = (start + i) % kTaps;
      float sample = 0.f;
      if (start + i < depth && position < area) {
        const int moved = channel / (channels / offset_groups) * kTaps + tap;
        const float y = out_y * STRIDE - PADDING + tap / KERNEL_WIDTH * DILATION +
                        static_cast<float>(offset[(2 * moved) * area + position]);
        const float x = out_x * STRIDE - PADDING + tap % KERNEL_WIDTH * DILATION +
                        static_cast<float>(offset[(2 * moved + 1) * area + position]);
        sample = static_cast<float>(mask[moved * area + position]) *
                 bilinear(image + channel * height * width, x, y, width, height);
      }
      samples[i][column] = sample;
    }
    for (int i = threadIdx.x; i < DEPTH * OUTPUTS; i += THREADS) {
      const int k = i % DEPTH, o = i / DEPTH;
      const bool exists = start + k < depth && first_output + o < group_outputs;
      weights[k][o] = exists ? static_cast<float>(weight[o * depth + start + k]) : 0.f;
    }
    __syncthreads();
#pragma unroll 8
    for (int k = 0; k < DEPTH; ++k) {
      const float sample = samples[k][column];
#pragma unroll
      for (int i = 0; i < kRows; ++i) sum[i] = fmaf(sample, weights[k][row * kRows + i], sum[i]);
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int o = first_output + row * kRows + i;
    if (position < area && o < group_outputs) {
      output[(batch * outputs + group * group_outputs + o) * area + position] = static_cast<SCALAR>(sum[i]);
    }
  }
}
