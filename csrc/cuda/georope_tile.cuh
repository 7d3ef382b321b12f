// What the forward and the backward kernel of GeoRoPE attention share. A block owns one tile of 16 tokens ("rows") of
// one sequence and walks over the sequence's other tokens ("columns") 32 or 16 at a time; a warp owns a head. The
// products of the Nystroem features and the rotation's sines do not depend on the head: the block computes them once a
// column tile.
#pragma once

#include "fragment.cuh"

namespace inertial {

constexpr int kRows = 16;
// Columns of a tile: as many as leave the accumulators in registers.
template <typename scalar, int DP> constexpr int kCols = sizeof(scalar) == 4 || DP > 64 ? 16 : 32;
template <int C> constexpr int kGramStride = C + 8;  // floats; a warp's float2 accesses fall in different banks
constexpr float kMasked = -1e30f, kLog2e = 1.4426950408889634f, kLn2 = 0.6931471805599453f;

// A tensor [T, H, D] with neighboring features side by side.
template <typename scalar> struct Heads {
  const scalar* data;
  int64_t token_stride, head_stride;
};

// Everything of the geometry that a score needs.
struct Geometry {
  const float* pos;          // [T, 3]
  const float* phi;          // [T, M], or null
  const float* gram;         // [T, S, L], the products for every key and query, where phi is null
  const float* gain;         // [H, S]
  const int64_t* scale_ptr;  // [S + 1]
  const float* freqs;        // [K]
  const int64_t* ptr;        // [B + 1]
  int64_t num_tokens, num_sequences;
  int heads, channels, num_features, num_scales, num_freqs, max_length;  // H, D, M, S, K, L
  bool causal;
  float scale;  // 1 / sqrt(D) of the D that the caller has, before padding
};

struct Tile {
  int64_t begin;  // first token of the sequence
  int length;     // tokens of the sequence
  int row;        // first row of the tile, in the sequence
};

// How many numbers of tiles there are.
inline int64_t num_tiles(const Geometry& geo) { return geo.num_tokens / kRows + geo.num_sequences; }

// Tiles are numbered without knowing the lengths on the host: those of sequence b start at ptr[b] / 16 + b, which
// leaves at least ceil(length / 16) numbers to each of them, out of T / 16 + B. Late tiles, the long ones of a causal
// sequence, come first. False if the number is not in use. All warps of a block get the same answer.
__device__ __forceinline__ bool find_tile(const int64_t* ptr, int64_t num_sequences, int64_t num_tokens, int64_t number,
                                          Tile& tile) {
  const int64_t lane = threadIdx.x % 32;
  int64_t low = 0, high = num_sequences;
  while (high - low > 1) {
    const int64_t step = (high - low + 31) / 32, probe = low + lane * step;
    const bool before = probe < high && ptr[probe] / kRows + probe <= number;
    const int count = __popc(__ballot_sync(0xffffffffu, before));
    low += (count > 0 ? count - 1 : 0) * step;
    high = low + step < high ? low + step : high;
  }
  const int64_t begin = ptr[low] > 0 ? ptr[low] : 0, end = ptr[low + 1] < num_tokens ? ptr[low + 1] : num_tokens;
  const int64_t index = number - (ptr[low] / kRows + low), tiles = (end - begin + kRows - 1) / kRows;
  if (end <= begin || index < 0 || index >= tiles) return false;
  tile = {begin, static_cast<int>(end - begin), static_cast<int>((tiles - 1 - index) * kRows)};
  return true;
}

// cos and sin of the phase of feature pair "pair"; pairs past the three axes do not turn.
__device__ __forceinline__ float2 turn_of(const Geometry& geo, int64_t token, int pair) {
  if (pair >= 3 * geo.num_freqs) return make_float2(1.f, 0.f);
  const int axis = pair / geo.num_freqs;
  float2 turn;
  sincosf(geo.pos[3 * token + axis] * geo.freqs[pair - axis * geo.num_freqs], &turn.y, &turn.x);
  return turn;
}

// Rows of cos and sin in shared memory, four float2 longer than the pairs, against bank conflicts.
template <int DP> constexpr int kTurnStride = DP / 2 + 4;

template <int DP>
__device__ __forceinline__ void load_turns(float2* turns, const Geometry& geo, const Tile& tile, int first, int count) {
  for (int e = threadIdx.x; e < count * (DP / 2); e += blockDim.x) {
    const int row = e / (DP / 2), pair = e % (DP / 2), at = first + row;
    turns[row * kTurnStride<DP> + pair] =
        at < tile.length ? turn_of(geo, tile.begin + at, pair) : make_float2(1.f, 0.f);
  }
}

template <typename scalar>
__device__ __forceinline__ Quad<scalar> turned(Quad<scalar> x, const float2* turn, float sign = 1.f) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float2 v = Pairs<scalar>::unpack(x.pair[i]);
    const float cos = turn[i].x, sin = sign * turn[i].y;
    x.pair[i] = Pairs<scalar>::pack(v.x * cos - v.y * sin, v.x * sin + v.y * cos);
  }
  return x;
}

