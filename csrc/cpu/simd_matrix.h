// Matrices for the kernels: rows that end within a vector, and products that keep a tile of the result in registers.
// Included once per level by simd_levels.h, after simd.h.

// "size" rounded up to whole vectors.
template <typename scalar> constexpr int64_t padded(int64_t size) {
  return (size + width<scalar> - 1) / width<scalar> * width<scalar>;
}

// The vector at column "c" of a row of "size" columns: what lies beyond reads as zero, and is not written.
template <typename in> static inline auto load_row(const in* row, int64_t c, int64_t size) -> decltype(load(row)) {
  constexpr int64_t W = sizeof(load(row)) / sizeof(load(row)[0]);
  return c + W <= size ? load(row + c) : load_part(row + c, int(size - c));
}
template <typename out, typename V> static inline void store_row(out* row, int64_t c, int64_t size, V x) {
  constexpr int64_t W = sizeof(V) / sizeof(x[0]);
  c + W <= size ? store(row + c, x) : store_part(row + c, x, int(size - c));
}

// C[r][n] (+)= sum_k A[r * ar + k * ak] B[k * ldb + n] for R rows and NV vectors of columns, all in registers. The sums
// run over k in order, whatever R and NV are: an entry has the same bits in every tile.
template <int R, int NV, bool add, typename scalar>
static inline void tile(int64_t depth, const scalar* A, int64_t ar, int64_t ak, const scalar* B, int64_t ldb, scalar* C,
                        int64_t ldc) {
  constexpr int W = width<scalar>;
  Vec<scalar> sum[R][NV];
#pragma GCC unroll 10
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sum[r][v] = add ? load(C + r * ldc + v * W) : Vec<scalar>{};
  for (int64_t k = 0; k < depth; ++k) {
    Vec<scalar> b[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) b[v] = load(B + k * ldb + v * W);
#pragma GCC unroll 10
    for (int r = 0; r < R; ++r) {
      const Vec<scalar> a = splat(A[r * ar + k * ak]);
  #pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) sum[r][v] += a * b[v];
    }
  }
#pragma GCC unroll 10
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) store(C + r * ldc + v * W, sum[r][v]);
}

// The most rows whose sums fit in the registers: 32 with AVX-512, 16 elsewhere.
constexpr int tile_rows(int vectors) {
  return vectors == 1 ? 8 : INERTIAL_SIMD_BYTES == 64 ? (vectors == 2 ? 10 : 6) : (vectors == 2 ? 6 : 3);
}

template <int NV, bool add, typename scalar>
static inline void strip(int64_t rows, int64_t depth, const scalar* A, int64_t ar, int64_t ak, const scalar* B,
                         int64_t ldb, scalar* C, int64_t ldc) {
  constexpr int R = tile_rows(NV);
  static_assert(R <= 10);
#define INERTIAL_TILE(n) \
  if constexpr (n <= R) tile<n, NV, add>(depth, A + r * ar, ar, ak, B, ldb, C + r * ldc, ldc)
  int64_t r = 0;
  for (; rows - r >= 2 * R; r += R) INERTIAL_TILE(R);
  while (r < rows) {
    const int64_t left = rows - r, take = left > R ? (left + 1) / 2 : left;  // even shares: short ones only wait
    switch (take) {
      case 1: INERTIAL_TILE(1); break;
      case 2: INERTIAL_TILE(2); break;
      case 3: INERTIAL_TILE(3); break;
      case 4: INERTIAL_TILE(4); break;
      case 5: INERTIAL_TILE(5); break;
      case 6: INERTIAL_TILE(6); break;
      case 7: INERTIAL_TILE(7); break;
      case 8: INERTIAL_TILE(8); break;
      case 9: INERTIAL_TILE(9); break;
      case 10: INERTIAL_TILE(10); break;
    }
    r += take;
  }
#undef INERTIAL_TILE
}

// "columns" is a multiple of the width.
template <bool add, typename scalar>
static inline void multiply(int64_t rows, int64_t columns, int64_t depth, const scalar* A, int64_t ar, int64_t ak,
                            const scalar* B, int64_t ldb, scalar* C, int64_t ldc) {
  constexpr int W = width<scalar>, most = INERTIAL_SIMD_BYTES == 64 ? 4 : 2;
  int64_t n = 0;
  for (; n + most * W <= columns; n += most * W)
    strip<most, add>(rows, depth, A, ar, ak, B + n, ldb, C + n, ldc);
  for (; n + 2 * W <= columns; n += 2 * W) strip<2, add>(rows, depth, A, ar, ak, B + n, ldb, C + n, ldc);
  for (; n < columns; n += W) strip<1, add>(rows, depth, A, ar, ak, B + n, ldb, C + n, ldc);
}
