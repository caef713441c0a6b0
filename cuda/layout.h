// Data layout of the CPU kernel: sizes, positions of the levels in a head's table, scratch memory, half types.
//
// A table holds the rows of one head of one image. A level has a border of zeros in it: two lines above, two lines
// below, and two pixels between the end of a line and the start of the next. Corners outside the map read the border,
// and the gradient that they add to it is dropped. So the four corners of a point follow from one row without a branch.
// A row is padded with zeros to whole vectors.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "lanes.h"

extern "C" {
struct UneptSizes {
  std::int64_t batch, tokens, heads, channels, levels, points, queries;
};
}

namespace unept {

struct Level {
  std::int64_t height, width;
  std::int64_t token;  // index of its pixel 0 among the tokens
  std::int64_t row;    // its first row in the table
  std::int64_t pixels() const { return height * width; }
  std::int64_t step() const { return width + 2; }                    // rows from a pixel to the one below it
  std::int64_t before() const { return 2 * step() + 2; }             // rows before pixel 0
  std::int64_t rows() const { return (height + 4) * step() + 2; }
};

template <class Real>
struct Layout {
  UneptSizes size;
  std::vector<Level> levels;
  std::int64_t rows = 0;     // rows of a table
  std::int64_t vectors = 0;  // vectors of a row
  std::int64_t most = 0;     // rows of the largest level
  bool fits = true;          // an offset in a table fits an int32

  Layout(const UneptSizes& sizes, const std::int64_t* shapes) : size(sizes) {
    constexpr std::int64_t lanes = Lanes<Real>::count, limit = std::numeric_limits<std::int32_t>::max();
    vectors = (size.channels + lanes - 1) / lanes;
    std::int64_t token = 0;
    for (std::int64_t level = 0; level < size.levels; ++level) {
      const std::int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
      fits = fits && height >= 0 && width >= 0 && height < limit && width < limit;
      if (!fits) return;
      levels.push_back({height, width, token, rows});
      token += levels.back().pixels();
      rows += levels.back().rows();
      most = levels.back().rows() > most ? levels.back().rows() : most;
      fits = rows < limit;
    }
    fits = token == size.tokens && vectors < limit && rows * vectors < limit / lanes;
  }

  std::int64_t width() const { return vectors * Lanes<Real>::count; }  // numbers of a row
  std::int64_t points() const { return size.levels * size.points; }
};

// Aligned memory, freed by the destructor; null if the allocation fails.
class Scratch {
 public:
  explicit Scratch(std::int64_t bytes) {
    const std::size_t whole = (static_cast<std::size_t>(bytes > 0 ? bytes : 1) + 63) / 64 * 64;
    memory_ = std::aligned_alloc(64, whole);
  }
  ~Scratch() { std::free(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  explicit operator bool() const { return memory_ != nullptr; }
  template <class Kind>
  Kind* as() const { return static_cast<Kind*>(memory_); }

 private:
  void* memory_;
};

// Half types are storage types: their bits, and conversions to single precision and back (to nearest, ties to even).
struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

inline float from_bits(std::uint32_t bits) {
  float number;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}
inline std::uint32_t to_bits(float number) {
  std::uint32_t bits;
  std::memcpy(&bits, &number, sizeof bits);
  return bits;
}

inline void read(float& wide, float stored) { wide = stored; }
inline void read(double& wide, double stored) { wide = stored; }
inline void read(float& wide, BFloat16 stored) { wide = from_bits(std::uint32_t(stored.bits) << 16); }
inline void read(float& wide, Float16 stored) {
  const std::uint32_t sign = std::uint32_t(stored.bits & 0x8000) << 16;
  const std::uint32_t rest = std::uint32_t(stored.bits & 0x7fff) << 13;
  const float scaled = from_bits(rest) * from_bits(0x77800000);  // 2^112 corrects the exponent bias, also of denormals
  wide = from_bits(sign | (rest >= 0x0f800000 ? rest | 0x7f800000 : to_bits(scaled)));
}

inline void write(float& stored, float wide) { stored = wide; }
inline void write(double& stored, double wide) { stored = wide; }
inline void write(BFloat16& stored, float wide) {
  const std::uint32_t bits = to_bits(wide);
  const std::uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  stored.bits = static_cast<std::uint16_t>(wide != wide ? 0x7fc0 : rounded);
}
inline void write(Float16& stored, float wide) {
  const std::uint32_t bits = to_bits(wide), sign = (bits >> 16) & 0x8000, size = bits & 0x7fffffff;
  const std::uint32_t normal = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13;
  const std::uint32_t denormal = to_bits(from_bits(size) + 0.5f) - 0x3f000000;  // the last bit of 0.5 is 2^-24
  const std::uint32_t finite = size < 0x38800000 ? denormal : normal;
  const std::uint32_t half = size > 0x7f800000 ? 0x7e00 : size >= 0x477ff000 ? 0x7c00 : finite;
  stored.bits = static_cast<std::uint16_t>(sign | half);
}

// Copies the channels of one pixel and head into a row, padded with zeros to whole vectors, and back.
template <class Real, class Stored>
inline void read_row(Real* __restrict to, const Stored* __restrict from, std::int64_t channels) {
  constexpr int lanes = Lanes<Real>::count;
  std::int64_t channel = 0;
  for (; channel + lanes <= channels; channel += lanes) {
    for (int lane = 0; lane < lanes; ++lane) read(to[channel + lane], from[channel + lane]);
  }
  if (channel == channels) return;
  for (; channel < channels; ++channel) read(to[channel], from[channel]);
  for (; channel % lanes; ++channel) to[channel] = 0;
}
template <class Real, class Stored>
inline void write_row(Stored* __restrict to, const Real* __restrict from, std::int64_t channels) {
  constexpr int lanes = Lanes<Real>::count;
  std::int64_t channel = 0;
  for (; channel + lanes <= channels; channel += lanes) {
    for (int lane = 0; lane < lanes; ++lane) write(to[channel + lane], from[channel + lane]);
  }
  for (; channel < channels; ++channel) write(to[channel], from[channel]);
}

}  // namespace unept
