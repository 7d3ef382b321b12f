// The vectorised elementary functions on their own, and the level they run at: for tests and for `inertial doctor`.
#include "../check.h"
#include "bfloat16.h"
#include "capability.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

namespace inertial {

enum class SimdFunction { exp, log };

namespace {

#define INERTIAL_KERNEL "simd_math_kernel.h"
#include "simd_levels.h"

Tensor simd_map(SimdFunction function, const Tensor& x_) {
  const Tensor x = torch::stable::contiguous(x_);
  Tensor out = torch::stable::empty_like(x);
  if (x.scalar_type() == ScalarType::Float) {
    INERTIAL_AT_LEVEL(map(function, x.const_data_ptr<float>(), x.numel(), out.mutable_data_ptr<float>()));
  } else if (x.scalar_type() == ScalarType::Double) {
    INERTIAL_AT_LEVEL(map(function, x.const_data_ptr<double>(), x.numel(), out.mutable_data_ptr<double>()));
  } else {
    check(false, "simd: expected x of float32 or float64 (got ", name(x.scalar_type()), ")");
  }
  return out;
}

Tensor simd_exp(const Tensor& x) { return simd_map(SimdFunction::exp, x); }
Tensor simd_log(const Tensor& x) { return simd_map(SimdFunction::log, x); }

std::tuple<Tensor, Tensor> simd_sincos(const Tensor& x_) {
  check(x_.scalar_type() == ScalarType::Double, "simd: expected x of float64 (got ", name(x_.scalar_type()), ")");
  const Tensor x = torch::stable::contiguous(x_);
  Tensor sine = torch::stable::empty_like(x), cosine = torch::stable::empty_like(x);
  INERTIAL_AT_LEVEL(map_sincos(x.const_data_ptr<double>(), x.numel(), sine.mutable_data_ptr<double>(),
                               cosine.mutable_data_ptr<double>()));
  return {sine, cosine};
}

int64_t cpu_capability() { return int64_t(capability()); }

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("simd_exp", TORCH_BOX(&simd_exp));
  m.impl("simd_log", TORCH_BOX(&simd_log));
  m.impl("simd_sincos", TORCH_BOX(&simd_sincos));
}

STABLE_TORCH_LIBRARY_IMPL(inertial, CompositeExplicitAutograd, m) {
  m.impl("cpu_capability", TORCH_BOX(&cpu_capability));
}

}  // namespace inertial
