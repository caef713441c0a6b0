// The forward pass on a CPU: a task is a head's block of queries.
#pragma once

#include "call.h"

namespace unept {

template <class Real>
void forward_block(const Call<Real>& call, const Block<Real>& block, const Vector<Real>* table, const Queries& queries) {
  const UneptSizes& size = call.size();
  const std::int64_t points = size.points, vectors = call.layout.vectors, step = block.step;
  Real* softmax = call.softmax + 2 * ((queries.image * size.heads + queries.head) * size.queries + queries.from);
  fetch(call, queries, 0, size.levels);
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    const std::int64_t place = call.place(queries.image, queries.from + query, queries.head);
    softmax[2 * query] = largest(call.logits + place * call.points(), call.points());
  }
  for (std::int64_t level = 0; level < size.levels; ++level) fill(call, block, queries, level, level * step);
  exponentials(block.weight, size.levels * step);
  for (std::int64_t level = 0; level < size.levels; ++level) {
    const Level& map = call.layout.levels[level];
    locate_points(block, level * step, queries.count() * points, map_of(call.layout, map, map.row));
  }
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    Real sum = 0;
    for (std::int64_t level = 0; level < size.levels; ++level) {
      sum += total(block.weight + level * step + query * points, points);
    }
    const Real times = softmax[2 * query + 1] = Real(1) / sum;
    in_pieces(vectors, [&](auto pieces, std::int64_t from) {
      gather<Real, pieces>(block, table + from, query * points, size.levels, points, block.sum + from);
    });
    for (std::int64_t vector = 0; vector < vectors; ++vector) block.sum[vector] *= times;
    const std::int64_t place = call.place(queries.image, queries.from + query, queries.head);
    std::memcpy(call.result + place * size.channels, block.sum, size.channels * sizeof(Real));
  }
}

template <class Real, class Stored>
Error forward(const Call<Real>& call) {
  const UneptSizes& size = call.size();
  const std::int64_t vectors = call.layout.vectors, room = queries_of_a_block(call.points());
  const std::int64_t bytes = (Block<Real>::bytes(size.levels, size.points, room, vectors) + 63) / 64 * 64;
  const Scratch tables(size.batch * size.heads * call.layout.rows * vectors * UNEPT_BYTES), own(call.threads * bytes);
  if (!tables || !own) return no_memory;
  pack<Real, Stored>(call, tables.as<Vector<Real>>());
  const std::int64_t parts = (size.queries + kQueries - 1) / kQueries;
  parallel(size.batch * size.heads * parts, call.threads, [&](std::int64_t task, int thread) {
    const std::int64_t head = task / parts % size.heads, image = task / parts / size.heads;
    const std::int64_t first = task % parts * kQueries;
    const std::int64_t last = first + kQueries < size.queries ? first + kQueries : size.queries;
    const Block<Real> block(own.as<char>() + thread * bytes, size.levels, size.points, room, vectors);
    const Vector<Real>* table = tables.as<Vector<Real>>() + call.table(image, head);
    for (std::int64_t from = first; from < last; from += room) {
      forward_block(call, block, table, {image, head, from, from + room < last ? from + room : last});
    }
  });
  return none;
}

}  // namespace unept
