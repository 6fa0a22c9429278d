// Fused multi-scale deformable attention.
//
// A group of LANES threads serves one (batch, query, head). Its lanes first share the work per sampling point: softmax,
// location, the offsets of the four corners and their weights, left in shared memory. Then every lane owns VECTOR
// neighbouring channels (16 bytes) and walks over the points, so that a group reads each corner as one contiguous row.
// Queries vary fastest over the grid and batches slowest: at any time few value maps are live, and they stay in cache.
//
// Macros: SCALAR (float or __half), VECTOR, LANES, THREADS, CHANNELS per head, LEVELS, POINTS per level, REFERENCES per
// query, SHAPES (h0, w0, h1, w1 …). Locations, softmax and accumulation are FP32 for either SCALAR.

#include <cuda_fp16.h>

constexpr int kSamples = LEVELS * POINTS;
constexpr int kSamplesPerLane = (kSamples + LANES - 1) / LANES;
constexpr int kChunk = LANES * VECTOR;
constexpr int kChunks = (CHANNELS + kChunk - 1) / kChunk;
constexpr int kGroups = THREADS / LANES;
constexpr unsigned kWarp = 0xffffffffu;
constexpr float kLowest = -3.402823466e38f;
__device__ constexpr int kShapes[] = {SHAPES};

struct alignas(sizeof(SCALAR) * VECTOR) Pack {
  SCALAR values[VECTOR];
};

struct alignas(sizeof(SCALAR) * 2) Pair {
  SCALAR x, y;
};

// One sampling point: where its four corners start in the value map, and what each contributes.
struct alignas(16) Sample {
  int4 offset;
  float4 weight;
};

__device__ int level_start(int level) {
  int start = 0;
#pragma unroll
  for (int l = 0; l < LEVELS; ++l) start += l < level ? kShapes[2 * l] * kShapes[2 * l + 1] : 0;
  return start;
}

__device__ Sample sample_at(float x, float y, int level, float weight, int key_stride) {
  const int height = kShapes[2 * level], width = kShapes[2 * level + 1];
  Sample sample = {};
  if (!(x > -1.f && x < width && y > -1.f && y < height)) return sample;  // also where x or y is NaN
  const int left = __float2int_rd(x), top = __float2int_rd(y);
  const float right_share = x - left, bottom_share = y - top;
  const float left_weight = left >= 0 ? 1.f - right_share : 0.f, right_weight = left + 1 < width ? right_share : 0.f;
  const float top_weight = top >= 0 ? weight * (1.f - bottom_share) : 0.f;
  const float bottom_weight = top + 1 < height ? weight * bottom_share : 0.f;
  const int start = level_start(level);
  const int upper = start + max(top, 0) * width, lower = start + min(top + 1, height - 1) * width;
  const int x0 = max(left, 0), x1 = min(left + 1, width - 1);
  sample.offset = make_int4((upper + x0) * key_stride, (upper + x1) * key_stride, (lower + x0) * key_stride,
                            (lower + x1) * key_stride);
  sample.weight = make_float4(top_weight * left_weight, top_weight * right_weight, bottom_weight * left_weight,
                              bottom_weight * right_weight);
  return sample;
}

__device__ void accumulate(float (&sum)[VECTOR], const SCALAR* corner, float weight) {
  if (weight == 0.f) return;  // outside the map, where nothing may be read
  const Pack pack = *reinterpret_cast<const Pack*>(corner);
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) sum[i] = fmaf(weight, static_cast<float>(pack.values[i]), sum[i]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    multi_scale_deformable_attention(const SCALAR* __restrict__ value, const SCALAR* __restrict__ reference,
                                     const SCALAR* __restrict__ offsets, const SCALAR* __restrict__ logits,
                                     int keys, int queries, int reference_stride, int offsets_stride,
                                     int logits_stride, SCALAR* __restrict__ output) {
  __shared__ Sample samples[kGroups][kSamples];
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int head = blockIdx.y, heads = gridDim.y;
  const long long batch = blockIdx.z;
  const int asked = blockIdx.x * kGroups + group;
  const int query = min(asked, queries - 1);  // a surplus group repeats the last query, and writes nothing
  const long long row = static_cast<long long>(query) * heads + head;

  const SCALAR* row_logits = logits + batch * logits_stride + row * kSamples;
  float weight[kSamplesPerLane], largest = kLowest, total = 0.f;
#pragma unroll
  for (int i = 0; i < kSamplesPerLane; ++i) {
    const int s = lane + i * LANES;
    weight[i] = s < kSamples ? static_cast<float>(row_logits[s]) : kLowest;
    largest = fmaxf(largest, weight[i]);
  }
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(kWarp, largest, step, LANES));
#pragma unroll
  for (int i = 0; i < kSamplesPerLane; ++i) total += weight[i] = __expf(weight[i] - largest);
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) total += __shfl_xor_sync(kWarp, total, step, LANES);

  const Pair* row_offsets = reinterpret_cast<const Pair*>(offsets + batch * offsets_stride) + row * kSamples;
  const Pair* row_references = reinterpret_cast<const Pair*>(reference + batch * reference_stride) + query * REFERENCES;
  const int key_stride = heads * CHANNELS;
#pragma unroll
  for (int i = 0; i < kSamplesPerLane; ++i) {
    const int s = lane + i * LANES;
    if (s < kSamples) {
      const int level = s / POINTS;
      const Pair offset = row_offsets[s], origin = row_references[s % POINTS % REFERENCES];
      const float x = fmaf(static_cast<float>(origin.x), kShapes[2 * level + 1], static_cast<float>(offset.x)) - 0.5f;
      const float y = fmaf(static_cast<float>(origin.y), kShapes[2 * level], static_cast<float>(offset.y)) - 0.5f;
      samples[group][s] = sample_at(x, y, level, weight[i] / total, key_stride);
    }
  }
  __syncwarp();

  const SCALAR* map = value + (batch * keys * heads + head) * CHANNELS;
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int channel = chunk * kChunk + lane * VECTOR;
    if (channel >= CHANNELS) break;
    float sum[VECTOR] = {};
#pragma unroll 4
    for (int s = 0; s < kSamples; ++s) {
      const Sample sample = samples[group][s];
      accumulate(sum, map + sample.offset.x + channel, sample.weight.x);
      accumulate(sum, map + sample.offset.y + channel, sample.weight.y);
      accumulate(sum, map + sample.offset.z + channel, sample.weight.z);
      accumulate(sum, map + sample.offset.w + channel, sample.weight.w);
    }
    if (asked < queries) {
      Pack pack;
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) pack.values[i] = static_cast<SCALAR>(sum[i]);
      *reinterpret_cast<Pack*>(output + ((batch * queries + query) * heads + head) * CHANNELS + channel) = pack;
    }
  }
}
