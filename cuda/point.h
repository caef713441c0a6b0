// The arithmetic of one sampling point, shared by the kernels of every processor: where it lies, which four pixels it
// mixes, with what shares, and how the mixture changes when the point moves.
//
// A point is (x, y) in pixels of its level; pixel i of a row has its centre at i. Corners are counted
// 0 = (above, left), 1 = (above, right), 2 = (below, left), 3 = (below, right). A corner outside the map has no row.
// A point that is not finite lies outside every map, so that it contributes nothing and has no gradient. Real and Int
// are numbers, or on a CPU vectors of numbers: nothing in here branches.
#pragma once

#if defined(__CUDACC__)
#define UNEPT_INLINE __host__ __device__ __forceinline__
#else
#define UNEPT_INLINE inline __attribute__((always_inline))
#endif

namespace unept {

// The whole numbers that go with a Real, and the conversions; vectors have theirs in lanes.h.
template <class Real>
struct Whole {
  using Int = int;
  static UNEPT_INLINE Int truncated(Real number) { return static_cast<Int>(number); }
  static UNEPT_INLINE Real real(Int number) { return static_cast<Real>(number); }
};

// Pixels of a level from a fraction of its side and an offset in pixels.
template <class Real>
UNEPT_INLINE Real pixel(Real fraction, Real side, Real offset) {
  return fraction * side - Real(0.5) + offset;
}

// The two pixels around a place along one axis of `side` pixels: `low` and the one after it.
template <class Real, class Int = typename Whole<Real>::Int>
struct Axis {
  Int low;
  Real share;         // of the one after, 0 to 1
  Int before, after;  // whether each lies in the map: 1 or 0
};

template <class Real, class Scalar, class Int = typename Whole<Real>::Int>
UNEPT_INLINE Axis<Real> neighbours(Real place, Scalar side, int last) {
  const Real none = Real{};
  const Int zero = Int{}, one = zero + 1;
  const Real kept = (place >= none - 1) ? place : none - 2;  // also for NaN
  const Real safe = (kept < none + side) ? kept : none - 2;
  const Int whole = Whole<Real>::truncated(safe);
  const Int low = (safe < Whole<Real>::real(whole)) ? whole - 1 : whole;
  return {low, safe - Whole<Real>::real(low), (low >= zero) ? one : zero,
          (low >= zero - 1) ? ((low < zero + last) ? one : zero) : zero};
}

// The four corners of a point.
template <class Real, class Int = typename Whole<Real>::Int>
struct Point {
  Int row0, row1, row2, row3;  // of the value table; `nowhere` for a corner outside the map
  Real right, down;            // the shares of the right and the lower pixels
};

// A level: its sides, the table row of its pixel 0, the distance of two rows, and the row of a corner outside.
struct Map {
  int height, width, first, step, nowhere;
};

template <class Real, class Scalar, class Int = typename Whole<Real>::Int>
UNEPT_INLINE Point<Real> locate(Real x, Real y, const Map& map) {
  const Axis<Real> across = neighbours<Real, Scalar>(x, Scalar(map.width), map.width - 1);
  const Axis<Real> along = neighbours<Real, Scalar>(y, Scalar(map.height), map.height - 1);
  const Int zero = Int{}, row = (along.low * map.width + across.low) * map.step + map.first;
  const Int below = row + map.width * map.step, nowhere = zero + map.nowhere;
  return {(along.before & across.before) > zero ? row : nowhere,
          (along.before & across.after) > zero ? row + map.step : nowhere,
          (along.after & across.before) > zero ? below : nowhere,
          (along.after & across.after) > zero ? below + map.step : nowhere, across.share, along.share};
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
