// GeoRoPE attention, forward: online softmax over column tiles, one head a warp, scores and weights in registers.
#pragma once

#include "georope_tile.cuh"

namespace inertial {

template <typename scalar> struct ForwardArgs {
  Heads<scalar> q, k, v;
  scalar* out;  // [T, H, D]
  float* lse;   // [T, H]
  Geometry geo;
};

template <typename scalar, int DP> constexpr int64_t forward_shared_bytes(int64_t num_scales, int64_t warps) {
  constexpr int C = kCols<scalar, DP>;
  return warps * kParkedBytes<scalar, DP> +
         4 * (2 * (kRows + C) * kTurnStride<DP> + num_scales * kRows * kGramStride<C>);
}

template <typename scalar, int DP>
__global__ void __launch_bounds__(256, DP > 64 || sizeof(scalar) == 4 ? 1 : 2)
    georope_forward(const ForwardArgs<scalar> args) {
  extern __shared__ float4 shared[];
  const Geometry& geo = args.geo;
  constexpr int C = kCols<scalar, DP>;
  const int warps = blockDim.x / 32;
  const Parked<scalar, DP> parked(shared, 1);
  float2* row_turns = reinterpret_cast<float2*>(reinterpret_cast<char*>(shared) + warps * kParkedBytes<scalar, DP>);
  float2* col_turns = row_turns + kRows * kTurnStride<DP>;
  float* gram = reinterpret_cast<float*>(col_turns + C * kTurnStride<DP>);

  Tile tile;
  if (!find_tile(geo.ptr, geo.num_sequences, geo.num_tokens, blockIdx.x, tile)) return;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int head = blockIdx.y * warps + threadIdx.x / 32;
  const bool active = head < geo.heads;

  const Tokens<scalar> q(args.q, geo, tile, head), k(args.k, geo, tile, head), v(args.v, geo, tile, head);
  load_turns<DP>(row_turns, geo, tile, tile.row, kRows);
  __syncthreads();
  if (active) {
#pragma unroll
    for (int d = 0; d < DP / 16; ++d) {
#pragma unroll
      for (int lower = 0; lower < 2; ++lower) {
        const int channel = 16 * d + 4 * t, row = g + 8 * lower;
        parked.row(0, d, lower) = turned(q.quad(tile.row + row, channel),
                                         row_turns + row * kTurnStride<DP> + channel / 2);
      }
    }
  }

  float out[DP / 8][4] = {};
  float most[2] = {kMasked, kMasked}, total[2] = {0.f, 0.f};  // of rows g and g + 8; scores in units of log 2
  const int end = geo.causal && tile.row + kRows < tile.length ? tile.row + kRows : tile.length;
  for (int col = 0; col < end; col += C) {
    const int num_cols = end - col < C ? end - col : C;
    __syncthreads();
    load_gram<kGeometryProducts<scalar>, C, true>(gram, geo, tile, col, num_cols);
    load_turns<DP>(col_turns, geo, tile, col, num_cols);
    __syncthreads();
    if (!active) continue;

    float score[C / 8][4] = {};
#pragma unroll 2
    for (int d = 0; d < DP / 16; ++d) {
      const int channel = 16 * d + 4 * t;
      Pair<scalar> query[4];
      parked.load(query, 0, d);
#pragma unroll
      for (int n = 0; n < C / 8; ++n) {
        if (8 * n >= num_cols) break;
        const int at = 8 * n + g;
        Quad<scalar> key = k.quad(col + at, channel);
        if (at < num_cols) key = turned(key, col_turns + at * kTurnStride<DP> + channel / 2);
        mma(score[n], query, key.pair, scalar{});
      }
    }
#pragma unroll
    for (int n = 0; n < C / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) score[n][i] *= geo.scale * kLog2e;
    }
    add_gram<C>(score, gram, geo, head, num_cols, kLog2e);

    float rescale[2];
#pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
      const int row = tile.row + g + 8 * lower;
      float peak = most[lower];
#pragma unroll
      for (int n = 0; n < C / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int at = col + 8 * n + 2 * t + i;
          float& s = score[n][2 * lower + i];
          if (at >= tile.length || (geo.causal && at > row)) s = kMasked;
          peak = fmaxf(peak, s);
        }
      }
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
      rescale[lower] = exp2f(most[lower] - peak);
      most[lower] = peak;
      float sum = 0.f;
#pragma unroll
      for (int n = 0; n < C / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& s = score[n][2 * lower + i];
          s = exp2f(s - peak);
          sum += s;
        }
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      total[lower] = total[lower] * rescale[lower] + sum;
    }
    if (col > 0) {
#pragma unroll
      for (int n = 0; n < DP / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[n][i] *= rescale[i / 2];
      }
    }

#pragma unroll
    for (int half = 0; half < C / 16; ++half) {
      if (16 * half >= num_cols) break;
      Pair<scalar> weight[4];
      rows_of<scalar>(weight, score[2 * half], score[2 * half + 1]);
#pragma unroll
      for (int f = 0; f < DP / 32; ++f) {
        const int at = col + 16 * half + 2 * t, channel = 32 * f + 4 * g;
        const Quad<scalar> value[4] = {v.quad(at, channel),
                                       v.quad(at + 1, channel),
                                       v.quad(at + 8, channel),
                                       v.quad(at + 9, channel)};
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          Pair<scalar> b[2];
          columns<scalar>(b, value, j);
          mma(out[4 * f + j], weight, b, scalar{});
        }
      }
    }
  }
  if (!active) return;

#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const int row = tile.row + g + 8 * lower;
    const float factor = 1.f / total[lower];
#pragma unroll
    for (int f = 0; f < DP / 32; ++f) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        store_token(args.out, geo, tile, head, row, 32 * f + 8 * t + 4 * half,
                    features_of<scalar>(out, f, lower, half, factor));
    }
    if (t == 0 && row < tile.length)
      args.lse[(tile.begin + row) * geo.heads + head] = (most[lower] + log2f(total[lower])) * kLn2;
  }
}

}  // namespace inertial
