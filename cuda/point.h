// The arithmetic of one sampling point, shared by the kernels of every processor: where it lies, which four pixels it
// mixes, with what shares, and how the mixture changes when the point moves.
//
// A point is (x, y) in pixels of its level; pixel i of a row has its centre at i. Corners are counted
// 0 = (above, left), 1 = (above, right), 2 = (below, left), 3 = (below, right). A corner outside the map is worth 0.
// A point that is not finite lies outside every map, so that it contributes nothing and has no gradient. Real and Int
// are numbers, or on a CPU vectors of numbers: nothing in here branches.
#pragma once

#if defined(__CUDACC__)
#define UNEPT_INLINE __host__ __device__ __forceinline__
#else
#define UNEPT_INLINE inline __attribute__((always_inline))
#endif

namespace unept {

// The whole numbers that go with a Real: the largest one not above it, as a Real and as an Int; vectors have theirs in
// lanes.h.
template <class Real>
struct Whole {
  using Int = int;
  static UNEPT_INLINE Real below(Real number) {
    const Real whole = static_cast<Real>(static_cast<int>(number));
    return number < whole ? whole - 1 : whole;
  }
  static UNEPT_INLINE Int of(Real whole) { return static_cast<Int>(whole); }
};

// Pixels of a level from a fraction of its side and an offset in pixels.
template <class Real>
UNEPT_INLINE Real pixel(Real fraction, Real side, Real offset) {
  return fraction * side - (Real{} + 1) / 2 + offset;
}

// The two pixels around a place along one axis: `low` and the one after it, and the share of the latter, 0 to 1. `low`
// is -2 at least and `side` at most, where both lie outside the map: a place beyond those is moved to them.
template <class Real, class Int = typename Whole<Real>::Int>
struct Axis {
  Int low;
  Real share;
};

template <class Real>
UNEPT_INLINE Axis<Real> neighbours(Real place, Real side) {
  const Real outside = Real{} - 2;
  const Real kept = place > outside ? place : outside;  // also for NaN
  const Real safe = kept < side ? kept : side;
  const Real low = Whole<Real>::below(safe);
  return {Whole<Real>::of(low), safe - low};
}

// The tokens of a point's corners, -1 for a corner outside the map, and the shares of the right and the lower pixels.
template <class Real>
struct Point {
  int row0, row1, row2, row3;
  Real right, down;
};

// A level: its sides, and the token of its pixel 0.
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

// The share of each corner.
template <class Real>
UNEPT_INLINE Real share0(Real right, Real down) { return (1 - right) * (1 - down); }
template <class Real>
UNEPT_INLINE Real share1(Real right, Real down) { return right * (1 - down); }
template <class Real>
UNEPT_INLINE Real share2(Real right, Real down) { return (1 - right) * down; }
template <class Real>
UNEPT_INLINE Real share3(Real right, Real down) { return right * down; }

// The derivatives of the mixture of four corner values (0 for a corner outside) by the point's x and y.
template <class Real>
UNEPT_INLINE Real slope_x(Real v0, Real v1, Real v2, Real v3, Real down) {
  return (v1 - v0) * (1 - down) + (v3 - v2) * down;
}
template <class Real>
UNEPT_INLINE Real slope_y(Real v0, Real v1, Real v2, Real v3, Real right) {
  return (v2 - v0) * (1 - right) + (v3 - v1) * right;
}

}  // namespace unept
