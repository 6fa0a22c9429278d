// Pictures [cameras, SOURCE_HEIGHT, SOURCE_WIDTH, 3] of bytes, normalised, resized to HEIGHT x WIDTH, and padded with
// zeros to images [cameras, 3, PADDED_HEIGHT, PADDED_WIDTH] of FP32: one thread a pixel of an image. With BGR, channels
// are those of the pictures in reverse; `mean` and `factor` have the order of the images. Macros: these and THREADS.
//
// A pixel lies between two rows, `rows` [2, HEIGHT], and two columns; weights are those of the second ones. Roundings
// are spelled out, so that the compiler joins no product and sum but the one that OpenCV joins.

__device__ float normalised(unsigned char value, float mean, float factor) {
  return __fmul_rn(__fsub_rn(static_cast<float>(value), mean), factor);
}

__device__ float blended(float first, float second, float weight) {
  return __fmaf_rn(__fsub_rn(second, first), weight, first);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    camera_images(const unsigned char* __restrict__ pictures, const long long* __restrict__ rows,
                  const float* __restrict__ row_weight, const long long* __restrict__ left,
                  const long long* __restrict__ right, const float* __restrict__ column_weight,
                  const float* __restrict__ mean, const float* __restrict__ factor, int cameras,
                  float* __restrict__ images) {
  constexpr int kPixels = PADDED_HEIGHT * PADDED_WIDTH;
  const int pixel = blockIdx.x * THREADS + threadIdx.x, camera = blockIdx.y;
  if (pixel >= kPixels || camera >= cameras) return;
  const int y = pixel / PADDED_WIDTH, x = pixel % PADDED_WIDTH;
  float* image = images + static_cast<long long>(camera) * 3 * kPixels + pixel;
  if (y >= HEIGHT || x >= WIDTH) {
#pragma unroll
    for (int channel = 0; channel < 3; ++channel) image[channel * kPixels] = 0.f;
    return;
  }
  const unsigned char* picture = pictures + static_cast<long long>(camera) * SOURCE_HEIGHT * SOURCE_WIDTH * 3;
  const unsigned char* above = picture + rows[y] * SOURCE_WIDTH * 3;
  const unsigned char* below = picture + rows[HEIGHT + y] * SOURCE_WIDTH * 3;
  const long long first = left[x] * 3, second = right[x] * 3;
  const float across = column_weight[x], down = row_weight[y];
#pragma unroll
  for (int channel = 0; channel < 3; ++channel) {
    const int source = BGR ? 2 - channel : channel;
    const float m = mean[channel], f = factor[channel];
    const float upper =
        blended(normalised(above[first + source], m, f), normalised(above[second + source], m, f), across);
    const float lower =
        blended(normalised(below[first + source], m, f), normalised(below[second + source], m, f), across);
    image[channel * kPixels] = blended(upper, lower, down);
  }
}
