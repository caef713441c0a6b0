// Backward pass on a CPU. A task is one level of one head; no other task adds to its value gradient.
#pragma once

#include "call.h"

namespace unept {

// Dot product of gradient and result for each query and head. The derivative of the softmax subtracts it from every
// logit's gradient.
template <class Real>
void gradient_dot_result(const Call<Real>& call, Real* deltas) {
  const UneptSizes& size = call.size();
  constexpr int lanes = Lanes<Real>::count;
  const std::int64_t parts = (size.queries + kBlockQueries - 1) / kBlockQueries;
  parallel(size.batch * parts, call.threads, [&](std::int64_t task, int) {
    const std::int64_t image = task / parts, first = task % parts * kBlockQueries;
    const std::int64_t last = first + kBlockQueries < size.queries ? first + kBlockQueries : size.queries;
    for (std::int64_t row = first * size.heads; row < last * size.heads; ++row) {
      const std::int64_t query = row / size.heads, head = row % size.heads;
      const std::int64_t from = call.index(image, query, head) * size.channels;
      Vector<Real> part = {};
      std::int64_t channel = 0;
      for (; channel + lanes <= size.channels; channel += lanes) {
        part += load(call.gradient + from + channel) * load(call.result + from + channel);
      }
      Real sum = sum_of<Real>(part);
      for (; channel < size.channels; ++channel) sum += call.gradient[from + channel] * call.result[from + channel];
      deltas[(image * size.heads + head) * size.queries + query] = sum;
    }
  });
}

// Copies the results of `point_gradients` from the block to the offset and logit gradients.
template <class Real>
void store_point_gradients(const Call<Real>& call, const Block<Real>& block, const Queries& queries,
                           std::int64_t level) {
  constexpr int lanes = Lanes<Real>::count;
  const std::int64_t points = call.size().points, step = call.size().heads * call.points();
  const std::int64_t to = call.index(queries.image, queries.from, queries.head) * call.points() + level * points;
  const Real *x = block.x, *y = block.y, *by_logit = block.delta;
  Real *offsets = call.offset_gradient + 2 * to, *logits = call.logit_gradient + to;
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    std::int64_t i = 0;
    for (; i + lanes <= points; i += lanes) {
      store_pairs(offsets + 2 * i, load(x + i), load(y + i));
      store(logits + i, load(by_logit + i));
    }
    for (; i < points; ++i) offsets[2 * i] = x[i], offsets[2 * i + 1] = y[i], logits[i] = by_logit[i];
    x += points, y += points, by_logit += points, offsets += 2 * step, logits += step;
  }
}

// Prefetches the cache lines that `store_point_gradients` will write for a query. It is called during the scatter, long
// before they are needed.
template <class Real>
UNEPT_INLINE void prefetch_gradients(const Call<Real>& call, const Queries& queries, std::int64_t query,
                                     std::int64_t level) {
  const std::int64_t points = call.size().points;
  const std::int64_t to = call.index(queries.image, query, queries.head) * call.points() + level * points;
  prefetch<1>(call.offset_gradient + 2 * to, 2 * points * std::int64_t(sizeof(Real)));
  prefetch<1>(call.logit_gradient + to, points * std::int64_t(sizeof(Real)));
}

// Loads the gradients of a block's queries and completes weight and delta of each point. `fill` has done the rest.
template <class Real>
void load_gradients(const Call<Real>& call, const Block<Real>& block, const Queries& queries, const Real* deltas) {
  constexpr int lanes = Lanes<Real>::count;
  const UneptSizes& size = call.size();
  const std::int64_t points = size.points, width = call.layout.width();
  const std::int64_t first = (queries.image * size.heads + queries.head) * size.queries + queries.from;
  const Real* from = call.gradient + call.index(queries.image, queries.from, queries.head) * size.channels;
  Real *weight = block.weight, *delta = block.delta, *to = reinterpret_cast<Real*>(block.gradient);
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    const Real times = call.softmax[2 * (first + query) + 1], off = deltas[first + query];
    std::int64_t i = 0;
    for (; i + lanes <= points; i += lanes) {
      store(weight + i, Vector<Real>(load(weight + i) * times));
      store(delta + i, Vector<Real>(Vector<Real>{} + off));
    }
    for (; i < points; ++i) weight[i] *= times, delta[i] = off;
    read_row(to, from, size.channels);
    weight += points, delta += points, to += width, from += size.heads * size.channels;
  }
}

