// The work on a block of points of one head: where they lie, and the sums over their corners.
//
// The points of a block are ordered by level, then query, then point; a level's last vector is filled up with points
// that nobody reads.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "lanes.h"
#include "point.h"

namespace unept {

// The arrays of a block, in a thread's own memory.
template <class Real>
struct Block {
  std::int64_t step, room;  // points of a level and of all levels, whole vectors each
  Real *x, *y, *weight, *right, *down, *share, *dots, *delta;
  int *row, *owner;        // the corners' table rows, in vectors; a point's query
  Vector<Real>* gradient;  // a row for each query
  Vector<Real>* sum;       // a row

  static std::int64_t padded(std::int64_t points) { return (points + 15) / 16 * 16; }

  static std::int64_t bytes(std::int64_t levels, std::int64_t points, std::int64_t queries, std::int64_t vectors) {
    const std::int64_t point = 14 * sizeof(Real) + 5 * sizeof(int);
    return levels * padded(queries * points) * point + (queries + 1) * vectors * UNEPT_BYTES;
  }

  Block(char* memory, std::int64_t levels, std::int64_t points, std::int64_t queries, std::int64_t vectors)
      : step(padded(queries * points)), room(levels * step) {
    Real* next = reinterpret_cast<Real*>(memory);
    const auto take = [&next](std::int64_t count) { return std::exchange(next, next + count); };
    x = take(room), y = take(room), weight = take(room), right = take(room), down = take(room), delta = take(room);
    share = take(4 * room), dots = take(4 * room);
    row = reinterpret_cast<int*>(next), owner = row + 4 * room;
    gradient = reinterpret_cast<Vector<Real>*>(owner + room);
    sum = gradient + queries * vectors;
  }
};

// e^x of each weight, in whole vectors.
template <class Real>
void exponentials(Real* weight, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) store(weight + i, exponential<Real>(load(weight + i)));
}

// From the pixels of points of a level, `from` on, to table rows, and to the corners' shares times the weights.
template <class Real>
void locate_points(const Block<Real>& block, std::int64_t from, std::int64_t count, const Map& map) {
  const std::int64_t room = block.room;
  for (std::int64_t i = from; i < from + count; i += Lanes<Real>::count) {
    const auto point = locate<Vector<Real>, Real>(load(block.x + i), load(block.y + i), map);
    const Vector<Real> weight = load(block.weight + i), right = point.right, down = point.down;
    store_ints<Real>(block.row + i, point.row0);
    store_ints<Real>(block.row + room + i, point.row1);
    store_ints<Real>(block.row + 2 * room + i, point.row2);
    store_ints<Real>(block.row + 3 * room + i, point.row3);
    store(block.right + i, right);
    store(block.down + i, down);
    store(block.share + i, Vector<Real>(weight * share0(right, down)));
    store(block.share + room + i, Vector<Real>(weight * share1(right, down)));
    store(block.share + 2 * room + i, Vector<Real>(weight * share2(right, down)));
    store(block.share + 3 * room + i, Vector<Real>(weight * share3(right, down)));
  }
}

// sum = the corners' rows times their shares, over `points` points of each level, those of the first from `from` on.
template <class Real, int pieces>
void gather(const Block<Real>& block, const Vector<Real>* table, std::int64_t from, std::int64_t levels,
            std::int64_t points, Vector<Real>* sum) {
  constexpr int chains = pieces <= 2 ? 4 : pieces == 4 ? 2 : 1;  // sums that do not wait for each other
  const std::int64_t room = block.room;
  Vector<Real> part[chains][pieces] = {};
  for (std::int64_t level = 0; level < levels; ++level) {
    const int* row = block.row + from + level * block.step;
    const Real* share = block.share + from + level * block.step;
    for (std::int64_t point = 0; point < points; ++point) {
#pragma GCC unroll 4
      for (int corner = 0; corner < 4; ++corner) {
        const Vector<Real>* values = table + row[corner * room + point];
        const Real times = share[corner * room + point];
#pragma GCC unroll 8
        for (int piece = 0; piece < pieces; ++piece) part[corner % chains][piece] += times * values[piece];
      }
    }
  }
  for (int piece = 0; piece < pieces; ++piece) {
    Vector<Real> whole = part[0][piece];
    for (int chain = 1; chain < chains; ++chain) whole += part[chain][piece];
    sum[piece] = whole;
  }
}

