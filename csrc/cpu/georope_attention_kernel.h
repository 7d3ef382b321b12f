// Compiled once an instruction set by simd_levels.h. Names: L lanes hold a block of L queries; "p" is the problem;
// scratch matrices have rows of Dp = D rounded up to whole vectors. C[r][n] of a product is one row of C in memory.
// Above 350 lines: forward and backward stand together, since they share blocks, tables and products, and are compiled as one unit.

constexpr int kLaneVectors = 2;
template <typename scalar> constexpr int lanes = kLaneVectors * width<scalar>;
constexpr int64_t kKeyTile = 128;  // rows of keys or values that stay in the L1 cache with their scores

// cos and sin of every feature of "count" tokens [count][2][Dp], the sine with the sign that each of a pair needs.
template <typename scalar, typename P>
void rotary_table(const P& p, Workspace<scalar>& w, int64_t first, int64_t count, scalar* table) {
  constexpr int W = width<double>;
  const int64_t Dp = padded<scalar>(p.D), pairs = 3 * p.K, room = pairs + W;
  double* phase = w.phase(3 * room);
  double *sine = phase + room, *cosine = sine + room;
  for (int64_t t = 0; t < count; ++t) {
    for (int a = 0; a < 3; ++a)
      for (int64_t k = 0; k < p.K; ++k) phase[a * p.K + k] = double(p.pos[3 * (first + t) + a]) * double(p.freqs[k]);
    for (int64_t i = pairs; i < room; ++i) phase[i] = 0;
    for (int64_t i = 0; i < pairs; i += W) {
      Vec<double> s, c;
      sincos(load(phase + i), s, c);
      store(sine + i, s), store(cosine + i, c);
    }
    scalar *cos_row = table + 2 * t * Dp, *sin_row = cos_row + Dp;
    for (int64_t i = 0; i < pairs; ++i) {
      cos_row[2 * i] = cos_row[2 * i + 1] = scalar(cosine[i]);
      sin_row[2 * i] = -scalar(sine[i]), sin_row[2 * i + 1] = scalar(sine[i]);
    }
    for (int64_t d = 2 * pairs; d < Dp; ++d) cos_row[d] = 1, sin_row[d] = 0;
  }
}

// out[t] = factor * R(p_t) x_t, or R(p_t)^-1 for direction -1; a table of null does not turn.
template <typename scalar, typename in, typename out_t>
void turn_rows(const in* x, int64_t x_row, int64_t x_size, int64_t count, int64_t D, const scalar* table,
               scalar direction, scalar factor, out_t* out, int64_t out_row, int64_t out_size) {
  constexpr int W = width<scalar>;
  const int64_t Dp = padded<scalar>(D);
  for (int64_t t = 0; t < count; ++t) {
    const scalar *cos_row = table + 2 * t * Dp, *sin_row = cos_row + Dp;
    for (int64_t d = 0; d < Dp; d += W) {
      Vec<scalar> y = load_row(x + t * x_row, d, x_size);
      if (table != nullptr) y = y * load(cos_row + d) + swap_pairs<scalar>(y) * (direction * load(sin_row + d));
      store_row(out + t * out_row, d, out_size, y * factor);
    }
  }
}

// The (sequence, head) after the one at work. Its rows are asked for a tensor at a time between the products, so that
// they are near when their turn comes: rows of one head are too short for the hardware to foresee.
struct Ahead {
  int64_t token, count, head;

  template <typename in> void fetch(const in* x, int64_t row, int64_t head_step, int64_t D) const {
    for (int64_t t = 0; t < count; ++t)
      for (int64_t d = 0; d < D; d += 64 / int64_t(sizeof(in)))
        __builtin_prefetch(x + (token + t) * row + head * head_step + d);
  }
};

template <typename P> Ahead ahead_of(const P& p, int64_t begin, int64_t end, int64_t h, int64_t h0, int64_t h1) {
  const int64_t left = p.ptr[p.B] - end;
  if (h + 1 < h1) return {begin, end - begin, h + 1};
  return {end, left < end - begin ? left : end - begin, h0};
}

