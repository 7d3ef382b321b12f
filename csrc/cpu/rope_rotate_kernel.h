// Factors of a token's turn, x -> x * same + swap_pairs(x) * other: (cos, cos, ...) and (-sin, sin, ...).
template <typename scalar>
static inline void factors(const double* phase, int64_t pairs, scalar* same, scalar* other) {
  constexpr int W = width<double>;
  constexpr double far = 1e5;  // where simd.h's sincos ends
  for (int64_t k = 0; k < pairs; k += W) {
    const int n = pairs - k < W ? int(pairs - k) : W;
    Vec<double> sine, cosine;
    sincos(load_part(phase + k, n), sine, cosine);
    for (int i = 0; i < n; ++i) {
      const double x = phase[k + i];
      const bool near = x < far && x > -far;
      const double s = near ? sine[i] : std::sin(x), c = near ? cosine[i] : std::cos(x);
      same[2 * (k + i)] = same[2 * (k + i) + 1] = c;
      other[2 * (k + i)] = -s, other[2 * (k + i) + 1] = s;
    }
  }
}

template <typename scalar, typename stored>
void rotate_token(const stored* x, const double* phase, int64_t heads, int64_t pairs, scalar* scratch, stored* out) {
  constexpr int W = width<scalar>;
  const int64_t size = 2 * pairs;
  scalar *same = scratch, *other = scratch + size;
  factors(phase, pairs, same, other);
  for (int64_t h = 0; h < heads; ++h, x += size, out += size) {
    int64_t d = 0;
    for (; d + W <= size; d += W) {
      const Vec<scalar> part = load(x + d);
      store(out + d, part * load(same + d) + swap_pairs<scalar>(part) * load(other + d));
    }
    if (d == size) continue;
    const Vec<scalar> part = load_row(x, d, size);
    store_row(out, d, size, part * load_row(same, d, size) + swap_pairs<scalar>(part) * load_row(other, d, size));
  }
}

// sum[k] = sum over the heads of grad x (the turned pair), the derivative of the turn.
template <typename scalar, typename stored>
void phase_grad_token(const stored* grad, const stored* out, int64_t heads, int64_t pairs, scalar* sum) {
  constexpr int W = width<scalar>;
  const int64_t size = 2 * pairs;
  for (int64_t d = 0; d < size; d += W) {
    const int n = size - d < W ? int(size - d) : W;
    Vec<scalar> total{};
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t at = h * size + d;
      total += n == W ? load(grad + at) * swap_pairs<scalar>(load(out + at))
                      : load_part(grad + at, n) * swap_pairs<scalar>(load_part(out + at, n));
    }
    for (int i = 0; i < n; i += 2) sum[(d + i) / 2] = total[i + 1] - total[i];
  }
}
