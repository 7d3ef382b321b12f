// Rotation of feature pairs on CUDA.
#include "launch.cuh"
#include "rope_rotate.cuh"

namespace inertial {
namespace {

Tensor rope_rotate_cuda(const Tensor& x_, const Tensor& phase_) {
  const char* op = "rope_rotate";
  check_rope_rotate(x_, phase_);
  check_device(op, x_, {&phase_});
  const DeviceGuard guard(x_.get_device_index());
  const Tensor x = x_.dim() == 3 && x_.size(2) > 0 && x_.stride(2) == 1 ? x_ : torch::stable::contiguous(x_);
  const Tensor phase = torch::stable::contiguous(phase_);
  Tensor out = torch::stable::new_empty(x, {x.size(0), x.size(1), x.size(2)});
  const int heads = static_cast<int>(x.size(1)), pairs = static_cast<int>(x.size(2) / 2);
  for_type(op, x.scalar_type(), [&](auto type) {
    using scalar = decltype(type);
    if (out.numel() == 0) return;
    const auto run = [&](auto wide) {
      launch(op, rotate_tokens<decltype(wide), scalar>, dim3(blocks(phase.numel(), 256)), 256, 0, current_stream(x),
             data<scalar>(x), x.stride(0), x.stride(1), data<decltype(wide)>(phase), mutable_data<scalar>(out),
             x.size(0), heads, pairs);
    };
    phase.scalar_type() == ScalarType::Double ? run(double{}) : run(float{});
  });
  return out;
}

Tensor rope_rotate_phase_cuda(const Tensor& grad_, const Tensor& out_) {
  const char* op = "rope_rotate_phase";
  check_rope_rotate_phase(grad_, out_);
  check_device(op, grad_, {&out_});
  const DeviceGuard guard(grad_.get_device_index());
  const Tensor grad = torch::stable::contiguous(grad_), out = torch::stable::contiguous(out_);
  const int heads = static_cast<int>(grad.size(1)), pairs = static_cast<int>(grad.size(2) / 2);
  Tensor sums = torch::stable::new_empty(grad, {grad.size(0), pairs}, ScalarType::Float);
  for_type(op, grad.scalar_type(), [&](auto type) {
    using scalar = decltype(type);
    if (sums.numel() == 0) return;
    launch(op, sum_phase_grad<float, scalar>, dim3(blocks(sums.numel(), 256)), 256, 0, current_stream(grad),
           data<scalar>(grad), data<scalar>(out), mutable_data<float>(sums), grad.size(0), heads, pairs);
  });
  return sums;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) {
  m.impl("rope_rotate", TORCH_BOX(&rope_rotate_cuda));
  m.impl("rope_rotate_phase", TORCH_BOX(&rope_rotate_phase_cuda));
}

}  // namespace inertial
