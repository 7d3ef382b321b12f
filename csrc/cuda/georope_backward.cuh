// GeoRoPE attention, backward. A block owns 16 tokens and walks twice over their sequence: first the tokens are queries
// (giving dq, dgain, and their share of dphi and dpos), then keys (dk, dv, and the rest). Weights are recomputed from
// lse. Every gradient is summed by one thread, or over warps and blocks in a fixed order: no atomics, the same bits.
// Above 350 lines: the kernels of both walks share arguments and tiles, hence one file.
#pragma once

#include "georope_tile.cuh"

namespace inertial {

template <typename scalar> struct BackwardArgs {
  Heads<scalar> q, k, v, grad_out;
  const float *lse, *delta;  // [T, H]; delta = grad_out . out - grad_lse
  scalar *dq, *dk, *dv;      // [T, H, D]
  float* dphi;               // [T, M], or [T, S, L] of zeros where the products are given; null if nobody asks for it
  float* dpos;               // [T, 3]
  float* dgain_parts;        // [tiles, H, S]
  Geometry geo;
};

template <typename scalar, int DP> constexpr int64_t backward_shared_bytes(int64_t num_scales, int64_t warps) {
  constexpr int C = kCols<scalar, DP>;
  return warps * 2 * kParkedBytes<scalar, DP> +
         4 * (2 * (kRows + C) * kTurnStride<DP> + (num_scales + warps) * kRows * kGramStride<C> +
              warps * (kRows * 3 + num_scales));
}

// delta[t, h] = sum_d grad_out out - grad_lse; a warp a (token, head).
template <typename scalar>
__global__ void __launch_bounds__(256) georope_delta(Heads<scalar> grad_out, Heads<scalar> out, const float* grad_lse,
                                                     float* delta, int64_t num_tokens, int heads, int channels) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (index >= num_tokens * heads) return;
  const int64_t token = index / heads, head = index % heads;
  const int lane = threadIdx.x % 32;
  float sum = 0.f;
  for (int c = 4 * lane; c < channels; c += 128) {
    const scalar* left = grad_out.data + token * grad_out.token_stride + head * grad_out.head_stride + c;
    const scalar* right = out.data + token * out.token_stride + head * out.head_stride + c;
    const Quad<scalar> a = load_quad(left, true), b = load_quad(right, true);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float2 x = Pairs<scalar>::unpack(a.pair[i]), y = Pairs<scalar>::unpack(b.pair[i]);
      sum += x.x * y.x + x.y * y.y;
    }
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (lane == 0) delta[index] = sum - (grad_lse == nullptr ? 0.f : grad_lse[index]);
}

// The blocks' shares of dgain, in order; a block an element.
__global__ void __launch_bounds__(128) georope_sum_parts(const float* parts, float* sums, int64_t num_parts, int size) {
  extern __shared__ float4 shared[];
  float* partial = reinterpret_cast<float*>(shared);
  float sum = 0.f;
  for (int64_t i = threadIdx.x; i < num_parts; i += blockDim.x) sum += parts[i * size + blockIdx.x];
  partial[threadIdx.x] = sum;
  for (int step = blockDim.x / 2; step > 0; step /= 2) {
    __syncthreads();
    if (static_cast<int>(threadIdx.x) < step) partial[threadIdx.x] += partial[threadIdx.x + step];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = partial[0];
}

// The gradient of rotated rows, turned back and stored; and what it says about the positions, to "dpos" [16, 3]:
// d(score)/d(phase) of a pair (x, y) of the unrotated row is x dy - y dx.
template <typename scalar, int DP>
__device__ __forceinline__ void store_turned(scalar* out, float* dpos, const Tokens<scalar>& rows,
                                             const float (&c)[DP / 8][4], const float2* turns, const Geometry& geo,
                                             const Tile& tile, int head) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const int row = g + 8 * lower;
    float moved[3] = {0.f, 0.f, 0.f};
#pragma unroll
    for (int f = 0; f < DP / 32; ++f) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int channel = 32 * f + 8 * t + 4 * half;
        const Quad<scalar> x = rows.quad(tile.row + row, channel);
        Quad<scalar> gradient;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int pair = channel / 2 + i;
          const float2 turn = turns[row * kTurnStride<DP> + pair], value = Pairs<scalar>::unpack(x.pair[i]);
          const float du = c[4 * f + 2 * i][2 * lower + half], dv = c[4 * f + 2 * i + 1][2 * lower + half];
          const float dx = du * turn.x + dv * turn.y, dy = dv * turn.x - du * turn.y;
          gradient.pair[i] = Pairs<scalar>::pack(dx, dy);
          if (pair < 3 * geo.num_freqs) {
            const int axis = pair / geo.num_freqs;
            const float share = (value.x * dy - value.y * dx) * geo.freqs[pair - axis * geo.num_freqs];
            moved[0] += axis == 0 ? share : 0.f;
            moved[1] += axis == 1 ? share : 0.f;
            moved[2] += axis == 2 ? share : 0.f;
          }
        }
        store_token(out, geo, tile, head, tile.row + row, channel, gradient);
      }
    }
