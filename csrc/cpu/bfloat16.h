// The bits of a bfloat16 in memory; simd.h loads and stores them as float32.
#pragma once

#include <cstdint>

namespace inertial {

struct bfloat16 {
  uint16_t bits;
};

}  // namespace inertial