// rows [count <= L][columns] -> [columns rounded up][L], lanes without a row are zero.
template <typename scalar>
void to_lanes(const scalar* rows, int64_t row, int64_t count, int64_t columns, scalar* out) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  for (int64_t lane = 0; lane < count; lane += W)
    for (int64_t c = 0; c < columns; c += W) {
      Vec<scalar> square[W];
      for (int i = 0; i < W; ++i)
        square[i] = lane + i < count ? load_row(rows + (lane + i) * row, c, columns) : Vec<scalar>{};
      transpose<scalar>(square);
      for (int i = 0; i < W; ++i) store(out + (c + i) * L + lane, square[i]);
    }
}

// --------------------------------------------------------------------------------------------- one block of L queries

struct Block {
  int64_t begin, end;  // tokens of the sequence
  int64_t first;       // place of the first query in the sequence
  int64_t count;       // queries
  int64_t keys;        // keys that any of the queries sees
  bool causal;

  template <typename scalar> int64_t columns() const { return padded<scalar>(count); }
  // Keys that the queries of the vector at "lane" may see, and the first of them that some of these may not.
  template <typename scalar> int64_t seen(int64_t lane) const {
    const int64_t last = first + lane + width<scalar>;
    return causal && last < keys ? last : keys;
  }
  int64_t edge(int64_t lane) const { return causal ? first + lane : keys; }
};

// out[j][lane] = A_j . B_lane with B [depth][L], for the keys j that the queries of a lane vector may see.
template <typename scalar>
void lane_products(const Block& b, int64_t depth, const scalar* A, int64_t row, const scalar* B, scalar* out) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  static_assert(kLaneVectors == 2);
  const int64_t both = b.seen<scalar>(0);
  multiply<false>(both, b.columns<scalar>(), depth, A, row, int64_t(1), B, int64_t(L), out, int64_t(L));
  if (both < b.keys)
    multiply<false>(b.keys - both, W, depth, A + both * row, row, int64_t(1), B + W, int64_t(L), out + both * L + W,
                    int64_t(L));
}

// out[i] = sum_j weight[j][i] rows_j over the keys, tile after tile of keys so that rows stay near.
template <typename scalar>
void sum_over_keys(const Block& b, const scalar* weight, const scalar* rows, int64_t Dp, scalar* out) {
  constexpr int L = lanes<scalar>;
  const int64_t step = tile_rows(Dp >= 4 * width<scalar> && INERTIAL_SIMD_BYTES == 64 ? 4 : 2);
  for (int64_t j = 0; j == 0 || j < b.keys; j += kKeyTile)
    for (int64_t i = 0; i < b.count; i += step) {
      const int64_t count = i + step < b.count ? step : b.count - i;
      const int64_t last = b.causal ? b.first + i + count : b.keys, left = (last < b.keys ? last : b.keys) - j;
      const int64_t depth = left < 0 ? 0 : left < kKeyTile ? left : kKeyTile;
      const auto run = j == 0 ? &multiply<false, scalar> : &multiply<true, scalar>;
      if (j == 0 || depth > 0)
        run(count, Dp, depth, weight + j * L + i, 1, L, rows + j * Dp, Dp, out + i * Dp, Dp);
    }
}

// out[j] (+)= sum_i weight[j][i] rows_i over the queries.
template <bool add, typename scalar>
void sum_over_queries(const Block& b, const scalar* weight, const scalar* rows, int64_t Dp, scalar* out) {
  constexpr int64_t L = lanes<scalar>;
  const int64_t before = b.causal ? b.first : b.keys;  // keys that every query sees
  multiply<add>(before, Dp, b.count, weight, L, int64_t(1), rows, Dp, out, Dp);
  const int64_t step = tile_rows(Dp >= 4 * width<scalar> && INERTIAL_SIMD_BYTES == 64 ? 4 : 2);
  for (int64_t j = before; j < b.keys; j += step) {
    const int64_t count = j + step < b.keys ? step : b.keys - j, skip = j - before;
    multiply<add>(count, Dp, b.count - skip, weight + j * L + skip, L, int64_t(1), rows + skip * Dp, Dp,
                   out + j * Dp, Dp);
  }
}

