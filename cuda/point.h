// Arithmetic of one sampling point, shared by the CPU and CUDA kernels: its position, the four pixels of its bilinear
// interpolation and their shares, and the derivatives by its position.
//
// A point is (x, y) in pixels of its level; pixel i of a row has its centre at i. The corners are numbered
// 0 = (above, left), 1 = (above, right), 2 = (below, left), 3 = (below, right). A corner outside the map has value 0.
// A point that is not finite counts as outside every map: it contributes 0 and has no gradient. Real and Int are
// numbers, or on a CPU vectors of numbers, so nothing here branches.
#pragma once

#if defined(__CUDACC__)
#define UNEPT_INLINE __host__ __device__ __forceinline__
#else
#define UNEPT_INLINE inline __attribute__((always_inline))
#endif

namespace unept {

// Rounding of a Real: the largest whole number not above it, as a Real and as an Int. lanes.h has it for vectors.
template <class Real>
struct Rounding {
  using Int = int;
  static UNEPT_INLINE Real floor(Real number) {
    const Real whole = static_cast<Real>(static_cast<int>(number));
    return number < whole ? whole - 1 : whole;
  }
  static UNEPT_INLINE Int to_int(Real whole) { return static_cast<Int>(whole); }
};

// Position in pixels from a fraction of the level's side and an offset in pixels.
template <class Real>
UNEPT_INLINE Real pixel(Real fraction, Real side, Real offset) {
  return fraction * side - (Real{} + 1) / 2 + offset;
}

// The two pixels around a position along one axis: `low` and the next one, and the share of the latter, 0 to 1. `low`
// is clamped to [-2, side], where both pixels are outside the map.
template <class Real, class Int = typename Rounding<Real>::Int>
struct Axis {
  Int low;
  Real share;
};

template <class Real>
UNEPT_INLINE Axis<Real> neighbours(Real position, Real side) {
  const Real outside = Real{} - 2;
  const Real kept = position > outside ? position : outside;  // also for NaN
  const Real safe = kept < side ? kept : side;
  const Real low = Rounding<Real>::floor(safe);
  return {Rounding<Real>::to_int(low), safe - low};
}

// Tokens of a point's corners (-1 outside the map), and the shares of the right and the lower pixels.
template <class Real>
struct Point {
  int row0, row1, row2, row3;
  Real right, down;
};

// A level: height, width, and the token of its pixel 0.
struct Map {
  int height, width, first;
};

template <class Real>
UNEPT_INLINE Point<Real> locate(Real x, Real y, const Map& map) {
  const Axis<Real> across = neighbours(x, Real(map.width)), along = neighbours(y, Real(map.height));
  const int row = along.low * map.width + across.low + map.first, below = row + map.width;
  const bool left = across.low >= 0 && across.low < map.width, right = across.low >= -1 && across.low < map.width - 1;
  const bool above = along.low >= 0 && along.low < map.height, under = along.low >= -1 && along.low < map.height - 1;
  return {above && left ? row : -1, above && right ? row + 1 : -1, under && left ? below : -1,
          under && right ? below + 1 : -1, across.share, along.share};
}

// Bilinear share of each corner.
template <class Real>
UNEPT_INLINE Real share0(Real right, Real down) { return (1 - right) * (1 - down); }
template <class Real>
UNEPT_INLINE Real share1(Real right, Real down) { return right * (1 - down); }
template <class Real>
UNEPT_INLINE Real share2(Real right, Real down) { return (1 - right) * down; }
template <class Real>
UNEPT_INLINE Real share3(Real right, Real down) { return right * down; }

// Derivatives of the interpolation of four corner values (0 for a corner outside) by the point's x and y.
template <class Real>
UNEPT_INLINE Real grad_x(Real v0, Real v1, Real v2, Real v3, Real down) {
  return (v1 - v0) * (1 - down) + (v3 - v2) * down;
}
template <class Real>
UNEPT_INLINE Real grad_y(Real v0, Real v1, Real v2, Real v3, Real right) {
  return (v2 - v0) * (1 - right) + (v3 - v1) * right;
}

}  // namespace unept
