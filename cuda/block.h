// Work on a block of points of one head: their locations, and the sums over their corners.
//
// The points of a block are ordered by query, then level, then point. The last vector is padded with points whose
// results are not used.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "lanes.h"
#include "layout.h"
#include "point.h"

namespace unept {

constexpr int kCacheLine = 64;                       // bytes
constexpr std::int64_t kPrefetchPoints = 6;          // distance in points at which a point's corners are prefetched
constexpr std::int64_t kCachedTableBytes = 1 << 19;  // tables below this size stay in L2; prefetching does not pay

// Always inline: GCC drops calls of a function that only prefetches.
template <int to_write = 0>
UNEPT_INLINE void prefetch(const void* from, std::int64_t bytes) {
  const char* line = static_cast<const char*>(from);
  for (const char* end = line + bytes; line < end; line += kCacheLine) __builtin_prefetch(line, to_write);
}

// Arrays of a block, in memory of one thread.
template <class Real>
struct Block {
  using Int = typename Lanes<Real>::Int;
  std::int64_t capacity;  // number of points, padded to whole vectors
  Real *x, *y, *weight, *right, *down, *share, *dots, *delta;
  Int* row;                 // offset of corner 0 in the table, in numbers
  Real *level_w, *level_h;  // width and height of the point's level
  Int *step, *first;        // offset from a line of that level to the next, and offset of its pixel 0, in numbers
  int* owner;               // row of `gradient` that belongs to the point's query
  Vector<Real>* gradient;   // one row for each query
  Vector<Real>* sum;        // one row

  // Number of points in whole vectors, with room for those that are prefetched past the last one.
  static std::int64_t padded(std::int64_t points) { return (points + kPrefetchPoints + 15) / 16 * 16; }

  static std::int64_t bytes(std::int64_t points, std::int64_t queries, std::int64_t vectors) {
    const std::int64_t point = 16 * sizeof(Real) + 3 * sizeof(Int) + sizeof(int);
    return padded(queries * points) * point + (queries + 1) * vectors * UNEPT_BYTES;
  }

  Block(char* memory, std::int64_t points, std::int64_t queries, std::int64_t vectors)
      : capacity(padded(queries * points)) {
    Real* next = reinterpret_cast<Real*>(memory);
    const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
    x = take(capacity), y = take(capacity), weight = take(capacity);
    right = take(capacity), down = take(capacity), delta = take(capacity);
    share = take(4 * capacity), dots = take(4 * capacity), level_w = take(capacity), level_h = take(capacity);
    row = reinterpret_cast<Int*>(next), step = row + capacity, first = step + capacity;
    owner = reinterpret_cast<int*>(first + capacity);
    gradient = reinterpret_cast<Vector<Real>*>(owner + capacity);
    sum = gradient + queries * vectors;
  }

  // Writes the constants of each point: `count` levels with `points` points each, in a table whose first row is `start`
  // and whose rows are `width` numbers.
  void sample(
      const Level* levels, std::int64_t count, std::int64_t points, std::int64_t start, std::int64_t width) const {
    for (std::int64_t i = 0; i < capacity; ++i) {
      const Level& level = levels[i / points % count];
      owner[i] = static_cast<int>(i / (points * count)), row[i] = 0;
      level_w[i] = static_cast<Real>(level.width), level_h[i] = static_cast<Real>(level.height);
      step[i] = static_cast<Int>(level.step() * width);
      first[i] = static_cast<Int>((level.row + level.before() - start) * width);
    }
  }
};

// Replaces each weight x by e^x, in whole vectors.
template <class Real>
void exponentials(Real* weight, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) store(weight + i, exponential<Real>(load(weight + i)));
}

// Computes table rows, and corner shares times weights, from the pixel positions of the points.
template <class Real>
void locate_points(const Block<Real>& block, std::int64_t count, std::int64_t width) {
  using Int = typename Lanes<Real>::Int;
  const std::int64_t capacity = block.capacity;
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) {
    const auto across = neighbours(load(block.x + i), load(block.level_w + i));
    const auto along = neighbours(load(block.y + i), load(block.level_h + i));
    const Ints<Real> line = along.low * load_ints<Real>(block.step + i);
    store_ints<Real>(block.row + i, line + across.low * static_cast<Int>(width) + load_ints<Real>(block.first + i));
    const Vector<Real> weight = load(block.weight + i), right = across.share, down = along.share;
    store(block.right + i, right);
    store(block.down + i, down);
    store(block.share + i, Vector<Real>(weight * share0(right, down)));
    store(block.share + capacity + i, Vector<Real>(weight * share1(right, down)));
    store(block.share + 2 * capacity + i, Vector<Real>(weight * share2(right, down)));
    store(block.share + 3 * capacity + i, Vector<Real>(weight * share3(right, down)));
  }
}

