// Fused multi-scale deformable attention.
//
// A group of LANES threads serves one (batch, query, head). Level by level, its lanes first share the work per sampling
// point: location, corners and their weights, left in shared memory for the points that touch the map. Then every lane
// owns VECTOR neighbouring channels (16 bytes) and walks over these points, so that a group reads each corner as one
// contiguous row. Queries vary fastest over the grid and batches slowest: at any time few value maps are live, and they
// stay in cache; shared memory is kept small, since it is taken from that cache.
//
// Macros: SCALAR (float or __half), VECTOR, LANES, THREADS, CHANNELS per head, LEVELS, POINTS per level, REFERENCES per
// query, SHAPES (h0, w0, h1, w1 …), UNROLL, STAGED_KEYS. Locations, softmax and accumulation are FP32 for either SCALAR.
// STAGED_KEYS is the number of keys of a map so small that each block copies its head's part of it into shared memory,
// or 0: a cache line is looked up for every corner otherwise, and these look-ups are what limits small channel counts.

#include <cuda_fp16.h>

constexpr int kSamples = LEVELS * POINTS;
constexpr int kPointsPerLane = (POINTS + LANES - 1) / LANES;
constexpr int kRow = POINTS | 1;  // odd, so that the groups of a warp read from different banks
constexpr int kChunk = LANES * VECTOR;
constexpr int kChunks = (CHANNELS + kChunk - 1) / kChunk;
constexpr int kGroups = THREADS / LANES;
constexpr unsigned kWarp = 0xffffffffu;
constexpr unsigned kGroupMask = LANES == 32 ? kWarp : (1u << LANES) - 1;
constexpr float kLowest = -3.402823466e38f;
__device__ constexpr int kShapes[] = {SHAPES};

// N values as one machine word, so that they are loaded and stored by a single instruction.
template <int BYTES> struct WordOf;
template <> struct WordOf<2> { using type = unsigned short; };
template <> struct WordOf<4> { using type = unsigned int; };
template <> struct WordOf<8> { using type = uint2; };
template <> struct WordOf<16> { using type = uint4; };

template <int N> union Pack {
  typename WordOf<N * sizeof(SCALAR)>::type word;
  SCALAR values[N];
  __device__ Pack() {}
  __device__ explicit Pack(const void* source) : word(*reinterpret_cast<const decltype(word)*>(source)) {}
  __device__ void store(SCALAR* target) const { *reinterpret_cast<decltype(word)*>(target) = word; }
};

// One sampling point: where its four corners start in the value map, in bytes, and what each contributes. A corner outside
// the map has weight 0 and the place of its neighbour inside: loads need no condition, so that many are in flight.
struct Sample {
  uint4 offset;
  float4 weight;
};

__device__ bool touches(float x, float y, int level) {
  return x > -1.f && x < kShapes[2 * level + 1] && y > -1.f && y < kShapes[2 * level];  // false for NaN
}

__device__ Sample sample_at(float x, float y, int level, int start, float share, unsigned row_bytes) {
  const int height = kShapes[2 * level], width = kShapes[2 * level + 1];
  const int left = __float2int_rd(x), top = __float2int_rd(y);
  const float right_share = x - left, bottom_share = y - top;
  const float left_weight = left >= 0 ? 1.f - right_share : 0.f, right_weight = left + 1 < width ? right_share : 0.f;
  const float top_weight = top >= 0 ? share * (1.f - bottom_share) : 0.f;
  const float bottom_weight = top + 1 < height ? share * bottom_share : 0.f;
  const int upper = start + max(top, 0) * width, lower = start + min(top + 1, height - 1) * width;
  const int x0 = max(left, 0), x1 = min(left + 1, width - 1);
  return {make_uint4((upper + x0) * row_bytes, (upper + x1) * row_bytes, (lower + x0) * row_bytes,
                     (lower + x1) * row_bytes),
          make_float4(top_weight * left_weight, top_weight * right_weight, bottom_weight * left_weight,
                      bottom_weight * right_weight)};
}

// Where a lane's channels of a chunk start. With two chunks, odd groups begin with the second one: neighbouring groups
// then read different banks of shared memory at any time.
__device__ int channel_of(int chunk, int group, int lane) {
  return (kChunks == 2 ? chunk ^ (group & 1) : chunk) * kChunk + lane * VECTOR;
}

