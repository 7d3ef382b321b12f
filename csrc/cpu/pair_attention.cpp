// Attention of the atoms of small molecules, packed, with a bias of the scores, and its first two derivatives. A thread
// owns a head of a molecule: what it needs fits the cache, probabilities are made anew in each call, and nothing is
// padded, laid out by heads or kept but the inputs.
#include "../check.h"
#include "bfloat16.h"
#include "capability.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <vector>

namespace inertial {
namespace {

// Features [N, parts, C] with strides of atoms and parts.
template <typename scalar> struct Features {
  const scalar* data;
  int64_t atom, part;
};

struct Shape {
  const int64_t* ptr;
  int64_t molecules, heads, parts, channels, size, longest;
  double scale;
};

template <typename scalar> struct Problem {
  Shape shape;
  Features<scalar> q, k, v;
  const scalar* bias;
};

#define INERTIAL_KERNEL "pair_attention_kernel.h"
#include "simd_levels.h"

Tensor with_whole_channels(const Tensor& x) {
  return x.size(2) <= 1 || x.stride(2) == 1 ? x : torch::stable::contiguous(x);
}

template <typename scalar> Features<scalar> features(const Tensor& x) {
  return {x.const_data_ptr<scalar>(), x.stride(0), x.stride(1)};
}

void check_features(const char* op, const char* argument, const Tensor& x, const Tensor& q) {
  check_floats(op, argument, x, {q.size(0), q.size(1), q.size(2)}, q.scalar_type());
}

Shape check_attention(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                      const Tensor& ptr, double scale, int64_t heads) {
  check(q.dim() == 3 && is_wide(q), op, ": expected q [N, A, C] of float32 or float64 (got ", shape(q), " of ",
        name(q.scalar_type()), ")");
  check_features(op, "k", k, q);
  check_features(op, "v", v, q);
  check(heads >= 1 && q.size(2) % heads == 0, op, ": expected heads to divide the ", q.size(2), " channels (got ",
        heads, ")");
  check_segments(op, q, ptr);
  const int64_t molecules = ptr.size(0) - 1;
  check(bias.dim() == 3 && bias.size(0) == molecules * heads && bias.size(1) == bias.size(2) &&
            bias.scalar_type() == q.scalar_type(),
        op, ": expected bias [", molecules * heads, ", n, n] of the type of q (got ", shape(bias), " of ",
        name(bias.scalar_type()), ")");
  const int64_t* offsets = ptr.const_data_ptr<int64_t>();
  check_offsets(op, offsets, molecules, q.size(0));
  for (int64_t b = 0; b < molecules; ++b)
    check(offsets[b + 1] - offsets[b] <= bias.size(1), op, ": expected molecules of at most ", bias.size(1),
          " atoms, as bias has (got ", offsets[b + 1] - offsets[b], ")");
  return {offsets, molecules, heads, q.size(1), q.size(2), q.size(2) / heads, bias.size(1), scale};
}

// Runs "head"(molecule, head, scratch) for all heads of all molecules.
template <typename scalar, typename Body>
void over_heads(const Shape& s, int64_t rows, int64_t lanes, int64_t squares, const Body& body) {
  const int64_t n = s.longest, np = n + 16, F = s.parts * s.size, Fp = F + 16;
  const int64_t work = std::max<int64_t>(1, n * n * F);
  torch::stable::parallel_for(0, s.molecules * s.heads, std::max<int64_t>(1, (1 << 16) / work), [&](int64_t i, int64_t end) {
    std::vector<scalar> scratch(rows * n * Fp + lanes * F * np + squares * n * np + 2 * np);
    for (; i < end; ++i) body(i / s.heads, i % s.heads, scratch.data());
  });
}

template <typename scalar>
void forward(const Shape& s, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias, Tensor& out) {
  const Problem<scalar> z{s, features<scalar>(q), features<scalar>(k), features<scalar>(v), bias.const_data_ptr<scalar>()};
  scalar* to = out.mutable_data_ptr<scalar>();
  over_heads<scalar>(s, 4, 1, 1, [&](int64_t molecule, int64_t head, scalar* scratch) {
    INERTIAL_AT_LEVEL(attend(z, molecule, head, scratch, to));
  });
}

template <typename scalar>
void backward(const Shape& s, const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
              Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  const Problem<scalar> z{s, features<scalar>(q), features<scalar>(k), features<scalar>(v), bias.const_data_ptr<scalar>()};
  const Features<scalar> g = features<scalar>(grad);
  scalar *to_q = dq.mutable_data_ptr<scalar>(), *to_k = dk.mutable_data_ptr<scalar>();
  scalar *to_v = dv.mutable_data_ptr<scalar>(), *to_bias = dbias.mutable_data_ptr<scalar>();
  over_heads<scalar>(s, 5, 2, 2, [&](int64_t molecule, int64_t head, scalar* scratch) {
    INERTIAL_AT_LEVEL(attend_backward(z, g, molecule, head, scratch, to_q, to_k, to_v, to_bias));
  });
}

template <typename scalar>
void backward_backward(const Shape& s, const Tensor& ddq, const Tensor& ddk, const Tensor& ddv, const Tensor& ddbias,
                       const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                       Tensor& dgrad, Tensor& dq, Tensor& dk, Tensor& dv, Tensor& dbias) {
  const Problem<scalar> z{s, features<scalar>(q), features<scalar>(k), features<scalar>(v), bias.const_data_ptr<scalar>()};
  const Features<scalar> g = features<scalar>(grad), tq = features<scalar>(ddq), tk = features<scalar>(ddk);
  const Features<scalar> tv = features<scalar>(ddv);
  const scalar* tbias = ddbias.const_data_ptr<scalar>();
  scalar *to_grad = dgrad.mutable_data_ptr<scalar>(), *to_q = dq.mutable_data_ptr<scalar>();
  scalar *to_k = dk.mutable_data_ptr<scalar>(), *to_v = dv.mutable_data_ptr<scalar>();
  scalar* to_bias = dbias.mutable_data_ptr<scalar>();
  over_heads<scalar>(s, 8, 3, 6, [&](int64_t molecule, int64_t head, scalar* scratch) {
    INERTIAL_AT_LEVEL(attend_backward_backward(z, g, tq, tk, tv, tbias, molecule, head, scratch, to_grad, to_q, to_k,
                                               to_v, to_bias));
  });
}

Tensor new_features(const Tensor& q) { return torch::stable::new_empty(q, {q.size(0), q.size(1), q.size(2)}); }

Tensor pair_attention_cpu(const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& bias_, const Tensor& ptr_,
                          double scale, int64_t heads) {
  const Tensor ptr = torch::stable::contiguous(ptr_), bias = torch::stable::contiguous(bias_);
  const Shape s = check_attention("pair_attention", q_, k_, v_, bias, ptr, scale, heads);
  const Tensor q = with_whole_channels(q_), k = with_whole_channels(k_), v = with_whole_channels(v_);
  Tensor out = new_features(q);
  (q.scalar_type() == ScalarType::Double ? forward<double> : forward<float>)(s, q, k, v, bias, out);
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pair_attention_backward_cpu(
    const Tensor& grad_, const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& bias_, const Tensor& ptr_,
    double scale, int64_t heads) {
  const char* op = "pair_attention_backward";
  const Tensor ptr = torch::stable::contiguous(ptr_), bias = torch::stable::contiguous(bias_);
  const Shape s = check_attention(op, q_, k_, v_, bias, ptr, scale, heads);
  check_features(op, "grad", grad_, q_);
  const Tensor q = with_whole_channels(q_), k = with_whole_channels(k_), v = with_whole_channels(v_);
  const Tensor grad = with_whole_channels(grad_);
  Tensor dq = new_features(q), dk = new_features(q), dv = new_features(q);
  Tensor dbias = torch::stable::new_zeros(bias, {bias.size(0), bias.size(1), bias.size(2)});
  const auto run = q.scalar_type() == ScalarType::Double ? backward<double> : backward<float>;
  run(s, grad, q, k, v, bias, dq, dk, dv, dbias);
  return {dq, dk, dv, dbias};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> pair_attention_backward_backward_cpu(
    const Tensor& ddq_, const Tensor& ddk_, const Tensor& ddv_, const Tensor& ddbias_, const Tensor& grad_,
    const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& bias_, const Tensor& ptr_, double scale,
    int64_t heads) {
  const char* op = "pair_attention_backward_backward";
  const Tensor ptr = torch::stable::contiguous(ptr_), bias = torch::stable::contiguous(bias_);
  const Shape s = check_attention(op, q_, k_, v_, bias, ptr, scale, heads);
  check_features(op, "ddq", ddq_, q_);
  check_features(op, "ddk", ddk_, q_);
  check_features(op, "ddv", ddv_, q_);
  check_features(op, "grad", grad_, q_);
  check_floats(op, "ddbias", ddbias_, {bias.size(0), bias.size(1), bias.size(2)}, bias.scalar_type());
  const Tensor q = with_whole_channels(q_), k = with_whole_channels(k_), v = with_whole_channels(v_);
  const Tensor ddq = with_whole_channels(ddq_), ddk = with_whole_channels(ddk_), ddv = with_whole_channels(ddv_);
  const Tensor grad = with_whole_channels(grad_), ddbias = torch::stable::contiguous(ddbias_);
  Tensor dgrad = new_features(q), dq = new_features(q), dk = new_features(q), dv = new_features(q);
  Tensor dbias = torch::stable::new_zeros(bias, {bias.size(0), bias.size(1), bias.size(2)});
  const auto run = q.scalar_type() == ScalarType::Double ? backward_backward<double> : backward_backward<float>;
  run(s, ddq, ddk, ddv, ddbias, grad, q, k, v, bias, dgrad, dq, dk, dv, dbias);
  return {dgrad, dq, dk, dv, dbias};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("pair_attention", TORCH_BOX(&pair_attention_cpu));
  m.impl("pair_attention_backward", TORCH_BOX(&pair_attention_backward_cpu));
  m.impl("pair_attention_backward_backward", TORCH_BOX(&pair_attention_backward_backward_cpu));
}

}  // namespace inertial
