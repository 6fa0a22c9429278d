// Features of points, weighted by depth and summed up by rank: one thread a cell and channel. Macro: SCALAR.

#include <cuda_fp16.h>

extern "C" __global__ void bev_pool(const SCALAR* __restrict__ depth, const SCALAR* __restrict__ features,
                                    const int* __restrict__ ranks, int points, int channels,
                                    SCALAR* __restrict__ output) {
  const int cell = blockIdx.y, channel = blockIdx.x * blockDim.x + threadIdx.x;
  if (channel >= channels) return;
  float sum = 0.f;
  for (int point = 0; point < points; ++point) {
    if (ranks[point] == cell) {
      sum += static_cast<float>(depth[point]) * static_cast<float>(features[point * channels + channel]);
    }
  }
  output[cell * channels + channel] = static_cast<SCALAR>(sum);
}
