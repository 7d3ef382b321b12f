// GeoRoPE attention over packed sequences, forward and backward, and the kernel products that layers can share.
//
// - Queries stand in the lanes of vectors, a block of 2 vectors at a time, so that the softmax is plain arithmetic over
//   the keys of each lane; the scores of a block against all keys, [keys, block], are the largest thing ever held.
//   Nothing of size N x N exists, causal blocks stop at their last key, and the probabilities come again from lse.
// - The products phi_i . phi_j of a block are made once and serve all heads. A model whose layers see the same
//   positions can make them once a pass (georope_gram) and give them as "gram" [T, S, L], where L is short; the layers
//   then save the M-wide products, and memory stays T S L.
// - Cosines and sines are made anew in each call, once a token for all heads and in float64: no table [T, 2, D] is
//   kept or read.
// - A thread owns whole (sequence, heads) pairs. What crosses them, dgain and dpos, is kept apart and summed in order:
//   results do not depend on the number of threads.
#include "../check.h"
#include "bfloat16.h"
#include "capability.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <tuple>
#include <type_traits>

namespace inertial {
namespace {

// Memory that grows to the largest size asked for, aligned to a cache line. Asking again gives the same place.
template <typename scalar> class Buffer {
 public:
  scalar* operator()(int64_t size) {
    if (size > size_) {
      data_.reset(new (std::align_val_t(64)) scalar[size]);
      size_ = size;
    }
    return data_.get();
  }

 private:
  struct Free {
    void operator()(scalar* data) const { operator delete[](data, std::align_val_t(64)); }
  };
  std::unique_ptr<scalar[], Free> data_;
  int64_t size_ = 0;
};

// What one thread needs.
template <typename scalar> struct Workspace {
  Buffer<double> phase;
  Buffer<scalar> table, gram, dgram, phi_lanes, phi, dphi;               // shared by heads
  Buffer<scalar> key, value, dkey, dvalue;                               // [heads][N][Dp]
  Buffer<scalar> query, query_lanes, dout, dquery, score, grad, total;  // of one block
};

template <typename in, typename scalar> struct AttentionProblem {
  int64_t B, H, D, S, M, K;
  bool causal;
  scalar scale;
  const in *q, *k, *v;
  int64_t q_row, q_head, k_row, k_head, v_row, v_head;
  const scalar *pos, *phi, *gram, *gain, *freqs;
  int64_t gram_length;
  const int64_t *scale_ptr, *ptr;
  in* out;
  scalar* lse;
  const in* dout;
  int64_t dout_row, dout_head;
  const scalar* grad_lse;
  in *dq, *dk, *dv;
  scalar *dpos, *dgain, *dgram;  // [T, H, 3], [B, H, S], of phi or gram
};

template <typename scalar> struct GramProblem {
  int64_t B, S, M;
  bool causal;
  const scalar *phi, *gram, *grad;
  int64_t gram_length, out_length;
  const int64_t *scale_ptr, *ptr;
  scalar *out, *dphi;
};

#define INERTIAL_KERNEL "georope_attention_kernel.h"
#include "simd_levels.h"

constexpr int64_t kGrain = 200000;  // multiply-adds that are worth a thread

// Runs task(sequence, first head, last head, workspace). With fewer sequences than threads the heads are split as well.
template <typename scalar, typename Task>
void over_heads(int64_t B, int64_t H, const int64_t* ptr, int64_t cost, bool split, const Task& task) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t groups = split && B > 0 ? std::min(H, (threads + B - 1) / B) : 1, tasks = B * groups;
  if (tasks == 0) return;
  torch::stable::parallel_for(0, tasks, std::max<int64_t>(1, kGrain / (cost / tasks + 1)), [&](int64_t i, int64_t end) {
    Workspace<scalar> workspace;
    for (; i < end; ++i) {
      const int64_t b = i / groups, g = i % groups;
      if (ptr[b] < ptr[b + 1]) task(b, g * H / groups, (g + 1) * H / groups, workspace);
    }
  });
}

// Rows of a head side by side in memory, whatever the strides of tokens and heads.
Tensor with_rows(const Tensor& x) { return x.stride(2) == 1 || x.numel() == 0 ? x : torch::stable::contiguous(x); }

struct Arguments {
  Tensor q, k, v, pos, gain, scale_ptr, freqs, ptr;
  std::optional<Tensor> phi, gram;

