// Functions of symmetric 3x3 matrices, one matrix after the other: C^(-1/2), and X with A X + X A = Q. Both work in
// float64 on eigenvectors from cyclic Jacobi sweeps, which lose no accuracy where eigenvalues meet.
#include "../check.h"
#include "eigen3.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>

namespace inertial {
namespace {

constexpr int64_t kMatrices = 256;  // that are worth a thread

// out = V m V^T for symmetric m.
template <typename scalar>
void write_rotated(const double v[3][3], const double m[3][3], scalar* out) {
  double vm[3][3];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) vm[i][j] = v[i][0] * m[0][j] + v[i][1] * m[1][j] + v[i][2] * m[2][j];
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j <= i; ++j)
      out[3 * i + j] = out[3 * j + i] = scalar(vm[i][0] * v[j][0] + vm[i][1] * v[j][1] + vm[i][2] * v[j][2]);
}

void check_matrices(const char* op, const char* name, const Tensor& x) {
  check(x.dim() == 3 && x.size(1) == 3 && x.size(2) == 3, op, ": expected ", name, " [N, 3, 3] (got ", shape(x), ")");
  check(x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double, op, ": expected ", name,
        " to be float32 or float64");
}

template <typename scalar>
void inverse_roots(const Tensor& c, Tensor& out) {
  const scalar* in = c.const_data_ptr<scalar>();
  scalar* root = out.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, c.size(0), kMatrices, [&](int64_t n, int64_t end) {
    for (; n < end; ++n) {
      const Eigen e = eigen(in + 9 * n);
      double m[3][3] = {};
      for (int i = 0; i < 3; ++i) m[i][i] = 1 / std::sqrt(e.value[i]);
      write_rotated(e.vector, m, root + 9 * n);
    }
  });
}

Tensor inverse_root_cpu(const Tensor& c_) {
  check_matrices("inverse_root", "c", c_);
  const Tensor c = torch::stable::contiguous(c_);
  Tensor out = torch::stable::empty_like(c);
  if (c.scalar_type() == ScalarType::Float) inverse_roots<float>(c, out);
  else inverse_roots<double>(c, out);
  return out;
}

template <typename scalar>
void sylvester_solutions(const Tensor& a, const Tensor& q, Tensor& out) {
  const scalar *lhs = a.const_data_ptr<scalar>(), *rhs = q.const_data_ptr<scalar>();
  scalar* x = out.mutable_data_ptr<scalar>();
  torch::stable::parallel_for(0, a.size(0), kMatrices, [&](int64_t n, int64_t end) {
    for (; n < end; ++n) {
      const Eigen e = eigen(lhs + 9 * n);
      double s[3][3], sv[3][3], m[3][3];
      read_symmetric(rhs + 9 * n, s);
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
          sv[i][j] = s[i][0] * e.vector[0][j] + s[i][1] * e.vector[1][j] + s[i][2] * e.vector[2][j];
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
          m[i][j] = (e.vector[0][i] * sv[0][j] + e.vector[1][i] * sv[1][j] + e.vector[2][i] * sv[2][j]) /
                    (e.value[i] + e.value[j]);
      write_rotated(e.vector, m, x + 9 * n);
    }
  });
}

Tensor sylvester_cpu(const Tensor& a_, const Tensor& q_) {
  check_matrices("sylvester", "a", a_);
  check_matrices("sylvester", "q", q_);
  check(a_.size(0) == q_.size(0) && a_.scalar_type() == q_.scalar_type(), "sylvester: expected a and q of one type and ",
        "as many matrices in both (got ", shape(a_), " and ", shape(q_), ")");
  const Tensor a = torch::stable::contiguous(a_), q = torch::stable::contiguous(q_);
  Tensor out = torch::stable::empty_like(a);
  if (a.scalar_type() == ScalarType::Float) sylvester_solutions<float>(a, q, out);
  else sylvester_solutions<double>(a, q, out);
  return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("inverse_root", TORCH_BOX(&inverse_root_cpu));
  m.impl("sylvester", TORCH_BOX(&sylvester_cpu));
}

}  // namespace inertial
