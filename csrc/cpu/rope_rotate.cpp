// Turns adjacent feature pairs by a phase that all heads of a token share.
#include "../check.h"
#include "bfloat16.h"
#include "capability.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace inertial {
namespace {

#define INERTIAL_KERNEL "rope_rotate_kernel.h"
#include "simd_levels.h"

constexpr int64_t kGrain = 16384;  // features that are worth a thread

template <typename scalar, typename stored>
void rotate_tokens(const Tensor& x, const Tensor& phase, Tensor& out) {
  const int64_t heads = x.size(1), pairs = x.size(2) / 2, size = 2 * heads * pairs;
  const auto* in = static_cast<const stored*>(x.const_data_ptr());
  auto* turned = static_cast<stored*>(out.mutable_data_ptr());
  const double* angle = phase.const_data_ptr<double>();
  torch::stable::parallel_for(0, x.size(0), kGrain / std::max<int64_t>(1, size) + 1, [&](int64_t t, int64_t end) {
    std::vector<scalar> scratch(4 * pairs);
    for (; t < end; ++t)
      INERTIAL_AT_LEVEL(
          rotate_token(in + t * size, angle + t * pairs, heads, pairs, scratch.data(), turned + t * size));
  });
}

template <typename scalar, typename stored>
void sum_phase_grad(const Tensor& grad, const Tensor& out, Tensor& phase_grad) {
  const int64_t heads = grad.size(1), pairs = grad.size(2) / 2, size = 2 * heads * pairs;
  const auto *g = static_cast<const stored*>(grad.const_data_ptr()), *y = static_cast<const stored*>(out.const_data_ptr());
  scalar* sums = phase_grad.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, grad.size(0), kGrain / std::max<int64_t>(1, size) + 1, [&](int64_t t, int64_t end) {
    for (; t < end; ++t)
      INERTIAL_AT_LEVEL(phase_grad_token(g + t * size, y + t * size, heads, pairs, sums + t * pairs));
  });
}

Tensor rope_rotate_cpu(const Tensor& x_, const Tensor& phase_) {
  check_rope_rotate(x_, phase_);
  const Tensor x = torch::stable::contiguous(x_);
  const Tensor phase = torch::stable::contiguous(torch::stable::to(phase_, ScalarType::Double));
  Tensor out = torch::stable::empty_like(x);
  switch (x.scalar_type()) {
    case ScalarType::Float: rotate_tokens<float, float>(x, phase, out); break;
    case ScalarType::Double: rotate_tokens<double, double>(x, phase, out); break;
    case ScalarType::BFloat16: rotate_tokens<float, bfloat16>(x, phase, out); break;
    default: check(false, "rope_rotate: expected x to be float32, float64 or bfloat16");
  }
  return out;
}

Tensor rope_rotate_phase_cpu(const Tensor& grad_, const Tensor& out_) {
  check_rope_rotate_phase(grad_, out_);
  const Tensor grad = torch::stable::contiguous(grad_), out = torch::stable::contiguous(out_);
  Tensor sums = torch::stable::new_empty(grad, {grad.size(0), grad.size(2) / 2}, compute_type(grad.scalar_type()));
  switch (grad.scalar_type()) {
    case ScalarType::Float: sum_phase_grad<float, float>(grad, out, sums); break;
    case ScalarType::Double: sum_phase_grad<double, double>(grad, out, sums); break;
    case ScalarType::BFloat16: sum_phase_grad<float, bfloat16>(grad, out, sums); break;
    default: check(false, "rope_rotate_phase: expected grad to be float32, float64 or bfloat16");
  }
  return sums;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("rope_rotate", TORCH_BOX(&rope_rotate_cpu));
  m.impl("rope_rotate_phase", TORCH_BOX(&rope_rotate_phase_cpu));
}

}  // namespace inertial
