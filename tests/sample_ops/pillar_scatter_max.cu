// The largest features of the points in each cell, at least 0: one thread a cell and feature, which looks at every
// point. Macros: SCALAR, HEIGHT, WIDTH.

#include <cuda_fp16.h>

extern "C" __global__ void pillar_scatter_max(const SCALAR* __restrict__ features, const SCALAR* __restrict__ cells,
                                              int pillars, int channels, SCALAR* __restrict__ output) {
  const int cell = blockIdx.x * blockDim.x + threadIdx.x, channel = blockIdx.y;
  if (cell >= HEIGHT * WIDTH) return;
  float best = 0.f;
  for (int pillar = 0; pillar < pillars; ++pillar) {
    const float row = floorf(static_cast<float>(cells[2 * pillar]));
    const float column = floorf(static_cast<float>(cells[2 * pillar + 1]));
    if (row != cell / WIDTH || column != cell % WIDTH) continue;
    best = fmaxf(best, static_cast<float>(features[pillar * channels + channel]));
  }
  output[channel * HEIGHT * WIDTH + cell] = static_cast<SCALAR>(best);
}