#pragma unroll
    for (int axis = 0; axis < 3; ++axis) {
      moved[axis] += __shfl_xor_sync(0xffffffffu, moved[axis], 1);
      moved[axis] += __shfl_xor_sync(0xffffffffu, moved[axis], 2);
      if (t == 0) dpos[3 * row + axis] += moved[axis];
    }
  }
}

// The block's shared memory.
template <typename scalar, int DP> struct BackwardShared {
  static constexpr int C = kCols<scalar, DP>;
  Parked<scalar, DP> parked;  // fragment 0: rows of the score, 1: rows of grad_out value^T
  float2 *row_turns, *col_turns;
  float* gram;    // [S][16][kGramStride]; later the gradient in its place
  float* dscore;  // [warps][16][kGramStride]
  float* dpos;    // [warps][16][3]
  float* dgain;   // [warps][S]

  __device__ __forceinline__ BackwardShared(float4* shared, int num_scales, int warps) : parked(shared, 2) {
    row_turns = reinterpret_cast<float2*>(reinterpret_cast<char*>(shared) + warps * 2 * kParkedBytes<scalar, DP>);
    col_turns = row_turns + kRows * kTurnStride<DP>;
    gram = reinterpret_cast<float*>(col_turns + C * kTurnStride<DP>);
    dscore = gram + num_scales * kRows * kGramStride<C>;
    dpos = dscore + warps * kRows * kGramStride<C>;
    dgain = dpos + warps * kRows * 3;
  }
};

