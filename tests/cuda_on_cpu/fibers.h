// Runs unmodified CUDA kernels on the CPU: a thread of a block is a fiber (ucontext), a barrier lets the other fibers
// run until all have come. Enough of CUDA for our kernels: dynamic shared memory, barriers of block and warp, shuffles,
// votes, mma.sync by the fragment layouts of the PTX manual. What a block forgets to wait for shows in one of the two
// orders of the fibers; shared memory starts as NaN; a barrier that some threads never reach is an error.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }

namespace fibers {

struct Barrier {
  int expected, count = 0;
  long generation = 0;
};

struct Fiber {
  ucontext_t start;
  jmp_buf at;
  bool started = false, done = false;
  uint3 thread;
  std::unique_ptr<char[]> stack;
};

constexpr int kStack = 128 * 1024;
inline ucontext_t scheduler_start;
inline jmp_buf scheduler;
inline std::vector<Fiber> all;
inline Fiber* current;
inline std::function<void()> body;
inline bool moved;
inline Barrier block{0};
inline std::vector<Barrier> warps;
inline std::vector<uint64_t> slots;  // what the lanes of each warp show each other, 8 words a lane
inline uint3 block_index;
inline dim3 block_size(1), grid_size(1);

inline void yield() {
  if (_setjmp(current->at) == 0) _longjmp(scheduler, 1);
}

inline void wait(Barrier& barrier) {
  const long generation = barrier.generation;
  moved = true;
  if (++barrier.count == barrier.expected) {
    barrier.count = 0;
    ++barrier.generation;
    return;
  }
  while (barrier.generation == generation) yield();
}

inline int warp_of() { return current->thread.x / 32; }
inline int lane_of() { return current->thread.x % 32; }
inline uint64_t* slot(int lane) { return &slots[(warp_of() * 32 + lane) * 8]; }

inline void enter() {
  body();
  current->done = moved = true;
  _longjmp(scheduler, 1);
}

inline void resume(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.at, 1);
  fiber.started = true;
  setcontext(&fiber.start);
}

inline void run_block(int threads, bool backwards) {
  if (threads % 32 != 0) throw std::runtime_error("a block must be whole warps here");
  all.resize(threads);
  block = {threads};
  warps.assign(threads / 32, Barrier{32});
  slots.assign(threads * 8, 0);
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = all[i];
    fiber.started = fiber.done = false;
    fiber.thread = {static_cast<unsigned>(i), 0, 0};
    if (!fiber.stack) fiber.stack.reset(new char[kStack]);
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.start.uc_stack.ss_size = kStack;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
  }
  for (int left = threads; left > 0;) {
    moved = false;
    left = 0;
    for (int i = 0; i < threads; ++i) {
      Fiber& fiber = all[backwards ? threads - 1 - i : i];
      if (!fiber.done) resume(fiber);
      left += !fiber.done;
    }
    if (left > 0 && !moved) throw std::runtime_error("threads wait at a barrier that others never reach");
  }
}

inline uint64_t exchange(uint64_t mine, int lane) {
  *slot(lane_of()) = mine;
  wait(warps[warp_of()]);
  const uint64_t other = *slot(lane);
  wait(warps[warp_of()]);
  return other;
}

inline float as_float(uint64_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits);
  float x;
  std::memcpy(&x, &word, 4);
  return x;
}

inline uint32_t as_bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

inline float from_bf16(uint32_t bits) { return as_float((bits & 0xffff) << 16); }
inline float from_fp16(uint32_t bits) {
  _Float16 x;
  const uint16_t word = static_cast<uint16_t>(bits);
  std::memcpy(&x, &word, 2);
  return static_cast<float>(x);
}

