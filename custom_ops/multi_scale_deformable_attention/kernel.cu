// Fused multi-scale deformable attention.
//
// A group of LANES threads serves one (batch, query, head). Level by level, its lanes first share the work per sampling
// point: the cell where its four corners start, and their weights, left in shared memory. Then every lane owns VECTOR
// neighbouring channels (16 bytes) and walks over the points, so that a group reads each corner as one contiguous row.
//
// The L1 cache serves one line of 128 bytes at a time, and most of the time goes into that. Hence:
// - groups side by side serve HEADS_TOGETHER neighbouring heads, whose rows lie in different parts of such lines;
// - where maps exceed the cache, a block serves a compact patch of the queries' grid, STRIP columns wide (else 1): its
//   samples lie close together, and the cache holds most of their corners;
// - a map of so few keys that it fits (STAGED_KEYS, else 0) is copied into shared memory by each block.
// Queries vary fastest over the launch and batches slowest, so that few maps are live in the L2 cache at any time.
//
// Macros, besides these: SCALAR (float or __half), THREADS, BLOCKS that a multiprocessor must have registers for,
// HEADS, CHANNELS per head, LEVELS, LEVEL_POINTS (p0, p1 …), POINTS of the level that has most, SAMPLES of all levels,
// REFERENCES per query and level, REFERENCE_LEVELS (LEVELS, or 1: the same for all), SHAPES (h0, w0, h1, w1 …), UNROLL,
// PREFETCH, SKIP_NOWHERE. Locations, softmax and accumulation are FP32 for either SCALAR.

#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>

constexpr int kPointsPerLane = (POINTS + LANES - 1) / LANES;
constexpr bool kEven = SAMPLES == LEVELS * POINTS;
constexpr bool kInPairs = kEven && POINTS % LANES == 0 && kPointsPerLane % 2 == 0;
constexpr int kAtOnce = kInPairs ? 2 : 1;           // points that a lane loads together
constexpr int kCellRow = (POINTS + 3) / 8 * 8 + 4;  // the groups of a warp then read from different banks of shared
constexpr int kWeightRow = POINTS | 1;              // memory; counted in words of 4 and of 16 bytes
constexpr int kChunk = LANES * VECTOR;
constexpr int kChunks = (CHANNELS + kChunk - 1) / kChunk;
constexpr int kGroups = THREADS / LANES;
constexpr int kQueries = kGroups / HEADS_TOGETHER;
constexpr unsigned kKeyBytes = HEADS * CHANNELS * sizeof(SCALAR);
constexpr unsigned kWarp = 0xffffffffu;
constexpr float kLog2E = 1.44269504f;
constexpr float kLowest = -3.402823466e38f;
constexpr float kNowhere = -1000.f;  // x of a reference, in widths of the map: no offset leads back from there
__device__ constexpr int kShapes[] = {SHAPES};
__device__ constexpr int kPoints[] = {LEVEL_POINTS};

// Points of a level, and of all levels before it. Where each has as many, the compiler gets plain products.
__device__ constexpr int points_of(int level) { return kEven ? POINTS : kPoints[level]; }
__device__ constexpr int points_before(int level) {
  int points = 0;
  for (int other = 0; other < level; ++other) points += kPoints[other];
  return kEven ? level * POINTS : points;
}

// N values as one machine word, so that they are loaded and stored by a single instruction.
template <int BYTES> struct WordOf;
template <> struct WordOf<2> { using type = unsigned short; };
template <> struct WordOf<4> { using type = unsigned int; };
template <> struct WordOf<8> { using type = uint2; };
template <> struct WordOf<16> { using type = uint4; };

template <int N> union Pack {
  using Word = typename WordOf<N * sizeof(SCALAR)>::type;
  Word word;
  SCALAR values[N];
  __device__ Pack() {}
  __device__ explicit Pack(const void* source) : word(*reinterpret_cast<const Word*>(source)) {}
  __device__ void store(SCALAR* target) const {
    __stcs(reinterpret_cast<Word*>(target), word);  // first to leave the caches, which the maps need
  }
};

// 2 to the power of x, to some 1e-7. Unlike exp2f, it spends no instructions on denormal results: they become 0.
__device__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// How much a cell at this distance from a point contributes to it: nothing from a whole cell on, or for NaN.
__device__ float hat(float distance) { return __saturatef(1.f - fabsf(distance)); }

// Queries that form a square grid are served strip after strip.
__device__ int query_at(int turn, int queries) {
  const unsigned side = __float2uint_rn(queries * rsqrtf(queries));
  if (STRIP == 1 || side * side != queries || side % STRIP != 0) return turn;
  const unsigned strip = turn / (side * STRIP), within = turn % (side * STRIP);
  return within / STRIP * side + strip * STRIP + within % STRIP;
}

