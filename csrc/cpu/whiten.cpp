// The equivariant layer norm: vectors x [3, d] of an atom, whitened by the inverse root of their covariance, with its
// first two derivatives. Each is one pass over the atoms; 3x3 matrices are float64 and in the eigenbasis, where the
// derivatives of C^(-1/2) divide by sums of the eigenvalues' roots, never by differences.
#include "../check.h"
#include "bfloat16.h"
#include "capability.h"
#include "eigen3.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

namespace inertial {
namespace {

constexpr int64_t kAtoms = 64;  // whose gradients of the weight are summed before those of others

struct Matrix {
  double m[3][3];

  Matrix symmetric() const {
    Matrix out;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) out.m[i][j] = 0.5 * (m[i][j] + m[j][i]);
    return out;
  }

  void times(const double* x, double* out) const {
    for (int i = 0; i < 3; ++i) out[i] = m[i][0] * x[0] + m[i][1] * x[1] + m[i][2] * x[2];
  }
};

Matrix operator+(const Matrix& a, const Matrix& b) {
  Matrix out;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) out.m[i][j] = a.m[i][j] + b.m[i][j];
  return out;
}

// Of a covariance: inverse roots u of the eigenvalues, and eigenvectors, the columns of v.
struct Spectrum {
  double u[3], v[3][3];

  static Spectrum read(const double* from) {
    Spectrum out;
    std::copy_n(from, 3, out.u);
    std::copy_n(from + 3, 9, &out.v[0][0]);
    return out;
  }

  void write(double* to) const {
    std::copy_n(u, 3, to);
    std::copy_n(&v[0][0], 9, to + 3);
  }

  // v^T x v and v x v^T.
  Matrix turned(const Matrix& x) const {
    double xv[3][3];
    Matrix out;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) xv[i][j] = x.m[i][0] * v[0][j] + x.m[i][1] * v[1][j] + x.m[i][2] * v[2][j];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) out.m[i][j] = v[0][i] * xv[0][j] + v[1][i] * xv[1][j] + v[2][i] * xv[2][j];
    return out;
  }

  Matrix back(const Matrix& x) const {
    double vx[3][3];
    Matrix out;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) vx[i][j] = v[i][0] * x.m[0][j] + v[i][1] * x.m[1][j] + v[i][2] * x.m[2][j];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) out.m[i][j] = vx[i][0] * v[j][0] + vx[i][1] * v[j][1] + vx[i][2] * v[j][2];
    return out;
  }

  Matrix root() const { return back({{{u[0], 0, 0}, {0, u[1], 0}, {0, 0, u[2]}}}); }

  // The derivative of the root along x, and the second one along x and y, in the eigenbasis: divided differences of
  // 1 / sqrt, f[i, j] = -1 / (s_i s_j (s_i + s_j)) and
  // f[i, k, j] = (s_i + s_j + s_k) / (s_i s_j s_k (s_i + s_j) (s_j + s_k) (s_k + s_i)) with s = 1 / u.
  Matrix first(const Matrix& x) const {
    Matrix out;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) out.m[i][j] = -x.m[i][j] * u[i] * u[i] * u[j] * u[j] / (u[i] + u[j]);
    return out;
  }

  Matrix second(const Matrix& x, const Matrix& y) const {
    Matrix out = {};
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j)
        for (int k = 0; k < 3; ++k) {
          const double a = 1 / u[i], b = 1 / u[j], c = 1 / u[k];
          const double factor = u[i] * u[j] * u[k] * (a + b + c) / ((a + b) * (b + c) * (c + a));
          out.m[i][j] += factor * (x.m[i][k] * y.m[k][j] + y.m[i][k] * x.m[k][j]);
        }
    return out;
  }
};

struct Whitening {
  double eps_rel, eps_abs;
  bool center;

  Matrix regular(Matrix x) const {  // its own transpose, too
    const double add = eps_rel / 3 * (x.m[0][0] + x.m[1][1] + x.m[2][2]);
    for (int i = 0; i < 3; ++i) x.m[i][i] += add;
    return x;
  }

  // The spectrum of a regularised covariance from x x^T.
  Spectrum spectrum(Matrix c, int64_t d) const {
    for (auto& row : c.m)
      for (double& entry : row) entry /= double(d);
    c = regular(c);
    for (int i = 0; i < 3; ++i) c.m[i][i] += eps_abs;
    const Eigen e = eigen(&c.m[0][0]);
    Spectrum out;
    for (int i = 0; i < 3; ++i) out.u[i] = 1 / std::sqrt(e.value[i]);
    std::copy_n(&e.vector[0][0], 9, &out.v[0][0]);
    return out;
  }

