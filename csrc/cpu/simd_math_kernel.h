template <typename scalar> void map(SimdFunction function, const scalar* in, int64_t size, scalar* out) {
  constexpr int W = width<scalar>;
  for (int64_t i = 0; i < size; i += W) {
    const Vec<scalar> x = load_row(in, i, size);
    store_row(out, i, size, function == SimdFunction::exp ? exp(x) : log(x));
  }
}

void map_sincos(const double* in, int64_t size, double* sine, double* cosine) {
  constexpr int W = width<double>;
  for (int64_t i = 0; i < size; i += W) {
    Vec<double> s, c;
    sincos(load_row(in, i, size), s, c);
    store_row(sine, i, size, s);
    store_row(cosine, i, size, c);
  }
}