template <typename scalar, int DP, bool queries>
__device__ __forceinline__ void backward_pass(const BackwardArgs<scalar>& args, const BackwardShared<scalar, DP>& mem,
                                              const Tile& tile, int head, bool first) {
  const Geometry& geo = args.geo;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const bool active = head < geo.heads;
  const Tokens<scalar> row_score(queries ? args.q : args.k, geo, tile, head);
  const Tokens<scalar> col_score(queries ? args.k : args.q, geo, tile, head);
  const Tokens<scalar> row_value(queries ? args.grad_out : args.v, geo, tile, head);
  const Tokens<scalar> col_value(queries ? args.v : args.grad_out, geo, tile, head);
  constexpr int C = kCols<scalar, DP>;
  float* dscore = mem.dscore + warp * kRows * kGramStride<C>;

  float row_lse[2] = {0.f, 0.f}, row_delta[2] = {0.f, 0.f};
  if (active) {
#pragma unroll
    for (int d = 0; d < DP / 16; ++d) {
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int channel = 16 * d + 4 * t, row = g + 8 * lower;
        mem.parked.row(0, d, lower) = turned(row_score.quad(tile.row + row, channel),
                                             mem.row_turns + row * kTurnStride<DP> + channel / 2);
        mem.parked.row(1, d, lower) = row_value.quad(tile.row + row, channel);
      }
    }
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const int row = tile.row + g + 8 * lower;
      if (!queries || row >= tile.length) continue;
      row_lse[lower] = args.lse[(tile.begin + row) * geo.heads + head] * kLog2e;
      row_delta[lower] = args.delta[(tile.begin + row) * geo.heads + head];
    }
  }

  float drow[DP / 8][4] = {};
  float dvalue[queries ? 1 : DP / 8][4] = {};
  const bool cut = queries && geo.causal && tile.row + kRows < tile.length;
  const int end = cut ? tile.row + kRows : tile.length;
  for (int col = !queries && geo.causal ? tile.row : 0; col < end; col += C) {
    const int num_cols = end - col < C ? end - col : C;
    __syncthreads();
    load_gram<kGeometryProducts<scalar>, C, queries>(mem.gram, geo, tile, col, num_cols);
    load_turns<DP>(mem.col_turns, geo, tile, col, num_cols);
    __syncthreads();
    if (active) {
      float weight[C / 8][4] = {}, slope[C / 8][4] = {};  // first score and dweight
#pragma unroll 1
      for (int d = 0; d < DP / 16; ++d) {
        const int channel = 16 * d + 4 * t;
        Pair<scalar> a[4], da[4];
        mem.parked.load(a, 0, d);
        mem.parked.load(da, 1, d);
#pragma unroll
        for (int n = 0; n < C / 8; ++n) {
          if (8 * n >= num_cols) break;
          const int at = 8 * n + g;
          Quad<scalar> other = col_score.quad(col + at, channel);
          if (at < num_cols) other = turned(other, mem.col_turns + at * kTurnStride<DP> + channel / 2);
          mma(weight[n], a, other.pair, scalar{});
          const Quad<scalar> value = col_value.quad(col + at, channel);
          mma(slope[n], da, value.pair, scalar{});
        }
      }
#pragma unroll
      for (int n = 0; n < C / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) weight[n][i] *= geo.scale * kLog2e;
      }
      add_gram<C>(weight, mem.gram, geo, head, num_cols, kLog2e);

#pragma unroll
      for (int n = 0; n < C / 8; ++n) {
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const int at = col + 8 * n + 2 * t + side;
          float lse = 0.f, delta = 0.f;
          if (!queries && at < tile.length) {
            lse = args.lse[(tile.begin + at) * geo.heads + head] * kLog2e;
            delta = args.delta[(tile.begin + at) * geo.heads + head];
          }
#pragma unroll
          for (int lower = 0; lower < 2; ++lower) {
            const int row = tile.row + g + 8 * lower, i = 2 * lower + side;
            const bool inside = row < tile.length && at < tile.length;
            const bool seen = inside && (!geo.causal || (queries ? at <= row : row <= at));
            const float w = seen ? exp2f(weight[n][i] - (queries ? row_lse[lower] : lse)) : 0.f;
            weight[n][i] = w;
            slope[n][i] = seen ? w * (slope[n][i] - (queries ? row_delta[lower] : delta)) : 0.f;
          }
        }
      }

      if (queries) {
        for (int s = 0; s < geo.num_scales; ++s) {
          float sum = 0.f;
#pragma unroll
          for (int n = 0; n < C / 8; ++n) {
            if (8 * n >= num_cols) break;
            const float* in = mem.gram + (s * kRows + g) * kGramStride<C> + 8 * n + 2 * t;
            sum += slope[n][0] * in[0] + slope[n][1] * in[1];
            sum += slope[n][2] * in[8 * kGramStride<C>] + slope[n][3] * in[8 * kGramStride<C> + 1];
          }
#pragma unroll
          for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
          if (lane == 0) mem.dgain[warp * geo.num_scales + s] += sum;
        }
      }
      if (args.dphi != nullptr) {
#pragma unroll
        for (int n = 0; n < C / 8; ++n) {
          float* to = dscore + g * kGramStride<C> + 8 * n + 2 * t;
          *reinterpret_cast<float2*>(to) = make_float2(slope[n][0], slope[n][1]);
          *reinterpret_cast<float2*>(to + 8 * kGramStride<C>) = make_float2(slope[n][2], slope[n][3]);
        }
      }

