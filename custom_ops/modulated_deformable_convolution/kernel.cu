// Modulated deformable convolution: samples at moved taps, each times its mask, multiplied by the filters.
//
// It is a matrix product, filters [outputs, products] by samples [products, positions], whose right side is made on the
// way; a product is a pair (channel, tap). A block computes kOutputs x kPixels results for one group of one image, a
// warp 64 x 16 of them. Where a tap reads is found out once for all channels that share the offsets: corners and their
// shares stay in shared memory. Then, kDepth products at a time, the block leaves filters and samples in shared memory
// and the warps multiply them: FP32 in registers, FP16 on tensor cores with FP32 sums. While they multiply, what comes
// next is on its way from memory.
//
// Macros: SCALAR (float or __half), KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE, PADDING, DILATION, OUTPUT_WARPS, and
// FILTER_VECTOR: so many neighbouring weights of a filter are loaded at once. Positions and interpolation are FP32 for
// either SCALAR. Pixels are taken to be finite: what lies outside the image is a pixel of it with share 0.

#include <cuda_fp16.h>
#include <mma.h>

constexpr int kTaps = KERNEL_HEIGHT * KERNEL_WIDTH;
constexpr int kTapsAtOnce = kTaps < 9 ? kTaps : 9;  // more would not fit into shared memory
constexpr int kOutputs = 64 * OUTPUT_WARPS, kPixels = 32, kThreads = 64 * OUTPUT_WARPS;
constexpr int kDepth = 32 / sizeof(SCALAR);  // 16 for __half: one step of a tensor core
constexpr int kPad = 16 / sizeof(SCALAR);  // against bank conflicts
constexpr int kFilterRow = kDepth + kPad, kSampleRow = kPixels + kPad;

// Where a tap reads: its four pixels in a plane of the image, in bytes, and the share of each. One outside has share 0.
struct Tap {
  uint4 offset;
  float4 share;
};

__device__ Tap tap_at(float x, float y, float mask, int width, int height) {
  if (!(x > -1.f && x < width && y > -1.f && y < height)) return {};  // NaN too; no far position becomes an integer
  const int left = __float2int_rd(x), top = __float2int_rd(y);
  const float right_share = x - left, bottom_share = y - top;
  const float left_weight = left >= 0 ? 1.f - right_share : 0.f, right_weight = left + 1 < width ? right_share : 0.f;
  const float top_weight = top >= 0 ? mask * (1.f - bottom_share) : 0.f;
  const float bottom_weight = top + 1 < height ? mask * bottom_share : 0.f;
  const int upper = max(top, 0) * width, lower = min(top + 1, height - 1) * width;
  const int x0 = max(left, 0), x1 = min(left + 1, width - 1);
  constexpr unsigned kBytes = sizeof(SCALAR);
  return {make_uint4((upper + x0) * kBytes, (upper + x1) * kBytes, (lower + x0) * kBytes, (lower + x1) * kBytes),
          make_float4(top_weight * left_weight, top_weight * right_weight, bottom_weight * left_weight,
                      bottom_weight * right_weight)};
}

// FILTER_VECTOR weights as one machine word, so that they are copied by a single instruction.
template <int BYTES> struct WordOf;
template <> struct WordOf<2> { using type = unsigned short; };
template <> struct WordOf<4> { using type = unsigned int; };
template <> struct WordOf<8> { using type = uint2; };
template <> struct WordOf<16> { using type = uint4; };
using FilterWord = WordOf<FILTER_VECTOR * sizeof(SCALAR)>::type;

// What a warp computes: 64 outputs, from its first row of the filters on, by 16 pixels, from its first column of the
// samples on. `store` calls put(output, pixel, sum) for each of them.
template <typename Scalar> struct WarpTile;