// The reverse: add the query's gradient times the shares to the corners' rows.
template <class Real, int pieces>
void scatter(const Block<Real>& block, Vector<Real>* table, std::int64_t from, std::int64_t points,
             const Vector<Real>* gradient) {
  const std::int64_t room = block.room;
  const int* row = block.row + from;
  const Real* share = block.share + from;
  Vector<Real> kept[pieces];
  for (int piece = 0; piece < pieces; ++piece) kept[piece] = gradient[piece];
  for (std::int64_t point = 0; point < points; ++point) {
#pragma GCC unroll 4
    for (int corner = 0; corner < 4; ++corner) {
      Vector<Real>* values = table + row[corner * room + point];
      const Real times = share[corner * room + point];
#pragma GCC unroll 8
      for (int piece = 0; piece < pieces; ++piece) values[piece] += times * kept[piece];
    }
  }
}

// How many points' corners one vector of products holds: some points, or half a point in vectors of two.
template <class Real>
constexpr int group = Lanes<Real>::count < 4 ? 1 : Lanes<Real>::count / 4;

// dots[corner][point] = (or, if not `fresh`, +=) the corner's row times the gradient of the point's query.
// `together`: the points of a group are of one query.
template <class Real, int pieces, bool together>
void dot(const Block<Real>& block, const Vector<Real>* table, std::int64_t count, std::int64_t piece_from,
         std::int64_t vectors, bool fresh) {
  constexpr int lanes = Lanes<Real>::count, points = group<Real>, corners = lanes / points;
  const std::int64_t room = block.room;
  const Vector<Real>* gradients = block.gradient + piece_from;
  for (std::int64_t from = 0; from < count; from += points) {
    const Vector<Real>* gradient = gradients + block.owner[from] * vectors;
    for (int first = 0; first < 4; first += corners) {
      Vector<Real> products[lanes];
#pragma GCC unroll 16
      for (int lane = 0; lane < lanes; ++lane) {
        const std::int64_t point = from + lane % points, corner = first + lane / points;
        const Vector<Real>* values = table + block.row[corner * room + point];
        if constexpr (!together) gradient = gradients + block.owner[point] * vectors;
        Vector<Real> product = values[0] * gradient[0];
#pragma GCC unroll 8
        for (int piece = 1; piece < pieces; ++piece) product += values[piece] * gradient[piece];
        products[lane] = product;
      }
      const Vector<Real> found = sums<Real>(products);
      for (int corner = 0; corner < corners; ++corner) {
        Real* to = block.dots + (first + corner) * room + from;
        for (int point = 0; point < points; ++point) {
          to[point] = fresh ? found[corner * points + point] : to[point] + found[corner * points + point];
        }
      }
    }
  }
}

// The gradients by the points' places and logits, from the dots; they replace x, y and delta.
template <class Real>
void slopes(const Block<Real>& block, std::int64_t count) {
  const std::int64_t room = block.room;
  for (std::int64_t i = 0; i < count; i += Lanes<Real>::count) {
    const Vector<Real> v0 = load(block.dots + i), v1 = load(block.dots + room + i);
    const Vector<Real> v2 = load(block.dots + 2 * room + i), v3 = load(block.dots + 3 * room + i);
    const Vector<Real> weight = load(block.weight + i), delta = load(block.delta + i);
    const Vector<Real> mixed = load(block.share + i) * v0 + load(block.share + room + i) * v1 +
                               load(block.share + 2 * room + i) * v2 + load(block.share + 3 * room + i) * v3;
    store(block.x + i, Vector<Real>(weight * slope_x(v0, v1, v2, v3, load(block.down + i))));
    store(block.y + i, Vector<Real>(weight * slope_y(v0, v1, v2, v3, load(block.right + i))));
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
