// What kernels use of CUDA, on a CPU. The threads of a block take turns: each has a stack of its own and runs until it
// waits for others of its warp.

#pragma once

#include <math.h>
#include <ucontext.h>

#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
using __half = _Float16;

struct Index {
  unsigned x, y, z;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

struct Thread {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool ended = false;
  unsigned meetings = 0;
  float given[2] = {};  // in the last two meetings: nobody is further ahead
};
static std::vector<Thread> threads;
static ucontext_t scheduler;
static std::function<void()> body;

static void run_body() {
  body();
  threads[threadIdx.x].ended = true;
}

// Waits until all threads of a mask have been here as often.
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  const unsigned me = threadIdx.x, warp = me / 32 * 32, meeting = ++threads[me].meetings;
  for (unsigned lane = 0; lane < 32; ++lane)
    while (mask >> lane & 1 && threads[warp + lane].meetings < meeting) swapcontext(&threads[me].context, &scheduler);
}

inline float __shfl_xor_sync(unsigned mask, float x, int step, int width = 32) {
  const unsigned slot = threads[threadIdx.x].meetings % 2;
  threads[threadIdx.x].given[slot] = x;
  __syncwarp(mask);
  return threads[threadIdx.x ^ step].given[slot];
}

inline float atomicAdd(float* target, float x) {
  const float before = *target;
  *target = before + x;
  return before;
}

// Whether all threads of a block have ended; they have not where some wait for ever.
inline bool run_block(unsigned size) {
  threads.resize(size);
  for (Thread& thread : threads) {
    thread.ended = false;
    thread.meetings = 0;
    getcontext(&thread.context);
    thread.context.uc_stack = {thread.stack.data(), 0, thread.stack.size()};
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_body, 0);
  }
  for (bool moved = true; moved;) {
    moved = false;
    for (unsigned number = 0; number < size; ++number) {
      Thread& thread = threads[number];
      if (thread.ended) continue;
      const unsigned before = thread.meetings;
      threadIdx = {number, 0, 0};
      swapcontext(&scheduler, &thread.context);
      moved |= thread.ended || thread.meetings > before;
    }
  }
  for (const Thread& thread : threads)
    if (!thread.ended) return false;
  return true;
}

template <typename... Arguments>
bool launch(void (*kernel)(Arguments...), void* const* pointers, Index grid, unsigned block) {
  auto call = [&]<size_t... I>(std::index_sequence<I...>) { kernel(*static_cast<Arguments*>(pointers[I])...); };
  body = [&] { call(std::index_sequence_for<Arguments...>()); };
  gridDim = grid;
  blockDim = {block, 1, 1};
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
        if (!run_block(block)) return false;
  return true;
}
