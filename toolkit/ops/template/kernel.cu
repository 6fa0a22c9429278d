// x * sigmoid(slope * x): one thread an element, FP32 arithmetic for either SCALAR.
//
// Arguments: the inputs, then the integers of the launch, then the output. Macros: SCALAR (float or __half), SLOPE.

#include <cuda_fp16.h>

extern "C" __global__ void new_op(const SCALAR* __restrict__ x, int count, SCALAR* __restrict__ output) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  const float value = static_cast<float>(x[index]);
  output[index] = static_cast<SCALAR>(value / (1.f + expf(-(SLOPE)*value)));
}
