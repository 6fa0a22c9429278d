// Inverse of a batch of 3x3 matrices by their adjugates: one thread a matrix, FP32 arithmetic for either SCALAR.

#include <cuda_fp16.h>

extern "C" __global__ void inverse(const SCALAR* __restrict__ matrix, int count, SCALAR* __restrict__ output) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= count) return;
  float m[3][3], adjugate[3][3];
#pragma unroll
  for (int i = 0; i < 9; ++i) m[i / 3][i % 3] = static_cast<float>(matrix[9 * index + i]);
#pragma unroll
  for (int i = 0; i < 3; ++i) {
#pragma unroll
    for (int j = 0; j < 3; ++j) {
      const int r = (i + 1) % 3, s = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
      adjugate[j][i] = m[r][c] * m[s][d] - m[r][d] * m[s][c];
    }
  }
  const float determinant = m[0][0] * adjugate[0][0] + m[0][1] * adjugate[1][0] + m[0][2] * adjugate[2][0];
#pragma unroll
  for (int i = 0; i < 9; ++i) output[9 * index + i] = static_cast<SCALAR>(adjugate[i / 3][i % 3] / determinant);
}