// C [16, 8] += A [16, K] B [K, 8]; element(bits, side) reads one of the values that a register holds.
template <int K, typename Element>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Element element) {
  uint64_t* mine = slot(lane_of());
  for (int i = 0; i < 4; ++i) mine[i] = a[i];
  for (int i = 0; i < 2; ++i) mine[4 + i] = b[i];
  wait(warps[warp_of()]);
  constexpr int per_register = K / 8;  // 2 halves or 1 tf32; registers cover k = per * t, then per * t + K / 2
  const int g = lane_of() / 4, t = lane_of() % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = g + 8 * (i / 2), col = 2 * t + i % 2;
    float sum = c[i];
    for (int k = 0; k < K; ++k) {
      const int high = k / (K / 2), owner = k % (K / 2) / per_register, side = k % per_register;
      const uint64_t left = slot(row % 8 * 4 + owner)[row / 8 + 2 * high];
      const uint64_t right = slot(col * 4 + owner)[4 + high];
      sum += element(static_cast<uint32_t>(left), side) * element(static_cast<uint32_t>(right), side);
    }
    c[i] = sum;
  }
  wait(warps[warp_of()]);
}

}  // namespace fibers

#define threadIdx (fibers::current->thread)
#define blockIdx (fibers::block_index)
#define blockDim (fibers::block_size)
#define gridDim (fibers::grid_size)

inline void __syncthreads() { fibers::wait(fibers::block); }
inline void __syncwarp() { fibers::wait(fibers::warps[fibers::warp_of()]); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline float __shfl_xor_sync(unsigned, float x, int step) {
  return fibers::as_float(fibers::exchange(fibers::as_bits(x), fibers::lane_of() ^ step));
}
inline unsigned __ballot_sync(unsigned, bool holds) {
  *fibers::slot(fibers::lane_of()) = holds;
  __syncwarp();
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= static_cast<unsigned>(*fibers::slot(lane)) << lane;
  __syncwarp();
  return votes;
}

namespace inertial {

inline float4 shared[256 * 1024 / 16];

inline uint32_t pack_bf16(float low, float high) {
  const auto round = [](float x) {
    const uint32_t bits = fibers::as_bits(x);
    if (x != x) return 0x7fffu;
    return (bits + 0x7fffu + ((bits >> 16) & 1)) >> 16;
  };
  return round(low) | round(high) << 16;
}
inline uint32_t pack_fp16(float low, float high) {
  const _Float16 both[2] = {static_cast<_Float16>(low), static_cast<_Float16>(high)};
  uint32_t bits;
  std::memcpy(&bits, both, 4);
  return bits;
}
inline float2 unpack_fp16(uint32_t x) { return {fibers::from_fp16(x), fibers::from_fp16(x >> 16)}; }
inline uint32_t to_tf32(float x) { return (fibers::as_bits(x) + 0x1000u) & ~0x1fffu; }
inline uint32_t low_words(uint32_t a, uint32_t b) { return (a & 0xffffu) | b << 16; }
inline uint32_t high_words(uint32_t a, uint32_t b) { return a >> 16 | (b & 0xffff0000u); }

inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  fibers::mma<16>(c, a, b, [](uint32_t bits, int side) { return fibers::from_bf16(bits >> 16 * side); });
}
inline void mma_fp16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  fibers::mma<16>(c, a, b, [](uint32_t bits, int side) { return fibers::from_fp16(bits >> 16 * side); });
}
inline void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  fibers::mma<8>(c, a, b, [](uint32_t bits, int) { return fibers::as_float(bits); });
}

}  // namespace inertial

namespace fibers {

// kernel<<<grid, threads, shared_bytes>>>(...) as launch(grid, threads, shared_bytes, [&] { kernel(...); }).
inline void launch(dim3 grid, int threads, int64_t shared_bytes, bool backwards, std::function<void()> kernel) {
  if (shared_bytes > static_cast<int64_t>(sizeof(inertial::shared))) throw std::runtime_error("too much shared memory");
  body = std::move(kernel);
  grid_size = grid;
  block_size = dim3(threads);
  for (unsigned y = 0; y < grid.y; ++y)
    for (unsigned x = 0; x < grid.x; ++x) {
      std::memset(inertial::shared, 0xff, sizeof(inertial::shared));
      block_index = {x, y, 0};
      run_block(threads, backwards);
      const unsigned char* memory = reinterpret_cast<unsigned char*>(inertial::shared);
      for (int64_t i = shared_bytes; i < shared_bytes + 4096 && i < static_cast<int64_t>(sizeof(inertial::shared)); ++i)
        if (memory[i] != 0xff) throw std::runtime_error("a kernel wrote past its shared memory");
    }
}

}  // namespace fibers
