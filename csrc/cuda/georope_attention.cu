// GeoRoPE attention on CUDA: forward.
#include "georope_forward.cuh"
#include "georope_launch.cuh"

#include <tuple>

namespace inertial {
namespace {

std::tuple<Tensor, Tensor> georope_attention_cuda(
    const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& pos, const std::optional<Tensor> phi,
    const Tensor& gain, const Tensor& scale_ptr, const Tensor& freqs, const Tensor& ptr, bool causal,
    const std::optional<Tensor> gram) {
  const char* op = "georope_attention";
  check_georope(op, q_, k_, v_, pos, phi, gain, scale_ptr, freqs, ptr, gram);
  check_device(op, q_, {&k_, &v_, &pos, phi.has_value() ? &*phi : nullptr, &gain, &scale_ptr, &freqs, &ptr,
                        gram.has_value() ? &*gram : nullptr});
  const DeviceGuard guard(q_.get_device_index());
  const Tensor q = quads(q_), k = quads(k_), v = quads(v_);
  const GeometryTensors tensors(pos, phi, gain, scale_ptr, freqs, ptr, gram);
  const Geometry geo = tensors.geometry(q.size(1), q_.size(2), q.size(2), causal);
  Tensor out = torch::stable::new_empty(q, {q.size(0), q.size(1), q.size(2)});
  Tensor lse = torch::stable::new_empty(q, {q.size(0), q.size(1)}, ScalarType::Float);
  for_type(op, q.scalar_type(), [&](auto type) {
    using scalar = decltype(type);
    for_channels(op, q.size(2), [&](auto channels) {
      constexpr int DP = decltype(channels)::value;
      if (lse.numel() == 0 || geo.num_sequences == 0) return;
      const ForwardArgs<scalar> args{heads_of<scalar>(op, q), heads_of<scalar>(op, k), heads_of<scalar>(op, v),
                                     mutable_data<scalar>(out), mutable_data<float>(lse), geo};
      const int warps = warps_for(geo.heads, 8);
      launch(op, georope_forward<scalar, DP>, dim3(blocks(num_tiles(geo), 1), blocks(geo.heads, warps)), 32 * warps,
             forward_shared_bytes<scalar, DP>(geo.num_scales, warps), current_stream(q), args);
    });
  });
  return {without_padding(out, q_.size(2)), lse};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) { m.impl("georope_attention", TORCH_BOX(&georope_attention_cuda)); }

}  // namespace inertial
