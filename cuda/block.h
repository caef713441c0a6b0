// The work on a block of points of one head: where they lie, and the sums over their corners.
//
// The points of a block are ordered by query, then level, then point; its last vector is filled up with points that
// nobody reads.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "lanes.h"
#include "layout.h"
#include "point.h"

namespace unept {

constexpr int kLine = 64;               // bytes
constexpr std::int64_t kNext = 6;       // points: how far before it is summed a point's corners are asked for
constexpr std::int64_t kNear = 1 << 19; // bytes of a table that is near anyway: asking costs more than it brings

// Always inline: GCC takes a function that does nothing else for one that does nothing.
template <int to_write = 0>
UNEPT_INLINE void prefetch(const void* from, std::int64_t bytes) {
  const char* line = static_cast<const char*>(from);
  for (const char* end = line + bytes; line < end; line += kLine) __builtin_prefetch(line, to_write);
}

// The arrays of a block, in a thread's own memory.
template <class Real>
struct Block {
  using Int = typename Lanes<Real>::Int;
  std::int64_t room;  // points, in whole vectors
  Real *x, *y, *weight, *right, *down, *share, *dots, *delta;
  Int* row;                        // of corner 0 in the table, in numbers
  Real *wide, *high;               // of a point's level: its sides,
  Int *step, *first;               // the way to the line below and the place of pixel 0, in numbers
  int* owner;                      // a point's query, in rows of `gradient`
  Vector<Real>* gradient;          // a row for each query
  Vector<Real>* sum;               // a row

  // In whole vectors, and with the points that are asked for past the last one.
  static std::int64_t padded(std::int64_t points) { return (points + kNext + 15) / 16 * 16; }

  static std::int64_t bytes(std::int64_t points, std::int64_t queries, std::int64_t vectors) {
    const std::int64_t point = 16 * sizeof(Real) + 3 * sizeof(Int) + sizeof(int);
    return padded(queries * points) * point + (queries + 1) * vectors * UNEPT_BYTES;
  }

  Block(char* memory, std::int64_t points, std::int64_t queries, std::int64_t vectors)
      : room(padded(queries * points)) {
    Real* next = reinterpret_cast<Real*>(memory);
    const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
    x = take(room), y = take(room), weight = take(room), right = take(room), down = take(room), delta = take(room);
    share = take(4 * room), dots = take(4 * room), wide = take(room), high = take(room);
    row = reinterpret_cast<Int*>(next), step = row + room, first = step + room;
    owner = reinterpret_cast<int*>(first + room);
    gradient = reinterpret_cast<Vector<Real>*>(owner + room);
    sum = gradient + queries * vectors;
  }

  // The points are those of these levels, in a table that starts with row `start`; `width` numbers are a row.
  void sample(
      const Level* levels, std::int64_t count, std::int64_t points, std::int64_t start, std::int64_t width) const {
    for (std::int64_t i = 0; i < room; ++i) {
      const Level& level = levels[i / points % count];
      owner[i] = static_cast<int>(i / (points * count)), row[i] = 0;
      wide[i] = static_cast<Real>(level.width), high[i] = static_cast<Real>(level.height);
      step[i] = static_cast<Int>(level.step() * width);
      first[i] = static_cast<Int>((level.row + level.before() - start) * width);
    }
  }
};

// e^x of each weight, in whole vectors.
template <class Real>
void exponentials(Real* weight, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) store(weight + i, exponential<Real>(load(weight + i)));
}

// From the pixels of points to table rows, and to the corners' shares times the weights.
template <class Real>
void locate_points(const Block<Real>& block, std::int64_t count, std::int64_t width) {
  using Int = typename Lanes<Real>::Int;
  const std::int64_t room = block.room;
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) {
    const auto across = neighbours(load(block.x + i), load(block.wide + i));
    const auto along = neighbours(load(block.y + i), load(block.high + i));
    const Ints<Real> line = along.low * load_ints<Real>(block.step + i);
    store_ints<Real>(block.row + i, line + across.low * static_cast<Int>(width) + load_ints<Real>(block.first + i));
    const Vector<Real> weight = load(block.weight + i), right = across.share, down = along.share;
    store(block.right + i, right);
    store(block.down + i, down);
    store(block.share + i, Vector<Real>(weight * share0(right, down)));
    store(block.share + room + i, Vector<Real>(weight * share1(right, down)));
    store(block.share + 2 * room + i, Vector<Real>(weight * share2(right, down)));
    store(block.share + 3 * room + i, Vector<Real>(weight * share3(right, down)));
  }
}

