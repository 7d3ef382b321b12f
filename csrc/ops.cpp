// The schemas of all operators, and the Python module whose import registers them.
#include <Python.h>
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(inertial, m) {
  m.def("segment_sum(Tensor src, Tensor ptr) -> Tensor");

  // The instruction set in use (0 portable, 1 AVX2, 2 AVX-512) and the elementary functions built on it.
  m.def("cpu_capability() -> int");
  m.def("simd_exp(Tensor x) -> Tensor");
  m.def("simd_log(Tensor x) -> Tensor");
  m.def("simd_sincos(Tensor x) -> (Tensor sine, Tensor cosine)");

  // One of phi [T, M] and gram [T, S, L] is given, or neither where S = 0. The score of query i and key j reads
  // gram[key j, s, place of i in the sequence]. The gradient "dphi" is that of phi or of gram; dphi and dpos are
  // empty [0] unless they are needed.
  m.def("georope_attention(Tensor q, Tensor k, Tensor v, Tensor pos, Tensor? phi, Tensor gain, Tensor scale_ptr, "
        "Tensor freqs, Tensor ptr, bool causal, Tensor? gram) -> (Tensor out, Tensor lse)");
  m.def("georope_attention_backward(Tensor grad_out, Tensor? grad_lse, Tensor q, Tensor k, Tensor v, Tensor pos, "
        "Tensor? phi, Tensor gain, Tensor scale_ptr, Tensor freqs, Tensor ptr, Tensor out, Tensor lse, bool causal, "
        "Tensor? gram, bool needs_phi, bool needs_pos) "
        "-> (Tensor dq, Tensor dk, Tensor dv, Tensor dphi, Tensor dgain, Tensor dpos)");
  // gram[t, s, j] = phi_s(t) . phi_s(token j of the sequence of t), zero beyond its end; L = max_length.
  m.def("georope_gram(Tensor phi, Tensor scale_ptr, Tensor ptr, SymInt max_length) -> Tensor");
  m.def("georope_gram_backward(Tensor grad_gram, Tensor phi, Tensor scale_ptr, Tensor ptr) -> Tensor");

  m.def("rope_rotate(Tensor x, Tensor phase) -> Tensor");
  m.def("rope_rotate_phase(Tensor grad, Tensor out) -> Tensor");

  m.def("nystrom_features(Tensor pos, Tensor landmarks, Tensor whitening, float[] width) -> Tensor");
  m.def("nystrom_features_pos(Tensor grad, Tensor pos, Tensor landmarks, Tensor whitening, float[] width) -> Tensor");

  m.def("georope_decode_gram(Tensor phi, Tensor slot, int num_scales, int num_keys, Tensor(a!) features) -> Tensor");
  m.def(
      "georope_decode(Tensor q, Tensor k, Tensor v, Tensor gram, Tensor gain, Tensor slot, Tensor(a!) key, "
      "Tensor(b!) value) -> Tensor");

  m.def("inverse_root(Tensor c) -> Tensor");
  m.def("sylvester(Tensor a, Tensor q) -> Tensor");

  m.def("pair_attention(Tensor q, Tensor k, Tensor v, Tensor bias, Tensor ptr, float scale, int heads) -> Tensor");
  m.def("pair_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor bias, Tensor ptr, float scale, "
        "int heads) -> (Tensor dq, Tensor dk, Tensor dv, Tensor dbias)");
  m.def("pair_attention_backward_backward(Tensor ddq, Tensor ddk, Tensor ddv, Tensor ddbias, Tensor grad, Tensor q, "
        "Tensor k, Tensor v, Tensor bias, Tensor ptr, float scale, int heads) "
        "-> (Tensor dgrad, Tensor dq, Tensor dk, Tensor dv, Tensor dbias)");

  // "eigen" [N, 12] holds, for each atom, the inverse roots of the eigenvalues and the eigenvectors: a function of x
  // and the settings, which the derivatives know.
  m.def("whiten(Tensor x, Tensor weight, float eps_rel, float eps_abs, bool center) -> (Tensor out, Tensor eigen)");
  m.def("whiten_backward(Tensor grad, Tensor x, Tensor weight, Tensor eigen, float eps_rel, float eps_abs, "
        "bool center) -> (Tensor dx, Tensor dweight)");
  m.def("whiten_backward_backward(Tensor ddx, Tensor ddweight, Tensor grad, Tensor x, Tensor weight, Tensor eigen, "
        "float eps_rel, float eps_abs, bool center) -> (Tensor dgrad, Tensor dx, Tensor dweight)");
}

PyMODINIT_FUNC PyInit__C() {
  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
  return PyModule_Create(&module);
}
