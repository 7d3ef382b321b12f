template <typename scalar> void map(SimdFunction function, const scalar* in, int64_t size, scalar* out) {
  constexpr int W = width<scalar>;
  for (int64_t i = 0; i < size; i += W) {
    const int n = size - i < W ? int(size - i) : W;
    const Vec<scalar> x = load_part(in + i, n);
    store_part(out + i, function == SimdFunction::exp ? exp(x) : log(x), n);
  }
}

void map_sincos(const double* in, int64_t size, double* sine, double* cosine) {
  constexpr int W = width<double>;
  for (int64_t i = 0; i < size; i += W) {
    const int n = size - i < W ? int(size - i) : W;
    Vec<double> s, c;
    sincos(load_part(in + i, n), s, c);
    store_part(sine + i, s, n);
    store_part(cosine + i, c, n);
  }
}
