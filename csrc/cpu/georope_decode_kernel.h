// Sums of the lanes of W vectors: entry i of the result is the sum of v[i]. Each round interleaves and adds halves.
template <typename scalar> static inline Vec<scalar> sums_of(Vec<scalar> (&v)[width<scalar>]) {
  constexpr int W = width<scalar>;
#pragma GCC unroll 4
  for (int n = W / 2; n > 0; n /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      Shuffles<W>::template weave<scalar>(v[i], v[i + n]);
      v[i] += v[i + n];
    }
  return v[0];
}

template <typename scalar, typename stored>
static inline Vec<scalar> products(const scalar* a, const stored* b, int64_t size) {
  constexpr int W = width<scalar>;
  Vec<scalar> sum{};
  int64_t d = 0;
  for (; d + W <= size; d += W) sum += load(a + d) * load(b + d);
  if (d < size) sum += load_row(a, d, size) * load_row(b, d, size);
  return sum;
}

// out[g][j] = query[g] . keys[j][g] for the keys seen, read in the order of memory.
template <typename scalar, typename stored>
void dots(const scalar* query, const stored* keys, int64_t key_step, int64_t groups, int64_t size, int64_t seen,
          scalar* out, int64_t out_step) {
  constexpr int W = width<scalar>;
  int64_t j = 0, g = 0, to_j = 0, to_g = 0;
  while (j < seen) {
    Vec<scalar> parts[W] = {};
    int count = 0;
    for (; count < W && j < seen; ++count) {
      parts[count] = products(query + g * size, keys + j * key_step + g * size, size);
      if (++g == groups) g = 0, ++j;
    }
    scalar sums[W];
    store(sums, sums_of<scalar>(parts));
    for (int i = 0; i < count; ++i) {
      out[to_g * out_step + to_j] = sums[i];
      if (++to_g == groups) to_g = 0, ++to_j;
    }
  }
}

// In place: softmax over j of scale * score[j] + sum_s gain[s] gram[s][j].
template <typename scalar>
void weights(scalar* score, scalar scale, const scalar* gain, const scalar* gram, int64_t num_scales, int64_t num_keys,
             int64_t seen) {
  constexpr int W = width<scalar>;
  const auto count = [&](int64_t j) { return int(seen - j < W ? seen - j : W); };
  scalar highest = -INFINITY;
  for (int64_t j = 0; j < seen; j += W) {
    Vec<scalar> x = load_row(score, j, seen) * scale;
    for (int64_t s = 0; s < num_scales; ++s) x += load_row(gram + s * num_keys, j, seen) * gain[s];
    store_row(score, j, seen, x);
    for (int i = 0; i < count(j); ++i) highest = x[i] > highest ? x[i] : highest;
  }
  scalar total = 0;
  for (int64_t j = 0; j < seen; j += W) {
    const Vec<scalar> x = exp(load_row(score, j, seen) - highest);
    store_row(score, j, seen, x);
    for (int i = 0; i < count(j); ++i) total += x[i];
  }
  for (int64_t j = 0; j < seen; ++j) score[j] /= total;
}

// out[h] = sum_j weight[h][j] values[j][h], K keys at a time.
template <int K, typename scalar, typename stored>
static inline void add_values(const scalar* weight, int64_t weight_step, const stored* values, int64_t value_step,
                              int64_t heads, int64_t size, scalar* out) {
  constexpr int W = width<scalar>;
  for (int64_t h = 0; h < heads; ++h) {
    scalar* row = out + h * size;
    const stored* from = values + h * size;
    int64_t d = 0;
    for (; d + W <= size; d += W) {
      Vec<scalar> sum = load(row + d);
#pragma GCC unroll 4
      for (int k = 0; k < K; ++k) sum += load(from + k * value_step + d) * weight[h * weight_step + k];
      store(row + d, sum);
    }
    if (d == size) continue;
    Vec<scalar> sum = load_row(row, d, size);
    for (int k = 0; k < K; ++k) sum += load_row(from + k * value_step, d, size) * weight[h * weight_step + k];
    store_row(row, d, size, sum);
  }
}

template <typename scalar, typename stored>
void attend(const scalar* query, const stored* keys, int64_t key_step, const stored* values, int64_t value_step,
            const scalar* gram, const scalar* gain, int64_t num_scales, int64_t num_keys, int64_t heads, int64_t size,
            int64_t seen, scalar* score, scalar* out) {
  dots(query, keys, key_step, heads, size, seen, score, seen);
  const scalar scale = 1 / std::sqrt(scalar(size));
  for (int64_t h = 0; h < heads; ++h)
    weights(score + h * seen, scale, gain + h * num_scales, gram, num_scales, num_keys, seen);
  std::fill_n(out, heads * size, scalar(0));
  int64_t j = 0;
  for (; j + 4 <= seen; j += 4)
    add_values<4>(score + j, seen, values + j * value_step, value_step, heads, size, out);
  for (; j < seen; ++j) add_values<1>(score + j, seen, values + j * value_step, value_step, heads, size, out);
}
