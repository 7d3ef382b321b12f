// Nystroem features on CUDA, float32.
#include "launch.cuh"
#include "nystrom_features.cuh"

#include <vector>

namespace inertial {
namespace {

Widths rates(const char* op, const std::vector<double>& width) {
  check(width.size() <= kMaxScales, op, ": expected at most ", kMaxScales, " widths on CUDA (got ", width.size(), ")");
  Widths widths{};
  for (size_t s = 0; s < width.size(); ++s) widths.rate[s] = -0.5 / (width[s] * width[s]);
  return widths;
}

void check_float(const char* op, const Tensor& pos) {
  const ScalarType type = pos.scalar_type();
  check(type == ScalarType::Float, op, ": expected pos in float32 on CUDA (got ", name(type), ")");
}

Tensor nystrom_features_cuda(const Tensor& pos_, const Tensor& landmarks_, const Tensor& whitening_,
                             const std::vector<double> width) {
  const char* op = "nystrom_features";
  check_nystrom(op, pos_, landmarks_, whitening_, width);
  check_float(op, pos_);
  check_device(op, pos_, {&landmarks_, &whitening_});
  const DeviceGuard guard(pos_.get_device_index());
  const Tensor pos = torch::stable::contiguous(pos_), landmarks = torch::stable::contiguous(landmarks_);
  const Tensor whitening = torch::stable::contiguous(whitening_);
  const int m = static_cast<int>(landmarks.size(0)), num_scales = static_cast<int>(width.size());
  const Widths widths = rates(op, width);
  Tensor phi = torch::stable::new_empty(pos, {pos.size(0), whitening.size(0) * whitening.size(1)});
  if (phi.numel() > 0)
    launch(op, nystrom_forward<float>, dim3(blocks(pos.size(0), kNystromTokens), num_scales), kNystromThreads,
           nystrom_shared_bytes<float>(m), current_stream(pos), data<float>(pos), data<float>(landmarks),
           data<float>(whitening), mutable_data<float>(phi), widths, pos.size(0), m, num_scales);
  return phi;
}

Tensor nystrom_features_pos_cuda(const Tensor& grad_, const Tensor& pos_, const Tensor& landmarks_,
                                 const Tensor& whitening_, const std::vector<double> width) {
  const char* op = "nystrom_features_pos";
  check_nystrom(op, pos_, landmarks_, whitening_, width);
  check_nystrom_grad(grad_, pos_, whitening_);
  check_float(op, pos_);
  check_device(op, pos_, {&grad_, &landmarks_, &whitening_});
  const DeviceGuard guard(pos_.get_device_index());
  const Tensor pos = torch::stable::contiguous(pos_), landmarks = torch::stable::contiguous(landmarks_);
  const Tensor whitening = torch::stable::contiguous(whitening_), grad = torch::stable::contiguous(grad_);
  const int m = static_cast<int>(landmarks.size(0)), num_scales = static_cast<int>(width.size());
  const Widths widths = rates(op, width);
  Tensor pos_grad = torch::stable::new_empty(pos, {pos.size(0), 3});
  if (pos_grad.numel() > 0)
    launch(op, nystrom_backward<float>, dim3(blocks(pos.size(0), kNystromTokens)), kNystromThreads,
           nystrom_shared_bytes<float>(m), current_stream(pos), data<float>(grad), data<float>(pos),
           data<float>(landmarks), data<float>(whitening), mutable_data<float>(pos_grad), widths, pos.size(0), m,
           num_scales);
  return pos_grad;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) {
  m.impl("nystrom_features", TORCH_BOX(&nystrom_features_cuda));
  m.impl("nystrom_features_pos", TORCH_BOX(&nystrom_features_pos_cuda));
}

}  // namespace inertial
