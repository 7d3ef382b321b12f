// Vectors of INERTIAL_SIMD_BYTES bytes in the compilers' own vector types: +, *, comparisons and "mask ? a : b" are
// written as for scalars, and "sum += a * b" contracts to a fused multiply-add where there is one. Included once a
// level by simd_levels.h; use from my_kernel.h as "using V = Vec<float>; store(out, exp(load(in)))".
//
// Accuracy, tested at every level: exp, log 2 ulp in float32 and float64; sincos 2e-16 absolute for |x| < 1e5.

#define INERTIAL_INLINE static inline __attribute__((always_inline))

template <typename scalar> struct VecOf;
template <> struct VecOf<float> {
  typedef float type __attribute__((vector_size(INERTIAL_SIMD_BYTES)));
  typedef float unaligned __attribute__((vector_size(INERTIAL_SIMD_BYTES), aligned(4), may_alias));
  typedef int32_t bits __attribute__((vector_size(INERTIAL_SIMD_BYTES)));
  typedef uint16_t halves __attribute__((vector_size(INERTIAL_SIMD_BYTES / 2)));
  typedef uint16_t unaligned_halves __attribute__((vector_size(INERTIAL_SIMD_BYTES / 2), aligned(2), may_alias));
  typedef uint32_t words __attribute__((vector_size(INERTIAL_SIMD_BYTES)));
};
template <> struct VecOf<double> {
  typedef double type __attribute__((vector_size(INERTIAL_SIMD_BYTES)));
  typedef double unaligned __attribute__((vector_size(INERTIAL_SIMD_BYTES), aligned(8), may_alias));
  typedef int64_t bits __attribute__((vector_size(INERTIAL_SIMD_BYTES)));
};
template <typename scalar> using Vec = typename VecOf<scalar>::type;
template <typename scalar> using Bits = typename VecOf<scalar>::bits;
template <typename scalar> constexpr int width = INERTIAL_SIMD_BYTES / sizeof(scalar);

template <typename scalar> INERTIAL_INLINE Vec<scalar> splat(scalar x) { return x - Vec<scalar>{}; }

INERTIAL_INLINE Vec<float> load(const float* p) { return *reinterpret_cast<const VecOf<float>::unaligned*>(p); }
INERTIAL_INLINE Vec<double> load(const double* p) { return *reinterpret_cast<const VecOf<double>::unaligned*>(p); }
INERTIAL_INLINE void store(float* p, Vec<float> x) { *reinterpret_cast<VecOf<float>::unaligned*>(p) = x; }
INERTIAL_INLINE void store(double* p, Vec<double> x) { *reinterpret_cast<VecOf<double>::unaligned*>(p) = x; }

// bfloat16, as the upper half of a float32; rounds to the nearest even.
INERTIAL_INLINE Vec<float> load(const bfloat16* p) {
  const VecOf<float>::halves half = *reinterpret_cast<const VecOf<float>::unaligned_halves*>(p);
  return reinterpret_cast<Vec<float>>(__builtin_convertvector(half, VecOf<float>::words) << 16);
}
INERTIAL_INLINE void store(bfloat16* p, Vec<float> x) {
  const auto word = reinterpret_cast<VecOf<float>::words>(x);
  const auto even = (word + 0x7fff + ((word >> 16) & 1)) >> 16;
  const auto nan = (word >> 16) | 0x40;
  *reinterpret_cast<VecOf<float>::unaligned_halves*>(p) =
      __builtin_convertvector(x == x ? even : nan, VecOf<float>::halves);
}

// The first "n" < width entries, zeros after them.
template <typename in> INERTIAL_INLINE auto load_part(const in* p, int n) -> decltype(load(p)) {
  in all[INERTIAL_SIMD_BYTES / sizeof(in)] = {};  // room for a vector of any compute type
  __builtin_memcpy(all, p, n * sizeof(in));
  return load(all);
}
template <typename out, typename V> INERTIAL_INLINE void store_part(out* p, V x, int n) {
  out all[INERTIAL_SIMD_BYTES / sizeof(out)];
  store(all, x);
  __builtin_memcpy(p, all, n * sizeof(out));
}