// Kernel products of the block [S][keys][L].
template <typename scalar, typename P>
void block_gram(const P& p, Workspace<scalar>& w, const Block& b, scalar* gram) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  if (p.S == 0) return;
  if (p.gram != nullptr) {
    for (int64_t s = 0; s < p.S; ++s)
      for (int64_t j = 0; j < b.keys; ++j) {
        const scalar* row = p.gram + ((b.begin + j) * p.S + s) * p.gram_length;
        for (int64_t lane = 0; lane < b.count; lane += W)
          store(gram + (s * b.keys + j) * L + lane, load_row(row, b.first + lane, b.first + b.count));
      }
    return;
  }
  scalar* columns = w.phi_lanes((p.M + W) * L);
  for (int64_t s = 0; s < p.S; ++s) {
    const int64_t m = p.scale_ptr[s], size = p.scale_ptr[s + 1] - m;
    to_lanes(p.phi + (b.begin + b.first) * p.M + m, p.M, b.count, size, columns);
    lane_products(b, size, p.phi + b.begin * p.M + m, p.M, columns, gram + s * b.keys * L);
  }
}

template <typename scalar> Vec<scalar> lane_numbers() {
  Vec<scalar> x{};
  for (int i = 0; i < width<scalar>; ++i) x[i] = scalar(i);
  return x;
}

// score[j] + sum_s gain_s gram[s][j] at a lane vector; "low" where the query may not see the key.
template <typename scalar>
Vec<scalar> biased(const Block& b, const scalar* score, const scalar* gram, const scalar* gain, int64_t S, int64_t j,
                   int64_t lane, Vec<scalar> numbers, scalar low) {
  constexpr int L = lanes<scalar>;
  Vec<scalar> x = load(score + j * L + lane);
  for (int64_t s = 0; s < S; ++s) x += gain[s] * load(gram + (s * b.keys + j) * L + lane);
  return numbers < scalar(j - b.edge(lane)) ? splat(low) : x;
}

// Turns scores into exp(score - max) in place; the sums [L] and the log of the whole [L].
template <typename scalar>
void softmax(const Block& b, scalar* score, const scalar* gram, const scalar* gain, int64_t S, scalar* total,
             scalar* lse) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  const Vec<scalar> numbers = lane_numbers<scalar>();
  for (int64_t lane = 0; lane < b.count; lane += W) {
    const int64_t seen = b.seen<scalar>(lane);
    Vec<scalar> most = splat(-std::numeric_limits<scalar>::infinity());
    for (int64_t j = 0; j < seen; ++j) {
      const Vec<scalar> x =
          biased(b, score, gram, gain, S, j, lane, numbers, -std::numeric_limits<scalar>::infinity());
      store(score + j * L + lane, x);
      most = larger(x, most);
    }
    Vec<scalar> sum{};
    for (int64_t j = 0; j < seen; ++j) {
      const Vec<scalar> x = exp(load(score + j * L + lane) - most);
      store(score + j * L + lane, x);
      sum += x;
    }
    for (int64_t j = seen; j < b.keys; ++j) store(score + j * L + lane, Vec<scalar>{});
    store(total + lane, sum);
    store(lse + lane, most + log(sum));
  }
}

// ------------------------------------------------------------------------------------------------------------- forward