// A lane has outputs lane % 8 + 8i and pixels 4 (lane / 8) + j: neighbouring lanes read different banks.
template <> struct WarpTile<float> {
  float sum[8][4] = {};

  __device__ void add(const float* filters, const float* samples, int lane) {
    filters += lane % 8 * kFilterRow;
    samples += lane / 8 * 4;
#pragma unroll
    for (int first = 0; first < kDepth; first += 4) {
      float weight[8][4];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        *reinterpret_cast<float4*>(weight[i]) = *reinterpret_cast<const float4*>(filters + 8 * i * kFilterRow + first);
      }
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        const float4 pixels = *reinterpret_cast<const float4*>(samples + (first + step) * kSampleRow);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          sum[i][0] = fmaf(weight[i][step], pixels.x, sum[i][0]);
          sum[i][1] = fmaf(weight[i][step], pixels.y, sum[i][1]);
          sum[i][2] = fmaf(weight[i][step], pixels.z, sum[i][2]);
          sum[i][3] = fmaf(weight[i][step], pixels.w, sum[i][3]);
        }
      }
    }
  }

  template <typename Put> __device__ void store(float*, int lane, Put put) const {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) put(lane % 8 + 8 * i, lane / 8 * 4 + j, sum[i][j]);
    }
  }
};

template <> struct WarpTile<__half> {
  using Sums = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
  using Filters = nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __half, nvcuda::wmma::row_major>;
  using Samples = nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __half, nvcuda::wmma::row_major>;
  Sums sum[4];

  __device__ WarpTile() {
    for (Sums& part : sum) nvcuda::wmma::fill_fragment(part, 0.f);
  }

  __device__ void add(const __half* filters, const __half* samples, int) {
    Samples right;
    nvcuda::wmma::load_matrix_sync(right, samples, kSampleRow);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      Filters left;
      nvcuda::wmma::load_matrix_sync(left, filters + 16 * i * kFilterRow, kFilterRow);
      nvcuda::wmma::mma_sync(sum[i], left, right, sum[i]);
    }
  }

  // Which lane holds which sum is not specified: they go through `scratch`, 256 values of the warp's own.
  template <typename Put> __device__ void store(float* scratch, int lane, Put put) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      nvcuda::wmma::store_matrix_sync(scratch, sum[i], 16, nvcuda::wmma::mem_row_major);
      __syncwarp();
      for (int k = lane; k < 256; k += 32) put(16 * i + k / 16, k % 16, scratch[k]);
      __syncwarp();
    }
  }
};

