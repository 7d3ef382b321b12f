// Argument checks, shared by the CPU and the CUDA kernels. A failed check becomes a RuntimeError in Python.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <sstream>
#include <stdexcept>
#include <string>

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

}  // namespace inertial
