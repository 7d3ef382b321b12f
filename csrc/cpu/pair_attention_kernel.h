// Scores are held transposed, [keys, lanes of queries], so that the softmax over keys is plain arithmetic in each lane.

// One head of one molecule: n atoms with F = parts * size features each.
template <typename scalar> struct Head {
  int64_t n, parts, size, F, Fp, np, first, channel;
  scalar scale;

  Head(const Shape& s, int64_t molecule, int64_t head) {
    n = s.ptr[molecule + 1] - s.ptr[molecule], parts = s.parts, size = s.size, F = parts * size;
    Fp = padded<scalar>(F), np = padded<scalar>(n), first = s.ptr[molecule], channel = head * size;
    scale = scalar(s.scale);
  }

  scalar* rows(scalar*& scratch) const { return scratch += n * Fp, scratch - n * Fp; }     // [n, Fp]
  scalar* lanes(scalar*& scratch) const { return scratch += F * np, scratch - F * np; }    // [F, np]
  scalar* square(scalar*& scratch) const { return scratch += n * np, scratch - n * np; }   // [keys, np]

  // The features of this head, with zeros behind.
  scalar* gather(const Features<scalar>& x, scalar*& scratch) const {
    scalar* out = rows(scratch);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t a = 0; a < parts; ++a)
        std::copy_n(x.data + (first + i) * x.atom + a * x.part + channel, size, out + i * Fp + a * size);
      std::fill(out + i * Fp + F, out + (i + 1) * Fp, scalar(0));
    }
    return out;
  }

  scalar* turn(const scalar* x, scalar*& scratch) const {
    scalar* out = lanes(scratch);
    for (int64_t f = 0; f < F; ++f) {
      for (int64_t i = 0; i < n; ++i) out[f * np + i] = x[i * Fp + f];
      std::fill(out + f * np + n, out + (f + 1) * np, scalar(0));
    }
    return out;
  }

  void scatter(const scalar* x, scalar factor, scalar* out) const {  // out [N, parts, C]
    for (int64_t i = 0; i < n; ++i)
      for (int64_t a = 0; a < parts; ++a)
        for (int64_t c = 0; c < size; ++c)
          out[(first + i) * total * parts + a * total + channel + c] = x[i * Fp + a * size + c] * factor;
  }
  int64_t total = 0;  // C
};

// x [keys, np] = scale x + bias, with bias [n, n] of queries and keys.
template <typename scalar>
static inline void add_bias(const Head<scalar>& h, const scalar* bias, int64_t longest, scalar* x) {
  for (int64_t j = 0; j < h.n; ++j)
    for (int64_t i = 0; i < h.n; ++i) x[j * h.np + i] = x[j * h.np + i] * h.scale + bias[i * longest + j];
}

template <typename scalar>
static inline void write_bias(const Head<scalar>& h, const scalar* x, int64_t longest, scalar* bias) {
  for (int64_t i = 0; i < h.n; ++i)
    for (int64_t j = 0; j < h.n; ++j) bias[i * longest + j] = x[j * h.np + i];
}

template <typename scalar> static inline void softmax(const Head<scalar>& h, scalar* x) {
  for (int64_t c = 0; c < h.np; c += width<scalar>) {
    Vec<scalar> most = load(x + c), sum = {};
    for (int64_t j = 1; j < h.n; ++j) most = larger(most, load(x + j * h.np + c));
    for (int64_t j = 0; j < h.n; ++j) {
      const Vec<scalar> e = exp(load(x + j * h.np + c) - most);
      sum += e;
      store(x + j * h.np + c, e);
    }
    for (int64_t j = 0; j < h.n; ++j) store(x + j * h.np + c, load(x + j * h.np + c) / sum);
  }
}

// out = p (x - sum over keys of p x): the derivative of the softmax. "sums" [np] gets the sums; out may be x.
template <typename scalar>
static inline void softmax_backward(const Head<scalar>& h, const scalar* p, const scalar* x, scalar* out,
                                    scalar* sums = nullptr) {
  for (int64_t c = 0; c < h.np; c += width<scalar>) {
    Vec<scalar> sum = {};
    for (int64_t j = 0; j < h.n; ++j) sum += load(p + j * h.np + c) * load(x + j * h.np + c);
    if (sums != nullptr) store(sums + c, sum);
    for (int64_t j = 0; j < h.n; ++j)
      store(out + j * h.np + c, load(p + j * h.np + c) * (load(x + j * h.np + c) - sum));
  }
}

// out [keys, np] (+)= of_keys [n, Fp] times of_queries [F, np].
template <bool add = false, typename scalar>
static inline void inner_products(const Head<scalar>& h, const scalar* of_keys, const scalar* of_queries, scalar* out) {
  multiply<add>(h.n, h.np, h.F, of_keys, h.Fp, int64_t(1), of_queries, h.np, out, h.np);
}

template <typename scalar>
static inline scalar* probabilities(const Head<scalar>& h, const scalar* k, const scalar* q_lanes, const scalar* bias,
                                    int64_t longest, scalar*& scratch) {
  scalar* p = h.square(scratch);
  inner_products(h, k, q_lanes, p);
  add_bias(h, bias, longest, p);
  softmax(h, p);
  return p;
}

