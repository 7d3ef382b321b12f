// Turns adjacent feature pairs by a phase that all heads of a token share.
#include "../check.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace inertial {
namespace {

using torch::headeronly::BFloat16;

constexpr int64_t kGrain = 16384;  // features that are worth a thread

template <typename wide, typename scalar>
void rotate_tokens(const Tensor& x, const Tensor& phase, Tensor& out) {
  const int64_t heads = x.size(1), pairs = x.size(2) / 2;
  const scalar* in = x.const_data_ptr<scalar>();
  const wide* angle = phase.const_data_ptr<wide>();
  scalar* turned = out.mutable_data_ptr<scalar>();
  const int64_t grain = kGrain / std::max<int64_t>(1, heads * pairs) + 1;
  torch::stable::parallel_for(0, x.size(0), grain, [&](int64_t t, int64_t end) {
    std::vector<wide> cos(pairs), sin(pairs);
    for (; t < end; ++t) {
      for (int64_t k = 0; k < pairs; ++k) cos[k] = std::cos(angle[t * pairs + k]), sin[k] = std::sin(angle[t * pairs + k]);
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = (t * heads + h) * 2 * pairs;
        for (int64_t k = 0; k < pairs; ++k) {
          const wide even = in[at + 2 * k], odd = in[at + 2 * k + 1];
          turned[at + 2 * k] = even * cos[k] - odd * sin[k];
          turned[at + 2 * k + 1] = even * sin[k] + odd * cos[k];
        }
      }
    }
  });
}

template <typename wide, typename scalar>
void sum_phase_grad(const Tensor& grad, const Tensor& out, Tensor& phase_grad) {
  const int64_t heads = grad.size(1), pairs = grad.size(2) / 2;
  const scalar* g = grad.const_data_ptr<scalar>();
  const scalar* y = out.const_data_ptr<scalar>();
  wide* sums = phase_grad.mutable_data_ptr<wide>();
  const int64_t grain = kGrain / std::max<int64_t>(1, heads * pairs) + 1;
  torch::stable::parallel_for(0, grad.size(0), grain, [&](int64_t t, int64_t end) {
    for (; t < end; ++t)
      for (int64_t h = 0; h < heads; ++h) {
        const int64_t at = (t * heads + h) * 2 * pairs;
        for (int64_t k = 0; k < pairs; ++k)
          sums[t * pairs + k] += static_cast<wide>(g[at + 2 * k + 1]) * static_cast<wide>(y[at + 2 * k]) -
                                 static_cast<wide>(g[at + 2 * k]) * static_cast<wide>(y[at + 2 * k + 1]);
      }
  });
}

Tensor rope_rotate_cpu(const Tensor& x_, const Tensor& phase_) {
  check_rope_rotate(x_, phase_);
  const Tensor x = torch::stable::contiguous(x_);
  const bool wide = x.scalar_type() == ScalarType::Double || phase_.scalar_type() == ScalarType::Double;
  const Tensor phase =
      torch::stable::contiguous(torch::stable::to(phase_, wide ? ScalarType::Double : ScalarType::Float));
  Tensor out = torch::stable::empty_like(x);
  switch (x.scalar_type()) {
    case ScalarType::Float: wide ? rotate_tokens<double, float>(x, phase, out) : rotate_tokens<float, float>(x, phase, out); break;
    case ScalarType::Double: rotate_tokens<double, double>(x, phase, out); break;
    case ScalarType::BFloat16: wide ? rotate_tokens<double, BFloat16>(x, phase, out) : rotate_tokens<float, BFloat16>(x, phase, out); break;
    default: check(false, "rope_rotate: expected x to be float32, float64 or bfloat16");
  }
  return out;
}

Tensor rope_rotate_phase_cpu(const Tensor& grad_, const Tensor& out_) {
  check_rope_rotate_phase(grad_, out_);
  const Tensor grad = torch::stable::contiguous(grad_), out = torch::stable::contiguous(out_);
  Tensor sums = torch::stable::new_zeros(grad, {grad.size(0), grad.size(2) / 2}, compute_type(grad.scalar_type()));
  switch (grad.scalar_type()) {
    case ScalarType::Float: sum_phase_grad<float, float>(grad, out, sums); break;
    case ScalarType::Double: sum_phase_grad<double, double>(grad, out, sums); break;
    case ScalarType::BFloat16: sum_phase_grad<float, BFloat16>(grad, out, sums); break;
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