// Rotated keys and values of heads [h0, h1) of a sequence, each [h1 - h0][N][Dp].
template <typename scalar, typename P>
void pack_heads(const P& p, Workspace<scalar>& w, int64_t begin, int64_t end, int64_t h0, int64_t h1,
                const scalar* table, scalar* key, scalar* value) {
  constexpr int L = lanes<scalar>;
  const int64_t Dp = padded<scalar>(p.D), N = end - begin;
  for (int64_t t = 0; t < N; t += L) {
    const int64_t count = N - t < L ? N - t : L;
    if (N > L && p.K > 0) rotary_table(p, w, begin + t, count, w.table(2 * L * Dp)), table = w.table(0);
    for (int64_t h = h0; h < h1; ++h) {
      const int64_t at = ((h - h0) * N + t) * Dp;
      turn_rows<scalar>(p.k + (begin + t) * p.k_row + h * p.k_head, p.k_row, p.D, count, p.D, table, scalar(1),
                        scalar(1), key + at, Dp, Dp);
      turn_rows<scalar>(p.v + (begin + t) * p.v_row + h * p.v_head, p.v_row, p.D, count, p.D,
                        static_cast<const scalar*>(nullptr), scalar(1), scalar(1), value + at, Dp, Dp);
    }
  }
}

template <typename scalar, typename P> Block block_at(const P& p, int64_t begin, int64_t end, int64_t first) {
  const int64_t N = end - begin, count = N - first < lanes<scalar> ? N - first : lanes<scalar>;
  return {begin, end, first, count, p.causal ? first + count : N, p.causal};
}

template <typename scalar, typename P>
void forward_block(const P& p, Workspace<scalar>& w, const Block& b, int64_t h, const scalar* table,
                   const scalar* key, const scalar* value, const scalar* gram, const Ahead& ahead) {
  constexpr int L = lanes<scalar>;
  const int64_t Dp = padded<scalar>(p.D), t0 = b.begin + b.first;
  scalar *query = w.query(L * Dp), *query_lanes = w.query_lanes(L * Dp), *score = w.score(b.keys * L);
  scalar *total = w.total(2 * L), *lse = total + L;
  turn_rows<scalar>(p.q + t0 * p.q_row + h * p.q_head, p.q_row, p.D, b.count, p.D, table, scalar(1), scalar(p.scale),
                    query, Dp, Dp);
  ahead.fetch(p.q, p.q_row, p.q_head, p.D);
  to_lanes(query, Dp, b.count, Dp, query_lanes);
  lane_products(b, p.D, key, Dp, query_lanes, score);
  ahead.fetch(p.k, p.k_row, p.k_head, p.D);
  softmax(b, score, gram, p.gain + h * p.S, p.S, total, lse);
  ahead.fetch(p.v, p.v_row, p.v_head, p.D);
  scalar* out = query;  // the queries are in the lanes now
  sum_over_keys(b, score, value, Dp, out);
  for (int64_t i = 0; i < b.count; ++i) {
    turn_rows<scalar>(out + i * Dp, Dp, Dp, 1, p.D, static_cast<const scalar*>(nullptr), scalar(1), 1 / total[i],
                      p.out + ((t0 + i) * p.H + h) * p.D, p.D, p.D);
    p.lse[(t0 + i) * p.H + h] = lse[i];
  }
}

// Heads [h0, h1) of the sequence [begin, end): a sequence of one block keeps a head at a time, a longer one all of
// them, so that the kernel products of a block serve every head.
template <typename scalar, typename P>
void forward_heads(const P& p, Workspace<scalar>& w, int64_t begin, int64_t end, int64_t h0, int64_t h1) {
  constexpr int L = lanes<scalar>;
  const int64_t Dp = padded<scalar>(p.D), N = end - begin;
  const bool single = N <= L;
  const int64_t together = single ? 1 : h1 - h0;
  scalar *key = w.key(together * N * Dp), *value = w.value(together * N * Dp), *gram = w.gram(p.S * N * L);
  scalar* table = p.K > 0 ? w.table(2 * L * Dp) : nullptr;
  const auto geometry = [&](const Block& b) {
    if (p.K > 0) rotary_table(p, w, b.begin + b.first, b.count, table);
    block_gram(p, w, b, gram);
  };
  if (single) geometry(block_at<scalar>(p, begin, end, 0));
  for (int64_t h = h0; h < h1; h += together) {
    const Ahead ahead = single ? ahead_of(p, begin, end, h, h0, h1) : Ahead{};
    pack_heads(p, w, begin, end, h, h + together, table, key, value);
    for (int64_t first = 0; first < N; first += L) {
      const Block b = block_at<scalar>(p, begin, end, first);
      if (!single) geometry(b);
      for (int64_t i = 0; i < together; ++i)
        forward_block(p, w, b, h + i, table, key + i * N * Dp, value + i * N * Dp, gram, ahead);
    }
  }
}