// Sets `sum` to the corner rows times their shares, summed over `points` points of each level of one query, starting at
// point `from`. There is at least one level and one point. With `far` the corners of later points are prefetched; past
// the last point that prefetches a row that is not used.
template <class Real, int pieces, bool far>
void gather(const Block<Real>& block, const Real* table, std::int64_t from, std::int64_t levels, std::int64_t points,
            std::int64_t width, Vector<Real>* sum) {
  constexpr int chains = pieces <= 2 ? 4 : pieces == 4 ? 2 : 1;  // independent sums
  const std::int64_t capacity = block.capacity;
  const auto* row = block.row + from;
  const Real* share = block.share + from;
  Vector<Real> part[chains][pieces] = {};
  std::int64_t level = 0;
  do {  // not `for`: a loop that may run zero times keeps the sums in memory
    const std::int64_t below = block.step[level * points];
    const auto* end = row + points;
    do {
      const Real* above = table + static_cast<std::size_t>(*row);
      const Real* corners[4] = {above, above + width, above + below, above + below + width};
      if constexpr (far) {
        const Real* later = table + static_cast<std::size_t>(row[kPrefetchPoints]);  // two adjacent rows, on two lines
        prefetch(later, 2 * pieces * UNEPT_BYTES);
        prefetch(later + below, 2 * pieces * UNEPT_BYTES);
      }
#pragma GCC unroll 4
      for (int corner = 0; corner < 4; ++corner) {
        const Vector<Real>* values = reinterpret_cast<const Vector<Real>*>(corners[corner]);
        const Real times = share[corner * capacity];
#pragma GCC unroll 8
        for (int piece = 0; piece < pieces; ++piece) part[corner % chains][piece] += times * values[piece];
      }
      ++share;
    } while (++row != end);
  } while (++level < levels);
  for (int piece = 0; piece < pieces; ++piece) {
    Vector<Real> whole = part[0][piece];
    for (int chain = 1; chain < chains; ++chain) whole += part[chain][piece];
    sum[piece] = whole;
  }
}

// Adds the query's gradient times the shares to the corner rows: the transpose of `gather`.
template <class Real, int pieces>
void scatter(const Block<Real>& block, Real* table, std::int64_t from, std::int64_t points, std::int64_t width,
             const Vector<Real>* gradient) {
  const std::int64_t capacity = block.capacity, below = block.step[0];
  const auto* row = block.row + from;
  const Real* share = block.share + from;
  Vector<Real> kept[pieces];
  for (int piece = 0; piece < pieces; ++piece) kept[piece] = gradient[piece];
  for (std::int64_t point = 0; point < points; ++point) {
    Real* above = table + static_cast<std::size_t>(row[point]);
    Real* corners[4] = {above, above + width, above + below, above + below + width};
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      Vector<Real>* values = reinterpret_cast<Vector<Real>*>(corners[corner]);
      const Real times = share[corner * capacity + point];
#pragma GCC unroll 8
      for (int piece = 0; piece < pieces; ++piece) values[piece] += times * kept[piece];
    }
  }
}

// Number of points whose four corners fill one vector of products; 1 also for vectors of two lanes, which hold half.
template <class Real>
constexpr int group = Lanes<Real>::count < 4 ? 1 : Lanes<Real>::count / 4;

// Dot products of corner rows and gradients for the points of a group; overwrites `dots` if `fresh`, else adds to them.
// The dots of a group are contiguous and ordered by corner, then point. If `together`, all points belong to one query,
// whose gradient is `gradient`; else the gradient of a point starts at row `owner[point]` of it.
template <class Real, int pieces, bool together>
UNEPT_INLINE void dot_group(const Real* table, const typename Lanes<Real>::Int* row, std::int64_t width,
                            std::int64_t below, const Vector<Real>* gradient, const int* owner, std::int64_t vectors,
                            bool fresh, Real* dots) {
  constexpr int lanes = Lanes<Real>::count, points = group<Real>, corners = lanes / points;
  for (int first = 0; first < 4; first += corners) {
    Vector<Real> products[lanes];
#pragma GCC unroll 16
    for (int lane = 0; lane < lanes; ++lane) {
      const int point = lane % points, corner = first + lane / points;
      const Real* from = table + static_cast<std::size_t>(row[point]) + (corner & 1) * width + corner / 2 * below;
      const Vector<Real>* values = reinterpret_cast<const Vector<Real>*>(from);
      const Vector<Real>* other = together ? gradient : gradient + owner[point] * vectors;
      Vector<Real> product = values[0] * other[0];
#pragma GCC unroll 8
      for (int piece = 1; piece < pieces; ++piece) product += values[piece] * other[piece];
      products[lane] = product;
    }
    const Vector<Real> corner_dots = sums<Real>(products);
    store(dots + first, fresh ? corner_dots : Vector<Real>(load(dots + first) + corner_dots));
  }
}