  Arguments(const char* op, const Tensor& q_, const Tensor& k_, const Tensor& v_, const Tensor& pos_,
            const std::optional<Tensor>& phi_, const Tensor& gain_, const Tensor& scale_ptr_, const Tensor& freqs_,
            const Tensor& ptr_, const std::optional<Tensor>& gram_) {
    check_georope(op, q_, k_, v_, pos_, phi_, gain_, scale_ptr_, freqs_, ptr_, gram_);
    q = with_rows(q_), k = with_rows(k_), v = with_rows(v_);
    pos = torch::stable::contiguous(pos_), gain = torch::stable::contiguous(gain_);
    scale_ptr = torch::stable::contiguous(scale_ptr_), freqs = torch::stable::contiguous(freqs_);
    ptr = torch::stable::contiguous(ptr_);
    const int64_t tokens = q.size(0), scales = gain.size(1), sequences = ptr.size(0) - 1;
    const int64_t* offsets = ptr.const_data_ptr<int64_t>();
    check_offsets(op, offsets, sequences, tokens);
    if (phi_.has_value()) {
      phi = torch::stable::contiguous(*phi_);
      check_scales(op, scale_ptr.const_data_ptr<int64_t>(), scales, phi->size(1));
    }
    if (gram_.has_value()) {
      gram = torch::stable::contiguous(*gram_);
      for (int64_t b = 0; b < sequences; ++b)
        check(offsets[b + 1] - offsets[b] <= gram->size(2), op, ": expected gram [T, S, L] with L of at least ",
              offsets[b + 1] - offsets[b], " tokens, those of sequence ", b, " (got ", gram->size(2), ")");
    }
  }

  template <typename in, typename scalar> AttentionProblem<in, scalar> problem(bool causal) const {
    AttentionProblem<in, scalar> p{};
    p.B = ptr.size(0) - 1, p.H = q.size(1), p.D = q.size(2), p.S = gain.size(1), p.K = freqs.size(0);
    p.M = phi.has_value() ? phi->size(1) : 0;
    p.causal = causal, p.scale = scalar(1) / std::sqrt(scalar(p.D));
    p.q = static_cast<const in*>(q.const_data_ptr()), p.q_row = q.stride(0), p.q_head = q.stride(1);
    p.k = static_cast<const in*>(k.const_data_ptr()), p.k_row = k.stride(0), p.k_head = k.stride(1);
    p.v = static_cast<const in*>(v.const_data_ptr()), p.v_row = v.stride(0), p.v_head = v.stride(1);
    p.pos = pos.const_data_ptr<scalar>(), p.gain = gain.const_data_ptr<scalar>();
    p.freqs = freqs.const_data_ptr<scalar>();
    p.phi = phi.has_value() ? phi->const_data_ptr<scalar>() : nullptr;
    p.gram = gram.has_value() ? gram->const_data_ptr<scalar>() : nullptr;
    p.gram_length = gram.has_value() ? gram->size(2) : 0;
    p.scale_ptr = scale_ptr.const_data_ptr<int64_t>(), p.ptr = ptr.const_data_ptr<int64_t>();
    return p;
  }