extern "C" __global__ void __launch_bounds__(kThreads, 3)
    modulated_deformable_convolution(const SCALAR* __restrict__ image, const SCALAR* __restrict__ offset,
                                     const SCALAR* __restrict__ mask, const SCALAR* __restrict__ weight, int channels,
                                     int height, int width, int outputs, int out_height, int out_width, int groups,
                                     int offset_groups, SCALAR* __restrict__ output) {
  __shared__ uint4 tap_offsets[kTapsAtOnce][kPixels];
  __shared__ float4 tap_shares[kTapsAtOnce][kPixels];
  __shared__ alignas(32) SCALAR filters[2][kOutputs][kFilterRow];  // one half is filled while the other is multiplied
  __shared__ alignas(32) SCALAR samples[2][kDepth][kSampleRow];
  const int group_channels = channels / groups, group_outputs = outputs / groups;
  const int sharing = channels / offset_groups;  // channels that share offsets
  const int tiles = (group_outputs + kOutputs - 1) / kOutputs;
  const int group = blockIdx.y / tiles, first_output = blockIdx.y % tiles * kOutputs;
  const int area = out_height * out_width, plane = height * width, depth = group_channels * kTaps;
  const unsigned plane_bytes = plane * sizeof(SCALAR);
  const int first_position = blockIdx.x * kPixels;
  const long long batch = blockIdx.z;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_output = warp / 2 * 64, warp_pixel = warp % 2 * 16;

  image += batch * channels * plane;
  offset += batch * offset_groups * kTaps * 2 * area;
  mask += batch * offset_groups * kTaps * area;
  weight += static_cast<long long>(group * group_outputs + first_output) * depth;
  WarpTile<SCALAR> tile;

  const int end_channel = (group + 1) * group_channels;
  for (int channel = group * group_channels, next; channel < end_channel; channel = next) {
    const int offset_group = channel / sharing;
    next = min((offset_group + 1) * sharing, end_channel);
    for (int first_tap = 0; first_tap < kTaps; first_tap += kTapsAtOnce) {
      for (int i = threadIdx.x; i < kTapsAtOnce * kPixels; i += kThreads) {
        const int tap = first_tap + i / kPixels, pixel = i % kPixels, position = first_position + pixel;
        Tap found = {};
        if (tap < kTaps && position < area) {
          const int moved = offset_group * kTaps + tap;
          const float y = position / out_width * STRIDE - PADDING + tap / KERNEL_WIDTH * DILATION +
                          static_cast<float>(offset[(2 * moved) * area + position]);
          const float x = position % out_width * STRIDE - PADDING + tap % KERNEL_WIDTH * DILATION +
                          static_cast<float>(offset[(2 * moved + 1) * area + position]);
          found = tap_at(x, y, mask[moved * area + position], width, height);
        }
        tap_offsets[i / kPixels][pixel] = found.offset;
        tap_shares[i / kPixels][pixel] = found.share;
      }
      __syncthreads();

      // What a thread brings of the next kDepth products: some words of the filters, and the pixels of some samples.
      constexpr int kWords = kDepth / FILTER_VECTOR, kThreadWords = kOutputs * kWords / kThreads;
      constexpr int kThreadSamples = kDepth * kPixels / kThreads, kSampleStep = kThreads / kPixels;
      const int pixel = threadIdx.x % kPixels, sample_row = threadIdx.x / kPixels;
      const unsigned rows = group_outputs - first_output, products = (next - channel) * kTapsAtOnce;
      const SCALAR* run_weight = weight + (channel - group * group_channels) * kTaps + first_tap;
      FilterWord words[kThreadWords];
      SCALAR corners[kThreadSamples][4];

      const auto fetch = [&](unsigned first) {
#pragma unroll
        for (int i = 0; i < kThreadWords; ++i) {
          const unsigned word = threadIdx.x + i * kThreads, row = word / kWords;
          const unsigned product = first + word % kWords * FILTER_VECTOR, tap = product % kTapsAtOnce;
          const bool all = kTaps == kTapsAtOnce;
          const bool exists = row < rows && product < products && (all || first_tap + tap < kTaps);
          const SCALAR* source = run_weight + row * depth + (all ? product : product / kTapsAtOnce * kTaps + tap);
          words[i] = exists ? *reinterpret_cast<const FilterWord*>(source) : FilterWord{};
        }
#pragma unroll
        for (int i = 0; i < kThreadSamples; ++i) {
          const unsigned product = first + sample_row + i * kSampleStep;
          const unsigned from = min(channel + product / kTapsAtOnce, next - 1);  // a surplus one meets zeros in filters
          const uint4 at = tap_offsets[product % kTapsAtOnce][pixel];
          const char* source = reinterpret_cast<const char*>(image) + from * plane_bytes;
          corners[i][0] = *reinterpret_cast<const SCALAR*>(source + at.x);
          corners[i][1] = *reinterpret_cast<const SCALAR*>(source + at.y);
          corners[i][2] = *reinterpret_cast<const SCALAR*>(source + at.z);
          corners[i][3] = *reinterpret_cast<const SCALAR*>(source + at.w);
        }
      };
      const auto leave = [&](unsigned first, int half) {
#pragma unroll
        for (int i = 0; i < kThreadWords; ++i) {
          const int word = threadIdx.x + i * kThreads;
          *reinterpret_cast<FilterWord*>(&filters[half][word / kWords][word % kWords * FILTER_VECTOR]) = words[i];
        }
#pragma unroll
        for (int i = 0; i < kThreadSamples; ++i) {
          const int row = sample_row + i * kSampleStep;
          const float4 share = tap_shares[(first + row) % kTapsAtOnce][pixel];
          const float sample =
              share.x * static_cast<float>(corners[i][0]) + share.y * static_cast<float>(corners[i][1]) +
              share.z * static_cast<float>(corners[i][2]) + share.w * static_cast<float>(corners[i][3]);
          samples[half][row][pixel] = static_cast<SCALAR>(sample);
        }
      };

      fetch(0);
      leave(0, 0);
      __syncthreads();
      for (unsigned first = 0, half = 0; first < products; first += kDepth, half ^= 1) {
        const bool more = first + kDepth < products;
        if (more) fetch(first + kDepth);
        tile.add(&filters[half][warp_output][0], &samples[half][0][warp_pixel], lane);
        if (more) leave(first + kDepth, half ^ 1);
        __syncthreads();
      }
    }
  }

  float* scratch = reinterpret_cast<float*>(filters) + 256 * warp;  // the filters are no longer read
  tile.store(scratch, lane, [&](int row, int column, float sum) {
    const int o = first_output + warp_output + row, position = first_position + warp_pixel + column;
    if (o < group_outputs && position < area) {
      output[(batch * outputs + group * group_outputs + o) * area + position] = static_cast<SCALAR>(sum);
    }
  });
}
