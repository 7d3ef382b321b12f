// out [3, step] = x [3, d] times a factor a channel, with zeros behind.
template <typename scalar>
static inline void times_channels(const scalar* x, const scalar* factor, int64_t d, int64_t step, scalar* out) {
  for (int64_t c = 0; c < d; c += width<scalar>) {
    const Vec<scalar> f = load_row(factor, c, d);
    for (int i = 0; i < 3; ++i) store(out + i * step + c, load_row(x + i * d, c, d) * f);
  }
}

template <typename scalar> static inline void means(const scalar* rows, int64_t d, int64_t step, double* mean) {
  for (int i = 0; i < 3; ++i) {
    Vec<scalar> sum = {};
    for (int64_t c = 0; c < step; c += width<scalar>) sum += load(rows + i * step + c);
    mean[i] = double(sum_of<scalar>(sum)) / double(d);
  }
}

// out [3, step] = x [3, d], without its mean if "center", with zeros behind.
template <typename scalar>
static inline void copy_rows(const scalar* x, int64_t d, int64_t step, bool center, scalar* out) {
  for (int i = 0; i < 3; ++i)
    for (int64_t c = 0; c < d; c += width<scalar>) store(out + i * step + c, load_row(x + i * d, c, d));
  if (!center) return;
  double mean[3];
  means(out, d, step, mean);
  for (int i = 0; i < 3; ++i) {
    for (int64_t c = 0; c < step; c += width<scalar>)
      store(out + i * step + c, load(out + i * step + c) - splat(scalar(mean[i])));
    for (int64_t c = d; c < step; ++c) out[i * step + c] = 0;
  }
}

// a b^T of two [3, step].
template <typename scalar>
static inline Matrix products(const scalar* a, const scalar* b, int64_t step) {
  Vec<scalar> sum[3][3] = {};
  for (int64_t c = 0; c < step; c += width<scalar>)
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i)
#pragma GCC unroll 3
      for (int j = 0; j < 3; ++j) sum[i][j] += load(a + i * step + c) * load(b + j * step + c);
  Matrix out;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) out.m[i][j] = sum_of<scalar>(sum[i][j]);
  return out;
}

// Row i of m b for a [3, step] at channel c.
template <typename scalar>
static inline Vec<scalar> row_times(const Matrix& m, int i, const scalar* b, int64_t step, int64_t c) {
  return load(b + c) * scalar(m.m[i][0]) + load(b + step + c) * scalar(m.m[i][1]) +
         load(b + 2 * step + c) * scalar(m.m[i][2]);
}

template <typename scalar>
void whiten(const Whitening& w, const scalar* x, const scalar* weight, int64_t d, scalar* scratch, scalar* out,
            double* eigen) {
  const int64_t step = padded<scalar>(d);
  scalar* features = scratch;
  copy_rows(x, d, step, w.center, features);
  const Spectrum spectrum = w.spectrum(products(features, features, step), d);
  spectrum.write(eigen);
  const Matrix root = spectrum.root();
  for (int64_t c = 0; c < d; c += width<scalar>)
    for (int i = 0; i < 3; ++i)
      store_row(out + i * d, c, d, row_times(root, i, features, step, c) * load_row(weight, c, d));
}

// Adds to dweight [step].
template <typename scalar>
void whiten_backward(const Whitening& w, const scalar* grad, const scalar* x, const scalar* weight,
                     const double* eigen, int64_t d, scalar* scratch, scalar* dx, scalar* dweight) {
  const int64_t step = padded<scalar>(d);
  scalar *features = scratch, *scaled = scratch + 3 * step;
  copy_rows(x, d, step, w.center, features);
  times_channels(grad, weight, d, step, scaled);
  const Spectrum spectrum = Spectrum::read(eigen);
  const Matrix root = spectrum.root();
  const Matrix along = w.to_features(
      spectrum.back(spectrum.first(spectrum.turned(products(scaled, features, step).symmetric()))), d);
  double mean[3] = {}, shift[3];
  if (w.center) means(scaled, d, step, mean);
  root.times(mean, shift);
  for (int64_t c = 0; c < d; c += width<scalar>) {
    Vec<scalar> sum = load(dweight + c);
    for (int i = 0; i < 3; ++i) {
      store_row(dx + i * d, c, d, row_times(root, i, scaled, step, c) + row_times(along, i, features, step, c) -
                                     splat(scalar(shift[i])));
      sum += load_row(grad + i * d, c, d) * row_times(root, i, features, step, c);
    }
    store(dweight + c, sum);
  }
}

// Derivatives of <ddx, dx> + <ddweight, dweight>, which is <grad, weight (root v + droot x) + ddweight root x> with the
// change v = ddx of the features and "droot" of the root along it.
template <typename scalar>
void whiten_backward_backward(const Whitening& w, const scalar* ddx, const scalar* ddweight, const scalar* grad,
                              const scalar* x, const scalar* weight, const double* eigen, int64_t d, scalar* scratch,
                              scalar* dgrad, scalar* dx, scalar* dweight) {
  const int64_t step = padded<scalar>(d);
  scalar *features = scratch, *change = features + 3 * step, *scaled = change + 3 * step, *other = scaled + 3 * step;
  copy_rows(x, d, step, w.center, features);
  copy_rows(ddx, d, step, w.center, change);
  times_channels(grad, weight, d, step, scaled);
  times_channels(grad, ddweight, d, step, other);
  const Spectrum spectrum = Spectrum::read(eigen);
  const Matrix root = spectrum.root();
  const Matrix dcovariance = spectrum.turned(w.to_covariance(products(features, change, step).symmetric(), d));
  const Matrix on_root = spectrum.turned(
      (products(scaled, change, step) + products(other, features, step)).symmetric());
  const Matrix on_droot = spectrum.turned(products(scaled, features, step).symmetric());
  const Matrix droot = spectrum.back(spectrum.first(dcovariance));
  const Matrix along_change = w.to_features(spectrum.back(spectrum.first(on_droot)), d);
  const Matrix along = w.to_features(spectrum.back(spectrum.first(on_root) + spectrum.second(on_droot, dcovariance)), d);
  double mean[3] = {}, other_mean[3] = {}, shift[3], other_shift[3];
  if (w.center) means(scaled, d, step, mean), means(other, d, step, other_mean);
  droot.times(mean, shift);
  root.times(other_mean, other_shift);
  for (int64_t c = 0; c < d; c += width<scalar>) {
    const Vec<scalar> by_weight = load_row(weight, c, d), by_ddweight = load_row(ddweight, c, d);
    Vec<scalar> sum = load(dweight + c);
    for (int i = 0; i < 3; ++i) {
      const Vec<scalar> turned = row_times(root, i, change, step, c) + row_times(droot, i, features, step, c);
      store_row(dgrad + i * d, c, d, by_weight * turned + by_ddweight * row_times(root, i, features, step, c));
      store_row(dx + i * d, c, d,
               row_times(droot, i, scaled, step, c) + row_times(root, i, other, step, c) +
                   row_times(along_change, i, change, step, c) + row_times(along, i, features, step, c) -
                   splat(scalar(shift[i] + other_shift[i])));
      sum += load_row(grad + i * d, c, d) * turned;
    }
    store(dweight + c, sum);
  }
}
