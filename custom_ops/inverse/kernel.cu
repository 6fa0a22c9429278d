// Inverse of a batch of SIZE x SIZE matrices (up to 4x4) by their cofactors: one thread a matrix, FP32 arithmetic for
// either SCALAR (float or __half). Macros: SCALAR, SIZE, THREADS.
//
// A smaller matrix is completed to 4x4 by the identity. The cofactor of row i and column j is the determinant of rows
// i^1, i^2, i^3 and columns j^1, j^2, j^3, in this order: no sign is needed, all these permutations are even.
// The matrices of a warp pass through shared memory, so that neighbouring threads read and write neighbouring entries.

#include <cuda_fp16.h>

constexpr int kEntries = SIZE * SIZE;
constexpr int kRow = kEntries | 1;  // odd, so that the threads of a warp read from different banks

__device__ float cofactor(const float (&m)[4][4], int i, int j) {
  const float(&a)[4] = m[i ^ 1], (&b)[4] = m[i ^ 2], (&c)[4] = m[i ^ 3];
  const int k = j ^ 1, l = j ^ 2, n = j ^ 3;
  return a[k] * (b[l] * c[n] - b[n] * c[l]) + a[l] * (b[n] * c[k] - b[k] * c[n]) + a[n] * (b[k] * c[l] - b[l] * c[k]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    inverse(const SCALAR* __restrict__ matrix, int count, SCALAR* __restrict__ output) {
  __shared__ SCALAR staged[THREADS / 32][32 * kRow];
  const int lane = threadIdx.x % 32;
  const long long first = blockIdx.x * THREADS + threadIdx.x - lane;  // the warp's first matrix
  const int entries = static_cast<int>(min(32LL, count - first)) * kEntries;
  SCALAR* warp = staged[threadIdx.x / 32];
  SCALAR* own = warp + lane * kRow;
#pragma unroll
  for (int i = lane; i < 32 * kEntries; i += 32) {
    if (i < entries) warp[i / kEntries * kRow + i % kEntries] = matrix[first * kEntries + i];
  }
  __syncwarp();

  float m[4][4];
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const int row = i / 4, column = i % 4;
    const bool given = row < SIZE && column < SIZE;
    m[row][column] = given ? static_cast<float>(own[row * SIZE + column]) : row == column;
  }
  float determinant = 0.f;
#pragma unroll
  for (int j = 0; j < 4; ++j) determinant += m[0][j] * cofactor(m, 0, j);
  const float scale = 1.f / determinant;
#pragma unroll
  for (int i = 0; i < kEntries; ++i) own[i] = static_cast<SCALAR>(cofactor(m, i % SIZE, i / SIZE) * scale);
  __syncwarp();

#pragma unroll
  for (int i = lane; i < 32 * kEntries; i += 32) {
    if (i < entries) output[first * kEntries + i] = warp[i / kEntries * kRow + i % kEntries];
  }
}
