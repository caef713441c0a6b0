// A stand-in for CUDA's header of this name: the bits of a half, and its conversions in plain C++.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

struct __half {
  std::uint16_t bits;
};

inline float __half2float(__half half) {
  const int sign = half.bits >> 15, exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
  float size = std::ldexp(static_cast<float>(exponent ? fraction + 1024 : fraction), (exponent ? exponent : 1) - 25);
  if (exponent == 31) size = fraction ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  return sign ? -size : size;
}

inline __half __float2half_rn(float number) {
  const std::uint16_t sign = std::signbit(number) ? 0x8000 : 0;
  const float size = std::fabs(number);
  if (size != size) return {0x7fff};
  if (size >= 65520.0f) return {static_cast<std::uint16_t>(sign | 0x7c00)};
  int exponent;
  std::frexp(size, &exponent);  // size < 2^exponent
  const int unit = size < std::ldexp(1.0f, -14) ? -24 : exponent - 11;
  const auto units = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, -unit)));
  // a fraction of 1024 units has the exponent's last bit set by itself, and carries into it when it rounds up to 2048
  return {static_cast<std::uint16_t>(sign | (units < 1024 ? units : ((unit + 24) << 10) + units))};
}