  // Multiply-adds of a forward pass, roughly.
  template <typename P> int64_t cost(const P& p) const {
    int64_t pairs = 0;
    for (int64_t b = 0; b < p.B; ++b) pairs += (p.ptr[b + 1] - p.ptr[b]) * (p.ptr[b + 1] - p.ptr[b]);
    return pairs * (2 * p.H * p.D + p.M);
  }
};

// Calls run<in, scalar>() for the type of q.
template <typename Run> void for_type(ScalarType type, const Run& run) {
  if (type == ScalarType::Float) run(float{}, float{});
  if (type == ScalarType::Double) run(double{}, double{});
  if (type == ScalarType::BFloat16) run(bfloat16{}, float{});
}

std::tuple<Tensor, Tensor> georope_attention_cpu(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& pos,
                                                 const std::optional<Tensor>& phi, const Tensor& gain,
                                                 const Tensor& scale_ptr, const Tensor& freqs, const Tensor& ptr,
                                                 bool causal, const std::optional<Tensor>& gram) {
  const Arguments a("georope_attention", q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, gram);
  Tensor out = torch::stable::new_empty(a.q, {q.size(0), q.size(1), q.size(2)});
  Tensor lse = torch::stable::new_empty(a.pos, {q.size(0), q.size(1)});
  for_type(q.scalar_type(), [&](auto in_zero, auto zero) {
    using in = decltype(in_zero);
    using scalar = decltype(zero);
    auto p = a.problem<in, scalar>(causal);
    p.out = static_cast<in*>(out.mutable_data_ptr()), p.lse = lse.mutable_data_ptr<scalar>();
    over_heads<scalar>(p.B, p.H, p.ptr, a.cost(p), true, [&](int64_t b, int64_t h0, int64_t h1, Workspace<scalar>& w) {
      INERTIAL_AT_LEVEL(forward_heads(p, w, p.ptr[b], p.ptr[b + 1], h0, h1));
    });
  });
  return {out, lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> georope_attention_backward_cpu(
    const Tensor& grad_out, const std::optional<Tensor>& grad_lse, const Tensor& q, const Tensor& k, const Tensor& v,
    const Tensor& pos, const std::optional<Tensor>& phi, const Tensor& gain, const Tensor& scale_ptr,
    const Tensor& freqs, const Tensor& ptr, const Tensor& out, const Tensor& lse_, bool causal,
    const std::optional<Tensor>& gram, bool needs_phi, bool needs_pos) {
  const char* op = "georope_attention_backward";
  const Arguments a(op, q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, gram);
  const int64_t T = q.size(0), H = q.size(1), D = q.size(2), S = gain.size(1), B = ptr.size(0) - 1;
  check_floats(op, "grad_out", grad_out, {T, H, D}, q.scalar_type());
  check_floats(op, "out", out, {T, H, D}, q.scalar_type());
  check_floats(op, "lse", lse_, {T, H}, compute_type(q.scalar_type()));
  if (grad_lse.has_value()) check_floats(op, "grad_lse", *grad_lse, {T, H}, compute_type(q.scalar_type()));
  const Tensor dout = with_rows(grad_out), lse = torch::stable::contiguous(lse_);
  const std::optional<Tensor> dlse =
      grad_lse.has_value() ? std::optional<Tensor>(torch::stable::contiguous(*grad_lse)) : std::nullopt;

  Tensor dq = torch::stable::new_empty(a.q, {T, H, D}), dk = torch::stable::new_empty(a.q, {T, H, D});
  Tensor dv = torch::stable::new_empty(a.q, {T, H, D});
  Tensor dgain_parts = torch::stable::new_zeros(a.gain, {B, H, S}), dgain = torch::stable::new_empty(a.gain, {H, S});
  Tensor dpos_parts = torch::stable::new_zeros(a.pos, {needs_pos ? T : 0, H, 3});
  Tensor dpos = torch::stable::new_empty(a.pos, needs_pos ? std::vector<int64_t>{T, 3} : std::vector<int64_t>{0});
  needs_phi = needs_phi && (phi.has_value() || gram.has_value());
  Tensor dphi = !needs_phi         ? torch::stable::new_empty(a.pos, {0})
                : phi.has_value() ? torch::stable::new_empty(*a.phi, {T, phi->size(1)})
                                  : torch::stable::new_zeros(*a.gram, {T, S, gram->size(2)});
  for_type(q.scalar_type(), [&](auto in_zero, auto zero) {
    using in = decltype(in_zero);
    using scalar = decltype(zero);
    auto p = a.problem<in, scalar>(causal);
    p.lse = const_cast<scalar*>(lse.const_data_ptr<scalar>());
    p.dout = static_cast<const in*>(dout.const_data_ptr()), p.dout_row = dout.stride(0), p.dout_head = dout.stride(1);
    p.grad_lse = dlse.has_value() ? dlse->const_data_ptr<scalar>() : nullptr;
    p.dq = static_cast<in*>(dq.mutable_data_ptr()), p.dk = static_cast<in*>(dk.mutable_data_ptr());
    p.dv = static_cast<in*>(dv.mutable_data_ptr());
    p.dgain = dgain_parts.mutable_data_ptr<scalar>();
    p.dpos = needs_pos ? dpos_parts.mutable_data_ptr<scalar>() : nullptr;
    p.dgram = needs_phi ? dphi.mutable_data_ptr<scalar>() : nullptr;
    over_heads<scalar>(p.B, p.H, p.ptr, 3 * a.cost(p), !needs_phi,
                       [&](int64_t b, int64_t h0, int64_t h1, Workspace<scalar>& w) {
                         INERTIAL_AT_LEVEL(backward_heads(p, w, b, p.ptr[b], p.ptr[b + 1], h0, h1));
                       });
    scalar* total = dgain.mutable_data_ptr<scalar>();
    for (int64_t i = 0; i < H * S; ++i) {
      double sum = 0;
      for (int64_t b = 0; b < B; ++b) sum += p.dgain[b * H * S + i];
      total[i] = scalar(sum);
    }
    for (int64_t i = 0; needs_pos && i < T * 3; ++i) {
      scalar sum = 0;
      for (int64_t h = 0; h < H; ++h) sum += p.dpos[(i / 3 * H + h) * 3 + i % 3];
      dpos.mutable_data_ptr<scalar>()[i] = sum;
    }
  });
  return {dq, dk, dv, dphi, dgain, dpos};
}

template <typename Run>
void over_sequences(const char* op, const Tensor& phi, const Tensor& scale_ptr, const Tensor& ptr, const Run& run) {
  check(phi.dim() == 2 && (phi.scalar_type() == ScalarType::Float || phi.scalar_type() == ScalarType::Double), op,
        ": expected phi [T, M] of float32 or float64 (got ", shape(phi), " of ", name(phi.scalar_type()), ")");
  check_vector(op, "scale_ptr", scale_ptr, ScalarType::Long, "[S + 1]");
  check(scale_ptr.size(0) >= 1, op, ": expected scale_ptr [S + 1] (got [0])");
  check_segments(op, phi, ptr);
  const Tensor scales = torch::stable::contiguous(scale_ptr), offsets = torch::stable::contiguous(ptr);
  check_scales(op, scales.const_data_ptr<int64_t>(), scales.size(0) - 1, phi.size(1));
  check_offsets(op, offsets.const_data_ptr<int64_t>(), offsets.size(0) - 1, phi.size(0));
  for_type(phi.scalar_type(), [&](auto, auto zero) {
    using scalar = decltype(zero);
    const Tensor features = torch::stable::contiguous(phi);
    GramProblem<scalar> p{};
    p.B = offsets.size(0) - 1, p.S = scales.size(0) - 1, p.M = phi.size(1);
    if constexpr (!std::is_same_v<scalar, bfloat16>) p.phi = features.const_data_ptr<scalar>();
    p.scale_ptr = scales.const_data_ptr<int64_t>(), p.ptr = offsets.const_data_ptr<int64_t>();
    run(p);
  });
}

Tensor georope_gram_cpu(const Tensor& phi, const Tensor& scale_ptr, const Tensor& ptr, int64_t max_length) {
  const char* op = "georope_gram";
  std::optional<Tensor> out;
  over_sequences(op, phi, scale_ptr, ptr, [&](auto p) {
    using scalar = std::remove_const_t<std::remove_pointer_t<decltype(p.phi)>>;
    for (int64_t b = 0; b < p.B; ++b)
      check(p.ptr[b + 1] - p.ptr[b] <= max_length, op, ": expected max_length of at least ", p.ptr[b + 1] - p.ptr[b],
            " tokens, those of sequence ", b, " (got ", max_length, ")");
    check(max_length >= 0, op, ": expected max_length of at least 0 (got ", max_length, ")");
    out = torch::stable::new_zeros(phi, {phi.size(0), p.S, max_length});
    p.out = out->template mutable_data_ptr<scalar>(), p.out_length = max_length;
    over_heads<scalar>(p.B, 1, p.ptr, phi.size(0) * max_length * p.M, false,
                       [&](int64_t b, int64_t, int64_t, Workspace<scalar>& w) {
                         INERTIAL_AT_LEVEL(gram_sequence(p, w, p.ptr[b], p.ptr[b + 1]));
                       });
  });
  return *out;
}

Tensor georope_gram_backward_cpu(const Tensor& grad_gram, const Tensor& phi, const Tensor& scale_ptr,
                                 const Tensor& ptr) {
  const char* op = "georope_gram_backward";
  check_floats(op, "phi", phi, {-1, -1}, phi.scalar_type());
  const Tensor grad = torch::stable::contiguous(grad_gram);
  Tensor dphi = torch::stable::new_empty(torch::stable::contiguous(phi), {phi.size(0), phi.size(1)});
  over_sequences(op, phi, scale_ptr, ptr, [&](auto p) {
    using scalar = std::remove_const_t<std::remove_pointer_t<decltype(p.phi)>>;
    check_floats(op, "grad_gram", grad, {phi.size(0), p.S, -1}, phi.scalar_type());
    for (int64_t b = 0; b < p.B; ++b)
      check(p.ptr[b + 1] - p.ptr[b] <= grad.size(2), op, ": expected grad_gram [T, S, L] with L of at least ",
            p.ptr[b + 1] - p.ptr[b], " tokens, those of sequence ", b, " (got ", grad.size(2), ")");
    p.grad = grad.template const_data_ptr<scalar>(), p.out_length = grad.size(2);
    p.dphi = dphi.template mutable_data_ptr<scalar>();
    over_heads<scalar>(p.B, 1, p.ptr, 2 * phi.size(0) * p.out_length * p.M, false,
                       [&](int64_t b, int64_t, int64_t, Workspace<scalar>& w) {
                         INERTIAL_AT_LEVEL(gram_sequence_backward(p, w, p.ptr[b], p.ptr[b + 1]));
                       });
  });
  return dphi;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(inertial, CPU, m) {
  m.impl("georope_attention", TORCH_BOX(&georope_attention_cpu));
  m.impl("georope_attention_backward", TORCH_BOX(&georope_attention_backward_cpu));
  m.impl("georope_gram", TORCH_BOX(&georope_gram_cpu));
  m.impl("georope_gram_backward", TORCH_BOX(&georope_gram_backward_cpu));
}

}  // namespace inertial
