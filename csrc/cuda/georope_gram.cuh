// The products of Nystroem features of all pairs of tokens of a sequence, which layers share, and their backward.
#pragma once

#include "georope_tile.cuh"

namespace inertial {

constexpr int kGramCols = 32;

inline int64_t gram_shared_bytes(int64_t num_scales) { return 4 * num_scales * kRows * kGramStride<kGramCols>; }

// gram [T, S, L], zero beyond the end of a sequence; a block 16 tokens.
__global__ void __launch_bounds__(256) georope_gram(float* gram, const Geometry geo) {
  extern __shared__ float4 shared[];
  float* products = reinterpret_cast<float*>(shared);
  Tile tile;
  if (!find_tile(geo.ptr, geo.num_sequences, geo.num_tokens, blockIdx.x, tile)) return;
  for (int col = 0; col < geo.max_length; col += kGramCols) {
    const int left = tile.length - col, num_cols = left < kGramCols ? left : kGramCols;
    if (left > 0) load_gram<3, kGramCols, true>(products, geo, tile, col, num_cols);
    __syncthreads();
    for (int e = threadIdx.x; e < geo.num_scales * kRows * kGramCols; e += blockDim.x) {
      const int s = e / (kRows * kGramCols), row = e / kGramCols % kRows, at = e % kGramCols;
      if (tile.row + row < tile.length && col + at < geo.max_length)
        gram[((tile.begin + tile.row + row) * geo.num_scales + s) * geo.max_length + col + at] =
            at < left ? products[(s * kRows + row) * kGramStride<kGramCols> + at] : 0.f;
    }
    __syncthreads();
  }
}

// dphi [T, M] of a token t: sum_j (grad[t, s, j] + grad[j, s, t]) phi_s(j).
__global__ void __launch_bounds__(256) georope_gram_backward(const float* grad, float* dphi, const Geometry geo) {
  extern __shared__ float4 shared[];
  float* dgram = reinterpret_cast<float*>(shared);
  Tile tile;
  if (!find_tile(geo.ptr, geo.num_sequences, geo.num_tokens, blockIdx.x, tile)) return;
  for (int col = 0; col < tile.length; col += kGramCols) {
    const int left = tile.length - col, num_cols = left < kGramCols ? left : kGramCols;
    for (int e = threadIdx.x; e < geo.num_scales * kRows * kGramCols; e += blockDim.x) {
      const int s = e / (kRows * kGramCols), row = e / kGramCols % kRows, at = e % kGramCols;
      const int64_t i = tile.row + row, j = col + at, limit = geo.max_length;
      float sum = 0.f;
      if (i < tile.length && j < tile.length) {
        if (j < limit) sum += grad[((tile.begin + i) * geo.num_scales + s) * limit + j];
        if (i < limit) sum += grad[((tile.begin + j) * geo.num_scales + s) * limit + i];
      }
      dgram[(s * kRows + row) * kGramStride<kGramCols> + at] = sum;
    }
    __syncthreads();
    add_dphi<3, kGramCols>(dphi, dgram, geo, tile, col, num_cols, col == 0);
    __syncthreads();
  }
}

}  // namespace inertial