#pragma unroll
      for (int half = 0; half < C / 16; ++half) {
        if (16 * half >= num_cols) break;
        Pair<scalar> a[4], w[4];
        rows_of<scalar>(a, slope[2 * half], slope[2 * half + 1]);
        rows_of<scalar>(w, weight[2 * half], weight[2 * half + 1]);
#pragma unroll
        for (int f = 0; f < DP / 32; ++f) {
          const int channel = 32 * f + 4 * g;
          Quad<scalar> other[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int at = 16 * half + 2 * t + i % 2 + 8 * (i / 2);
            other[i] = col_score.quad(col + at, channel);
            if (at < num_cols) other[i] = turned(other[i], mem.col_turns + at * kTurnStride<DP> + channel / 2);
          }
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            Pair<scalar> b[2];
            columns<scalar>(b, other, j);
            mma(drow[4 * f + j], a, b, scalar{});
          }
          if constexpr (!queries) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
              other[i] = col_value.quad(col + 16 * half + 2 * t + i % 2 + 8 * (i / 2), channel);
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              Pair<scalar> b[2];
              columns<scalar>(b, other, j);
              mma(dvalue[4 * f + j], w, b, scalar{});
            }
          }
        }
      }
    }

    if (args.dphi == nullptr || (queries && geo.phi == nullptr)) continue;
    __syncthreads();
    for (int e = threadIdx.x; e < kRows * C; e += blockDim.x) {
      const int row = e / C, at = row * kGramStride<C> + e % C, first_head = head - warp;
      for (int s = 0; s < geo.num_scales; ++s) {
        float sum = 0.f;
        for (int w = 0; w < warps && first_head + w < geo.heads; ++w)
          sum += geo.gain[(first_head + w) * geo.num_scales + s] * mem.dscore[w * kRows * kGramStride<C> + at];
        const int key = tile.row + row, query = col + e % C;
        if (geo.phi != nullptr)
          mem.gram[s * kRows * kGramStride<C> + at] = sum;
        else if (key < tile.length && query < tile.length && query < geo.max_length)
          args.dphi[((tile.begin + key) * geo.num_scales + s) * geo.max_length + query] += sum;
      }
    }
    if (geo.phi == nullptr) continue;
    __syncthreads();
    add_dphi<kGeometryProducts<scalar>, C>(args.dphi, mem.gram, geo, tile, col, num_cols, first && col == 0);
  }
  if (!active) return;

#pragma unroll
  for (int n = 0; n < DP / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) drow[n][i] *= geo.scale;
  }
  store_turned<scalar, DP>(queries ? args.dq : args.dk, mem.dpos + warp * kRows * 3, row_score, drow, mem.row_turns,
                           geo, tile, head);
  if constexpr (!queries) {
#pragma unroll
    for (int f = 0; f < DP / 32; ++f) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        store_token(args.dv, geo, tile, head, tile.row + g + 8 * (i / 2), 32 * f + 8 * t + 4 * (i % 2),
                    features_of<scalar>(dvalue, f, i / 2, i % 2, 1.f));
    }
  }
}

template <typename scalar, int DP>
__global__ void __launch_bounds__(DP > 64 ? 128 : 256, 1) georope_backward(const BackwardArgs<scalar> args) {
  extern __shared__ float4 shared[];
  const Geometry& geo = args.geo;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const BackwardShared<scalar, DP> mem(shared, geo.num_scales, warps);
  float* parts = args.dgain_parts + static_cast<int64_t>(blockIdx.x) * geo.heads * geo.num_scales;

  Tile tile;
  if (!find_tile(geo.ptr, geo.num_sequences, geo.num_tokens, blockIdx.x, tile)) {
    for (int e = threadIdx.x; e < geo.heads * geo.num_scales; e += blockDim.x) parts[e] = 0.f;
    return;
  }
  load_turns<DP>(mem.row_turns, geo, tile, tile.row, kRows);
  for (int e = threadIdx.x; e < warps * kRows * 3; e += blockDim.x) mem.dpos[e] = 0.f;

  for (int first_head = 0; first_head < geo.heads; first_head += warps) {
    const int head = first_head + warp;
    for (int s = lane; s < geo.num_scales; s += 32) mem.dgain[warp * geo.num_scales + s] = 0.f;
    __syncthreads();
    backward_pass<scalar, DP, true>(args, mem, tile, head, first_head == 0);
    __syncwarp();
    if (head < geo.heads)
      for (int s = lane; s < geo.num_scales; s += 32)
        parts[head * geo.num_scales + s] = mem.dgain[warp * geo.num_scales + s];
    backward_pass<scalar, DP, false>(args, mem, tile, head, false);
  }
  __syncthreads();
  for (int e = threadIdx.x; e < kRows * 3; e += blockDim.x) {
    const int row = tile.row + e / 3;
    float sum = 0.f;
    for (int w = 0; w < warps; ++w) sum += mem.dpos[w * kRows * 3 + e];
    if (args.dpos != nullptr && row < tile.length) args.dpos[(tile.begin + row) * 3 + e % 3] = sum;
  }
}

}  // namespace inertial
