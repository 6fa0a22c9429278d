// Gradients of fused multi-scale deformable attention.
//
// A group of LANES threads serves one (batch, query, head). Each of its lanes owns VECTOR neighbouring channels of every
// chunk of LANES * VECTOR and walks over all sampling points, so that a group reads a corner, and adds to its gradient,
// as one contiguous row. What does not go by channels is summed over the lanes.
//
// Several points may lie next to one cell: gradients of the value and of reference points are added atomically, in no
// fixed order. All gradients are FP32 for either SCALAR and zero before.
//
// Macros: SCALAR (float or __half), THREADS, LANES, VECTOR, HEADS, CHANNELS per head, LEVELS, LEVEL_POINTS (p0, p1 …),
// SAMPLES of all levels, REFERENCES per query and level, REFERENCE_LEVELS (LEVELS, or 1: the same for all), SHAPES
// (h0, w0, h1, w1 …).

#include <cuda_fp16.h>

constexpr int kGroups = THREADS / LANES;
constexpr int kChunk = LANES * VECTOR;
constexpr int kChunks = (CHANNELS + kChunk - 1) / kChunk;
constexpr unsigned kLanes = 0xffffffffu >> (32 - LANES);
constexpr float kLowest = -3.402823466e38f;
__device__ constexpr int kShapes[] = {SHAPES};
__device__ constexpr int kPoints[] = {LEVEL_POINTS};

// Loaded by a single instruction.
struct alignas(VECTOR * sizeof(SCALAR)) Values {
  SCALAR values[VECTOR];
};

// The lanes of this thread's group, as a mask in its warp. Groups of a warp go ways of their own.
__device__ unsigned group_mask() { return kLanes << (threadIdx.x % 32 / LANES * LANES); }

__device__ float group_sum(float x) {
  for (int step = LANES / 2; step > 0; step /= 2) x += __shfl_xor_sync(group_mask(), x, step, LANES);
  return x;
}

__device__ float group_largest(float x) {
  for (int step = LANES / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(group_mask(), x, step, LANES));
  return x;
}

__device__ void add(float* target, const float (&values)[VECTOR], float weight) {
#if __CUDA_ARCH__ >= 900
  if constexpr (VECTOR == 4) {
    const float4 sum = {weight * values[0], weight * values[1], weight * values[2], weight * values[3]};
    atomicAdd(reinterpret_cast<float4*>(target), sum);
    return;
  }
#endif
  for (int i = 0; i < VECTOR; ++i) atomicAdd(target + i, weight * values[i]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    multi_scale_deformable_attention_backward(const SCALAR* __restrict__ value, const SCALAR* __restrict__ reference,
                                              const SCALAR* __restrict__ offsets, const SCALAR* __restrict__ logits,
                                              const SCALAR* __restrict__ gradient, int keys, int queries,
                                              int reference_batches, float* __restrict__ value_gradient,
                                              float* __restrict__ reference_gradient,
                                              float* __restrict__ offsets_gradient, float* logits_gradient) {
  const int lane = threadIdx.x % LANES;
  const int place = blockIdx.x * kGroups + threadIdx.x / LANES;
  if (place >= queries * HEADS) return;
  const int query = place / HEADS, head = place % HEADS;
  const long long batch = blockIdx.y, row = batch * queries * HEADS + place;
  const long long map = (batch * keys * HEADS + head) * CHANNELS;
  const long long reference_row = (batch < reference_batches ? batch * queries + query : query) * REFERENCE_LEVELS;

  const SCALAR* row_logits = logits + row * SAMPLES;
  float* row_logits_gradient = logits_gradient + row * SAMPLES;
  float largest = kLowest, total = 0.f;
  for (int sample = lane; sample < SAMPLES; sample += LANES)
    largest = fmaxf(largest, static_cast<float>(row_logits[sample]));
  largest = group_largest(largest);
  for (int sample = lane; sample < SAMPLES; sample += LANES)
    total += expf(static_cast<float>(row_logits[sample]) - largest);
  const float scale = 1.f / group_sum(total);

  float incoming[kChunks][VECTOR] = {};
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int channel = chunk * kChunk + lane * VECTOR;
    if (channel >= CHANNELS) continue;
    const Values loaded = *reinterpret_cast<const Values*>(gradient + row * CHANNELS + channel);
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) incoming[chunk][i] = loaded.values[i];
  }

  float mean = 0.f;  // of what the weights of all points get, which the softmax takes from each
  int sample = 0, start = 0;
#pragma unroll
  for (int level = 0; level < LEVELS; ++level) {
    const int height = kShapes[2 * level], width = kShapes[2 * level + 1];
#pragma unroll 2
    for (int point = 0; point < kPoints[level]; ++point, ++sample) {
      const long long origin =
          2 * ((reference_row + (REFERENCE_LEVELS == 1 ? 0 : level)) * REFERENCES + point % REFERENCES);
      const long long move = 2 * (row * SAMPLES + sample);
      const float x = fmaf(reference[origin], width, static_cast<float>(offsets[move]) - 0.5f);
      const float y = fmaf(reference[origin + 1], height, static_cast<float>(offsets[move + 1]) - 0.5f);
      if (!(x > -1.f && x < width && y > -1.f && y < height)) continue;  // so with NaN
      const float weight = expf(static_cast<float>(row_logits[sample]) - largest) * scale;
      const int left = static_cast<int>(floorf(x)), top = static_cast<int>(floorf(y));
      const float right_share = x - left, bottom_share = y - top;
      float sampled = 0.f, along_x = 0.f, along_y = 0.f;
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) {
        const int column = left + corner % 2, line = top + corner / 2;
        if (column < 0 || column >= width || line < 0 || line >= height) continue;
        const float share_x = corner % 2 ? right_share : 1.f - right_share;
        const float share_y = corner / 2 ? bottom_share : 1.f - bottom_share;
        const long long cell = map + (start + line * width + column) * (HEADS * CHANNELS);
        float product = 0.f;
#pragma unroll
        for (int chunk = 0; chunk < kChunks; ++chunk) {
          const int channel = chunk * kChunk + lane * VECTOR;
          if (channel >= CHANNELS) continue;
          const Values loaded = *reinterpret_cast<const Values*>(value + cell + channel);
#pragma unroll
          for (int i = 0; i < VECTOR; ++i)
            product = fmaf(incoming[chunk][i], static_cast<float>(loaded.values[i]), product);
          add(value_gradient + cell + channel, incoming[chunk], weight * share_x * share_y);
        }
        sampled = fmaf(share_x * share_y, product, sampled);
        along_x = fmaf(corner % 2 ? share_y : -share_y, product, along_x);
        along_y = fmaf(corner / 2 ? share_x : -share_x, product, along_y);
      }
      const float share = weight * group_sum(sampled);
      const float gradient_x = weight * group_sum(along_x), gradient_y = weight * group_sum(along_y);
      mean += share;
      if (lane > 0) continue;
      row_logits_gradient[sample] = share;
      offsets_gradient[move] = gradient_x;
      offsets_gradient[move + 1] = gradient_y;
      atomicAdd(reference_gradient + origin, gradient_x * width);
      atomicAdd(reference_gradient + origin + 1, gradient_y * height);
    }
    start += height * width;
  }
  __syncwarp(group_mask());
  for (sample = lane; sample < SAMPLES; sample += LANES)
    row_logits_gradient[sample] -= expf(static_cast<float>(row_logits[sample]) - largest) * scale * mean;
}
