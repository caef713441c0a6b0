// What a call of the CPU kernel is given, and what both passes do with it. The layouts are told in msda_cpu.cpp.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "block.h"
#include "layout.h"

namespace unept {

enum Error { none = 0, bad_type = 1, no_memory = 2, bad_sizes = 3 };

constexpr std::int64_t kBlock = 192;     // points worked on together, if a query does not have more
constexpr std::int64_t kQueries = 64;    // queries of a forward task, at most of a block
constexpr std::int64_t kRows = 64;      // pixels copied by a task
constexpr std::int64_t kAlone = 1 << 14; // points below which a second thread costs more than it brings
constexpr int kLine = 64;                // bytes

inline int threads_for(const UneptSizes& size, int asked) {
  const std::int64_t points = size.batch * size.queries * size.heads * size.levels * size.points;
  return asked < 1 || points < kAlone ? 1 : asked;
}

template <class Work>
void parallel(std::int64_t tasks, [[maybe_unused]] int threads, const Work& work) {
#if defined(_OPENMP)
  if (threads > 1 && tasks > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (std::int64_t task = 0; task < tasks; ++task) work(task, omp_get_thread_num());
    return;
  }
#endif
  for (std::int64_t task = 0; task < tasks; ++task) work(task, 0);
}

// How many queries fit in a block if each has so many points.
inline std::int64_t queries_of_a_block(std::int64_t points) {
  const std::int64_t count = points > 0 ? kBlock / points : kQueries;
  return count < 1 ? 1 : count > kQueries ? kQueries : count;
}

inline void prefetch(const void* from, std::int64_t bytes) {
  for (std::int64_t byte = 0; byte < bytes; byte += kLine) __builtin_prefetch(static_cast<const char*>(from) + byte);
}


template <class Real>
struct Call {
  Layout<Real> layout;
  int threads;
  const void* value;
  const Real *reference, *offsets, *logits;
  Real *result, *softmax;
  // backward only
  const Real* gradient;
  void* value_gradient;
  Real *offset_gradient, *logit_gradient;

  const UneptSizes& size() const { return layout.size; }
  std::int64_t place(std::int64_t image, std::int64_t query, std::int64_t head) const {
    return (image * size().queries + query) * size().heads + head;
  }
  std::int64_t points() const { return size().levels * size().points; }
  std::int64_t table(std::int64_t image, std::int64_t head) const {  // in vectors
    return (image * size().heads + head) * layout.rows * layout.vectors;
  }
};

// A level as the points' arithmetic sees it, in a table that starts with row `first`.
template <class Real>
Map map_of(const Layout<Real>& layout, const Level& level, std::int64_t first) {
  const int step = static_cast<int>(layout.vectors), start = static_cast<int>(first * layout.vectors);
  return {level.height, level.width, start, step, start + level.height * level.width * step};
}

// Queries [from, to) of one head of one image.
struct Queries {
  std::int64_t image, head, from, to;
  std::int64_t count() const { return to - from; }
};

// Every value into the tables, in the type of the computation.
template <class Real, class Stored>
void pack(const Call<Real>& call, Vector<Real>* tables) {
  const UneptSizes& size = call.size();
  const std::int64_t heads = size.heads, vectors = call.layout.vectors, levels = size.levels;
  const Stored* value = static_cast<const Stored*>(call.value);
  for (std::int64_t table = 0; table < size.batch * heads; ++table) {
    for (const Level& level : call.layout.levels) {
      Vector<Real>* zeros = tables + (table * call.layout.rows + level.row + level.pixels()) * vectors;
      std::memset(static_cast<void*>(zeros), 0, vectors * UNEPT_BYTES);
    }
  }
  const std::int64_t parts = (call.layout.most + kRows - 1) / kRows;
  parallel(size.batch * levels * parts, call.threads, [&](std::int64_t task, int) {
    const std::int64_t image = task / parts / levels, first = task % parts * kRows;
    const Level& level = call.layout.levels[task / parts % levels];
    const std::int64_t last = first + kRows < level.pixels() ? first + kRows : level.pixels();
    for (std::int64_t pixel = first; pixel < last; ++pixel) {
      const Stored* from = value + (image * size.tokens + level.token + pixel) * heads * size.channels;
      for (std::int64_t head = 0; head < heads; ++head, from += size.channels) {
        Vector<Real>* row = tables + call.table(image, head) + (level.row + pixel) * vectors;
        row[vectors - 1] = Vector<Real>{};
        Real* to = reinterpret_cast<Real*>(row);
        for (std::int64_t channel = 0; channel < size.channels; ++channel) read(to[channel], from[channel]);
      }
    }
  });
}

// The pixels of a level's points for some queries, and their logits less the query's largest, from `to` on.
template <class Real>
void fill(const Call<Real>& call, const Block<Real>& block, const Queries& queries, std::int64_t which, std::int64_t to) {
  const Level& level = call.layout.levels[which];
  const std::int64_t points = call.size().points;
  const Real width = static_cast<Real>(level.width), height = static_cast<Real>(level.height);
  for (std::int64_t query = queries.from; query < queries.to; ++query) {
    const std::int64_t place = call.place(queries.image, query, queries.head) * call.points() + which * points;
    const std::int64_t row = (queries.image * call.size().heads + queries.head) * call.size().queries + query;
    const Real most = call.softmax[2 * row], right = call.reference[2 * query], down = call.reference[2 * query + 1];
    const Real* __restrict offsets = call.offsets + 2 * place;
    const Real* __restrict logits = call.logits + place;
    Real* __restrict x = block.x + to;
    Real* __restrict y = block.y + to;
    Real* __restrict weight = block.weight + to;
    for (std::int64_t point = 0; point < points; ++point) {
      x[point] = pixel(right, width, offsets[2 * point]);
      y[point] = pixel(down, height, offsets[2 * point + 1]);
      weight[point] = logits[point] - most;
    }
    to += points;
  }
}

// Ask for what the next queries need: it lies too far apart for the machine to guess.
template <class Real>
void fetch(const Call<Real>& call, const Queries& now, std::int64_t level, std::int64_t levels) {
  const std::int64_t last = now.to + now.count() < call.size().queries ? now.to + now.count() : call.size().queries;
  const std::int64_t points = levels * call.size().points;
  for (std::int64_t query = now.to; query < last; ++query) {
    const std::int64_t place = call.place(now.image, query, now.head);
    const std::int64_t from = place * call.points() + level * call.size().points;
    prefetch(call.logits + from, points * std::int64_t(sizeof(Real)));
    prefetch(call.offsets + 2 * from, 2 * points * std::int64_t(sizeof(Real)));
    if (call.gradient) {
      prefetch(call.gradient + place * call.size().channels, call.size().channels * std::int64_t(sizeof(Real)));
    }
  }
}

}  // namespace unept