// ------------------------------------------------------------------------------------------------------------ backward

// Recomputes the probabilities from lse, turns grad_prob into the gradient of the scores, in place.
template <typename scalar>
void softmax_backward(const Block& b, scalar* score, scalar* grad, const scalar* gram, const scalar* gain, int64_t S,
                      const scalar* lse, const scalar* grad_lse) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  const Vec<scalar> numbers = lane_numbers<scalar>();
  for (int64_t lane = 0; lane < b.count; lane += W) {
    const int64_t seen = b.seen<scalar>(lane);
    const Vec<scalar> log_total = load(lse + lane);
    Vec<scalar> inner = -load(grad_lse + lane);
    for (int64_t j = 0; j < seen; ++j) {
      const Vec<scalar> x =
          biased(b, score, gram, gain, S, j, lane, numbers, -std::numeric_limits<scalar>::infinity());
      const Vec<scalar> prob = exp(x - log_total);
      store(score + j * L + lane, prob);
      inner += prob * load(grad + j * L + lane);
    }
    for (int64_t j = 0; j < seen; ++j)
      store(grad + j * L + lane, load(score + j * L + lane) * (load(grad + j * L + lane) - inner));
    for (int64_t j = seen; j < b.keys; ++j)
      store(score + j * L + lane, Vec<scalar>{}), store(grad + j * L + lane, Vec<scalar>{});
  }
}

// dgain[s] += sum_ij grad[j][i] gram[s][j][i], and the gradient of the kernel products, where it is needed.
template <typename scalar>
void gram_backward(const Block& b, const scalar* grad, const scalar* gram, const scalar* gain, int64_t S,
                   scalar* dgain, scalar* dgram) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  for (int64_t s = 0; s < S; ++s) {
    Vec<scalar> sum[2] = {};
    for (int64_t lane = 0; lane < b.count; lane += W) {
      const int64_t seen = b.seen<scalar>(lane);
      const scalar *g = gram + s * b.keys * L + lane, *d = grad + lane;
      int64_t j = 0;
      for (; j + 2 <= seen; j += 2) {
        sum[0] += load(d + j * L) * load(g + j * L);
        sum[1] += load(d + (j + 1) * L) * load(g + (j + 1) * L);
      }
      if (j < seen) sum[0] += load(d + j * L) * load(g + j * L);
      if (dgram == nullptr) continue;
      scalar* out = dgram + s * b.keys * L + lane;
      for (j = 0; j < seen; ++j) store(out + j * L, load(out + j * L) + gain[s] * load(d + j * L));
    }
    dgain[s] += sum_of<scalar>(sum[0] + sum[1]);
  }
}

// dpos[t] += of rows y = R(p_t) x [count][Dp] and their gradients; dpos is a token's part of one head.
template <typename scalar, typename P>
void turn_backward(const P& p, const scalar* y, const scalar* dy, int64_t count, int64_t token, int64_t h) {
  const int64_t Dp = padded<scalar>(p.D);
  for (int64_t t = 0; t < count; ++t)
    for (int a = 0; a < 3; ++a) {
      scalar sum = 0;
      for (int64_t k = 0; k < p.K; ++k) {
        const int64_t i = t * Dp + 2 * (a * p.K + k);
        sum += p.freqs[k] * (dy[i + 1] * y[i] - dy[i] * y[i + 1]);
      }
      p.dpos[((token + t) * p.H + h) * 3 + a] += sum;
    }
}