  // The change of the regularised covariance from the symmetric part of x v^T, and, transposed, what to multiply the
  // features by for their gradient, from the gradient in the covariance.
  Matrix to_covariance(Matrix x, int64_t d) const {
    for (auto& row : x.m)
      for (double& entry : row) entry *= 2.0 / double(d);
    return regular(x);
  }

  Matrix to_features(const Matrix& x, int64_t d) const { return to_covariance(x, d); }
};

#define INERTIAL_KERNEL "whiten_kernel.h"
#include "simd_levels.h"

void check_whiten(const char* op, const Tensor& x, const Tensor& weight) {
  check(x.dim() == 3 && x.size(1) == 3 && x.size(2) > 0 && is_wide(x), op,
        ": expected x [N, 3, d] of float32 or float64 (got ", shape(x), " of ", name(x.scalar_type()), ")");
  check_vector(op, "weight", weight, x.scalar_type(), "[d]");
  check(weight.size(0) == x.size(2), op, ": expected weight [", x.size(2), "] (got ", shape(weight), ")");
}

void check_eigen(const char* op, const Tensor& x, const Tensor& eigen) {
  check_floats(op, "eigen", eigen, {x.size(0), 12}, ScalarType::Double);
}

template <typename scalar>
void forward(const Whitening& w, const Tensor& x, const Tensor& weight, Tensor& out, Tensor& eigen) {
  const scalar *in = x.const_data_ptr<scalar>(), *factor = weight.const_data_ptr<scalar>();
  scalar* to = out.mutable_data_ptr<scalar>();
  double* spectra = eigen.mutable_data_ptr<double>();
  const int64_t d = x.size(2);
  torch::stable::parallel_for(0, x.size(0), kAtoms, [&](int64_t n, int64_t end) {
    std::vector<scalar> scratch(3 * (d + 16));
    for (; n < end; ++n)
      INERTIAL_AT_LEVEL(whiten(w, in + 3 * d * n, factor, d, scratch.data(), to + 3 * d * n, spectra + 12 * n));
  });
}

// Runs "atom"(n, scratch, dweight) for all atoms and sums dweight in an order that threads do not change.
template <typename scalar, typename Atom>
void over_atoms(int64_t count, int64_t d, int64_t rows, Tensor& dweight, const Atom& atom) {
  const int64_t runs = (count + kAtoms - 1) / kAtoms, step = d + 16;
  std::vector<scalar> sums(runs * step, scalar(0));
  torch::stable::parallel_for(0, runs, 1, [&](int64_t run, int64_t end) {
    std::vector<scalar> scratch(rows * step);
    for (; run < end; ++run)
      for (int64_t n = run * kAtoms; n < std::min(count, (run + 1) * kAtoms); ++n)
        atom(n, scratch.data(), sums.data() + run * step);
  });
  scalar* out = dweight.mutable_data_ptr<scalar>();
  std::fill_n(out, d, scalar(0));
  for (int64_t run = 0; run < runs; ++run)
    for (int64_t c = 0; c < d; ++c) out[c] += sums[run * step + c];
}

template <typename scalar>
void backward(const Whitening& w, const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& eigen,
              Tensor& dx, Tensor& dweight) {
  const scalar *g = grad.const_data_ptr<scalar>(), *in = x.const_data_ptr<scalar>();
  const scalar* factor = weight.const_data_ptr<scalar>();
  const double* spectra = eigen.const_data_ptr<double>();
  scalar* to = dx.mutable_data_ptr<scalar>();
  const int64_t d = x.size(2), size = 3 * d;
  over_atoms<scalar>(x.size(0), d, 6, dweight, [&](int64_t n, scalar* scratch, scalar* sum) {
    INERTIAL_AT_LEVEL(whiten_backward(w, g + size * n, in + size * n, factor, spectra + 12 * n, d, scratch,
                                      to + size * n, sum));
  });
}

