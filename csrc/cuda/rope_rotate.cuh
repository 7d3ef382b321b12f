// Turns adjacent feature pairs by a phase that all heads of a token share; a thread a (token, pair), over the heads.
#pragma once

#include "scalar.cuh"

namespace inertial {

__device__ __forceinline__ void sine_and_cosine(float x, float& sin, float& cos) { sincosf(x, &sin, &cos); }
__device__ __forceinline__ void sine_and_cosine(double x, double& sin, double& cos) { sincos(x, &sin, &cos); }

template <typename wide, typename scalar>
__global__ void __launch_bounds__(256) rotate_tokens(const scalar* x, int64_t token_stride, int64_t head_stride,
                                                     const wide* phase, scalar* out, int64_t num_tokens, int heads,
                                                     int pairs) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= num_tokens * pairs) return;
  const int64_t token = index / pairs, pair = index % pairs;
  wide sin, cos;
  sine_and_cosine(phase[index], sin, cos);
  const scalar* in = x + token * token_stride + 2 * pair;
  scalar* to = out + (token * heads * pairs + pair) * 2;
#pragma unroll 4
  for (int h = 0; h < heads; ++h, in += head_stride, to += 2 * pairs) {
    const wide even = widen<wide>(in[0]), odd = widen<wide>(in[1]);
    to[0] = Narrow<scalar>::from(even * cos - odd * sin);
    to[1] = Narrow<scalar>::from(even * sin + odd * cos);
  }
}

// The gradient of the phase from the rotated pairs and their gradient.
template <typename wide, typename scalar>
__global__ void __launch_bounds__(256) sum_phase_grad(const scalar* grad, const scalar* out, wide* sums,
                                                      int64_t num_tokens, int heads, int pairs) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= num_tokens * pairs) return;
  const int64_t at = (index / pairs * heads * pairs + index % pairs) * 2;
  wide sum = 0;
#pragma unroll 4
  for (int h = 0; h < heads; ++h) {
    const scalar *g = grad + at + 2 * h * pairs, *y = out + at + 2 * h * pairs;
    sum += widen<wide>(g[1]) * widen<wide>(y[0]) - widen<wide>(g[0]) * widen<wide>(y[1]);
  }
  sums[index] = sum;
}

}  // namespace inertial
