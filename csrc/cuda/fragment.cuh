// Matrix products of one warp, C [16, 8] += A [16, 16] B [16, 8] in float32, of float32, bfloat16 or float16.
//
// Lane l = 4g + t holds "pairs" of neighbors along the summed dimension k: of A rows g and g + 8, of B column g, of
// C rows g and g + 8 at columns 2t and 2t + 1 (the fragment layouts of PTX mma.sync). The order of k is free as long as
// A and B agree. 16-bit operands take one mma.m16n8k16. float32 takes tf32 products of a high and a low part: 3
// products keep 22 bits of the operands, nearly all of float32; 1 keeps 11.
#pragma once

#include <cstdint>
#include <cstring>

namespace inertial {

struct bf16 { uint16_t bits; };
struct fp16 { uint16_t bits; };

template <typename scalar> struct PairOf { using type = uint32_t; };
template <> struct PairOf<float> { using type = float2; };
template <typename scalar> using Pair = typename PairOf<scalar>::type;

// Four neighboring features: the unit of all loads and stores, 8 or 16 bytes.
template <typename scalar> struct alignas(2 * sizeof(Pair<scalar>)) Quad { Pair<scalar> pair[2]; };

__device__ __forceinline__ uint32_t bits_of(float x) {
#ifdef __CUDACC__
  return __float_as_uint(x);
#else
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
#endif
}

__device__ __forceinline__ float float_of(uint32_t bits) {
#ifdef __CUDACC__
  return __uint_as_float(bits);
#else
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
#endif
}

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t d;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

__device__ __forceinline__ uint32_t pack_fp16(float low, float high) {
  uint32_t d;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
  return d;
}

__device__ __forceinline__ float2 unpack_fp16(uint32_t x) {
  float2 d;
  asm("{ .reg .b16 low, high; mov.b32 {low, high}, %2; cvt.f32.f16 %0, low; cvt.f32.f16 %1, high; }"
      : "=f"(d.x), "=f"(d.y) : "r"(x));
  return d;
}

__device__ __forceinline__ uint32_t to_tf32(float x) {
  uint32_t d;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(d) : "f"(x));
  return d;
}

// The low words of two pairs, or the high words.
__device__ __forceinline__ uint32_t low_words(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x5410); }
__device__ __forceinline__ uint32_t high_words(uint32_t a, uint32_t b) { return __byte_perm(a, b, 0x7632); }

#define INERTIAL_MMA(name, shape)                                                                              \
  __device__ __forceinline__ void name(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {         \
    asm volatile("mma.sync.aligned." shape " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"            \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                        \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                    \
  }
INERTIAL_MMA(mma_bf16, "m16n8k16.row.col.f32.bf16.bf16.f32")
INERTIAL_MMA(mma_fp16, "m16n8k16.row.col.f32.f16.f16.f32")
INERTIAL_MMA(mma_tf32, "m16n8k8.row.col.f32.tf32.tf32.f32")
#undef INERTIAL_MMA

#endif  // otherwise the CPU's stand-ins, which the tests bring

template <typename scalar> struct Pairs;

template <> struct Pairs<float> {
  static __device__ __forceinline__ float2 pack(float low, float high) { return make_float2(low, high); }
  static __device__ __forceinline__ float2 unpack(float2 x) { return x; }
  static __device__ __forceinline__ float2 low(float2 a, float2 b) { return make_float2(a.x, b.x); }
  static __device__ __forceinline__ float2 high(float2 a, float2 b) { return make_float2(a.y, b.y); }
};
template <> struct Pairs<bf16> {
  static __device__ __forceinline__ uint32_t pack(float low, float high) { return pack_bf16(low, high); }
  static __device__ __forceinline__ float2 unpack(uint32_t x) {
    return make_float2(float_of(x << 16), float_of(x & 0xffff0000u));
  }
  static __device__ __forceinline__ uint32_t low(uint32_t a, uint32_t b) { return low_words(a, b); }
  static __device__ __forceinline__ uint32_t high(uint32_t a, uint32_t b) { return high_words(a, b); }
};
template <> struct Pairs<fp16> {
  static __device__ __forceinline__ uint32_t pack(float low, float high) { return pack_fp16(low, high); }
  static __device__ __forceinline__ float2 unpack(uint32_t x) { return unpack_fp16(x); }
  static __device__ __forceinline__ uint32_t low(uint32_t a, uint32_t b) { return low_words(a, b); }
  static __device__ __forceinline__ uint32_t high(uint32_t a, uint32_t b) { return high_words(a, b); }
};

// a: rows (g, g + 8) of the first pair of k, then of the second; b: the two pairs of k.
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16) {
  mma_bf16(c, a, b);
}
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], fp16) {
  mma_fp16(c, a, b);
}

