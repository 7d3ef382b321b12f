// Nystroem features of the Gaussian kernel and the gradient of the positions: the kernel values of 16 tokens stand in
// shared memory, the whitening matrix streams past them. Products in full float32: its large entries cancel.
#pragma once

#include "scalar.cuh"

namespace inertial {

constexpr int kNystromTokens = 16, kNystromThreads = 128, kMaxScales = 16;

struct Widths {
  double rate[kMaxScales];  // -1 / (2 width^2)
};

template <typename scalar>
__device__ __forceinline__ scalar square_distance(const scalar* p, const scalar* z) {
  const scalar x = p[0] - z[0], y = p[1] - z[1], w = p[2] - z[2];
  return x * x + y * y + w * w;
}

// grid (token tiles, S); phi [T, S, m]
template <typename scalar>
__global__ void __launch_bounds__(kNystromThreads) nystrom_forward(const scalar* pos, const scalar* landmarks,
                                                                   const scalar* whitening, scalar* phi,
                                                                   const __grid_constant__ Widths widths,
                                                                   int64_t num_tokens, int m, int num_scales) {
  extern __shared__ float4 shared[];
  scalar* kernel = reinterpret_cast<scalar*>(shared);  // [m][16]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kNystromTokens;
  const int s = blockIdx.y;
  const scalar rate = static_cast<scalar>(widths.rate[s]);
  for (int e = threadIdx.x; e < m * kNystromTokens; e += blockDim.x) {
    const int64_t token = first + e % kNystromTokens;
    kernel[e] = token < num_tokens
                    ? exp(rate * square_distance(pos + 3 * token, landmarks + 3 * (e / kNystromTokens)))
                    : scalar(0);
  }
  __syncthreads();
  const scalar* matrix = whitening + static_cast<int64_t>(s) * m * m;
  for (int j = threadIdx.x; j < m; j += blockDim.x) {
    scalar sum[kNystromTokens] = {};
#pragma unroll 4
    for (int l = 0; l < m; ++l) {
      const scalar w = matrix[static_cast<int64_t>(l) * m + j];
#pragma unroll
      for (int t = 0; t < kNystromTokens; ++t) sum[t] += kernel[l * kNystromTokens + t] * w;
    }
#pragma unroll
    for (int t = 0; t < kNystromTokens; ++t)
      if (first + t < num_tokens) phi[((first + t) * num_scales + s) * m + j] = sum[t];
  }
}

template <typename scalar> constexpr int64_t nystrom_shared_bytes(int64_t m) {
  return sizeof(scalar) * kNystromTokens * (m > 3 * kNystromThreads / 32 ? m : 3 * kNystromThreads / 32);
}

// pos_grad[t] = sum_sl (whitening_s grad_ts)_l d k(p_t, z_l) / dp. A warp takes landmarks, its lanes the dot product.
template <typename scalar>
__global__ void __launch_bounds__(kNystromThreads) nystrom_backward(const scalar* grad, const scalar* pos,
                                                                    const scalar* landmarks, const scalar* whitening,
                                                                    scalar* pos_grad,
                                                                    const __grid_constant__ Widths widths,
                                                                    int64_t num_tokens, int m, int num_scales) {
  extern __shared__ float4 shared[];
  scalar* rows = reinterpret_cast<scalar*>(shared);  // [16][m]; at the end the warps' sums [warps][16][3]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kNystromTokens;
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
  const int64_t mine = first + lane;  // of lanes under 16
  const bool owner = lane < kNystromTokens && mine < num_tokens;
  scalar moved[3] = {};
  for (int s = 0; s < num_scales; ++s) {
    const scalar rate = static_cast<scalar>(widths.rate[s]);
    __syncthreads();
    for (int e = threadIdx.x; e < m * kNystromTokens; e += blockDim.x) {
      const int64_t token = first + e / m;
      rows[e] = token < num_tokens ? grad[(token * num_scales + s) * m + e % m] : scalar(0);
    }
    __syncthreads();
    for (int l = warp; l < m; l += warps) {
      const scalar* line = whitening + (static_cast<int64_t>(s) * m + l) * m;
      scalar sum[kNystromTokens] = {};
      for (int j = lane; j < m; j += 32) {
        const scalar w = line[j];
#pragma unroll
        for (int t = 0; t < kNystromTokens; ++t) sum[t] += rows[t * m + j] * w;
      }
      scalar dot = 0;
#pragma unroll
      for (int t = 0; t < kNystromTokens; ++t) {
        const scalar total = sum_of_warp(sum[t]);
        if (lane == t) dot = total;
      }
      if (!owner) continue;
      dot *= 2 * rate * exp(rate * square_distance(pos + 3 * mine, landmarks + 3 * l));
#pragma unroll
      for (int a = 0; a < 3; ++a) moved[a] += dot * (pos[3 * mine + a] - landmarks[3 * l + a]);
    }
  }
  __syncthreads();
  if (lane < kNystromTokens)
    for (int a = 0; a < 3; ++a) rows[(warp * kNystromTokens + lane) * 3 + a] = moved[a];
  __syncthreads();
  for (int e = threadIdx.x; e < 3 * kNystromTokens; e += blockDim.x) {
    scalar sum = 0;
    for (int w = 0; w < warps; ++w) sum += rows[w * kNystromTokens * 3 + e];
    if (first + e / 3 < num_tokens) pos_grad[3 * first + e] = sum;
  }
}

}  // namespace inertial
