// Nystroem features of the Gaussian kernel: exponentials and whitening product a block of positions at a time, so that
// the kernel values stay in the cache.
#include "../check.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace inertial {
namespace {

constexpr int64_t kGrain = 4;  // positions that are worth a thread

template <typename scalar>
scalar square_distance(const scalar* p, const scalar* z) {
  const scalar x = p[0] - z[0], y = p[1] - z[1], w = p[2] - z[2];
  return x * x + y * y + w * w;
}

template <typename scalar>
void features(const Tensor& pos, const Tensor& landmarks, const Tensor& whitening, const std::vector<double>& width,
              Tensor& phi) {
  const int64_t m = landmarks.size(0), num_scales = width.size();
  const scalar *p = pos.const_data_ptr<scalar>(), *z = landmarks.const_data_ptr<scalar>();
  const scalar* w = whitening.const_data_ptr<scalar>();
  scalar* out = phi.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, pos.size(0), kGrain, [&](int64_t t, int64_t end) {
    for (; t < end; ++t)
      for (int64_t s = 0; s < num_scales; ++s) {
        const scalar rate = -0.5 / (width[s] * width[s]);
        scalar* row = out + (t * num_scales + s) * m;
        std::fill_n(row, m, scalar(0));
        for (int64_t l = 0; l < m; ++l) {
          const scalar kernel = std::exp(rate * square_distance(p + 3 * t, z + 3 * l));
          const scalar* line = w + (s * m + l) * m;
          for (int64_t j = 0; j < m; ++j) row[j] += kernel * line[j];
        }
      }
  });
}

template <typename scalar>
void features_pos(const Tensor& grad, const Tensor& pos, const Tensor& landmarks, const Tensor& whitening,
                  const std::vector<double>& width, Tensor& pos_grad) {
  const int64_t m = landmarks.size(0), num_scales = width.size();
  const scalar *p = pos.const_data_ptr<scalar>(), *z = landmarks.const_data_ptr<scalar>();
  const scalar *w = whitening.const_data_ptr<scalar>(), *g = grad.const_data_ptr<scalar>();
  scalar* out = pos_grad.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, pos.size(0), kGrain, [&](int64_t t, int64_t end) {
    for (; t < end; ++t) {
      scalar sum[3] = {};
      for (int64_t s = 0; s < num_scales; ++s) {
        const scalar rate = -0.5 / (width[s] * width[s]);
        for (int64_t l = 0; l < m; ++l) {
          const scalar *line = w + (s * m + l) * m, *row = g + (t * num_scales + s) * m;
          scalar dot = 0;
          for (int64_t j = 0; j < m; ++j) dot += line[j] * row[j];
          dot *= 2 * rate * std::exp(rate * square_distance(p + 3 * t, z + 3 * l));
          for (int a = 0; a < 3; ++a) sum[a] += dot * (p[3 * t + a] - z[3 * l + a]);
        }
      }
      std::copy_n(sum, 3, out + 3 * t);
    }
  });
}

Tensor nystrom_features_cpu(const Tensor& pos, const Tensor& landmarks, const Tensor& whitening,
                            const std::vector<double> width) {
  check_nystrom("nystrom_features", pos, landmarks, whitening, width);
  Tensor phi = torch::stable::new_empty(pos, {pos.size(0), whitening.size(0) * whitening.size(1)});
  const auto run = pos.scalar_type() == ScalarType::Double ? features<double> : features<float>;
  run(torch::stable::contiguous(pos), torch::stable::contiguous(landmarks), torch::stable::contiguous(whitening),
      width, phi);
  return phi;
}

Tensor nystrom_features_pos_cpu(const Tensor& grad, const Tensor& pos, const Tensor& landmarks,
                                const Tensor& whitening, const std::vector<double> width) {
  check_nystrom("nystrom_features_pos", pos, landmarks, whitening, width);
  check_nystrom_grad(grad, pos, whitening);
  Tensor pos_grad = torch::stable::new_empty(pos, {pos.size(0), 3});
  const auto run = pos.scalar_type() == ScalarType::Double ? features_pos<double> : features_pos<float>;
  run(torch::stable::contiguous(grad), torch::stable::contiguous(pos), torch::stable::contiguous(landmarks),
      torch::stable::contiguous(whitening), width, pos_grad);
  return pos_grad;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("nystrom_features", TORCH_BOX(&nystrom_features_cpu));
  m.impl("nystrom_features_pos", TORCH_BOX(&nystrom_features_pos_cpu));
}

}  // namespace inertial