// Where a lane's channels of a chunk start. With two chunks, odd groups begin with the second one: neighbouring groups
// then read different banks of shared memory at any time.
__device__ int channel_of(int chunk, int group, int lane) {
  return (kChunks == 2 ? chunk ^ (group & 1) : chunk) * kChunk + lane * VECTOR;
}

__device__ void accumulate(float (&sum)[VECTOR], const void* corner, float weight) {
  const Pack<VECTOR> channels(corner);
#pragma unroll
  for (int i = 0; i < VECTOR; ++i) sum[i] = fmaf(weight, static_cast<float>(channels.values[i]), sum[i]);
}

// Write a lane's channels of a query and head, times `scale`.
__device__ void put(SCALAR* output, const float (&sum)[kChunks][VECTOR], float scale, int group, int lane) {
#pragma unroll
  for (int chunk = 0; chunk < kChunks; ++chunk) {
    const int channel = channel_of(chunk, group, lane);
    if (channel >= CHANNELS) continue;
    Pack<VECTOR> pack;
#pragma unroll
    for (int i = 0; i < VECTOR; ++i) pack.values[i] = static_cast<SCALAR>(sum[chunk][i] * scale);
    pack.store(output + channel);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    multi_scale_deformable_attention(const SCALAR* __restrict__ value, const SCALAR* __restrict__ reference,
                                     const SCALAR* __restrict__ offsets, const SCALAR* __restrict__ logits,
                                     int keys, int queries, int reference_batches, int reference_stride,
                                     int offsets_stride, int logits_stride, SCALAR* __restrict__ output) {
  __shared__ alignas(16) unsigned cells[kGroups][kCellRow];
  __shared__ float4 weights[kGroups][kWeightRow];
  const int group = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int first_head = blockIdx.y * HEADS_TOGETHER, head = first_head + group % HEADS_TOGETHER;
  const long long batch = blockIdx.z;
  const int turn = blockIdx.x * kQueries + group / HEADS_TOGETHER;
  const int query = query_at(min(turn, queries - 1), queries);  // a surplus group repeats one, and writes nothing
  const unsigned row = query * HEADS + head;

  const char* map = reinterpret_cast<const char*>(value + (batch * keys * HEADS + first_head) * CHANNELS);
#if STAGED_KEYS
  constexpr int kStagedRow = HEADS_TOGETHER * CHANNELS, kPieces = kStagedRow / VECTOR, kKeysAtOnce = THREADS / kPieces;
  constexpr unsigned kRowBytes = kStagedRow * sizeof(SCALAR);
  __shared__ alignas(128) SCALAR staged[STAGED_KEYS * kStagedRow];
  const int first_key = threadIdx.x / kPieces, piece = threadIdx.x % kPieces * VECTOR;
  const char* source = map + first_key * kKeyBytes + piece * sizeof(SCALAR);
  SCALAR* target = staged + first_key * kStagedRow + piece;
#pragma unroll
  for (int key = 0; key < STAGED_KEYS; key += kKeysAtOnce) {
    if (first_key < min(kKeysAtOnce, STAGED_KEYS - key))
      __pipeline_memcpy_async(target + key * kStagedRow, source + key * kKeyBytes, VECTOR * sizeof(SCALAR));
  }
  __pipeline_commit();
  const char* rows = reinterpret_cast<const char*>(staged);
#else
  constexpr unsigned kRowBytes = kKeyBytes;
  const char* rows = map;
#endif
  rows += group % HEADS_TOGETHER * CHANNELS * sizeof(SCALAR);

#if PREFETCH
  // A map that is not in the L2 cache yet comes there in order while the softmax waits for its logits.
  const unsigned key = blockIdx.x * THREADS + threadIdx.x;
  if (key < keys) asm volatile("prefetch.global.L2 [%0];" ::"l"(map + key * kKeyBytes));
#endif

  const SCALAR* row_references = reference + min(batch, reference_batches - 1LL) * reference_stride +
                                 static_cast<unsigned>(query) * REFERENCE_LEVELS * REFERENCES * 2;
#if SKIP_NOWHERE
  // Most queries are nowhere in most maps, as cells that a camera does not see: neither logits nor offsets are read.
  bool nowhere = true;
#pragma unroll
  for (int i = 0; i < REFERENCE_LEVELS * REFERENCES; ++i)
    nowhere &= static_cast<float>(row_references[2 * i]) < kNowhere;
  if (__all_sync(kWarp, nowhere)) {
    const float zeros[kChunks][VECTOR] = {};
    if (turn < queries) put(output + batch * queries * (HEADS * CHANNELS) + row * CHANNELS, zeros, 0.f, group, lane);
    return;
  }
#endif

  // All that a lane needs from memory for its points is asked for at once, without a condition: a lane with no point
  // repeats the last one.
  const SCALAR* row_logits = logits + batch * logits_stride + row * SAMPLES;
  const SCALAR* row_offsets = offsets + batch * offsets_stride + row * SAMPLES * 2;
  float xs[LEVELS][kPointsPerLane], ys[LEVELS][kPointsPerLane], shares[LEVELS][kPointsPerLane];
  float largest = kLowest, total = 0.f;
#pragma unroll
  for (int level = 0; level < LEVELS; ++level) {
#pragma unroll
    for (int i = 0; i < kPointsPerLane; i += kAtOnce) {
      const int first = min(lane * kPointsPerLane + i, points_of(level) - kAtOnce);
      const int sample = points_before(level) + first;
      const Pack<kAtOnce> logit(row_logits + sample);
      const Pack<2 * kAtOnce> offset(row_offsets + 2 * sample);
#pragma unroll
      for (int j = 0; j < kAtOnce; ++j) {
        const int reference_at = (REFERENCE_LEVELS == 1 ? 0 : level) * REFERENCES + (first + j) % REFERENCES;
        const Pack<2> origin(row_references + 2 * reference_at);
        const float origin_x = origin.values[0], origin_y = origin.values[1];
        xs[level][i + j] = fmaf(origin_x, kShapes[2 * level + 1], static_cast<float>(offset.values[2 * j]) - 0.5f);
        ys[level][i + j] = fmaf(origin_y, kShapes[2 * level], static_cast<float>(offset.values[2 * j + 1]) - 0.5f);
        shares[level][i + j] = logit.values[j];
        largest = fmaxf(largest, shares[level][i + j]);
      }
    }
  }
#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(kWarp, largest, step, LANES));

  float sum[kChunks][VECTOR] = {};
#pragma unroll
  for (int level = 0, start = 0; level < LEVELS; start += kShapes[2 * level] * kShapes[2 * level + 1], ++level) {
    const int height = kShapes[2 * level], width = kShapes[2 * level + 1];
    bool touches = false;
#pragma unroll
    for (int i = 0; i < kPointsPerLane; ++i) {
      const int point = lane * kPointsPerLane + i;
      if (point >= points_of(level)) continue;
      const float x = xs[level][i], y = ys[level][i];
      touches |= x > -1.f && x < width && y > -1.f && y < height;
      const float exponential = exp2_approximate(fmaf(shares[level][i], kLog2E, -largest * kLog2E));
      total += exponential;
      // All four corners are cells of the map, so that they are loaded without a condition; one that is not next to the
      // point has weight 0.
      const unsigned left = min(__float2uint_rd(x), max(width - 2, 0));  // negative values and NaN become 0
      const unsigned top = min(__float2uint_rd(y), max(height - 2, 0));
      const float dx = x - static_cast<int>(left), dy = y - static_cast<int>(top);
      const float left_weight = hat(dx), right_weight = width > 1 ? hat(dx - 1.f) : 0.f;
      const float top_weight = exponential * hat(dy), bottom_weight = height > 1 ? exponential * hat(dy - 1.f) : 0.f;
      cells[group][point] = (start + top * width + left) * kRowBytes;
      weights[group][point] = make_float4(top_weight * left_weight, top_weight * right_weight,
                                          bottom_weight * left_weight, bottom_weight * right_weight);
    }
#if STAGED_KEYS
    __pipeline_wait_prior(0);
    __syncthreads();
#else
    __syncwarp();
#endif
    if (__any_sync(kWarp, touches)) {
      const unsigned right = width > 1 ? kRowBytes : 0, below = height > 1 ? width * kRowBytes : 0;
#pragma unroll UNROLL
      for (int point = 0; point < points_of(level); ++point) {
        const float4 weight = weights[group][point];
        const char* cell = rows + cells[group][point];
#pragma unroll
        for (int chunk = 0; chunk < kChunks; ++chunk) {
          const int channel = channel_of(chunk, group, lane);
          if (channel >= CHANNELS) continue;
          const char* top_left = cell + channel * sizeof(SCALAR);
          accumulate(sum[chunk], top_left, weight.x);
          accumulate(sum[chunk], top_left + right, weight.y);
          accumulate(sum[chunk], top_left + below, weight.z);
          accumulate(sum[chunk], top_left + below + right, weight.w);
        }
      }
    }
    if (level + 1 < LEVELS) __syncwarp();
  }

#pragma unroll
  for (int step = LANES / 2; step > 0; step /= 2) total += __shfl_xor_sync(kWarp, total, step, LANES);
  const float scale = __fdividef(1.f, total);
  if (turn < queries) put(output + batch * queries * (HEADS * CHANNELS) + row * CHANNELS, sum, scale, group, lane);
}
