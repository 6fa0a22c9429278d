// The largest scores in order, and their indices: one thread a score, which counts those before it. Macro: SCALAR.

#include <cuda_fp16.h>

extern "C" __global__ void top_scores(const SCALAR* __restrict__ scores, int size, int count,
                                      SCALAR* __restrict__ values, int* __restrict__ indices) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= size) return;
  const float score = static_cast<float>(scores[index]);
  int rank = 0;
  for (int other = 0; other < size; ++other) {
    const float value = static_cast<float>(scores[other]);
    rank += value > score || (value == score && other < index);
  }
  if (rank < count) {
    values[rank] = scores[index];
    indices[rank] = index;
  }
}