template <typename V> INERTIAL_INLINE V larger(V a, V b) { return a > b ? a : b; }

template <typename scalar> INERTIAL_INLINE scalar sum_of(Vec<scalar> x) {
  scalar sum = 0;
  for (int i = 0; i < width<scalar>; ++i) sum += x[i];
  return sum;
}

template <typename V> INERTIAL_INLINE V polynomial(V, double last) { return V{} + (decltype(V{}[0] + 0))last; }
template <typename V, typename... More> INERTIAL_INLINE V polynomial(V x, double first, double second, More... more) {
  return polynomial(x, second, more...) * x + (decltype(V{}[0] + 0))first;
}

// exp(x) for x up to 88 (float32) or 709 (float64); zero where the result would be below the normal numbers.
INERTIAL_INLINE Vec<float> exp(Vec<float> x) {
  const auto low = x < -87.336f;
  const auto shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the low bits are now round(x / ln 2)
  const auto n = shifted - 12582912.0f;
  const auto r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  const auto p = polynomial(r, 1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040);
  const auto power = reinterpret_cast<Vec<float>>((reinterpret_cast<Bits<float>>(shifted) << 23) + 0x3f800000);
  return low ? Vec<float>{} : p * power;
}
INERTIAL_INLINE Vec<double> exp(Vec<double> x) {
  const auto low = x < -708.39;
  const auto shifted = x * 1.4426950408889634 + 6755399441055744.0;  // 1.5 * 2^52
  const auto n = shifted - 6755399441055744.0;
  const auto r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  const auto p = polynomial(r, 1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880,
                            1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800.);
  const auto power =
      reinterpret_cast<Vec<double>>((reinterpret_cast<Bits<double>>(shifted) << 52) + 0x3ff0000000000000);
  return low ? Vec<double>{} : p * power;
}

// log(x) of a normal x > 0: x = 2^n m with m in [sqrt(1/2), sqrt(2)), log m = 2 artanh((m - 1) / (m + 1)).
INERTIAL_INLINE Vec<float> log(Vec<float> x) {
  const auto bits = reinterpret_cast<Bits<float>>(x);
  const auto n = (bits - 0x3f3504f3) >> 23;
  const auto m = reinterpret_cast<Vec<float>>(bits - (n << 23));
  const auto s = (m - 1) / (m + 1), z = s * s;
  const auto odd = s * z * polynomial(z, 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11);
  const auto count = __builtin_convertvector(n, Vec<float>);
  return count * 0.693359375f + (2 * s + (odd - count * 2.12194440e-4f));
}
INERTIAL_INLINE Vec<double> log(Vec<double> x) {
  const auto bits = reinterpret_cast<Bits<double>>(x);
  const auto n = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const auto m = reinterpret_cast<Vec<double>>(bits - (n << 52));
  const auto s = (m - 1) / (m + 1), z = s * s;
  const auto odd = s * z * polynomial(z, 2. / 3, 2. / 5, 2. / 7, 2. / 9, 2. / 11, 2. / 13, 2. / 15, 2. / 17, 2. / 19,
                                      2. / 21, 2. / 23);
  const auto count = __builtin_convertvector(n, Vec<double>);
  return count * 6.93147180369123816490e-01 + (2 * s + (odd + count * 1.90821492927058770002e-10));
}

