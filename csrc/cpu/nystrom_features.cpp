// Nystroem features of the Gaussian kernel: exponentials and whitening product a few positions at a time, so that the
// kernel values stay in the cache.
#include "../check.h"
#include "bfloat16.h"
#include "capability.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <vector>

namespace inertial {
namespace {

#define INERTIAL_KERNEL "nystrom_features_kernel.h"
#include "simd_levels.h"

// Features of the positions, or with "grad" the gradient in them.
template <typename scalar>
void run_at_level(const Tensor* grad, const Tensor& pos, const Tensor& landmarks, const Tensor& whitening,
                  const std::vector<double>& width, Tensor& out) {
  const scalar* given = grad == nullptr ? nullptr : grad->const_data_ptr<scalar>();
  INERTIAL_AT_LEVEL(run(given, pos.const_data_ptr<scalar>(), pos.size(0), landmarks.const_data_ptr<scalar>(),
                        whitening.const_data_ptr<scalar>(), width, landmarks.size(0), out.mutable_data_ptr<scalar>()));
}

Tensor nystrom_features_cpu(const Tensor& pos, const Tensor& landmarks, const Tensor& whitening,
                            const std::vector<double> width) {
  check_nystrom("nystrom_features", pos, landmarks, whitening, width);
  Tensor phi = torch::stable::new_empty(pos, {pos.size(0), whitening.size(0) * whitening.size(1)});
  const auto run = pos.scalar_type() == ScalarType::Double ? run_at_level<double> : run_at_level<float>;
  run(nullptr, torch::stable::contiguous(pos), torch::stable::contiguous(landmarks),
      torch::stable::contiguous(whitening), width, phi);
  return phi;
}

Tensor nystrom_features_pos_cpu(const Tensor& grad_, const Tensor& pos, const Tensor& landmarks,
                                const Tensor& whitening, const std::vector<double> width) {
  check_nystrom("nystrom_features_pos", pos, landmarks, whitening, width);
  check_nystrom_grad(grad_, pos, whitening);
  const Tensor grad = torch::stable::contiguous(grad_);
  Tensor pos_grad = torch::stable::new_empty(pos, {pos.size(0), 3});
  const auto run = pos.scalar_type() == ScalarType::Double ? run_at_level<double> : run_at_level<float>;
  run(&grad, torch::stable::contiguous(pos), torch::stable::contiguous(landmarks),
      torch::stable::contiguous(whitening), width, pos_grad);
  return pos_grad;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("nystrom_features", TORCH_BOX(&nystrom_features_cpu));
  m.impl("nystrom_features_pos", TORCH_BOX(&nystrom_features_pos_cpu));
}

}  // namespace inertial
