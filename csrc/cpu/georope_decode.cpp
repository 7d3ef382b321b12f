// One new token a sequence against its cache. A thread owns a sequence: it writes the new token into the cache and
// reads that sequence's slots only, never the padding behind them.
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

#define INERTIAL_KERNEL "georope_decode_kernel.h"
#include "simd_levels.h"

template <typename scalar>
void append_and_multiply(const Tensor& phi, const int64_t* slot, int64_t num_scales, Tensor& features, Tensor& gram) {
  const int64_t size = phi.size(1), num_keys = gram.size(2);
  const int64_t row_step = features.stride(0), key_step = features.stride(1);
  const scalar* query = phi.const_data_ptr<scalar>();
  scalar *cache = features.mutable_data_ptr<scalar>(), *product = gram.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, phi.size(0), 4, [&](int64_t r, int64_t end) {
    for (; r < end; ++r) {
      scalar* keys = cache + r * row_step;
      std::copy_n(query + r * size, size, keys + slot[r] * key_step);
      INERTIAL_AT_LEVEL(dots(query + r * size, keys, key_step, num_scales, size / num_scales, slot[r] + 1,
                             product + r * num_scales * num_keys, num_keys));
    }
  });
}

template <typename scalar, typename stored>
void decode(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& gram, const Tensor& gain,
            const int64_t* slot, Tensor& key, Tensor& value, Tensor& out) {
  const int64_t heads = q.size(1), size = q.size(2), num_scales = gram.size(1), num_keys = gram.size(2);
  if (q.numel() == 0) return;  // no rows, heads or features: nothing to write, nothing to attend to
  const int64_t key_row = key.stride(0), key_step = key.stride(1);
  const int64_t value_row = value.stride(0), value_step = value.stride(1);
  const scalar *query = q.const_data_ptr<scalar>(), *product = gram.const_data_ptr<scalar>();
  const scalar* gains = gain.const_data_ptr<scalar>();
  const auto *new_key = static_cast<const stored*>(k.const_data_ptr()),
             *new_value = static_cast<const stored*>(v.const_data_ptr());
  auto *key_cache = static_cast<stored*>(key.mutable_data_ptr()),
       *value_cache = static_cast<stored*>(value.mutable_data_ptr());
  scalar* result = out.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, q.size(0), 1, [&](int64_t r, int64_t end) {
    std::vector<scalar> score(heads * num_keys);
    for (; r < end; ++r) {
      const int64_t at = r * heads * size;
      stored *keys = key_cache + r * key_row, *values = value_cache + r * value_row;
      std::copy_n(new_key + at, heads * size, keys + slot[r] * key_step);
      std::copy_n(new_value + at, heads * size, values + slot[r] * value_step);
      INERTIAL_AT_LEVEL(attend(query + at, keys, key_step, values, value_step, product + r * num_scales * num_keys,
                               gains, num_scales, num_keys, heads, size, slot[r] + 1, score.data(), result + at));
    }
  });
}

Tensor georope_decode_gram_cpu(const Tensor& phi, const Tensor& slot_, int64_t num_scales, int64_t num_keys,
                               Tensor features) {
  check_decode_gram(phi, slot_, num_scales, num_keys, features);
  const Tensor slot = torch::stable::contiguous(slot_);
  check_slots("georope_decode_gram", slot.const_data_ptr<int64_t>(), phi.size(0), num_keys);
  Tensor gram = torch::stable::new_zeros(phi, {phi.size(0), num_scales, num_keys});
  const auto run = phi.scalar_type() == ScalarType::Double ? append_and_multiply<double> : append_and_multiply<float>;
  run(torch::stable::contiguous(phi), slot.const_data_ptr<int64_t>(), num_scales, features, gram);
  return gram;
}

Tensor georope_decode_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& gram, const Tensor& gain,
                          const Tensor& slot_, Tensor key, Tensor value) {
  check_decode(q, k, v, gram, gain, slot_, key, value);
  const Tensor slot = torch::stable::contiguous(slot_);
  check_slots("georope_decode", slot.const_data_ptr<int64_t>(), q.size(0), gram.size(2));
  const ScalarType wide = compute_type(q.scalar_type());
  const auto as = [](const Tensor& x, ScalarType type) {
    return torch::stable::contiguous(x.scalar_type() == type ? x : torch::stable::to(x, type));
  };
  Tensor out = torch::stable::new_empty(q, {q.size(0), q.size(1), q.size(2)}, wide);
  const auto run = [&](auto kernel) {
    kernel(as(q, wide), as(k, key.scalar_type()), as(v, key.scalar_type()), as(gram, wide), as(gain, wide),
           slot.const_data_ptr<int64_t>(), key, value, out);
  };
  switch (key.scalar_type()) {
    case ScalarType::Float: run(decode<float, float>); break;
    case ScalarType::Double: run(decode<double, double>); break;
    case ScalarType::BFloat16: run(decode<float, bfloat16>); break;
    default: check(false, "georope_decode: expected key and value to be float32, float64 or bfloat16");
  }
  return as(out, q.scalar_type());
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("georope_decode_gram", TORCH_BOX(&georope_decode_gram_cpu));
  m.impl("georope_decode", TORCH_BOX(&georope_decode_cpu));
}

}  // namespace inertial