// What one head holds of one sequence, which is less than 2^31 elements.
template <typename scalar> struct Tokens {
  const scalar* data;
  int stride, length, channels;

  __device__ __forceinline__ Tokens(const Heads<scalar>& x, const Geometry& geo, const Tile& tile, int head)
      : data(x.data + tile.begin * x.token_stride + head * x.head_stride),
        stride(static_cast<int>(x.token_stride)), length(tile.length), channels(geo.channels) {}

  // Four features from "channel" on of token "at"; zero outside.
  __device__ __forceinline__ Quad<scalar> quad(int at, int channel) const {
    return load_quad(data + at * stride + channel, at < length && channel < channels);
  }
};

// The features of scale s.
__device__ __forceinline__ int scale_offset(const Geometry& geo, int s) {
  const int64_t offset = geo.scale_ptr[s];
  return static_cast<int>(offset < 0 ? 0 : offset > geo.num_features ? geo.num_features : offset);
}

// Fragment A of the 16 features from "channel" on: rows g and g + 8, of which lane t takes features 4t to 4t + 3.
template <typename scalar>
__device__ __forceinline__ void set_rows(Pair<scalar> (&a)[4], const Quad<scalar>& upper, const Quad<scalar>& lower) {
  a[0] = upper.pair[0];
  a[1] = lower.pair[0];
  a[2] = upper.pair[1];
  a[3] = lower.pair[1];
}

// Lane-private places in shared memory for "count" fragments A that stay the same over a pass.
template <typename scalar, int DP> struct Parked {
  Quad<scalar>* at;  // [warps][count][DP / 16][32][2]

  __device__ __forceinline__ Parked(void* shared, int count)
      : at(static_cast<Quad<scalar>*>(shared) + threadIdx.x / 32 * count * DP * 4 + threadIdx.x % 32 * 2) {}
  __device__ __forceinline__ Quad<scalar>& row(int fragment, int d, int lower) const {
    return at[(fragment * (DP / 16) + d) * 64 + lower];
  }
  __device__ __forceinline__ void load(Pair<scalar> (&a)[4], int fragment, int d) const {
    set_rows<scalar>(a, row(fragment, d, 0), row(fragment, d, 1));
  }
};

template <typename scalar, int DP> constexpr int64_t kParkedBytes = (DP / 16) * 64 * sizeof(Quad<scalar>);

// gram[s][row][col] = phi_s(row) . phi_s(col) for the columns of one tile. The warps share the work.
template <int products, int C, bool queries>
__device__ __forceinline__ void load_gram(float* gram, const Geometry& geo, const Tile& tile, int col, int num_cols) {
  if (geo.phi == nullptr) {
    for (int e = threadIdx.x; e < geo.num_scales * kRows * C; e += blockDim.x) {
      // Neighboring threads take neighboring queries, as memory has them.
      const int s = e / (kRows * C), key = queries ? e / kRows % C : e / C % kRows, query = queries ? e % kRows : e % C;
      const int row = queries ? query : key, at = queries ? key : query;
      const int64_t k = queries ? col + key : tile.row + key, q = queries ? tile.row + query : col + query;
      const bool inside = k < tile.length && q < tile.length && q < geo.max_length;
      gram[(s * kRows + row) * kGramStride<C> + at] =
          inside ? geo.gram[((tile.begin + k) * geo.num_scales + s) * geo.max_length + q] : 0.f;
    }
    return;
  }
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t width = geo.num_features;
  const bool has_upper = tile.row + g < tile.length, has_lower = tile.row + g + 8 < tile.length;
  const float* upper = geo.phi + (tile.begin + (has_upper ? tile.row + g : 0)) * width;
  const float* lower = geo.phi + (tile.begin + (has_lower ? tile.row + g + 8 : 0)) * width;
  for (int item = warp; item < geo.num_scales * (C / 8); item += blockDim.x / 32) {
    const int s = item / (C / 8), n = item % (C / 8);
    if (8 * n >= num_cols) continue;
    const int at = col + 8 * n + g;
    const bool has_col = at < tile.length;
    const float* across = geo.phi + (tile.begin + (has_col ? at : 0)) * width;
    const int begin = scale_offset(geo, s), end = scale_offset(geo, s + 1);
    const bool aligned = ((geo.num_features | begin | end) & 3) == 0;
    float c[4] = {};
#pragma unroll 4
    for (int m = begin; m < end; m += 16) {
      const int left = end - m - 4 * t;
      float2 a[4], b[2];
      set_rows<float>(a, load_floats(upper + m + 4 * t, has_upper ? left : 0, aligned),
                      load_floats(lower + m + 4 * t, has_lower ? left : 0, aligned));
      const Quad<float> quad = load_floats(across + m + 4 * t, has_col ? left : 0, aligned);
      b[0] = quad.pair[0];
      b[1] = quad.pair[1];
      mma_float<products>(c, a, b);
    }
    float* out = gram + (s * kRows + g) * kGramStride<C> + 8 * n + 2 * t;
    *reinterpret_cast<float2*>(out) = make_float2(c[0], c[1]);
    *reinterpret_cast<float2*>(out + 8 * kGramStride<C>) = make_float2(c[2], c[3]);
  }
}

