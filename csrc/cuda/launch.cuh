// From tensors to launches: device, stream, types, alignment, errors. Nothing here waits for the device, so that every
// op can be captured in a CUDA graph.
#pragma once

#include "../check.h"
#include "fragment.cuh"

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>

#include <initializer_list>
#include <optional>
#include <type_traits>

namespace inertial {

using torch::stable::accelerator::DeviceGuard;

inline cudaStream_t current_stream(const Tensor& like) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(like.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

inline void check_device(const char* op, const Tensor& first, std::initializer_list<const Tensor*> others) {
  for (const Tensor* x : others)
    check(x == nullptr || (x->is_cuda() && x->get_device_index() == first.get_device_index()), op,
          ": expected all tensors on device cuda:", first.get_device_index());
}

// kernel<<<grid, threads, shared_bytes>>>(args...) on the current stream of the device that is set.
template <typename... Params, typename... Args>
void launch(const char* op, void (*kernel)(Params...), dim3 grid, int threads, int64_t shared_bytes,
            cudaStream_t stream, const Args&... args) {
  if (shared_bytes > 48 * 1024) {
    int device = 0, limit = 0;
    STD_CUDA_CHECK(cudaGetDevice(&device));
    STD_CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    check(shared_bytes <= limit, op, ": these sizes need ", shared_bytes,
          " bytes of shared memory a block, the device has ", limit);
    STD_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                        cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  kernel<<<grid, threads, shared_bytes, stream>>>(args...);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

inline unsigned blocks(int64_t work, int64_t per_block) {
  return static_cast<unsigned>((work + per_block - 1) / per_block);
}

template <typename scalar> const scalar* data(const Tensor& x) {
  return static_cast<const scalar*>(x.const_data_ptr());
}
template <typename scalar> scalar* mutable_data(const Tensor& x) {
  return static_cast<scalar*>(x.mutable_data_ptr());
}

// Contiguous, and at a multiple of 16 bytes, which a slice need not be.
inline Tensor aligned(const Tensor& x) {
  const Tensor dense = torch::stable::contiguous(x);
  return reinterpret_cast<uintptr_t>(dense.const_data_ptr()) % 16 == 0 ? dense : torch::stable::clone(dense);
}

inline Tensor as_type(const Tensor& x, ScalarType type) {
  return x.scalar_type() == type ? x : torch::stable::to(x, type);
}

inline size_t bytes_of(ScalarType type) {
  return type == ScalarType::Double || type == ScalarType::Long ? 8 : type == ScalarType::Float ? 4 : 2;
}

// run(scalar{}) for the types that tensor cores multiply.
template <typename Run> void for_type(const char* op, ScalarType type, Run run) {
  switch (type) {
    case ScalarType::Float: return run(float{});
    case ScalarType::BFloat16: return run(bf16{});
    case ScalarType::Half: return run(fp16{});
    default: check(false, op, ": expected float32, bfloat16 or float16 on CUDA (got ", name(type), ")");
  }
}

}  // namespace inertial
