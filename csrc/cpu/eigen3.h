// Eigenvectors of symmetric 3x3 matrices in float64, from cyclic Jacobi sweeps, which lose no accuracy where eigenvalues
// meet.
#pragma once

#include <cmath>

namespace inertial {

constexpr int kSweeps = 12;  // convergence is quadratic: five do, but NaN must end too

struct Eigen {
  double value[3];
  double vector[3][3];  // columns
};

// Rotates "a" so that its entry (p, q) vanishes; r is the third index.
inline void rotate(double a[3][3], double v[3][3], int p, int q, int r) {
  if (a[p][q] == 0) return;
  const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
  const double t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  a[p][p] -= t * a[p][q];
  a[q][q] += t * a[p][q];
  a[p][q] = a[q][p] = 0;
  const double x = a[r][p], y = a[r][q];
  a[r][p] = a[p][r] = c * x - s * y;
  a[r][q] = a[q][r] = s * x + c * y;
  for (int i = 0; i < 3; ++i) {
    const double left = v[i][p], right = v[i][q];
    v[i][p] = c * left - s * right;
    v[i][q] = s * left + c * right;
  }
}

template <typename scalar>
void read_symmetric(const scalar* in, double out[3][3]) {
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) out[i][j] = 0.5 * (double(in[3 * i + j]) + double(in[3 * j + i]));
}

template <typename scalar>
Eigen eigen(const scalar* in) {
  double a[3][3];
  read_symmetric(in, a);
  Eigen out{{}, {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    const double off = std::abs(a[0][1]) + std::abs(a[0][2]) + std::abs(a[1][2]);
    if (off <= 1e-18 * (std::abs(a[0][0]) + std::abs(a[1][1]) + std::abs(a[2][2]))) break;
    rotate(a, out.vector, 0, 1, 2);
    rotate(a, out.vector, 0, 2, 1);
    rotate(a, out.vector, 1, 2, 0);
  }
  for (int i = 0; i < 3; ++i) out.value[i] = a[i][i];
  return out;
}

}  // namespace inertial