// Sine and cosine, in float64 alone: phases are few, and a float32 phase of 100 rad has lost five digits.
INERTIAL_INLINE void sincos(Vec<double> x, Vec<double>& sine, Vec<double>& cosine) {
  const auto shifted = x * 0.63661977236758138 + 6755399441055744.0;
  const auto n = shifted - 6755399441055744.0;
  const auto r = ((x - n * 1.57079632673412561417e+00) - n * 6.07710050630396597660e-11) - n * 2.02226624879595063154e-21;
  const auto z = r * r;
  const auto s = r + r * z * polynomial(z, -1. / 6, 1. / 120, -1. / 5040, 1. / 362880, -1. / 39916800,
                                        1. / 6227020800., -1. / 1307674368000., 1. / 355687428096000.);
  const auto c = polynomial(z, 1, -1. / 2, 1. / 24, -1. / 720, 1. / 40320, -1. / 3628800, 1. / 479001600,
                            -1. / 87178291200., 1. / 20922789888000.);
  const auto quarter = reinterpret_cast<Bits<double>>(shifted);
  const auto odd = (quarter & 1) != 0;
  const Vec<double> first = odd ? c : s, second = odd ? s : c;
  sine = (quarter & 2) != 0 ? -first : first;
  cosine = ((quarter + 1) & 2) != 0 ? -second : second;
}

#if defined(__clang__)
#define INERTIAL_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define INERTIAL_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Bits<scalar>{__VA_ARGS__})
#endif

// (x0, x1, x2, x3, ...) -> (x1, x0, x3, x2, ...), and the interleaved halves of two vectors.
template <int W> struct Shuffles;
template <> struct Shuffles<2> {
  template <typename scalar> INERTIAL_INLINE Vec<scalar> swap(Vec<scalar> a) { return INERTIAL_SHUFFLE(a, a, 1, 0); }
  template <typename scalar> INERTIAL_INLINE void weave(Vec<scalar>& a, Vec<scalar>& b) {
    const Vec<scalar> low = INERTIAL_SHUFFLE(a, b, 0, 2), high = INERTIAL_SHUFFLE(a, b, 1, 3);
    a = low, b = high;
  }
};
template <> struct Shuffles<4> {
  template <typename scalar> INERTIAL_INLINE Vec<scalar> swap(Vec<scalar> a) {
    return INERTIAL_SHUFFLE(a, a, 1, 0, 3, 2);
  }
  template <typename scalar> INERTIAL_INLINE void weave(Vec<scalar>& a, Vec<scalar>& b) {
    const Vec<scalar> low = INERTIAL_SHUFFLE(a, b, 0, 4, 1, 5), high = INERTIAL_SHUFFLE(a, b, 2, 6, 3, 7);
    a = low, b = high;
  }
};
template <> struct Shuffles<8> {
  template <typename scalar> INERTIAL_INLINE Vec<scalar> swap(Vec<scalar> a) {
    return INERTIAL_SHUFFLE(a, a, 1, 0, 3, 2, 5, 4, 7, 6);
  }
  template <typename scalar> INERTIAL_INLINE void weave(Vec<scalar>& a, Vec<scalar>& b) {
    const Vec<scalar> low = INERTIAL_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
    const Vec<scalar> high = INERTIAL_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    a = low, b = high;
  }
};
template <> struct Shuffles<16> {
  template <typename scalar> INERTIAL_INLINE Vec<scalar> swap(Vec<scalar> a) {
    return INERTIAL_SHUFFLE(a, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
  }
  template <typename scalar> INERTIAL_INLINE void weave(Vec<scalar>& a, Vec<scalar>& b) {
    const Vec<scalar> low = INERTIAL_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const Vec<scalar> high = INERTIAL_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    a = low, b = high;
  }
};
template <typename scalar> INERTIAL_INLINE Vec<scalar> swap_pairs(Vec<scalar> x) {
  return Shuffles<width<scalar>>::template swap<scalar>(x);
}

// Transposes a square of width x width: log2(width) rounds that interleave row i with row i + width / 2.
template <typename scalar> INERTIAL_INLINE void transpose(Vec<scalar> (&rows)[width<scalar>]) {
  constexpr int W = width<scalar>;
#pragma GCC unroll 4
  for (int round = 1; round < W; round *= 2) {
    Vec<scalar> next[W];
#pragma GCC unroll 8
    for (int i = 0; i < W / 2; ++i) {
      next[2 * i] = rows[i], next[2 * i + 1] = rows[i + W / 2];
      Shuffles<W>::template weave<scalar>(next[2 * i], next[2 * i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i) rows[i] = next[i];
  }
}

#undef INERTIAL_SHUFFLE
#undef INERTIAL_INLINE
