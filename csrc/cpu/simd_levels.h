// Compiles the kernel file named by INERTIAL_KERNEL once for every instruction set, in the namespaces "portable",
// "avx2" and "avx512" with simd.h and simd_matrix.h beside it. Include inside namespace inertial, after bfloat16.h and capability.h; the
// kernel file has neither include guard nor includes. Then run the level that the machine has:
//
//   #include "bfloat16.h"
//   #include "capability.h"
//   namespace inertial {
//   #define INERTIAL_KERNEL "my_kernel.h"
//   #include "simd_levels.h"
//   INERTIAL_AT_LEVEL(my_kernel(arguments));
//
// GCC and Clang alike; another architecture than x86-64 gets "portable", 16-byte vectors that map to its own.

#define INERTIAL_SIMD_BYTES 16
namespace portable {
#include "simd.h"
#include "simd_matrix.h"
#include INERTIAL_KERNEL
}  // namespace portable
#undef INERTIAL_SIMD_BYTES

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define INERTIAL_SIMD_BYTES 32
namespace avx2 {
#include "simd.h"
#include "simd_matrix.h"
#include INERTIAL_KERNEL
}  // namespace avx2
#undef INERTIAL_SIMD_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")
#endif
#define INERTIAL_SIMD_BYTES 64
namespace avx512 {
#include "simd.h"
#include "simd_matrix.h"
#include INERTIAL_KERNEL
}  // namespace avx512
#undef INERTIAL_SIMD_BYTES
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#undef INERTIAL_AT_LEVEL
#if defined(__x86_64__)
#define INERTIAL_AT_LEVEL(...)                                \
  switch (capability()) {                                     \
    case Capability::avx512: avx512::__VA_ARGS__; break;      \
    case Capability::avx2: avx2::__VA_ARGS__; break;          \
    case Capability::portable: portable::__VA_ARGS__; break;  \
  }
#else
#define INERTIAL_AT_LEVEL(...) portable::__VA_ARGS__
#endif
