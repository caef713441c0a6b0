// The backward pass on a CPU: a task is a head's level, whose value gradient it owns.
#pragma once

#include "call.h"

namespace unept {

// <gradient, result> of each query and head: what the softmax takes off every logit's gradient.
template <class Real>
void inner(const Call<Real>& call, Real* deltas) {
  const UneptSizes& size = call.size();
  constexpr int lanes = Lanes<Real>::count;
  const std::int64_t parts = (size.queries + kQueries - 1) / kQueries;
  parallel(size.batch * parts, call.threads, [&](std::int64_t task, int) {
    const std::int64_t image = task / parts, first = task % parts * kQueries;
    const std::int64_t last = first + kQueries < size.queries ? first + kQueries : size.queries;
    for (std::int64_t row = first * size.heads; row < last * size.heads; ++row) {
      const std::int64_t query = row / size.heads, head = row % size.heads;
      const std::int64_t from = call.place(image, query, head) * size.channels;
      Vector<Real> part = {};
      std::int64_t channel = 0;
      for (; channel + lanes <= size.channels; channel += lanes) {
        part += load(call.gradient + from + channel) * load(call.result + from + channel);
      }
      Real sum = 0;
      for (int lane = 0; lane < lanes; ++lane) sum += part[lane];
      for (; channel < size.channels; ++channel) sum += call.gradient[from + channel] * call.result[from + channel];
      deltas[(image * size.heads + head) * size.queries + query] = sum;
    }
  });
}

// What `slopes` left in the block, to its places among the gradients.
template <class Real>
void deliver(const Call<Real>& call, const Block<Real>& block, const Queries& queries, std::int64_t level) {
  const std::int64_t points = call.size().points;
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    const std::int64_t place = call.place(queries.image, queries.from + query, queries.head);
    const std::int64_t to = place * call.points() + level * points, from = query * points;
    const Real* __restrict x = block.x + from;
    const Real* __restrict y = block.y + from;
    Real* __restrict offsets = call.offset_gradient + 2 * to;
    for (std::int64_t point = 0; point < points; ++point) {
      offsets[2 * point] = x[point];
      offsets[2 * point + 1] = y[point];
    }
    std::memcpy(call.logit_gradient + to, block.delta + from, points * sizeof(Real));
  }
}

// The rest of what a block starts from: its queries' gradients, and for each point its weight, owner and delta.
template <class Real>
void begin(const Call<Real>& call, const Block<Real>& block, const Queries& queries, const Real* deltas) {
  const UneptSizes& size = call.size();
  const std::int64_t points = size.points, vectors = call.layout.vectors;
  const std::int64_t first = (queries.image * size.heads + queries.head) * size.queries + queries.from;
  for (std::int64_t query = 0; query < queries.count(); ++query) {
    const Real times = call.softmax[2 * (first + query) + 1], delta = deltas[first + query];
    for (std::int64_t i = query * points; i < (query + 1) * points; ++i) {
      block.weight[i] *= times;
      block.delta[i] = delta;
      block.owner[i] = static_cast<int>(query);
    }
    const std::int64_t place = call.place(queries.image, queries.from + query, queries.head);
    block.gradient[(query + 1) * vectors - 1] = Vector<Real>{};
    std::memcpy(block.gradient + query * vectors, call.gradient + place * size.channels, size.channels * sizeof(Real));
  }
  const std::int64_t count = queries.count() * points;
  for (std::int64_t i = count; i % group<Real>; ++i) block.owner[i] = 0;
}

template <class Real>
void backward_block(const Call<Real>& call, const Block<Real>& block, const Vector<Real>* table, Vector<Real>* slice,
                    const Real* deltas, const Queries& queries, std::int64_t level) {
  const std::int64_t points = call.size().points, count = queries.count() * points, vectors = call.layout.vectors;
  fetch(call, queries, level, 1);
  fill(call, block, queries, level, 0);
  exponentials(block.weight, count);
  begin(call, block, queries, deltas);
  locate_points(block, 0, count, map_of(call.layout, call.layout.levels[level], 0));
  in_pieces(vectors, [&](auto pieces, std::int64_t from) {
    if (points % group<Real>) {
      dot<Real, pieces, false>(block, table + from, count, from, vectors, from == 0);
    } else {
      dot<Real, pieces, true>(block, table + from, count, from, vectors, from == 0);
    }
  });
  in_pieces(vectors, [&](auto pieces, std::int64_t from) {
    for (std::int64_t query = 0; query < queries.count(); ++query) {
      scatter<Real, pieces>(block, slice + from, query * points, points, block.gradient + query * vectors + from);
    }
  });
  slopes(block, count);
  deliver(call, block, queries, level);
}

template <class Real, class Stored>
Error backward(const Call<Real>& call) {
  const UneptSizes& size = call.size();
  const std::int64_t vectors = call.layout.vectors, room = queries_of_a_block(size.points);
  const std::int64_t slice_bytes = call.layout.most * vectors * UNEPT_BYTES;
  const std::int64_t bytes = (slice_bytes + Block<Real>::bytes(1, size.points, room, vectors) + 63) / 64 * 64;
  const Scratch tables(size.batch * size.heads * call.layout.rows * vectors * UNEPT_BYTES), own(call.threads * bytes),
      deltas(size.batch * size.heads * size.queries * std::int64_t(sizeof(Real)));
  if (!tables || !own || !deltas) return no_memory;
  pack<Real, Stored>(call, tables.as<Vector<Real>>());
  inner(call, deltas.as<Real>());
  parallel(size.batch * size.heads * size.levels, call.threads, [&](std::int64_t task, int thread) {
    const std::int64_t which = task % size.levels, head = task / size.levels % size.heads;
    const std::int64_t image = task / size.levels / size.heads;
    const Level& level = call.layout.levels[which];
    char* memory = own.as<char>() + thread * bytes;
    const Block<Real> block(memory + slice_bytes, 1, size.points, room, vectors);
    const Vector<Real>* table = tables.as<Vector<Real>>() + call.table(image, head) + level.row * vectors;
    Vector<Real>* slice = reinterpret_cast<Vector<Real>*>(memory);
    std::memset(memory, 0, (level.pixels() + 1) * vectors * UNEPT_BYTES);
    for (std::int64_t from = 0; from < size.queries; from += room) {
      const std::int64_t to = from + room < size.queries ? from + room : size.queries;
      backward_block(call, block, table, slice, deltas.as<Real>(), {image, head, from, to}, which);
    }
    Stored* gradient = static_cast<Stored*>(call.value_gradient);
    for (std::int64_t pixel = 0; pixel < level.pixels(); ++pixel) {
      const Real* sum = reinterpret_cast<const Real*>(slice + pixel * vectors);
      Stored* to = gradient + ((image * size.tokens + level.token + pixel) * size.heads + head) * size.channels;
      for (std::int64_t channel = 0; channel < size.channels; ++channel) write(to[channel], sum[channel]);
    }
  });
  return none;
}

}  // namespace unept
