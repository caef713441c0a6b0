// Forward pass on a CPU. A task is a range of queries of one head.
#pragma once

#include "call.h"

namespace unept {

template <class Real>
void forward_block(const Call<Real>& call, const Block<Real>& block, const Real* table, const Queries& queries) {
  const UneptSizes& size = call.size();
  const std::int64_t points = call.points(), width = call.layout.width();
  const bool far = call.layout.rows * call.layout.vectors * UNEPT_BYTES > kCachedTableBytes;
  Real* softmax = call.softmax + 2 * ((queries.image * size.heads + queries.head) * size.queries + queries.from);
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    const std::int64_t index = call.index(queries.image, queries.from + query, queries.head);
    softmax[2 * query] = largest(call.logits + index * points, points);
  }
  fill(call, block, queries, 0, size.levels);
  exponentials(block.weight, queries.count() * points);
  locate_points(block, queries.count() * points, width);
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    prefetch_query(call, queries, queries.to + query, 0, size.levels);
    const std::int64_t index = call.index(queries.image, queries.from + query, queries.head);
    prefetch<1>(call.result + index * size.channels, size.channels * std::int64_t(sizeof(Real)));
    const Real times = softmax[2 * query + 1] = Real(1) / total(block.weight + query * points, points);
    in_pieces(call.layout.vectors, [&](auto pieces, std::int64_t from) {
      const auto sum = far ? &gather<Real, pieces, true> : &gather<Real, pieces, false>;
      sum(block, table + from * Lanes<Real>::count, query * points, size.levels, size.points, width, block.sum + from);
    });
    for (std::int64_t vector = 0; vector < call.layout.vectors; ++vector) block.sum[vector] *= times;
    std::memcpy(call.result + index * size.channels, block.sum, size.channels * sizeof(Real));
  }
}

// Number of tasks that a head's queries are split into. A thread copies a head's values once for each task, so one task
// is best unless some threads would then be idle at the end.
inline std::int64_t tasks_of_a_head(std::int64_t heads, int threads) {
  return heads % threads == 0 || heads >= 8 * threads ? 1 : 4;
}

template <class Real, class Stored>
Error forward(const Call<Real>& call) {
  const UneptSizes& size = call.size();
  const Layout<Real>& layout = call.layout;
  const std::int64_t vectors = layout.vectors, capacity = queries_of_a_block(call.points());
  const std::int64_t table_bytes = layout.rows * vectors * UNEPT_BYTES;
  const std::int64_t bytes = (table_bytes + Block<Real>::bytes(call.points(), capacity, vectors) + 63) / 64 * 64;
  const Scratch own(call.threads * bytes);
  if (!own) return no_memory;
  const auto block_of = [&](int thread) {
    return Block<Real>(own.as<char>() + thread * bytes + table_bytes, call.points(), capacity, vectors);
  };
  for (int thread = 0; thread < call.threads; ++thread) {
    block_of(thread).sample(layout.levels.data(), size.levels, size.points, 0, layout.width());
  }
  std::vector<std::int64_t> packed(call.threads, -1);  // head whose values each thread's table holds, -1 = none
  const std::int64_t heads = size.batch * size.heads, parts = tasks_of_a_head(heads, call.threads);
  const std::int64_t share = (size.queries + parts - 1) / parts;
  parallel(heads * parts, call.threads, [&](std::int64_t task, int thread) {
    const std::int64_t which = task / parts, image = which / size.heads, head = which % size.heads;
    const std::int64_t first = task % parts * share;
    const std::int64_t last = first + share < size.queries ? first + share : size.queries;
    Real* table = reinterpret_cast<Real*>(own.as<char>() + thread * bytes);
    if (std::exchange(packed[thread], which) != which) {
      for (const Level& level : layout.levels) {
        pack<Real, Stored>(call, image, head, level, table + level.row * layout.width());
      }
    }
    const Block<Real> block = block_of(thread);
    for (std::int64_t from = first; from < last; from += capacity) {
      forward_block(call, block, table, {image, head, from, from + capacity < last ? from + capacity : last});
    }
  });
  return none;
}

}  // namespace unept