// x [queries or keys, Fp] (+)= scores times features of the other side.
template <bool add = false, typename scalar>
static inline void sum_keys(const Head<scalar>& h, const scalar* scores, const scalar* of_keys, scalar* out) {
  multiply<add>(h.n, h.Fp, h.n, scores, int64_t(1), h.np, of_keys, h.Fp, out, h.Fp);
}
template <bool add = false, typename scalar>
static inline void sum_queries(const Head<scalar>& h, const scalar* scores, const scalar* of_queries, scalar* out) {
  multiply<add>(h.n, h.Fp, h.n, scores, h.np, int64_t(1), of_queries, h.Fp, out, h.Fp);
}

template <typename scalar>
void attend(const Problem<scalar>& z, int64_t molecule, int64_t head, scalar* scratch, scalar* out) {
  Head<scalar> h(z.shape, molecule, head);
  h.total = z.shape.channels;
  const scalar* q = h.turn(h.gather(z.q, scratch), scratch);
  const scalar *k = h.gather(z.k, scratch), *v = h.gather(z.v, scratch);
  const int64_t place = (molecule * z.shape.heads + head) * z.shape.longest * z.shape.longest;
  const scalar* p = probabilities(h, k, q, z.bias + place, z.shape.longest, scratch);
  scalar* sum = h.rows(scratch);
  sum_keys(h, p, v, sum);
  h.scatter(sum, 1, out);
}

template <typename scalar>
void attend_backward(const Problem<scalar>& z, const Features<scalar>& grad, int64_t molecule, int64_t head,
                     scalar* scratch, scalar* dq, scalar* dk, scalar* dv, scalar* dbias) {
  Head<scalar> h(z.shape, molecule, head);
  h.total = z.shape.channels;
  const scalar *q = h.gather(z.q, scratch), *k = h.gather(z.k, scratch), *v = h.gather(z.v, scratch);
  const scalar *g = h.gather(grad, scratch), *g_lanes = h.turn(g, scratch), *q_lanes = h.turn(q, scratch);
  const int64_t longest = z.shape.longest, place = (molecule * z.shape.heads + head) * longest * longest;
  const scalar* p = probabilities(h, k, q_lanes, z.bias + place, longest, scratch);
  scalar *ds = h.square(scratch), *sum = h.rows(scratch);
  inner_products(h, v, g_lanes, ds);
  softmax_backward(h, p, ds, ds);
  write_bias(h, ds, longest, dbias + place);
  sum_queries(h, p, g, sum), h.scatter(sum, 1, dv);
  sum_keys(h, ds, k, sum), h.scatter(sum, h.scale, dq);
  sum_queries(h, ds, q, sum), h.scatter(sum, h.scale, dk);
}

// Gradients of <ddq, dq> + <ddk, dk> + <ddv, dv> + <ddbias, dbias>.
template <typename scalar>
void attend_backward_backward(const Problem<scalar>& z, const Features<scalar>& grad, const Features<scalar>& ddq,
                              const Features<scalar>& ddk, const Features<scalar>& ddv, const scalar* ddbias,
                              int64_t molecule, int64_t head, scalar* scratch, scalar* dgrad, scalar* dq, scalar* dk,
                              scalar* dv, scalar* dbias) {
  Head<scalar> h(z.shape, molecule, head);
  h.total = z.shape.channels;
  const scalar *q = h.gather(z.q, scratch), *k = h.gather(z.k, scratch), *v = h.gather(z.v, scratch);
  const scalar *g = h.gather(grad, scratch), *g_lanes = h.turn(g, scratch), *q_lanes = h.turn(q, scratch);
  const scalar *tq = h.gather(ddq, scratch), *tk = h.gather(ddk, scratch), *tv = h.gather(ddv, scratch);
  const scalar* tq_lanes = h.turn(tq, scratch);
  const int64_t longest = z.shape.longest, place = (molecule * z.shape.heads + head) * longest * longest;
  const scalar* p = probabilities(h, k, q_lanes, z.bias + place, longest, scratch);
  scalar *dp = h.square(scratch), *ds = h.square(scratch), *t = h.square(scratch), *dt = h.square(scratch);
  scalar *on_p = h.square(scratch), *sum = h.rows(scratch), *p_dp = scratch, *p_t = scratch + h.np;
  inner_products(h, v, g_lanes, dp);
  softmax_backward(h, p, dp, ds, p_dp);
  inner_products(h, k, tq_lanes, t);
  inner_products<true>(h, tk, q_lanes, t);
  add_bias(h, ddbias + place, longest, t);  // the change of the scores
  softmax_backward(h, p, t, dt, p_t);       // and of the probabilities
  inner_products(h, tv, g_lanes, on_p);
  for (int64_t j = 0; j < h.n; ++j)
    for (int64_t c = 0; c < h.np; c += width<scalar>) {
      const int64_t at = j * h.np + c;
      store(on_p + at, load(on_p + at) + load(t + at) * (load(dp + at) - load(p_dp + c)) - load(dp + at) * load(p_t + c));
    }
  softmax_backward(h, p, on_p, on_p);  // now on the scores
  write_bias(h, on_p, longest, dbias + place);
  sum_keys(h, dt, v, sum), sum_keys<true>(h, p, tv, sum), h.scatter(sum, 1, dgrad);
  sum_queries(h, dt, g, sum), h.scatter(sum, 1, dv);
  sum_keys(h, ds, tk, sum), sum_keys<true>(h, on_p, k, sum), h.scatter(sum, h.scale, dq);
  sum_queries(h, ds, tq, sum), sum_queries<true>(h, on_p, q, sum), h.scatter(sum, h.scale, dk);
}