template <typename scalar>
void backward_backward(const Whitening& w, const Tensor& ddx, const Tensor& ddweight, const Tensor& grad,
                       const Tensor& x, const Tensor& weight, const Tensor& eigen, Tensor& dgrad, Tensor& dx,
                       Tensor& dweight) {
  const scalar *change = ddx.const_data_ptr<scalar>(), *other = ddweight.const_data_ptr<scalar>();
  const scalar *g = grad.const_data_ptr<scalar>(), *in = x.const_data_ptr<scalar>();
  const scalar* factor = weight.const_data_ptr<scalar>();
  const double* spectra = eigen.const_data_ptr<double>();
  scalar *to_grad = dgrad.mutable_data_ptr<scalar>(), *to = dx.mutable_data_ptr<scalar>();
  const int64_t d = x.size(2), size = 3 * d;
  over_atoms<scalar>(x.size(0), d, 12, dweight, [&](int64_t n, scalar* scratch, scalar* sum) {
    INERTIAL_AT_LEVEL(whiten_backward_backward(w, change + size * n, other, g + size * n, in + size * n, factor,
                                               spectra + 12 * n, d, scratch, to_grad + size * n, to + size * n, sum));
  });
}

std::tuple<Tensor, Tensor> whiten_cpu(const Tensor& x_, const Tensor& weight_, double eps_rel, double eps_abs,
                                      bool center) {
  check_whiten("whiten", x_, weight_);
  const Tensor x = torch::stable::contiguous(x_), weight = torch::stable::contiguous(weight_);
  Tensor out = torch::stable::empty_like(x);
  Tensor eigen = torch::stable::new_empty(x, {x.size(0), 12}, ScalarType::Double);
  const auto run = x.scalar_type() == ScalarType::Double ? forward<double> : forward<float>;
  run({eps_rel, eps_abs, center}, x, weight, out, eigen);
  return {out, eigen};
}

std::tuple<Tensor, Tensor> whiten_backward_cpu(const Tensor& grad_, const Tensor& x_, const Tensor& weight_,
                                               const Tensor& eigen_, double eps_rel, double eps_abs,
                                               bool center) {
  check_whiten("whiten_backward", x_, weight_);
  check_floats("whiten_backward", "grad", grad_, {x_.size(0), 3, x_.size(2)}, x_.scalar_type());
  check_eigen("whiten_backward", x_, eigen_);
  const Tensor grad = torch::stable::contiguous(grad_), x = torch::stable::contiguous(x_);
  const Tensor weight = torch::stable::contiguous(weight_), eigen = torch::stable::contiguous(eigen_);
  Tensor dx = torch::stable::empty_like(x), dweight = torch::stable::empty_like(weight);
  const auto run = x.scalar_type() == ScalarType::Double ? backward<double> : backward<float>;
  run({eps_rel, eps_abs, center}, grad, x, weight, eigen, dx, dweight);
  return {dx, dweight};
}

std::tuple<Tensor, Tensor, Tensor> whiten_backward_backward_cpu(const Tensor& ddx_, const Tensor& ddweight_,
                                                                const Tensor& grad_, const Tensor& x_,
                                                                const Tensor& weight_, const Tensor& eigen_,
                                                                double eps_rel, double eps_abs, bool center) {
  const char* op = "whiten_backward_backward";
  check_whiten(op, x_, weight_);
  check_floats(op, "ddx", ddx_, {x_.size(0), 3, x_.size(2)}, x_.scalar_type());
  check_floats(op, "ddweight", ddweight_, {x_.size(2)}, x_.scalar_type());
  check_floats(op, "grad", grad_, {x_.size(0), 3, x_.size(2)}, x_.scalar_type());
  check_eigen(op, x_, eigen_);
  const Tensor ddx = torch::stable::contiguous(ddx_), ddweight = torch::stable::contiguous(ddweight_);
  const Tensor grad = torch::stable::contiguous(grad_), x = torch::stable::contiguous(x_);
  const Tensor weight = torch::stable::contiguous(weight_), eigen = torch::stable::contiguous(eigen_);
  Tensor dgrad = torch::stable::empty_like(x), dx = torch::stable::empty_like(x);
  Tensor dweight = torch::stable::empty_like(weight);
  const auto run = x.scalar_type() == ScalarType::Double ? backward_backward<double> : backward_backward<float>;
  run({eps_rel, eps_abs, center}, ddx, ddweight, grad, x, weight, eigen, dgrad, dx, dweight);
  return {dgrad, dx, dweight};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("whiten", TORCH_BOX(&whiten_cpu));
  m.impl("whiten_backward", TORCH_BOX(&whiten_backward_cpu));
  m.impl("whiten_backward_backward", TORCH_BOX(&whiten_backward_backward_cpu));
}

}  // namespace inertial
