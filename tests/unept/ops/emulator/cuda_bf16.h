// A stand-in for CUDA's header of this name: the bits of a bfloat16, and its conversions in plain C++.
#pragma once

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  std::uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half.bits) << 16;
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

inline __nv_bfloat16 __float2bfloat16_rn(float number) {
  if (number != number) return {0x7fff};
  std::uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
