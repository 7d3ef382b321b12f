// run_kernels OP DTYPE INPUTS OUTPUTS ORDER: one op's CUDA kernels on the CPU, launched as its .cu file launches them.
#include "fibers.h"

#include "buffers.h"

#include "../../csrc/cuda/georope_backward.cuh"
#include "../../csrc/cuda/georope_decode.cuh"
#include "../../csrc/cuda/georope_forward.cuh"
#include "../../csrc/cuda/georope_gram.cuh"
#include "../../csrc/cuda/nystrom_features.cuh"
#include "../../csrc/cuda/rope_rotate.cuh"
#include "../../csrc/cuda/segment.cuh"

#include <algorithm>

using namespace inertial;

namespace {

bool backwards = false;

Geometry geometry(const Buffers& in) {
  Geometry geo{};
  geo.pos = in.get<float>("pos");
  geo.phi = in.get<float>("phi");
  geo.gram = in.get<float>("gram");
  geo.gain = in.get<float>("gain");
  geo.scale_ptr = in.get<int64_t>("scale_ptr");
  geo.freqs = in.get<float>("freqs");
  geo.ptr = in.get<int64_t>("ptr");
  geo.num_tokens = in.number("T");
  geo.num_sequences = in.number("B");
  geo.heads = in.number("H");
  geo.channels = in.number("D");
  geo.num_features = in.number("M");
  geo.num_scales = in.number("S");
  geo.num_freqs = in.number("K");
  geo.max_length = in.number("L");
  geo.causal = in.number("causal");
  geo.scale = *in.get<float>("scale");
  return geo;
}

template <typename scalar> Heads<scalar> heads(const Buffers& in, const char* name, const Geometry& geo) {
  return {in.get<scalar>(name), int64_t{geo.heads} * geo.channels, geo.channels};
}

template <typename scalar, int DP> void attention(Buffers& io) {
  const Geometry geo = geometry(io);
  const int64_t size = geo.num_tokens * geo.heads * geo.channels;
  const ForwardArgs<scalar> args{heads<scalar>(io, "q", geo), heads<scalar>(io, "k", geo), heads<scalar>(io, "v", geo),
                                 io.output<scalar>("out", size),
                                 io.output<float>("lse", geo.num_tokens * geo.heads), geo};
  const int warps = io.number("warps");
  fibers::launch(dim3(num_tiles(geo), (geo.heads + warps - 1) / warps), 32 * warps,
                 forward_shared_bytes<scalar, DP>(geo.num_scales, warps), backwards,
                 [&] { georope_forward<scalar, DP>(args); });
}

template <typename scalar, int DP> void attention_backward(Buffers& io) {
  const Geometry geo = geometry(io);
  const int64_t rows = geo.num_tokens * geo.heads, size = rows * geo.channels;
  const Heads<scalar> grad_out = heads<scalar>(io, "grad_out", geo);
  Buffer delta(4 * rows), parts(4 * num_tiles(geo) * geo.heads * geo.num_scales);
  fibers::launch(dim3((rows + 7) / 8), 256, 0, backwards, [&] {
    georope_delta<scalar>(grad_out, heads<scalar>(io, "out", geo), io.get<float>("grad_lse"),
                          reinterpret_cast<float*>(delta.data), geo.num_tokens, geo.heads, geo.channels);
  });
  float* dphi = nullptr;
  if (io.number("needs_phi")) {
    const int64_t width = geo.phi != nullptr ? geo.num_features : int64_t{geo.num_scales} * geo.max_length;
    dphi = io.output<float>("dphi", geo.num_tokens * width);
    if (geo.phi == nullptr) std::fill_n(dphi, geo.num_tokens * width, 0.f);
  }
  const BackwardArgs<scalar> args{heads<scalar>(io, "q", geo), heads<scalar>(io, "k", geo), heads<scalar>(io, "v", geo),
                                  grad_out, io.get<float>("lse"), reinterpret_cast<float*>(delta.data),
                                  io.output<scalar>("dq", size), io.output<scalar>("dk", size),
                                  io.output<scalar>("dv", size), dphi, io.output<float>("dpos", 3 * geo.num_tokens),
                                  reinterpret_cast<float*>(parts.data), geo};
  const int warps = io.number("warps");
  fibers::launch(dim3(num_tiles(geo)), 32 * warps, backward_shared_bytes<scalar, DP>(geo.num_scales, warps), backwards,
                 [&] { georope_backward<scalar, DP>(args); });
  if (geo.num_scales == 0) return;
  float* dgain = io.output<float>("dgain", int64_t{geo.heads} * geo.num_scales);
  fibers::launch(dim3(geo.heads * geo.num_scales), 128, 128 * 4, backwards, [&] {
    georope_sum_parts(reinterpret_cast<float*>(parts.data), dgain, num_tiles(geo), geo.heads * geo.num_scales);
  });
}

// Products for shared layers, and back.
void gram(Buffers& io) {
  const Geometry geo = geometry(io);
  float* out = io.output<float>("gram", geo.num_tokens * geo.num_scales * geo.max_length);
  fibers::launch(dim3(num_tiles(geo)), 256, gram_shared_bytes(geo.num_scales), backwards,
                 [&] { georope_gram(out, geo); });
}

void gram_backward(Buffers& io) {
  const Geometry geo = geometry(io);
  float* dphi = io.output<float>("dphi", geo.num_tokens * geo.num_features);
  fibers::launch(dim3(num_tiles(geo)), 256, gram_shared_bytes(geo.num_scales), backwards,
                 [&] { georope_gram_backward(io.get<float>("grad_gram"), dphi, geo); });
}

void features(Buffers& io) {
  const int64_t num_tokens = io.number("T");
  const int m = io.number("m"), num_scales = io.number("S");
  Widths widths{};
  for (int s = 0; s < num_scales; ++s) widths.rate[s] = -0.5 / std::pow(io.get<double>("width")[s], 2);
  const float *pos = io.get<float>("pos"), *landmarks = io.get<float>("landmarks");
  const float *whitening = io.get<float>("whitening"), *grad = io.get<float>("grad");
  const unsigned tiles = (num_tokens + kNystromTokens - 1) / kNystromTokens;
  float* phi = io.output<float>("phi", num_tokens * num_scales * m);
  fibers::launch(dim3(tiles, num_scales), kNystromThreads, nystrom_shared_bytes<float>(m), backwards,
                 [&] { nystrom_forward<float>(pos, landmarks, whitening, phi, widths, num_tokens, m, num_scales); });
  float* pos_grad = io.output<float>("pos_grad", num_tokens * 3);
  fibers::launch(dim3(tiles), kNystromThreads, nystrom_shared_bytes<float>(m), backwards, [&] {
    nystrom_backward<float>(grad, pos, landmarks, whitening, pos_grad, widths, num_tokens, m, num_scales);
  });
}

template <typename scalar> void rotate(Buffers& io) {
  const int64_t num_tokens = io.number("T");
  const int heads = io.number("H"), pairs = io.number("D") / 2;
  const unsigned grid = (num_tokens * pairs + 255) / 256;
  scalar* out = io.output<scalar>("turned", num_tokens * heads * pairs * 2);
  fibers::launch(dim3(grid), 256, 0, backwards, [&] {
    rotate_tokens<float, scalar>(io.get<scalar>("x"), int64_t{heads} * pairs * 2, pairs * 2, io.get<float>("phase"),
                                 out, num_tokens, heads, pairs);
  });
  float* sums = io.output<float>("phase_grad", num_tokens * pairs);
  fibers::launch(dim3(grid), 256, 0, backwards, [&] {
    sum_phase_grad<float, scalar>(io.get<scalar>("grad"), out, sums, num_tokens, heads, pairs);
  });
}

// The caches are inputs and outputs.
template <typename scalar> scalar* in_place(Buffers& io, const std::string& name) {
  const Buffer& in = io.at(name);
  scalar* out = io.output<scalar>(name, in.bytes / sizeof(scalar));
  std::memcpy(out, in.data, in.bytes);
  return out;
}

template <typename scalar> void decode_one(Buffers& io) {
  const int64_t rows = io.number("R"), heads = io.number("H"), channels = io.number("D"), capacity = io.number("L");
  const int num_scales = io.number("S"), m = io.number("m"), num_keys = io.number("N");
  const int64_t* slot = io.get<int64_t>("slot");
  float *cache = in_place<float>(io, "features"), *gram = io.output<float>("gram", rows * num_scales * num_keys);
  fibers::launch(dim3(rows), 256, 0, backwards, [&] {
    decode_gram<float>(io.get<float>("phi"), slot, cache, capacity * num_scales * m, num_scales * m, gram, num_scales,
                       m, num_keys);
  });
  const Cache<scalar> keys{in_place<scalar>(io, "key"), capacity * heads * channels, heads * channels};
  const Cache<scalar> values{in_place<scalar>(io, "value"), capacity * heads * channels, heads * channels};
  scalar* out = io.output<scalar>("out", rows * heads * channels);
  fibers::launch(dim3((rows * heads + 3) / 4), 128, 0, backwards, [&] {
    decode<float, scalar, scalar, 2>(io.get<scalar>("q"), io.get<scalar>("k"), io.get<scalar>("v"), gram,
                                     io.get<float>("gain"), slot, keys, values, out, rows, heads, channels, num_scales,
                                     num_keys, 1 / std::sqrt(static_cast<float>(channels)));
  });
}

void sum_of_segments(Buffers& io) {
  const int64_t num_segments = io.number("B"), width = io.number("width");
  float* out = io.output<float>("sums", num_segments * width);
  fibers::launch(dim3((num_segments * width + 127) / 128), 128, 0, backwards, [&] {
    sum_segments<float>(io.get<float>("src"), io.get<int64_t>("ptr"), out, num_segments, io.number("T"), width);
  });
}

template <typename scalar> void run(const std::string& op, Buffers& io) {
  const bool wide = io.count("D") > 0 && io.number("D") > 32;
  if (op == "georope_attention") return wide ? attention<scalar, 64>(io) : attention<scalar, 32>(io);
  if (op == "georope_attention_backward")
    return wide ? attention_backward<scalar, 64>(io) : attention_backward<scalar, 32>(io);
  if (op == "georope_gram") return gram(io);
  if (op == "georope_gram_backward") return gram_backward(io);
  if (op == "nystrom_features") return features(io);
  if (op == "rope_rotate") return rotate<scalar>(io);
  if (op == "georope_decode") return decode_one<scalar>(io);
  if (op == "segment_sum") return sum_of_segments(io);
  throw std::runtime_error("no op of the name " + op);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6) throw std::runtime_error("expected OP DTYPE INPUTS OUTPUTS ORDER");
  const std::string op = argv[1], dtype = argv[2];
  backwards = std::string(argv[5]) == "backwards";
  Buffers io(argv[3]);
  if (dtype == "float32") run<float>(op, io);
  if (dtype == "bfloat16") run<bf16>(op, io);
  if (dtype == "float16") run<fp16>(op, io);
  io.write(argv[4]);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
