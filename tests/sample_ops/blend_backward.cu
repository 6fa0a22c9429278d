// Gradients of the mean of two maps at a height: one thread a value, which adds to each once.
// Macros: SCALAR, HAS_BIAS, WEIGHTS, SCALE, SIGN.

#include <cuda_fp16.h>

__device__ constexpr float kWeights[] = {WEIGHTS};

extern "C" __global__ void blend_backward(const SCALAR* first, const SCALAR* second, const SCALAR* bias,
                                          const float* height, const SCALAR* gradient, int count,
                                          float* first_gradient, float* second_gradient, float* bias_gradient,
                                          float* height_gradient) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const float incoming = SIGN static_cast<float>(gradient[i]), scaled = incoming * SCALE;
  first_gradient[i] += scaled * height[i] * kWeights[0];
  second_gradient[i] += scaled * height[i] * kWeights[1];
  height_gradient[i] +=
      scaled * (static_cast<float>(first[i]) * kWeights[0] + static_cast<float>(second[i]) * kWeights[1]);
  if (HAS_BIAS) bias_gradient[i] += incoming;
}