// Dot products for `queries` queries with `points` points each.
template <class Real, int pieces>
void dot(const Block<Real>& block, const Real* table, std::int64_t queries, std::int64_t points, std::int64_t width,
         const Vector<Real>* gradient, std::int64_t vectors, bool fresh) {
  const std::int64_t below = block.step[0], count = queries * points;
  const auto* row = block.row;
  const int* owner = block.owner;
  Real* dots = block.dots;
  if (points % group<Real>) {
    for (std::int64_t from = 0; from < count; from += group<Real>) {
      dot_group<Real, pieces, false>(table, row + from, width, below, gradient, owner + from, vectors, fresh,
                                     dots + 4 * from);
    }
    return;
  }
  for (std::int64_t query = 0, from = 0; query < queries; ++query, gradient += vectors) {
    Vector<Real> kept[pieces];
    for (int piece = 0; piece < pieces; ++piece) kept[piece] = gradient[piece];
    for (const std::int64_t end = from + points; from < end; from += group<Real>) {
      dot_group<Real, pieces, true>(table, row + from, width, below, kept, owner, vectors, fresh, dots + 4 * from);
    }
  }
}

// Rearranges the dots of a vector of points into one vector for each corner.
template <class Real>
void dots_of(const Real* dots, Vector<Real>* corners) {
  constexpr int lanes = Lanes<Real>::count, step = group<Real>;
  if constexpr (lanes < 4) {
    for (int corner = 0; corner < 4; ++corner) {
      for (int lane = 0; lane < lanes; ++lane) corners[corner][lane] = dots[4 * lane + corner];
    }
  } else {  // transpose a matrix of four by four groups
    for (int row = 0; row < 4; ++row) corners[row] = load(dots + row * lanes);
    exchange<Real, step>(corners[0], corners[1]), exchange<Real, step>(corners[2], corners[3]);
    exchange<Real, 2 * step>(corners[0], corners[2]), exchange<Real, 2 * step>(corners[1], corners[3]);
  }
}

// Computes the gradients of positions and logits from the dots; they replace x, y and delta.
template <class Real>
void point_gradients(const Block<Real>& block, std::int64_t count) {
  const std::int64_t capacity = block.capacity;
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) {
    Vector<Real> v[4];
    dots_of(block.dots + 4 * i, v);
    const Vector<Real> weight = load(block.weight + i), delta = load(block.delta + i);
    const Vector<Real> weighted = load(block.share + i) * v[0] + load(block.share + capacity + i) * v[1] +
                                  load(block.share + 2 * capacity + i) * v[2] +
                                  load(block.share + 3 * capacity + i) * v[3];
    store(block.x + i, Vector<Real>(weight * grad_x(v[0], v[1], v[2], v[3], load(block.down + i))));
    store(block.y + i, Vector<Real>(weight * grad_y(v[0], v[1], v[2], v[3], load(block.right + i))));
    store(block.delta + i, Vector<Real>(weighted - weight * delta));
  }
}

// Splits a row into pieces of 8, 4, 2 and 1 vectors and calls work(integral_constant<N>, first vector) for each.
template <class Work>
void in_pieces(std::int64_t vectors, const Work& work) {
  std::int64_t from = 0;
  for (; vectors - from >= 8; from += 8) work(std::integral_constant<int, 8>{}, from);
  if (vectors - from >= 4) work(std::integral_constant<int, 4>{}, std::exchange(from, from + 4));
  if (vectors - from >= 2) work(std::integral_constant<int, 2>{}, std::exchange(from, from + 2));
  if (vectors - from >= 1) work(std::integral_constant<int, 1>{}, from);
}

}  // namespace unept