template <typename scalar, typename P>
void backward_block(const P& p, Workspace<scalar>& w, const Block& b, int64_t h, const scalar* table,
                    const scalar* key, const scalar* value, const scalar* gram, scalar* dkey, scalar* dvalue,
                    scalar* dgain, scalar* dgram, const Ahead& ahead) {
  constexpr int L = lanes<scalar>;
  const int64_t Dp = padded<scalar>(p.D), t0 = b.begin + b.first;
  scalar *query = w.query(L * Dp), *dout = w.dout(L * Dp), *in_lanes = w.query_lanes(L * Dp), *dquery = w.dquery(L * Dp);
  scalar *score = w.score(b.keys * L), *grad = w.grad(b.keys * L), *lse = w.total(2 * L), *grad_lse = lse + L;
  turn_rows<scalar>(p.q + t0 * p.q_row + h * p.q_head, p.q_row, p.D, b.count, p.D, table, scalar(1), scalar(p.scale),
                    query, Dp, Dp);
  turn_rows<scalar>(p.dout + t0 * p.dout_row + h * p.dout_head, p.dout_row, p.D, b.count, p.D,
                    static_cast<const scalar*>(nullptr), scalar(1), scalar(1), dout, Dp, Dp);
  for (int64_t i = 0; i < L; ++i) {
    lse[i] = i < b.count ? p.lse[(t0 + i) * p.H + h] : 0;
    grad_lse[i] = i < b.count && p.grad_lse != nullptr ? p.grad_lse[(t0 + i) * p.H + h] : 0;
  }
  to_lanes(query, Dp, b.count, Dp, in_lanes);
  ahead.fetch(p.q, p.q_row, p.q_head, p.D);
  lane_products(b, p.D, key, Dp, in_lanes, score);
  to_lanes(dout, Dp, b.count, Dp, in_lanes);
  ahead.fetch(p.dout, p.dout_row, p.dout_head, p.D);
  lane_products(b, p.D, value, Dp, in_lanes, grad);
  softmax_backward(b, score, grad, gram, p.gain + h * p.S, p.S, lse, grad_lse);
  gram_backward(b, grad, gram, p.gain + h * p.S, p.S, dgain, dgram);
  ahead.fetch(p.k, p.k_row, p.k_head, p.D);
  const auto give = b.count == b.end - b.begin ? &sum_over_queries<false, scalar> : &sum_over_queries<true, scalar>;
  give(b, score, dout, Dp, dvalue);
  ahead.fetch(p.v, p.v_row, p.v_head, p.D);
  give(b, grad, query, Dp, dkey);
  sum_over_keys(b, grad, key, Dp, dquery);
  if (p.dpos != nullptr) turn_backward(p, query, dquery, b.count, t0, h);
  turn_rows<scalar>(dquery, Dp, Dp, b.count, p.D, table, scalar(-1), scalar(p.scale), p.dq + (t0 * p.H + h) * p.D,
                    p.H * p.D, p.D);
}

template <typename scalar, typename P>
void write_dkeys(const P& p, Workspace<scalar>& w, int64_t begin, int64_t end, int64_t h0, int64_t h1,
                 const scalar* table, const scalar* key, const scalar* dkey, const scalar* dvalue) {
  constexpr int L = lanes<scalar>;
  const int64_t Dp = padded<scalar>(p.D), N = end - begin;
  for (int64_t t = 0; t < N; t += L) {
    const int64_t count = N - t < L ? N - t : L;
    if (N > L && p.K > 0) rotary_table(p, w, begin + t, count, w.table(0));
    for (int64_t h = h0; h < h1; ++h) {
      const int64_t from = ((h - h0) * N + t) * Dp, to = ((begin + t) * p.H + h) * p.D;
      if (p.dpos != nullptr) turn_backward(p, key + from, dkey + from, count, begin + t, h);
      turn_rows<scalar>(dkey + from, Dp, Dp, count, p.D, table, scalar(-1), scalar(1), p.dk + to, p.H * p.D, p.D);
      turn_rows<scalar>(dvalue + from, Dp, Dp, count, p.D, static_cast<const scalar*>(nullptr), scalar(1), scalar(1),
                        p.dv + to, p.H * p.D, p.D);
    }
  }
}