// sum = the corners' rows times their shares, over `points` points of each level of a query, from point `from` on; of
// both there is one at least. With `far` the corners of later points are asked for; past the last one that asks for a
// row that nobody reads.
template <class Real, int pieces, bool far>
void gather(const Block<Real>& block, const Real* table, std::int64_t from, std::int64_t levels, std::int64_t points,
            std::int64_t width, Vector<Real>* sum) {
  constexpr int chains = pieces <= 2 ? 4 : pieces == 4 ? 2 : 1;  // sums that do not wait for each other
  const std::int64_t room = block.room;
  const auto* row = block.row + from;
  const Real* share = block.share + from;
  Vector<Real> part[chains][pieces] = {};
  std::int64_t level = 0;
  do {  // not `for`: with no turn possible, the sums would start in memory
    const std::int64_t below = block.step[level * points];
    const auto* end = row + points;
    do {
      const Real* above = table + static_cast<std::size_t>(*row);
      const Real* corners[4] = {above, above + width, above + below, above + below + width};
      if constexpr (far) {
        const Real* later = table + static_cast<std::size_t>(row[kNext]);  // two rows that lie together, twice
        prefetch(later, 2 * pieces * UNEPT_BYTES);
        prefetch(later + below, 2 * pieces * UNEPT_BYTES);
      }
#pragma GCC unroll 4
      for (int corner = 0; corner < 4; ++corner) {
        const Vector<Real>* values = reinterpret_cast<const Vector<Real>*>(corners[corner]);
        const Real times = share[corner * room];
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

// The reverse: add the query's gradient times the shares to the corners' rows.
template <class Real, int pieces>
void scatter(const Block<Real>& block, Real* table, std::int64_t from, std::int64_t points, std::int64_t width,
             const Vector<Real>* gradient) {
  const std::int64_t room = block.room, below = block.step[0];
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
      const Real times = share[corner * room + point];
#pragma GCC unroll 8
      for (int piece = 0; piece < pieces; ++piece) values[piece] += times * kept[piece];
    }
  }
}

// How many points' corners one vector of products holds: some points, or half a point in vectors of two.
template <class Real>
constexpr int group = Lanes<Real>::count < 4 ? 1 : Lanes<Real>::count / 4;

// The corners' rows times the gradients, for the points of a group: set or, if not `fresh`, added to. A group's dots
// lie together, all of a corner before those of the next. A point's gradient is `gradient` or, if the points are not
// `together` of one query, starts as many rows after it as `owner` says.
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
    const Vector<Real> found = sums<Real>(products);
    store(dots + first, fresh ? found : Vector<Real>(load(dots + first) + found));
  }
}

// The same for `queries` queries with so many points each.
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

// The dots of a vector of points, corner by corner.
template <class Real>
void dots_of(const Real* dots, Vector<Real>* corners) {
  constexpr int lanes = Lanes<Real>::count, step = group<Real>;
  if constexpr (lanes < 4) {
    for (int corner = 0; corner < 4; ++corner) {
      for (int lane = 0; lane < lanes; ++lane) corners[corner][lane] = dots[4 * lane + corner];
    }
  } else {  // a matrix of four by four groups, turned over
    for (int row = 0; row < 4; ++row) corners[row] = load(dots + row * lanes);
    exchange<Real, step>(corners[0], corners[1]), exchange<Real, step>(corners[2], corners[3]);
    exchange<Real, 2 * step>(corners[0], corners[2]), exchange<Real, 2 * step>(corners[1], corners[3]);
  }
}

// The gradients by the points' places and logits, from the dots; they replace x, y and delta.
template <class Real>
void slopes(const Block<Real>& block, std::int64_t count) {
  const std::int64_t room = block.room;
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) {
    Vector<Real> v[4];
    dots_of(block.dots + 4 * i, v);
    const Vector<Real> weight = load(block.weight + i), delta = load(block.delta + i);
    const Vector<Real> mixed = load(block.share + i) * v[0] + load(block.share + room + i) * v[1] +
                               load(block.share + 2 * room + i) * v[2] + load(block.share + 3 * room + i) * v[3];
    store(block.x + i, Vector<Real>(weight * slope_x(v[0], v[1], v[2], v[3], load(block.down + i))));
    store(block.y + i, Vector<Real>(weight * slope_y(v[0], v[1], v[2], v[3], load(block.right + i))));
    store(block.delta + i, Vector<Real>(mixed - weight * delta));
  }
}

// Calls work(integral_constant N, first vector) for pieces of 8, 4, 2 and 1 vectors that make up a row.
template <class Work>
void in_pieces(std::int64_t vectors, const Work& work) {
  std::int64_t from = 0;
  for (; vectors - from >= 8; from += 8) work(std::integral_constant<int, 8>{}, from);
  if (vectors - from >= 4) work(std::integral_constant<int, 4>{}, std::exchange(from, from + 4));
  if (vectors - from >= 2) work(std::integral_constant<int, 2>{}, std::exchange(from, from + 2));
  if (vectors - from >= 1) work(std::integral_constant<int, 1>{}, from);
}

}  // namespace unept