template <class Real>
void backward_block(const Call<Real>& call, const Block<Real>& block, const Real* table, Real* slice,
                    const Real* deltas, const Queries& queries, std::int64_t level) {
  const std::int64_t points = call.size().points, count = queries.count() * points;
  const std::int64_t vectors = call.layout.vectors, width = call.layout.width();
  fill(call, block, queries, level, 1);
  exponentials(block.weight, count);
  load_gradients(call, block, queries, deltas);
  locate_points(block, count, width);
  in_pieces(vectors, [&](auto pieces, std::int64_t from) {
    dot<Real, pieces>(block, table + from * Lanes<Real>::count, queries.count(), points, width, block.gradient + from,
                      vectors, from == 0);
  });
  in_pieces(vectors, [&](auto pieces, std::int64_t from) {
    for (std::int64_t query = 0; query < queries.count(); ++query) {
      if (from == 0) {
        prefetch_query(call, queries, queries.to + query, level, 1);
        prefetch_gradients(call, queries, queries.from + query, level);
      }
      scatter<Real, pieces>(block, slice + from * Lanes<Real>::count, query * points, points, width,
                            block.gradient + query * vectors + from);
    }
  });
  point_gradients(block, count);
  store_point_gradients(call, block, queries, level);
}

// Copies the value gradient of one level and head from its table to the output.
template <class Real, class Stored>
void unpack(const Call<Real>& call, std::int64_t image, std::int64_t head, const Level& level, const Real* table) {
  const UneptSizes& size = call.size();
  const std::int64_t width = call.layout.width();
  const std::int64_t step = size.heads * size.channels;
  Stored* to = static_cast<Stored*>(call.value_gradient);
  to += ((image * size.tokens + level.token) * size.heads + head) * size.channels;
  for (std::int64_t line = 0; line < level.height; ++line) {
    const Real* from = table + (level.before() + line * level.step()) * width;
    for (std::int64_t pixel = 0; pixel < level.width; ++pixel, from += width, to += step) {
      prefetch<1>(to + kPrefetch * step, size.channels * std::int64_t(sizeof(Stored)));
      write_row(to, from, size.channels);
    }
  }
}

template <class Real, class Stored>
Error backward(const Call<Real>& call) {
  const UneptSizes& size = call.size();
  const std::int64_t vectors = call.layout.vectors, capacity = queries_of_a_block(size.points);
  const std::int64_t table_bytes = call.layout.most * vectors * UNEPT_BYTES;
  const std::int64_t bytes = (2 * table_bytes + Block<Real>::bytes(size.points, capacity, vectors) + 63) / 64 * 64;
  const Scratch own(call.threads * bytes), deltas(size.batch * size.heads * size.queries * std::int64_t(sizeof(Real)));
  if (!own || !deltas) return no_memory;
  gradient_dot_result(call, deltas.as<Real>());
  parallel(size.batch * size.heads * size.levels, call.threads, [&](std::int64_t task, int thread) {
    const std::int64_t which = task % size.levels, head = task / size.levels % size.heads;
    const std::int64_t image = task / size.levels / size.heads;
    const Level& level = call.layout.levels[which];
    char* memory = own.as<char>() + thread * bytes;
    Real *table = reinterpret_cast<Real*>(memory), *slice = reinterpret_cast<Real*>(memory + table_bytes);
    const Block<Real> block(memory + 2 * table_bytes, size.points, capacity, vectors);
    block.sample(&level, 1, size.points, level.row, call.layout.width());
    pack<Real, Stored>(call, image, head, level, table);
    std::memset(slice, 0, level.rows() * vectors * UNEPT_BYTES);
    for (std::int64_t from = 0; from < size.queries; from += capacity) {
      const std::int64_t to = from + capacity < size.queries ? from + capacity : size.queries;
      backward_block(call, block, table, slice, deltas.as<Real>(), {image, head, from, to}, which);
    }
    unpack<Real, Stored>(call, image, head, level, slice);
  });
  return none;
}

}  // namespace unept