// Features with every scale padded to whole vectors, [N][Mp]; and the way back.
template <typename scalar> int64_t padded_features(const int64_t* scale_ptr, int64_t S) {
  int64_t size = 0;
  for (int64_t s = 0; s < S; ++s) size += padded<scalar>(scale_ptr[s + 1] - scale_ptr[s]);
  return size;
}
template <typename scalar>
void pad_features(const scalar* phi, const int64_t* scale_ptr, int64_t S, int64_t rows, scalar* out) {
  const int64_t M = scale_ptr[S];
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t s = 0; s < S; ++s) {
      const int64_t size = scale_ptr[s + 1] - scale_ptr[s];
      for (int64_t c = 0; c < size; c += width<scalar>, out += width<scalar>)
        store(out, load_row(phi + t * M + scale_ptr[s], c, size));
    }
}
template <typename scalar>
void unpad_features(const scalar* in, const int64_t* scale_ptr, int64_t S, int64_t rows, scalar* phi) {
  const int64_t M = scale_ptr[S];
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t s = 0; s < S; ++s) {
      const int64_t size = scale_ptr[s + 1] - scale_ptr[s];
      for (int64_t c = 0; c < size; c += width<scalar>, in += width<scalar>)
        store_row(phi + t * M + scale_ptr[s], c, size, load(in));
    }
}

// The gradient of the block's kernel products [S][keys][L] goes to the features of both tokens, or to "gram" itself.
template <typename scalar, typename P>
void give_gram_gradient(const P& p, const Block& b, const scalar* dgram, const scalar* phi, scalar* dphi, int64_t Mp) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  for (int64_t s = 0, m = 0; s < p.S; ++s) {
    const scalar* grad = dgram + s * b.keys * L;
    if (p.gram != nullptr) {
      for (int64_t j = 0; j < b.keys; ++j) {
        scalar* row = p.dgram + ((b.begin + j) * p.S + s) * p.gram_length;
        for (int64_t lane = 0; lane < b.count; lane += W)
          store_row(row, b.first + lane, b.first + b.count, load(grad + j * L + lane));
      }
      continue;
    }
    const int64_t size = padded<scalar>(p.scale_ptr[s + 1] - p.scale_ptr[s]);
    const scalar* queries = phi + b.first * Mp + m;
    multiply<true>(b.count, size, b.keys, grad, int64_t(1), int64_t(L), phi + m, Mp, dphi + b.first * Mp + m, Mp);
    multiply<true>(b.keys, size, b.count, grad, int64_t(L), int64_t(1), queries, Mp, dphi + m, Mp);
    m += size;
  }
}

