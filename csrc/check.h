// Argument checks, shared by the CPU and the CUDA kernels. A failed check becomes a RuntimeError in Python.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace inertial {

using torch::stable::Tensor;
using torch::headeronly::ScalarType;

template <typename... Parts>
void check(bool holds, const Parts&... message) {
  if (holds) return;
  std::ostringstream text;
  (text << ... << message);
  throw std::runtime_error(text.str());
}

inline std::string shape(const Tensor& x) {
  std::ostringstream text;
  text << '[';
  for (int64_t d = 0; d < x.dim(); ++d) text << (d ? ", " : "") << x.size(d);
  text << ']';
  return text.str();
}

// "src" [T, ...] in segments "ptr" [B + 1]. The offsets themselves are checked where they can be read.
inline void check_segments(const char* op, const Tensor& src, const Tensor& ptr) {
  check(src.dim() >= 1, op, ": expected src [T, ...] (got a scalar)");
  check(ptr.dim() == 1 && ptr.size(0) >= 1 && ptr.scalar_type() == ScalarType::Long, op,
        ": expected ptr to be int64 offsets [B + 1] (got ", shape(ptr), ")");
}

inline void check_offsets(const char* op, const int64_t* ptr, int64_t num_segments, int64_t num_rows) {
  check(ptr[0] == 0, op, ": expected ptr to begin with 0 (got ", ptr[0], ")");
  check(ptr[num_segments] == num_rows, op, ": expected ptr to end with the ", num_rows, " rows of src (got ",
        ptr[num_segments], ")");
  for (int64_t b = 0; b < num_segments; ++b)
    check(ptr[b] <= ptr[b + 1], op, ": expected ptr not to decrease (got ", ptr[b], " before ", ptr[b + 1], ")");
}

inline const char* name(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Half: return "float16";
    case ScalarType::Long: return "int64";
    default: return "another type";
  }
}

// The type that an op computes in, and that positions, features, gains and frequencies have: never below float32.
inline ScalarType compute_type(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

inline void check_vector(const char* op, const char* argument, const Tensor& x, ScalarType type, const char* size) {
  check(x.dim() == 1 && x.scalar_type() == type, op, ": expected ", argument, " ", size, " of ", name(type), " (got ",
        shape(x), " of ", name(x.scalar_type()), ")");
}

inline void check_floats(const char* op, const char* argument, const Tensor& x, std::vector<int64_t> sizes,
                         ScalarType type) {
  bool same = x.dim() == int64_t(sizes.size()) && x.scalar_type() == type;
  std::ostringstream wanted;
  for (size_t d = 0; d < sizes.size(); ++d) {
    same = same && (sizes[d] < 0 || x.size(d) == sizes[d]);
    wanted << (d ? ", " : "");
    sizes[d] < 0 ? wanted << '*' : wanted << sizes[d];
  }
  check(same, op, ": expected ", argument, " [", wanted.str(), "] of ", name(type), " (got ", shape(x), " of ",
        name(x.scalar_type()), ")");
}

// Shapes and types of the attention's arguments; what offsets hold is checked where they can be read.
inline void check_georope(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& pos,
                          const std::optional<Tensor>& phi, const Tensor& gain, const Tensor& scale_ptr,
                          const Tensor& freqs, const Tensor& ptr, const std::optional<Tensor>& gram) {
  check(q.dim() == 3 && q.size(2) > 0 && q.size(2) % 2 == 0, op, ": expected q [T, H, D] with an even D > 0 (got ",
        shape(q), ")");
  const int64_t tokens = q.size(0), heads = q.size(1), size = q.size(2);
  const ScalarType type = q.scalar_type(), compute = compute_type(type);
  check(type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 ||
            (type == ScalarType::Half && q.is_cuda()),
        op, ": expected q to be float32, float64, bfloat16 or, on CUDA, float16 (got ", name(type), ")");
  check_floats(op, "k", k, {tokens, heads, size}, type);
  check_floats(op, "v", v, {tokens, heads, size}, type);
  check_floats(op, "pos", pos, {tokens, 3}, compute);
  check_floats(op, "gain", gain, {heads, -1}, compute);
  check_vector(op, "scale_ptr", scale_ptr, ScalarType::Long, "[S + 1]");
  check(scale_ptr.size(0) == gain.size(1) + 1, op, ": expected scale_ptr [S + 1] for gain [H, S] (got ",
        shape(scale_ptr), " and ", shape(gain), ")");
  check_vector(op, "freqs", freqs, compute, "[K]");
  check(6 * freqs.size(0) <= size, op, ": expected at most D / 6 = ", size / 6, " freqs (got ", freqs.size(0), ")");
  check_segments(op, q, ptr);
  check(!(phi.has_value() && gram.has_value()), op, ": expected phi or gram (got both)");
  check(phi.has_value() || gram.has_value() || gain.size(1) == 0, op, ": expected phi or gram for gain ", shape(gain),
        " (got neither)");
  if (phi.has_value()) check_floats(op, "phi", *phi, {tokens, -1}, compute);
  if (gram.has_value()) check_floats(op, "gram", *gram, {tokens, gain.size(1), -1}, compute);
}

// Offsets of the scales in the features of a token.
inline void check_scales(const char* op, const int64_t* scale_ptr, int64_t num_scales, int64_t num_features) {
  check(scale_ptr[0] == 0 && scale_ptr[num_scales] == num_features, op, ": expected scale_ptr from 0 to M = ",
        num_features, " (got ", scale_ptr[0], " to ", scale_ptr[num_scales], ")");
  for (int64_t s = 0; s < num_scales; ++s)
    check(scale_ptr[s] <= scale_ptr[s + 1], op, ": expected scale_ptr not to decrease (got ", scale_ptr[s], " before ",
          scale_ptr[s + 1], ")");
}

}  // namespace inertial
