// Which instructions the CPU kernels may use: found once at run time, never above what INERTIAL_CPU_CAPABILITY names.
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace inertial {

enum class Capability { portable, avx2, avx512 };

inline Capability find_capability() {
  Capability best = Capability::portable;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = Capability::avx2;
  if (best == Capability::avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    best = Capability::avx512;
#endif
  const char* name = std::getenv("INERTIAL_CPU_CAPABILITY");
  if (name == nullptr || *name == '\0') return best;
  const std::string wanted(name);
  if (wanted != "portable" && wanted != "avx2" && wanted != "avx512")
    throw std::runtime_error("INERTIAL_CPU_CAPABILITY must be portable, avx2 or avx512 (got " + wanted + ")");
  const Capability limit = wanted == "portable" ? Capability::portable
                           : wanted == "avx2"   ? Capability::avx2
                                                : Capability::avx512;
  return limit < best ? limit : best;
}

inline Capability capability() {
  static const Capability found = find_capability();
  return found;
}

}  // namespace inertial