__device__ void accumulate(float (&sum)[VECTOR], const Pack<VECTOR>& corner, float weight) {
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) sum[i] = fmaf(weight, static_cast<float>(corner.values[i]), sum[i]);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    multi_scale_deformable_attention(const SCALAR* __restrict__ value, const SCALAR* __restrict__ reference,
                                     const SCALAR* __restrict__ offsets, const SCALAR* __restrict__ logits,
                                     int keys, int queries, int reference_stride, int offsets_stride,
                                     int logits_stride, SCALAR* __restrict__ output) {
  __shared__ uint4 corner_offsets[kGroups][kRow];
  __shared__ float4 corner_weights[kGroups][kRow];
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int head = blockIdx.y, heads = gridDim.y;
  const long long batch = blockIdx.z;
  const int asked = blockIdx.x * kGroups + group;
  const int query = min(asked, queries - 1);  // a surplus group repeats the last query, and writes nothing
  const long long row = static_cast<long long>(query) * heads + head;

  // All that a lane needs from memory for its points is asked for at once.
  const SCALAR* row_logits = logits + batch * logits_stride + row * kSamples;
  const SCALAR* row_offsets = offsets + batch * offsets_stride + row * kSamples * 2;
  const SCALAR* row_references = reference + batch * reference_stride + query * REFERENCES * 2;
  float x[LEVELS][kPointsPerLane], y[LEVELS][kPointsPerLane], share[LEVELS][kPointsPerLane];
  float largest = kLowest, total = 0.f;
#pragma unroll
  for (int level = 0; level < LEVELS; ++level) {
#pragma unroll
    for (int i = 0; i < kPointsPerLane; ++i) {
      const int point = lane + i * LANES;
      x[level][i] = y[level][i] = -1.f;  // outside the map
      share[level][i] = kLowest;
      if (point < POINTS) {
        const int sample = level * POINTS + point;
        const Pack<2> offset(row_offsets + 2 * sample), origin(row_references + 2 * (point % REFERENCES));
        const float origin_x = origin.values[0], origin_y = origin.values[1];
        x[level][i] = fmaf(origin_x, kShapes[2 * level + 1], static_cast<float>(offset.values[0])) - 0.5f;
        y[level][i] = fmaf(origin_y, kShapes[2 * level], static_cast<float>(offset.values[1])) - 0.5f;
        share[level][i] = row_logits[sample];
      }
      largest = fmaxf(largest, share[level][i]);
    }
  }
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) largest = fmaxf(largest, __shfl_xor_sync(kWarp, largest, step, LANES));
#pragma unroll
  for (int level = 0; level < LEVELS; ++level) {
#pragma unroll
    for (int i = 0; i < kPointsPerLane; ++i) total += share[level][i] = __expf(share[level][i] - largest);
  }
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) total += __shfl_xor_sync(kWarp, total, step, LANES);
  const float scale = __fdividef(1.f, total);

  const unsigned key_bytes = heads * CHANNELS * sizeof(SCALAR);
  const char* map = reinterpret_cast<const char*>(value + (batch * keys * heads + head) * CHANNELS);
#if STAGED_KEYS
  __shared__ alignas(16) SCALAR staged[STAGED_KEYS * CHANNELS];
  for (int i = threadIdx.x; i < STAGED_KEYS * CHANNELS / VECTOR; i += THREADS) {
    const int key = i / (CHANNELS / VECTOR), channel = i % (CHANNELS / VECTOR) * VECTOR;
    Pack<VECTOR>(map + key * key_bytes + channel * sizeof(SCALAR)).store(staged + key * CHANNELS + channel);
  }
  __syncthreads();
  const char* rows = reinterpret_cast<const char*>(staged);
  const unsigned row_bytes = CHANNELS * sizeof(SCALAR);
#else
  const char* rows = map;
  const unsigned row_bytes = key_bytes;
#endif
  float sum[kChunks][VECTOR] = {};

#pragma unroll
  for (int level = 0, start = 0; level < LEVELS; start += kShapes[2 * level] * kShapes[2 * level + 1], ++level) {
    int count = 0;
#pragma unroll
    for (int i = 0; i < kPointsPerLane; ++i) {
      const bool wanted = touches(x[level][i], y[level][i], level);
      const unsigned ballot = __ballot_sync(kWarp, wanted) >> (threadIdx.x % 32 - lane) & kGroupMask;
      if (wanted) {
        const Sample sample = sample_at(x[level][i], y[level][i], level, start, share[level][i] * scale, row_bytes);
        const int slot = count + __popc(ballot & ((1u << lane) - 1));
        corner_offsets[group][slot] = sample.offset;
        corner_weights[group][slot] = sample.weight;
      }
      count += __popc(ballot);
    }
    __syncwarp();

    for (int first = 0; first < count; first += UNROLL) {
#pragma unroll
      for (int i = 0; i < UNROLL; ++i) {
        const int slot = min(first + i, count - 1);  // beyond the last: it again, with weight 0
        const uint4 offset = corner_offsets[group][slot];
        const float4 weight = first + i < count ? corner_weights[group][slot] : float4{};
#pragma unroll
        for (int chunk = 0; chunk < kChunks; ++chunk) {
          const int channel = channel_of(chunk, group, lane);
          if (channel >= CHANNELS) continue;
          const char* channels = rows + channel * sizeof(SCALAR);
          const Pack<VECTOR> top_left(channels + offset.x), top_right(channels + offset.y);
          const Pack<VECTOR> bottom_left(channels + offset.z), bottom_right(channels + offset.w);
          accumulate(sum[chunk], top_left, weight.x);
          accumulate(sum[chunk], top_right, weight.y);
          accumulate(sum[chunk], bottom_left, weight.z);
          accumulate(sum[chunk], bottom_right, weight.w);
        }
      }
    }
    __syncwarp();
  }

#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int channel = channel_of(chunk, group, lane);
    if (asked < queries && channel < CHANNELS) {
      Pack<VECTOR> pack;
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) pack.values[i] = static_cast<SCALAR>(sum[chunk][i]);
      pack.store(output + ((batch * queries + query) * heads + head) * CHANNELS + channel);
    }
  }
}