// A pair stands at k = t and t + 4 of its instruction: which k those are does not matter to the sum.
template <int products>
__device__ __forceinline__ void mma_float(float (&c)[4], const float2 (&a)[4], const float2 (&b)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float wide_a[4] = {a[2 * half].x, a[2 * half + 1].x, a[2 * half].y, a[2 * half + 1].y};
    const float wide_b[2] = {b[half].x, b[half].y};
    uint32_t high_a[4], low_a[4], high_b[2], low_b[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      high_a[i] = to_tf32(wide_a[i]);
      if (products == 3) low_a[i] = to_tf32(wide_a[i] - float_of(high_a[i]));
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      high_b[i] = to_tf32(wide_b[i]);
      if (products == 3) low_b[i] = to_tf32(wide_b[i] - float_of(high_b[i]));
    }
    if (products == 3) {
      mma_tf32(c, low_a, high_b);
      mma_tf32(c, high_a, low_b);
    }
    mma_tf32(c, high_a, high_b);
  }
}
__device__ __forceinline__ void mma(float (&c)[4], const float2 (&a)[4], const float2 (&b)[2], float) {
  mma_float<3>(c, a, b);
}

// The products of geometry, float32 in memory: as good as the rest of the score needs.
template <typename scalar> constexpr int kGeometryProducts = 1;
template <> constexpr int kGeometryProducts<float> = 3;

template <typename scalar>
__device__ __forceinline__ Quad<scalar> load_quad(const scalar* x, bool inside) {
  Quad<scalar> zero{};
  return inside ? *reinterpret_cast<const Quad<scalar>*>(x) : zero;
}

// Up to four floats from "count" that are left, at any alignment if not "aligned".
__device__ __forceinline__ Quad<float> load_floats(const float* x, int count, bool aligned) {
  if (aligned) return load_quad(x, count > 0);
  Quad<float> quad{};
  if (count > 0) quad.pair[0].x = x[0];
  if (count > 1) quad.pair[0].y = x[1];
  if (count > 2) quad.pair[1].x = x[2];
  if (count > 3) quad.pair[1].y = x[3];
  return quad;
}

// Column "j" of four rows' quads as the operand B whose k are the rows: n = g stands for feature 4g + j.
template <typename scalar>
__device__ __forceinline__ void columns(Pair<scalar> (&b)[2], const Quad<scalar> (&rows)[4], int j) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const Pair<scalar> x = rows[2 * half].pair[j / 2], y = rows[2 * half + 1].pair[j / 2];
    b[half] = j % 2 ? Pairs<scalar>::high(x, y) : Pairs<scalar>::low(x, y);
  }
}

// Two neighboring C fragments [16, 8] as an operand A whose k are their 16 columns.
template <typename scalar>
__device__ __forceinline__ void rows_of(Pair<scalar> (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = Pairs<scalar>::pack(left[0], left[1]);
  a[1] = Pairs<scalar>::pack(left[2], left[3]);
  a[2] = Pairs<scalar>::pack(right[0], right[1]);
  a[3] = Pairs<scalar>::pack(right[2], right[3]);
}

}  // namespace inertial
