// Sums over the rows of each segment: a thread owns a column of a segment and adds in order.
#pragma once

#include <cstdint>

namespace inertial {

template <typename scalar>
__global__ void __launch_bounds__(128) sum_segments(const scalar* src, const int64_t* ptr, scalar* out,
                                                    int64_t num_segments, int64_t num_rows, int64_t width) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= num_segments * width) return;
  const int64_t segment = index / width, column = index % width;
  const int64_t begin = ptr[segment] > 0 ? ptr[segment] : 0, last = ptr[segment + 1];
  const int64_t end = last < num_rows ? last : num_rows;
  scalar sum = 0;
#pragma unroll 4
  for (int64_t row = begin; row < end; ++row) sum += src[row * width + column];
  out[index] = sum;
}

}  // namespace inertial
