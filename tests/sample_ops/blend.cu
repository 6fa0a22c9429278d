// Two maps, weighted, times a height, plus a bias if there is one: one thread a value.
// Macros: SCALAR, HAS_BIAS, WEIGHTS (of the maps), SCALE, SIGN.

#include <cuda_fp16.h>

extern "C" __global__ void blend(const SCALAR* __restrict__ first, const SCALAR* __restrict__ second,
                                 const SCALAR* __restrict__ bias, const float* __restrict__ height, int count,
                                 SCALAR* __restrict__ output) {
  constexpr float weights[] = {WEIGHTS};
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  float value = static_cast<float>(first[index]) * weights[0] + static_cast<float>(second[index]) * weights[1];
  value *= height[index] * (SCALE);
#if HAS_BIAS
  value += static_cast<float>(bias[index]);
#endif
  output[index] = static_cast<SCALAR>(SIGN value);
}
