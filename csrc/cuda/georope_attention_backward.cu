// GeoRoPE attention on CUDA: backward. Always deterministic.
#include "georope_backward.cuh"
#include "georope_launch.cuh"

#include <tuple>

namespace inertial {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> georope_attention_backward_cuda(
    const Tensor& grad_out_, const std::optional<Tensor> grad_lse_, const Tensor& q_, const Tensor& k_,
    const Tensor& v_, const Tensor& pos, const std::optional<Tensor> phi, const Tensor& gain, const Tensor& scale_ptr,
    const Tensor& freqs, const Tensor& ptr, const Tensor& out_, const Tensor& lse_, bool causal,
    const std::optional<Tensor> gram, bool needs_phi, bool needs_pos) {
  const char* op = "georope_attention_backward";
  check_georope(op, q_, k_, v_, pos, phi, gain, scale_ptr, freqs, ptr, gram);
  check_floats(op, "grad_out", grad_out_, {q_.size(0), q_.size(1), q_.size(2)}, q_.scalar_type());
  check_floats(op, "out", out_, {q_.size(0), q_.size(1), q_.size(2)}, q_.scalar_type());
  check_floats(op, "lse", lse_, {q_.size(0), q_.size(1)}, ScalarType::Float);
  if (grad_lse_.has_value()) check_floats(op, "grad_lse", *grad_lse_, {q_.size(0), q_.size(1)}, ScalarType::Float);
  check_device(op, q_, {&grad_out_, grad_lse_.has_value() ? &*grad_lse_ : nullptr, &k_, &v_, &pos,
                        phi.has_value() ? &*phi : nullptr, &gain, &scale_ptr, &freqs, &ptr, &out_, &lse_,
                        gram.has_value() ? &*gram : nullptr});
  const DeviceGuard guard(q_.get_device_index());
  const Tensor q = quads(q_), k = quads(k_), v = quads(v_), grad_out = quads(grad_out_), out = quads(out_);
  const Tensor lse = aligned(lse_);
  std::optional<Tensor> grad_lse;
  if (grad_lse_.has_value()) grad_lse = aligned(*grad_lse_);
  const GeometryTensors tensors(pos, phi, gain, scale_ptr, freqs, ptr, gram);
  const Geometry geo = tensors.geometry(q.size(1), q_.size(2), q.size(2), causal);

  const auto floats = [&](std::initializer_list<int64_t> sizes) {
    return torch::stable::new_empty(q, sizes, ScalarType::Float);
  };
  const auto like_q = [&] { return torch::stable::new_empty(q, {q.size(0), q.size(1), q.size(2)}); };
  needs_phi = needs_phi && (phi.has_value() || gram.has_value());
  Tensor dq = like_q(), dk = like_q(), dv = like_q(), delta = floats({q.size(0), q.size(1)});
  Tensor dphi = !needs_phi         ? floats({0})
                : phi.has_value() ? floats({phi->size(0), phi->size(1)})
                                  : torch::stable::new_zeros(*gram, {gram->size(0), gram->size(1), gram->size(2)});
  Tensor dpos = needs_pos ? floats({q.size(0), 3}) : floats({0});
  Tensor dgain = floats({q.size(1), gain.size(1)}), parts = floats({num_tiles(geo), q.size(1), gain.size(1)});
  const cudaStream_t stream = current_stream(q);
  const bool empty = lse.numel() == 0 || geo.num_sequences == 0;
  if (empty) {
    torch::stable::zero_(dgain);
    torch::stable::zero_(dphi);
    torch::stable::zero_(dpos);
  }

  for_type(op, q.scalar_type(), [&](auto type) {
    using scalar = decltype(type);
    for_channels(op, q.size(2), [&](auto channels) {
      constexpr int DP = decltype(channels)::value;
      if (empty) return;
      launch(op, georope_delta<scalar>, dim3(blocks(geo.num_tokens * geo.heads, 8)), 256, 0, stream,
             heads_of<scalar>(op, grad_out), heads_of<scalar>(op, out),
             grad_lse.has_value() ? data<float>(*grad_lse) : nullptr, mutable_data<float>(delta), geo.num_tokens,
             geo.heads, geo.channels);
      const BackwardArgs<scalar> args{heads_of<scalar>(op, q),      heads_of<scalar>(op, k),
                                      heads_of<scalar>(op, v),      heads_of<scalar>(op, grad_out),
                                      data<float>(lse),             data<float>(delta),
                                      mutable_data<scalar>(dq),     mutable_data<scalar>(dk),
                                      mutable_data<scalar>(dv),     needs_phi ? mutable_data<float>(dphi) : nullptr,
                                      needs_pos ? mutable_data<float>(dpos) : nullptr,
                                      mutable_data<float>(parts),   geo};
      const int warps = warps_for(geo.heads, DP > 64 ? 4 : 8);
      launch(op, georope_backward<scalar, DP>, dim3(blocks(num_tiles(geo), 1)), 32 * warps,
             backward_shared_bytes<scalar, DP>(geo.num_scales, warps), stream, args);
    });
  });
  if (!empty && dgain.numel() > 0)
    launch(op, georope_sum_parts, dim3(blocks(dgain.numel(), 1)), 128, 128 * sizeof(float), stream, data<float>(parts),
           mutable_data<float>(dgain), num_tiles(geo), static_cast<int>(dgain.numel()));
  const int64_t channels = q_.size(2);
  return {without_padding(dq, channels), without_padding(dk, channels), without_padding(dv, channels),
          dphi, dgain, dpos};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) {
  m.impl("georope_attention_backward", TORCH_BOX(&georope_attention_backward_cuda));
}

}  // namespace inertial
