// What the host functions of GeoRoPE attention share.
#pragma once

#include "georope_tile.cuh"
#include "launch.cuh"

#include <cmath>

namespace inertial {

// A tensor [T, H, D] that kernels can read four features at a time: D a multiple of 4, all aligned. Strided views of a
// fused projection are read where they are; what does not fit is copied.
inline Tensor quads(const Tensor& x) {
  const int64_t spare = (4 - x.size(2) % 4) % 4;
  if (spare > 0) return torch::stable::pad(x, {0, spare});
  const bool fits = x.stride(2) == 1 && x.stride(1) % 4 == 0 && x.stride(0) % 4 == 0 &&
                    reinterpret_cast<uintptr_t>(x.const_data_ptr()) % (4 * bytes_of(x.scalar_type())) == 0;
  return fits ? x : aligned(x);
}

template <typename scalar> Heads<scalar> heads_of(const char* op, const Tensor& x) {
  const bool dense = x.is_contiguous();  // strides of a dimension of size 1 mean nothing
  const Heads<scalar> heads{data<scalar>(x), dense ? x.size(1) * x.size(2) : x.stride(0),
                            dense ? x.size(2) : x.stride(1)};
  check(x.size(0) * heads.token_stride < int64_t{1} << 31, op, ": expected fewer than 2^31 elements (got ", shape(x),
        ")");
  return heads;
}

// The first D features of a padded result.
inline Tensor without_padding(Tensor x, int64_t channels) {
  if (x.size(2) == channels) return x;
  return torch::stable::contiguous(torch::stable::narrow(x, 2, 0, channels));
}

// Contiguous twins of the geometry's tensors, alive while they are used.
struct GeometryTensors {
  Tensor pos, gain, scale_ptr, freqs, ptr;
  std::optional<Tensor> phi, gram;

  GeometryTensors(const Tensor& pos, const std::optional<Tensor>& phi, const Tensor& gain, const Tensor& scale_ptr,
                  const Tensor& freqs, const Tensor& ptr, const std::optional<Tensor>& gram)
      : pos(aligned(pos)),
        gain(aligned(gain)),
        scale_ptr(aligned(scale_ptr)),
        freqs(aligned(freqs)),
        ptr(aligned(ptr)) {
    if (phi.has_value()) this->phi = aligned(*phi);
    if (gram.has_value()) this->gram = aligned(*gram);
  }

  Geometry geometry(int64_t num_heads, int64_t channels, int64_t padded, bool causal) const {
    Geometry geo{};
    geo.pos = data<float>(pos);
    geo.phi = phi.has_value() ? data<float>(*phi) : nullptr;
    geo.gram = gram.has_value() ? data<float>(*gram) : nullptr;
    geo.gain = data<float>(gain);
    geo.scale_ptr = data<int64_t>(scale_ptr);
    geo.freqs = data<float>(freqs);
    geo.ptr = data<int64_t>(ptr);
    geo.num_tokens = pos.size(0);
    geo.num_sequences = ptr.size(0) - 1;
    geo.heads = static_cast<int>(num_heads);
    geo.channels = static_cast<int>(padded);
    geo.num_features = phi.has_value() ? static_cast<int>(phi->size(1)) : 0;
    geo.num_scales = static_cast<int>(gain.size(1));
    geo.num_freqs = static_cast<int>(freqs.size(0));
    geo.max_length = gram.has_value() ? static_cast<int>(gram->size(2)) : 0;
    geo.causal = causal;
    geo.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(channels)));
    return geo;
  }
};

// As few rounds of at most "most" heads as will do, of nearly equal size.
inline int warps_for(int64_t num_heads, int64_t most) {
  const int64_t rounds = (num_heads + most - 1) / most;
  return static_cast<int>((num_heads + rounds - 1) / rounds);
}

// run(std::integral_constant<int, DP>) with the padded size of a head.
template <typename Run> void for_channels(const char* op, int64_t channels, Run run) {
  if (channels <= 32) return run(std::integral_constant<int, 32>{});
  if (channels <= 64) return run(std::integral_constant<int, 64>{});
  if (channels <= 128) return run(std::integral_constant<int, 128>{});
  check(false, op, ": expected D <= 128 on CUDA (got ", channels, ")");
}

}  // namespace inertial
