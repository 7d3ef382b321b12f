// Argument checks, shared by the CPU and the CUDA kernels. A failed check becomes a RuntimeError in Python.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
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

inline bool is_wide(const Tensor& x) {
  return x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double;
}

inline bool has_shape(const Tensor& x, std::initializer_list<int64_t> sizes) {
  if (x.dim() != static_cast<int64_t>(sizes.size())) return false;
  int64_t d = 0;
  for (const int64_t size : sizes)
    if (x.size(d++) != size) return false;
  return true;
}

// "x" [T, H, D] turned by "phase" [T, D / 2].
inline void check_rope_rotate(const Tensor& x, const Tensor& phase) {
  check(x.dim() == 3 && x.size(2) % 2 == 0, "rope_rotate: expected x [T, H, D] with D even (got ", shape(x), ")");
  check(has_shape(phase, {x.size(0), x.size(2) / 2}), "rope_rotate: expected phase [", x.size(0), ", ", x.size(2) / 2,
        "] for x ", shape(x), " (got ", shape(phase), ")");
  check(is_wide(phase), "rope_rotate: expected phase to be float32 or float64");
}

inline void check_rope_rotate_phase(const Tensor& grad, const Tensor& out) {
  check(grad.dim() == 3 && grad.size(2) % 2 == 0 && has_shape(out, {grad.size(0), grad.size(1), grad.size(2)}) &&
            grad.scalar_type() == out.scalar_type(),
        "rope_rotate_phase: expected grad and out [T, H, D] of one type with D even (got ", shape(grad), " and ",
        shape(out), ")");
}

// "pos" [T, 3], "landmarks" [m, 3], "whitening" [S, m, m], S widths.
inline void check_nystrom(const char* op, const Tensor& pos, const Tensor& landmarks, const Tensor& whitening,
                          const std::vector<double>& width) {
  check(pos.dim() == 2 && pos.size(1) == 3 && is_wide(pos), op,
        ": expected pos [T, 3] in float32 or float64 (got ", shape(pos), ")");
  check(landmarks.dim() == 2 && landmarks.size(1) == 3, op, ": expected landmarks [m, 3] (got ", shape(landmarks), ")");
  const int64_t m = landmarks.size(0), num_scales = static_cast<int64_t>(width.size());
  check(has_shape(whitening, {num_scales, m, m}), op, ": expected whitening [", num_scales, ", ", m, ", ", m,
        "] (got ", shape(whitening), ")");
  check(landmarks.scalar_type() == pos.scalar_type() && whitening.scalar_type() == pos.scalar_type(), op,
        ": expected landmarks and whitening of the type of pos");
  for (const double w : width) check(w > 0, op, ": expected positive widths (got ", w, ")");
}

inline void check_nystrom_grad(const Tensor& grad, const Tensor& pos, const Tensor& whitening) {
  const int64_t size = whitening.size(0) * whitening.size(1);
  check(has_shape(grad, {pos.size(0), size}) && grad.scalar_type() == pos.scalar_type(),
        "nystrom_features_pos: expected grad [", pos.size(0), ", ", size, "] of the type of pos (got ", shape(grad), ")");
}

// A cache [R, L, ...] that is written in place: slots of any stride, each of them contiguous, and no two in the same
// memory, as in an expanded tensor, where rows would overwrite each other.
inline void check_cache(const char* op, const char* name, const Tensor& cache) {
  for (int64_t d = 0; d < 2; ++d)
    check(cache.size(d) <= 1 || cache.stride(d) != 0 || cache.numel() == 0, op, ": expected ", name,
          " with memory of its own for each row and slot (got an expanded tensor ", shape(cache), ")");
  int64_t step = 1;
  for (int64_t d = cache.dim() - 1; d >= 2; --d) {
    check(cache.size(d) <= 1 || cache.stride(d) == step, op, ": expected the slots of ", name, " to be contiguous");
    step *= cache.size(d);
  }
}

// New features "phi" [R, S * m] for slot "slot" [R] of the cache "features" [R, L, S * m].
inline void check_decode_gram(const Tensor& phi, const Tensor& slot, int64_t num_scales, int64_t num_keys,
                              const Tensor& features) {
  const char* op = "georope_decode_gram";
  check(phi.dim() == 2 && is_wide(phi), op, ": expected phi [R, F] in float32 or float64 (got ", shape(phi), ")");
  check(num_scales >= 1 && phi.size(1) % num_scales == 0, op, ": expected num_scales to divide the ", phi.size(1),
        " features (got ", num_scales, ")");
  check(features.dim() == 3 && features.size(0) == phi.size(0) && features.size(2) == phi.size(1) &&
            features.scalar_type() == phi.scalar_type(),
        op, ": expected features [", phi.size(0), ", L, ", phi.size(1), "] of the type of phi (got ", shape(features),
        ")");
  check(0 <= num_keys && num_keys <= features.size(1), op, ": expected num_keys from 0 to ", features.size(1),
        " (got ", num_keys, ")");
  check(has_shape(slot, {phi.size(0)}) && slot.scalar_type() == ScalarType::Long, op, ": expected slot to be int64 [",
        phi.size(0), "] (got ", shape(slot), ")");
  check_cache(op, "features", features);
}

// One query a row, "q", "k", "v" [R, H, D], "gram" [R, S, N], "gain" [H, S], caches "key" and "value" [R, L, H, D].
inline void check_decode(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& gram, const Tensor& gain,
                         const Tensor& slot, const Tensor& key, const Tensor& value) {
  const char* op = "georope_decode";
  check(q.dim() == 3, op, ": expected q [R, H, D] (got ", shape(q), ")");
  const int64_t rows = q.size(0), heads = q.size(1), size = q.size(2);
  for (const Tensor* x : {&k, &v})
    check(has_shape(*x, {rows, heads, size}) && x->scalar_type() == q.scalar_type(), op,
          ": expected k and v of the shape and type of q, ", shape(q), " (got ", shape(*x), ")");
  for (const Tensor* x : {&key, &value})
    check(x->dim() == 4 && x->size(0) == rows && x->size(2) == heads && x->size(3) == size &&
              x->size(1) == key.size(1) && x->scalar_type() == key.scalar_type(),
          op, ": expected key and value of one type, [", rows, ", L, ", heads, ", ", size, "] (got ", shape(*x), ")");
  check((key.scalar_type() == ScalarType::Double) == (q.scalar_type() == ScalarType::Double), op,
        ": expected a cache of float64 for q of float64, and for no other");
  check(gram.dim() == 3 && gram.size(0) == rows && gram.size(2) <= key.size(1), op, ": expected gram [", rows,
        ", S, N <= ", key.size(1), "] (got ", shape(gram), ")");
  check(has_shape(gain, {heads, gram.size(1)}), op, ": expected gain [", heads, ", ", gram.size(1), "] (got ",
        shape(gain), ")");
  check(gram.scalar_type() == compute_type(q.scalar_type()) && gain.scalar_type() == compute_type(q.scalar_type()), op,
        ": expected gram and gain in float32, or in float64 for q of float64");
  check(has_shape(slot, {rows}) && slot.scalar_type() == ScalarType::Long, op, ": expected slot to be int64 [", rows,
        "] (got ", shape(slot), ")");
  check_cache(op, "key", key);
  check_cache(op, "value", value);
}

inline void check_slots(const char* op, const int64_t* slot, int64_t num_rows, int64_t num_keys) {
  for (int64_t r = 0; r < num_rows; ++r)
    check(0 <= slot[r] && slot[r] < num_keys, op, ": expected slots from 0 to ", num_keys - 1, " (got ", slot[r], ")");
}

}  // namespace inertial