// c += sum_s gain[head, s] gram[s] in units of "unit", for the column fragments of one tile.
template <int C>
__device__ __forceinline__ void add_gram(float (&c)[C / 8][4], const float* gram, const Geometry& geo, int head,
                                         int num_cols, float unit) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  for (int s = 0; s < geo.num_scales; ++s) {
    const float gain = geo.gain[head * geo.num_scales + s] * unit;
#pragma unroll
    for (int n = 0; n < C / 8; ++n) {
      if (8 * n >= num_cols) break;
      const float* in = gram + (s * kRows + g) * kGramStride<C> + 8 * n + 2 * t;
      const float2 upper = *reinterpret_cast<const float2*>(in);
      const float2 lower = *reinterpret_cast<const float2*>(in + 8 * kGramStride<C>);
      c[n][0] += gain * upper.x;
      c[n][1] += gain * upper.y;
      c[n][2] += gain * lower.x;
      c[n][3] += gain * lower.y;
    }
  }
}

// dphi[row] += sum_col dgram[s][row][col] phi_s[col]. An element belongs to one thread through the whole kernel.
template <int products, int C>
__device__ __forceinline__ void add_dphi(float* dphi, const float* dgram, const Geometry& geo, const Tile& tile,
                                         int col, int num_cols, bool first) {
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t width = geo.num_features;
  int turn = 0;  // chunks of 32 features, dealt to the warps
  for (int s = 0; s < geo.num_scales; ++s) {
    const int begin = scale_offset(geo, s), end = scale_offset(geo, s + 1);
    const bool aligned = ((geo.num_features | begin | end) & 3) == 0;
    for (int m = begin; m < end; m += 32, ++turn) {
      if (turn % warps != warp) continue;
      float c[4][4] = {};
#pragma unroll
      for (int half = 0; half < C / 16; ++half) {
        if (16 * half >= num_cols) break;
        const float* in = dgram + (s * kRows + g) * kGramStride<C> + 16 * half + 2 * t;
        float2 a[4];
        a[0] = *reinterpret_cast<const float2*>(in);
        a[1] = *reinterpret_cast<const float2*>(in + 8 * kGramStride<C>);
        a[2] = *reinterpret_cast<const float2*>(in + 8);
        a[3] = *reinterpret_cast<const float2*>(in + 8 * kGramStride<C> + 8);
        Quad<float> rows[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int at = col + 16 * half + 2 * t + i % 2 + 8 * (i / 2);
          rows[i] = load_floats(geo.phi + (tile.begin + at) * width + m + 4 * g,
                                at < tile.length ? end - m - 4 * g : 0, aligned);
        }
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          float2 b[2];
          columns<float>(b, rows, j);
          mma_float<products>(c[j], a, b);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = tile.row + g + 8 * (i / 2);
        if (at >= tile.length) continue;
        float* out = dphi + (tile.begin + at) * width;
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int feature = m + 8 * t + 4 * (i % 2) + j;
          if (feature < end) out[feature] = first ? c[j][i] : out[feature] + c[j][i];
        }
      }
    }
  }
}

// The outputs' columns, in the order of columns(): of fragments 4f to 4f + 3 lane t holds features 32f + 8t + (0 to 7)
// of row g (lower = 0) or g + 8 (lower = 1); "half" picks the first or the last four.
template <typename scalar, int N>
__device__ __forceinline__ Quad<scalar> features_of(const float (&c)[N][4], int f, int lower, int half, float factor) {
  const int i = 2 * lower + half;
  Quad<scalar> quad;
  quad.pair[0] = Pairs<scalar>::pack(c[4 * f][i] * factor, c[4 * f + 1][i] * factor);
  quad.pair[1] = Pairs<scalar>::pack(c[4 * f + 2][i] * factor, c[4 * f + 3][i] * factor);
  return quad;
}

template <typename scalar>
__device__ __forceinline__ void store_token(scalar* x, const Geometry& geo, const Tile& tile, int head, int at,
                                            int channel, const Quad<scalar>& quad) {
  if (at >= tile.length || channel >= geo.channels) return;
  const int64_t offset = ((tile.begin + at) * geo.heads + head) * geo.channels + channel;
  *reinterpret_cast<Quad<scalar>*>(x + offset) = quad;
}

}  // namespace inertial
