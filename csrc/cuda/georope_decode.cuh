// One new token a sequence against its cache. The new token is written to its slot and used from where it came.
#pragma once

#include "scalar.cuh"

namespace inertial {

// gram [R, S, N], zero behind the slot; cache [R, L, S m]. A block a row, a warp a key.
template <typename scalar>
__global__ void __launch_bounds__(256) decode_gram(const scalar* phi, const int64_t* slot, scalar* cache,
                                                   int64_t row_stride, int64_t key_stride, scalar* gram, int num_scales,
                                                   int m, int num_keys) {
  const int64_t row = blockIdx.x, at = slot[row];
  const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32, size = num_scales * m;
  const scalar* query = phi + row * size;
  const bool inside = 0 <= at && at < num_keys;
  if (inside)
    for (int e = threadIdx.x; e < size; e += blockDim.x) cache[row * row_stride + at * key_stride + e] = query[e];
  for (int j = warp; j < num_keys; j += warps) {
    const scalar* key = j == at ? query : cache + row * row_stride + j * key_stride;
    for (int s = 0; s < num_scales; ++s) {
      scalar sum = 0;
      if (inside && j <= at)
        for (int l = s * m + lane; l < (s + 1) * m; l += 32) sum += query[l] * key[l];
      sum = sum_of_warp(sum);
      if (lane == 0) gram[(row * num_scales + s) * num_keys + j] = sum;
    }
  }
}

// Keys and values of the cache, [R, L, H, D], slots contiguous.
template <typename stored> struct Cache {
  stored* data;
  int64_t row_stride, key_stride;
};

// A warp a (row, head), over the keys 8 or 4 at a time; lane l keeps features l, l + 32 …, E of them.
template <typename wide, typename scalar, typename stored, int E>
__global__ void __launch_bounds__(128, 4) decode(const scalar* q, const stored* k, const stored* v, const wide* gram,
                                              const wide* gain, const int64_t* slot, Cache<stored> keys,
                                              Cache<stored> values, scalar* out, int64_t rows, int heads, int channels,
                                              int num_scales, int num_keys, wide scale) {
  constexpr int kBatch = E > 2 ? 4 : 8;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (index >= rows * heads) return;
  const int64_t row = index / heads;
  const int head = static_cast<int>(index % heads), lane = threadIdx.x % 32;
  const bool inside = 0 <= slot[row] && slot[row] < num_keys;
  const int last = inside ? static_cast<int>(slot[row]) : -1;
  stored* old_keys = keys.data + row * keys.row_stride + head * channels;
  stored* old_values = values.data + row * values.row_stride + head * channels;

  wide query[E], new_key[E], new_value[E], sum[E] = {};
#pragma unroll
  for (int e = 0; e < E; ++e) {
    const int d = lane + 32 * e;
    const bool has = d < channels;
    query[e] = has ? widen<wide>(q[index * channels + d]) * scale : wide(0);
    new_key[e] = has ? widen<wide>(k[index * channels + d]) : wide(0);
    new_value[e] = has ? widen<wide>(v[index * channels + d]) : wide(0);
    if (has && inside) {
      old_keys[last * keys.key_stride + d] = k[index * channels + d];
      old_values[last * values.key_stride + d] = v[index * channels + d];
    }
  }

  wide most = wide(-1e30), total = 0;
  for (int first = 0; first <= last; first += kBatch) {
    wide score[kBatch], value[kBatch][E];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int j = first + i;
      wide dot = 0;
#pragma unroll
      for (int e = 0; e < E; ++e) {
        const int d = lane + 32 * e;
        const bool old = j < last && d < channels;
        dot += query[e] * (old ? widen<wide>(old_keys[j * keys.key_stride + d]) : new_key[e]);
        value[i][e] = old ? widen<wide>(old_values[j * values.key_stride + d]) : new_value[e];
      }
      score[i] = dot;
    }
    wide peak = most;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int j = first + i;
      score[i] = sum_of_warp(score[i]);
      for (int s = 0; s < num_scales && j <= last; ++s)
        score[i] += gain[head * num_scales + s] * gram[(row * num_scales + s) * num_keys + j];
      if (j <= last) peak = score[i] > peak ? score[i] : peak;
    }
    const wide rescale = exp(most - peak);
    most = peak;
    total *= rescale;
#pragma unroll
    for (int e = 0; e < E; ++e) sum[e] *= rescale;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const wide weight = first + i <= last ? exp(score[i] - peak) : wide(0);
      total += weight;
#pragma unroll
      for (int e = 0; e < E; ++e) sum[e] += weight * value[i][e];
    }
  }
#pragma unroll
  for (int e = 0; e < E; ++e) {
    const int d = lane + 32 * e;
    if (d < channels) out[index * channels + d] = Narrow<scalar>::from(total > wide(0) ? sum[e] / total : wide(0));
  }
}

}  // namespace inertial
