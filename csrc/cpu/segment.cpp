// Sums over the rows of each segment. One thread owns a segment and adds its rows in order, so the result does not
// depend on the number of threads.
#include "../check.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <type_traits>
#include <vector>

namespace inertial {
namespace {

constexpr int64_t kGrain = 16384;  // additions that are worth a thread

// "W" neighboring columns, summed in registers.
template <int W, typename scalar>
void sum_columns(const scalar* in, int64_t rows, int64_t stride, scalar* out) {
  scalar sum[W] = {};
  for (int64_t row = 0; row < rows; ++row)
    for (int c = 0; c < W; ++c) sum[c] += in[row * stride + c];
  std::copy_n(sum, W, out);
}

template <typename scalar>
void sum_segment(const scalar* in, int64_t rows, int64_t width, scalar* out) {
  int64_t c = 0;
  for (; c + 32 <= width; c += 32) sum_columns<32>(in + c, rows, width, out + c);
  const auto rest = [&](auto columns) {
    constexpr int W = decltype(columns)::value;
    if ((width & W) == 0) return;
    sum_columns<W>(in + c, rows, width, out + c);
    c += W;
  };
  rest(std::integral_constant<int, 16>{});
  rest(std::integral_constant<int, 8>{});
  rest(std::integral_constant<int, 4>{});
  rest(std::integral_constant<int, 2>{});
  rest(std::integral_constant<int, 1>{});
}

template <typename scalar>
void sum_rows(const Tensor& src, const int64_t* ptr, int64_t num_segments, int64_t width, Tensor& out) {
  const scalar* in = src.const_data_ptr<scalar>();
  scalar* sums = out.mutable_data_ptr<scalar>();
  const int64_t per_segment = std::max<int64_t>(1, ptr[num_segments] * width / std::max<int64_t>(1, num_segments));
  torch::stable::parallel_for(0, num_segments, std::max<int64_t>(1, kGrain / per_segment), [&](int64_t b, int64_t end) {
    for (; b < end; ++b) sum_segment(in + ptr[b] * width, ptr[b + 1] - ptr[b], width, sums + b * width);
  });
}

Tensor segment_sum_cpu(const Tensor& src_, const Tensor& ptr_) {
  check_segments("segment_sum", src_, ptr_);
  const Tensor src = torch::stable::contiguous(src_), ptr = torch::stable::contiguous(ptr_);
  const int64_t num_segments = ptr.size(0) - 1;
  const int64_t* offsets = ptr.const_data_ptr<int64_t>();
  check_offsets("segment_sum", offsets, num_segments, src.size(0));

  std::vector<int64_t> shape{num_segments};
  int64_t width = 1;
  for (int64_t d = 1; d < src.dim(); ++d) {
    shape.push_back(src.size(d));
    width *= src.size(d);
  }
  Tensor out = torch::stable::new_empty(src, shape);
  switch (src.scalar_type()) {
    case ScalarType::Float: sum_rows<float>(src, offsets, num_segments, width, out); break;
    case ScalarType::Double: sum_rows<double>(src, offsets, num_segments, width, out); break;
    case ScalarType::Long: sum_rows<int64_t>(src, offsets, num_segments, width, out); break;
    default: check(false, "segment_sum: expected src to be float32, float64 or int64");
  }
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) { m.impl("segment_sum", TORCH_BOX(&segment_sum_cpu)); }

}  // namespace inertial
