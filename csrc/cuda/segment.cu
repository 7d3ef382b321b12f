// Sums over the rows of each segment, on CUDA.
#include "launch.cuh"
#include "segment.cuh"

#include <vector>

namespace inertial {
namespace {

template <typename scalar>
void sum_rows(const Tensor& src, const Tensor& ptr, Tensor& out, int64_t width) {
  launch("segment_sum", sum_segments<scalar>, dim3(blocks(out.numel(), 128)), 128, 0, current_stream(src),
         data<scalar>(src), data<int64_t>(ptr), mutable_data<scalar>(out), ptr.size(0) - 1, src.size(0), width);
}

Tensor segment_sum_cuda(const Tensor& src_, const Tensor& ptr_) {
  check_segments("segment_sum", src_, ptr_);
  check_device("segment_sum", src_, {&ptr_});
  const DeviceGuard guard(src_.get_device_index());
  const Tensor src = torch::stable::contiguous(src_), ptr = torch::stable::contiguous(ptr_);
  std::vector<int64_t> shape{ptr.size(0) - 1};
  int64_t width = 1;
  for (int64_t d = 1; d < src.dim(); ++d) {
    shape.push_back(src.size(d));
    width *= src.size(d);
  }
  Tensor out = torch::stable::new_empty(src, shape);
  if (out.numel() == 0) return out;
  switch (src.scalar_type()) {
    case ScalarType::Float: sum_rows<float>(src, ptr, out, width); break;
    case ScalarType::Double: sum_rows<double>(src, ptr, out, width); break;
    case ScalarType::Long: sum_rows<int64_t>(src, ptr, out, width); break;
    default: check(false, "segment_sum: expected src to be float32, float64 or int64");
  }
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) { m.impl("segment_sum", TORCH_BOX(&segment_sum_cuda)); }

}  // namespace inertial
