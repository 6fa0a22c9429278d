// Rotation of a feature map [CHANNELS, height, width] around a pixel position, zeros outside.
//
// A thread owns one output pixel and a slice of CHANNELS_PER_THREAD channels: its source position is computed once.
// Macros: SCALAR (float or __half), NEAREST (1 or 0), CHANNELS_PER_THREAD. Positions are FP32 for either SCALAR.

#include <cuda_fp16.h>

__device__ float pixel(const SCALAR* plane, int x, int y, int width, int height) {
  const bool inside = x >= 0 && x < width && y >= 0 && y < height;
  return inside ? static_cast<float>(plane[y * width + x]) : 0.f;
}

extern "C" __global__ void rotate(const SCALAR* __restrict__ image, const SCALAR* __restrict__ angle,
                                  const SCALAR* __restrict__ center, int channels, int height, int width,
                                  SCALAR* __restrict__ output) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= height * width) return;
  float sine, cosine;
  sincospif(static_cast<float>(angle[0]) * (-1.f / 180.f), &sine, &cosine);
  const float cx = static_cast<float>(center[0]) - 0.5f * width, cy = static_cast<float>(center[1]) - 0.5f * height;
  const float x = index % width - 0.5f * (width - 1), y = index / width - 0.5f * (height - 1);
  const float source_x = cosine * x + sine * y + (cx - cx * cosine - cy * sine) + 0.5f * (width - 1);
  const float source_y = cosine * y - sine * x + (cy + cx * sine - cy * cosine) + 0.5f * (height - 1);

  // All loads of a thread come before its stores, so that they are in flight together.
  const int area = height * width, first = blockIdx.y * CHANNELS_PER_THREAD;
  float result[CHANNELS_PER_THREAD];
#pragma unroll
  for (int i = 0; i < CHANNELS_PER_THREAD; ++i) {
    const SCALAR* plane = image + min(first + i, channels - 1) * area;
#if NEAREST
    result[i] = pixel(plane, __float2int_rn(source_x), __float2int_rn(source_y), width, height);
#else
    const int left = __float2int_rd(source_x), top = __float2int_rd(source_y);
    const float right = source_x - left, bottom = source_y - top;
    result[i] = (1.f - bottom) * ((1.f - right) * pixel(plane, left, top, width, height) +
                                  right * pixel(plane, left + 1, top, width, height)) +
                bottom * ((1.f - right) * pixel(plane, left, top + 1, width, height) +
                          right * pixel(plane, left + 1, top + 1, width, height));
#endif
  }
#pragma unroll
  for (int i = 0; i < CHANNELS_PER_THREAD; ++i) {
    if (first + i < channels) output[(first + i) * area + index] = static_cast<SCALAR>(result[i]);
  }
}
