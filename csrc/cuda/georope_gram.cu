// The products of Nystroem features that layers share, on CUDA.
#include "georope_gram.cuh"
#include "georope_launch.cuh"

namespace inertial {
namespace {

// The geometry that the two kernels read.
struct Products {
  Tensor phi, scale_ptr, ptr;
  Geometry geo{};

  Products(const char* op, const Tensor& phi_, const Tensor& scale_ptr_, const Tensor& ptr_, int64_t max_length)
      : phi(aligned(phi_)), scale_ptr(aligned(scale_ptr_)), ptr(aligned(ptr_)) {
    geo.phi = data<float>(phi);
    geo.scale_ptr = data<int64_t>(scale_ptr);
    geo.ptr = data<int64_t>(ptr);
    geo.num_tokens = phi.size(0);
    geo.num_sequences = ptr.size(0) - 1;
    geo.num_features = static_cast<int>(phi.size(1));
    geo.num_scales = static_cast<int>(scale_ptr.size(0) - 1);
    geo.max_length = static_cast<int>(max_length);
  }
};

void check_gram(const char* op, const Tensor& phi, const Tensor& scale_ptr, const Tensor& ptr) {
  check_floats(op, "phi", phi, {-1, -1}, ScalarType::Float);
  check_vector(op, "scale_ptr", scale_ptr, ScalarType::Long, "[S + 1]");
  check(scale_ptr.size(0) >= 1, op, ": expected scale_ptr [S + 1] (got [0])");
  check_segments(op, phi, ptr);
  check_device(op, phi, {&scale_ptr, &ptr});
}

Tensor georope_gram_cuda(const Tensor& phi, const Tensor& scale_ptr, const Tensor& ptr, int64_t max_length) {
  const char* op = "georope_gram";
  check_gram(op, phi, scale_ptr, ptr);
  check(max_length >= 0, op, ": expected max_length >= 0 (got ", max_length, ")");
  const DeviceGuard guard(phi.get_device_index());
  const Products products(op, phi, scale_ptr, ptr, max_length);
  Tensor gram = torch::stable::new_empty(phi, {phi.size(0), products.geo.num_scales, max_length});
  if (gram.numel() > 0 && products.geo.num_sequences > 0)
    launch(op, georope_gram, dim3(blocks(num_tiles(products.geo), 1)), 256, gram_shared_bytes(products.geo.num_scales),
           current_stream(phi), mutable_data<float>(gram), products.geo);
  return gram;
}

Tensor georope_gram_backward_cuda(const Tensor& grad_, const Tensor& phi, const Tensor& scale_ptr, const Tensor& ptr) {
  const char* op = "georope_gram_backward";
  check_gram(op, phi, scale_ptr, ptr);
  check_floats(op, "grad_gram", grad_, {phi.size(0), scale_ptr.size(0) - 1, -1}, ScalarType::Float);
  check_device(op, phi, {&grad_});
  const DeviceGuard guard(phi.get_device_index());
  const Tensor grad = aligned(grad_);
  const Products products(op, phi, scale_ptr, ptr, grad.size(2));
  Tensor dphi = torch::stable::new_empty(phi, {phi.size(0), phi.size(1)});
  if (dphi.numel() > 0 && products.geo.num_sequences > 0)
    launch(op, georope_gram_backward, dim3(blocks(num_tiles(products.geo), 1)), 256,
           gram_shared_bytes(products.geo.num_scales), current_stream(phi), data<float>(grad),
           mutable_data<float>(dphi), products.geo);
  return dphi;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CUDA, m) {
  m.impl("georope_gram", TORCH_BOX(&georope_gram_cuda));
  m.impl("georope_gram_backward", TORCH_BOX(&georope_gram_backward_cuda));
}

}  // namespace inertial