template <typename scalar, typename P>
void backward_heads(const P& p, Workspace<scalar>& w, int64_t sequence, int64_t begin, int64_t end, int64_t h0,
                    int64_t h1) {
  constexpr int L = lanes<scalar>;
  const int64_t Dp = padded<scalar>(p.D), N = end - begin;
  const bool single = N <= L;
  const int64_t together = single ? 1 : h1 - h0, size = together * N * Dp;
  scalar *key = w.key(size), *value = w.value(size), *dkey = w.dkey(size), *dvalue = w.dvalue(size);
  scalar *gram = w.gram(p.S * N * L), *table = p.K > 0 ? w.table(2 * L * Dp) : nullptr;
  scalar* dgram = p.dgram != nullptr ? w.dgram(p.S * N * L) : nullptr;
  const bool to_phi = p.dgram != nullptr && p.gram == nullptr;
  const int64_t Mp = to_phi ? padded_features<scalar>(p.scale_ptr, p.S) : 0;
  scalar *phi = to_phi ? w.phi(N * Mp) : nullptr, *dphi = to_phi ? w.dphi(N * Mp) : nullptr;
  if (to_phi) {
    pad_features(p.phi + begin * p.M, p.scale_ptr, p.S, N, phi);
    std::fill_n(dphi, N * Mp, scalar(0));
  }
  const auto geometry = [&](const Block& b) {
    if (p.K > 0) rotary_table(p, w, b.begin + b.first, b.count, table);
    block_gram(p, w, b, gram);
    if (dgram != nullptr) std::fill_n(dgram, p.S * b.keys * L, scalar(0));
  };
  if (single) geometry(block_at<scalar>(p, begin, end, 0));
  for (int64_t h = h0; h < h1; h += together) {
    const Ahead ahead = single ? ahead_of(p, begin, end, h, h0, h1) : Ahead{};
    pack_heads(p, w, begin, end, h, h + together, table, key, value);
    if (!single) std::fill_n(dkey, size, scalar(0)), std::fill_n(dvalue, size, scalar(0));
    for (int64_t first = 0; first < N; first += L) {
      const Block b = block_at<scalar>(p, begin, end, first);
      if (!single) geometry(b);
      for (int64_t i = 0; i < together; ++i) {
        const int64_t at = i * N * Dp;
        backward_block(p, w, b, h + i, table, key + at, value + at, gram, dkey + at, dvalue + at,
                       p.dgain + (sequence * p.H + h + i) * p.S, dgram, ahead);
      }
      if (!single && dgram != nullptr) give_gram_gradient(p, b, dgram, phi, dphi, Mp);
    }
    write_dkeys(p, w, begin, end, h, h + together, table, key, dkey, dvalue);
  }
  if (single && dgram != nullptr) give_gram_gradient(p, block_at<scalar>(p, begin, end, 0), dgram, phi, dphi, Mp);
  if (to_phi) unpad_features(dphi, p.scale_ptr, p.S, N, p.dgram + begin * p.M);
}

// ---------------------------------------------------------------------------------------------- kernel products alone

template <typename scalar, typename P>
void gram_sequence(const P& p, Workspace<scalar>& w, int64_t begin, int64_t end) {
  constexpr int W = width<scalar>, L = lanes<scalar>;
  const int64_t N = end - begin;
  scalar* gram = w.gram(p.S * N * L);
  for (int64_t first = 0; first < N; first += L) {
    const Block b = block_at<scalar>(p, begin, end, first);
    block_gram(p, w, b, gram);
    for (int64_t s = 0; s < p.S; ++s)
      for (int64_t j = 0; j < N; ++j)
        for (int64_t lane = 0; lane < b.count; lane += W)
          store_row(p.out + ((begin + j) * p.S + s) * p.out_length, first + lane, first + b.count,
                            load(gram + (s * N + j) * L + lane));
  }
}

template <typename scalar, typename P>
void gram_sequence_backward(const P& p, Workspace<scalar>& w, int64_t begin, int64_t end) {
  const int64_t N = end - begin, Mp = padded_features<scalar>(p.scale_ptr, p.S), row = p.S * p.out_length;
  scalar *phi = w.phi(N * Mp), *dphi = w.dphi(N * Mp);
  pad_features(p.phi + begin * p.M, p.scale_ptr, p.S, N, phi);
  for (int64_t s = 0, m = 0; s < p.S; ++s) {
    const int64_t size = padded<scalar>(p.scale_ptr[s + 1] - p.scale_ptr[s]);
    const scalar* grad = p.grad + begin * row + s * p.out_length;
    multiply<false>(N, size, N, grad, row, int64_t(1), phi + m, Mp, dphi + m, Mp);
    multiply<true>(N, size, N, grad, int64_t(1), row, phi + m, Mp, dphi + m, Mp);
    m += size;
  }
  unpad_features(dphi, p.scale_ptr, p.S, N, p.dphi + begin * p.M);
}
