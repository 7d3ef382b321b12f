// Single elements of any type as the type that sums are kept in: float64 for float64, else float32.
#pragma once

#include "fragment.cuh"

namespace inertial {

template <typename wide> __device__ __forceinline__ wide widen(float x) { return static_cast<wide>(x); }
template <typename wide> __device__ __forceinline__ wide widen(double x) { return static_cast<wide>(x); }
template <typename wide> __device__ __forceinline__ wide widen(bf16 x) {
  return static_cast<wide>(float_of(static_cast<uint32_t>(x.bits) << 16));
}
template <typename wide> __device__ __forceinline__ wide widen(fp16 x) {
  return static_cast<wide>(unpack_fp16(x.bits).x);
}

template <typename scalar> struct Narrow {
  template <typename wide> static __device__ __forceinline__ scalar from(wide x) { return static_cast<scalar>(x); }
};
template <> struct Narrow<bf16> {
  static __device__ __forceinline__ bf16 from(float x) { return {static_cast<uint16_t>(pack_bf16(x, 0.f))}; }
};
template <> struct Narrow<fp16> {
  static __device__ __forceinline__ fp16 from(float x) { return {static_cast<uint16_t>(pack_fp16(x, 0.f))}; }
};

template <typename wide> __device__ __forceinline__ wide sum_of_warp(wide x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

}  // namespace inertial
