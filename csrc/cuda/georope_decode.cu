// One new token a sequence against its cache, on CUDA. Slots are on the device and not checked: a row whose slot is
// outside the cache leaves it alone and gets zeros.
#include "georope_decode.cuh"
#include "launch.cuh"

#include <cmath>

namespace inertial {
namespace {

Tensor georope_decode_gram_cuda(const Tensor& phi_, const Tensor& slot_, int64_t num_scales, int64_t num_keys,
                                Tensor features) {
  const char* op = "georope_decode_gram";
  check_decode_gram(phi_, slot_, num_scales, num_keys, features);
  check(phi_.scalar_type() == ScalarType::Float, op, ": expected phi in float32 on CUDA");
  check_device(op, phi_, {&slot_, &features});
  const DeviceGuard guard(phi_.get_device_index());
  const Tensor phi = torch::stable::contiguous(phi_), slot = torch::stable::contiguous(slot_);
  Tensor gram = torch::stable::new_empty(phi, {phi.size(0), num_scales, num_keys});
  if (gram.numel() > 0)
    launch(op, decode_gram<float>, dim3(blocks(phi.size(0), 1)), 256, 0, current_stream(phi), data<float>(phi),
           data<int64_t>(slot), mutable_data<float>(features), features.stride(0), features.stride(1),
           mutable_data<float>(gram), static_cast<int>(num_scales), static_cast<int>(phi.size(1) / num_scales),
           static_cast<int>(num_keys));
  return gram;
}

template <typename scalar, typename stored>
void run_decode(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& gram, const Tensor& gain,
                const Tensor& slot, Tensor& key, Tensor& value, Tensor& out) {
  const char* op = "georope_decode";
  const int64_t rows = q.size(0), heads = q.size(1), channels = q.size(2);
  const Cache<stored> keys{mutable_data<stored>(key), key.stride(0), key.stride(1)};
  const Cache<stored> values{mutable_data<stored>(value), value.stride(0), value.stride(1)};
  const auto run = [&](auto elements) {
    launch(op, decode<float, scalar, stored, decltype(elements)::value>, dim3(blocks(rows * heads, 4)), 128, 0,
           current_stream(q), data<scalar>(q), data<stored>(k), data<stored>(v), data<float>(gram), data<float>(gain),
           data<int64_t>(slot), keys, values, mutable_data<scalar>(out), rows, static_cast<int>(heads),
           static_cast<int>(channels), static_cast<int>(gram.size(1)), static_cast<int>(gram.size(2)),
           static_cast<float>(1 / std::sqrt(static_cast<double>(channels))));
  };
  if (channels <= 64) return run(std::integral_constant<int, 2>{});
  if (channels <= 128) return run(std::integral_constant<int, 4>{});
  if (channels <= 256) return run(std::integral_constant<int, 8>{});
  check(false, op, ": expected D <= 256 on CUDA (got ", channels, ")");
}

Tensor georope_decode_cuda(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& gram_,
                           const Tensor& gain_, const Tensor& slot_, Tensor key, Tensor value) {
  const char* op = "georope_decode";
  check_decode(q_, k_, v_, gram_, gain_, slot_, key, value);
  check_device(op, q_, {&k_, &v_, &gram_, &gain_, &slot_, &key, &value});
  const DeviceGuard guard(q_.get_device_index());
  const ScalarType type = q_.scalar_type(), stored = key.scalar_type();
  // Queries of the cache's type are read as they are; others go through float32.
  const Tensor q = torch::stable::contiguous(as_type(q_, type == stored ? type : ScalarType::Float));
  const Tensor k = torch::stable::contiguous(as_type(k_, stored)), v = torch::stable::contiguous(as_type(v_, stored));
  const Tensor gram = torch::stable::contiguous(gram_), gain = torch::stable::contiguous(gain_);
  const Tensor slot = torch::stable::contiguous(slot_);
  Tensor out = torch::stable::new_empty(q, {q.size(0), q.size(1), q.size(2)});
  for_type(op, stored, [&](auto element) {
    using stored_type = decltype(element);
    if (out.numel() == 0) return;
    const auto run = type == stored ? run_decode<stored_type, stored_type> : run_decode<float, stored_type>;
    run(q, k, v, gram, gain, slot, key, value, out);
  });
  return as_type(out, type);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) {
  m.impl("georope_decode_gram", TORCH_BOX(&georope_decode_gram_cuda));
  m.impl("georope_decode", TORCH_BOX(&georope_decode_cuda));
}

}  // namespace inertial
