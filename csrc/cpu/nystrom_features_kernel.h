// Rows that share a pass over the whitening matrix: whole tiles of four vectors with AVX-512, of two elsewhere.
constexpr int kRows = INERTIAL_SIMD_BYTES == 64 ? 2 * tile_rows(4) : tile_rows(2);

// out [m] = exp(rate |p - z|^2) for the landmarks z [3, step].
template <typename scalar>
static inline void kernel_row(const scalar* p, const scalar* z, int64_t m, int64_t step, scalar rate, scalar* out) {
  constexpr int W = width<scalar>;
  for (int64_t l = 0; l < m; l += W) {
    const Vec<scalar> x = load(z + l) - p[0], y = load(z + step + l) - p[1], w = load(z + 2 * step + l) - p[2];
    const Vec<scalar> value = exp((x * x + y * y + w * w) * rate);
    store_row(out, l, m, value);
  }
}

// Features of "rows" <= kRows positions. z [3, step], whitening [S, m, step], scratch [kRows * (m + step)].
template <typename scalar>
void features(const scalar* pos, int rows, const scalar* z, const scalar* whitening, const double* widths,
              int64_t num_scales, int64_t m, scalar* scratch, scalar* phi) {
  const int64_t step = padded<scalar>(m);
  scalar *kernel = scratch, *block = scratch + kRows * m;
  std::fill_n(kernel, kRows * m, scalar(0));
  for (int64_t s = 0; s < num_scales; ++s) {
    const scalar rate = -0.5 / (widths[s] * widths[s]);
    for (int i = 0; i < rows; ++i) kernel_row(pos + 3 * i, z, m, step, rate, kernel + i * m);
    multiply<false>(kRows, step, m, kernel, m, int64_t(1), whitening + s * m * step, step, block, step);
    for (int i = 0; i < rows; ++i) std::copy_n(block + i * step, m, phi + (i * num_scales + s) * m);
  }
}

// Gradient in the positions; here "turned" [S, m, step] is the transpose of the whitening, scratch holds a row more.
template <typename scalar>
void features_pos(const scalar* grad, const scalar* pos, int rows, const scalar* z, const scalar* turned,
                  const double* widths, int64_t num_scales, int64_t m, scalar* scratch, scalar* pos_grad) {
  constexpr int W = width<scalar>;
  const int64_t step = padded<scalar>(m);
  scalar *given = scratch, *block = scratch + kRows * m, *kernel = block + kRows * step;
  std::fill_n(given, kRows * m, scalar(0));
  Vec<scalar> sum[kRows][3] = {};
  for (int64_t s = 0; s < num_scales; ++s) {
    const scalar rate = -0.5 / (widths[s] * widths[s]);
    for (int i = 0; i < rows; ++i) std::copy_n(grad + (i * num_scales + s) * m, m, given + i * m);
    multiply<false>(kRows, step, m, given, m, int64_t(1), turned + s * m * step, step, block, step);
    for (int i = 0; i < rows; ++i) {
      const scalar* p = pos + 3 * i;
      kernel_row(p, z, step, step, rate, kernel);
      for (int64_t l = 0; l < step; l += W) {
        const Vec<scalar> pull = load(block + i * step + l) * load(kernel + l) * (-2 * rate);
        for (int a = 0; a < 3; ++a) sum[i][a] += pull * (load(z + a * step + l) - p[a]);
      }
    }
  }
  for (int i = 0; i < rows; ++i)
    for (int a = 0; a < 3; ++a) pos_grad[3 * i + a] = sum_of<scalar>(sum[i][a]);
}

// Copies the landmarks [m, 3] to z [3, step] and the whitening [S, m, m], or its transpose, to [S, m, step].
template <typename scalar>
int64_t pack(const scalar* landmarks, const scalar* whitening, int64_t num_scales, int64_t m, bool transpose,
             std::vector<scalar>& z, std::vector<scalar>& matrix) {
  const int64_t step = padded<scalar>(m);
  z.assign(3 * step, 0);
  matrix.assign(num_scales * m * step, 0);
  for (int64_t l = 0; l < m; ++l)
    for (int a = 0; a < 3; ++a) z[a * step + l] = landmarks[3 * l + a];
  for (int64_t s = 0; s < num_scales; ++s)
    for (int64_t l = 0; l < m; ++l)
      for (int64_t j = 0; j < m; ++j)
        matrix[(s * m + (transpose ? j : l)) * step + (transpose ? l : j)] = whitening[(s * m + l) * m + j];
  return step;
}

template <typename scalar>
void run(const scalar* grad, const scalar* pos, int64_t tokens, const scalar* landmarks, const scalar* whitening,
         const std::vector<double>& widths, int64_t m, scalar* out) {
  const int64_t num_scales = int64_t(widths.size()), blocks = (tokens + kRows - 1) / kRows;
  std::vector<scalar> z, matrix;
  const int64_t step = pack(landmarks, whitening, num_scales, m, grad != nullptr, z, matrix);
  torch::stable::parallel_for(0, blocks, 4, [&](int64_t b, int64_t end) {
    std::vector<scalar> scratch(kRows * (m + step) + step);
    for (; b < end; ++b) {
      const int64_t t = b * kRows;
      const int rows = tokens - t < kRows ? int(tokens - t) : kRows;
      if (grad == nullptr)
        features(pos + 3 * t, rows, z.data(), matrix.data(), widths.data(), num_scales, m, scratch.data(),
                 out + t * num_scales * m);
      else
        features_pos(grad + t * num_scales * m, pos + 3 * t, rows, z.data(), matrix.data(), widths.data(), num_scales,
                     m, scratch.data(), out + 3 * t);
    }
  });
}
