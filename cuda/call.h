// Arguments of a call of the CPU kernel, and the steps that both passes share. msda_cpu.cpp describes the layouts.
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

constexpr std::int64_t kBlockPoints = 192;            // points of a block, unless one query has more
constexpr std::int64_t kBlockQueries = 64;            // largest number of queries in a block
constexpr std::int64_t kMinParallelPoints = 1 << 14;  // below this number of points a second thread does not pay
constexpr std::int64_t kPrefetch = 8;                 // distance in pixels at which a row is prefetched for copying

inline int threads_for(const UneptSizes& size, int wanted) {
  const std::int64_t points = size.batch * size.queries * size.heads * size.levels * size.points;
  return wanted < 1 || points < kMinParallelPoints ? 1 : wanted;
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

// Number of queries in a block if each has `points` points.
inline std::int64_t queries_of_a_block(std::int64_t points) {
  const std::int64_t count = points > 0 ? kBlockPoints / points : kBlockQueries;
  return count < 1 ? 1 : count > kBlockQueries ? kBlockQueries : count;
}

template <class Real>
struct Call {
  Layout<Real> layout;
  int threads;
  const void* value;
  const Real *reference, *offsets, *logits;
  Real *result, *softmax;
  // The rest is for the backward pass.
  const Real* gradient;
  void* value_gradient;
  Real *offset_gradient, *logit_gradient;

  const UneptSizes& size() const { return layout.size; }
  std::int64_t index(std::int64_t image, std::int64_t query, std::int64_t head) const {
    return (image * size().queries + query) * size().heads + head;
  }
  std::int64_t points() const { return size().levels * size().points; }
};

// The queries [from, to) of one head of one image.
struct Queries {
  std::int64_t image, head, from, to;
  std::int64_t count() const { return to - from; }
};

// Copies one level of one head into its table, in the type of the computation, with a border of zeros.
template <class Real, class Stored>
void pack(const Call<Real>& call, std::int64_t image, std::int64_t head, const Level& level, Real* table) {
  const UneptSizes& size = call.size();
  const std::int64_t width = call.layout.width(), step = size.heads * size.channels;
  const Stored* from = static_cast<const Stored*>(call.value);
  from += (image * size.tokens + level.token) * step + head * size.channels;
  const auto zeros = [&](std::int64_t rows) {
    std::memset(table, 0, rows * width * sizeof(Real));
    table += rows * width;
  };
  zeros(level.before());
  for (std::int64_t line = 0; line < level.height; ++line) {
    for (std::int64_t pixel = 0; pixel < level.width; ++pixel, from += step, table += width) {
      prefetch(from + kPrefetch * step, size.channels * std::int64_t(sizeof(Stored)));
      read_row(table, from, size.channels);
    }
    zeros(2);
  }
  zeros(2 * level.step());
}

// Computes the pixel positions of the points of some queries, and their logits minus the query's largest.
template <class Real>
void fill(const Call<Real>& call, const Block<Real>& block, const Queries& queries, std::int64_t level,
          std::int64_t levels) {
  constexpr int lanes = Lanes<Real>::count;
  const UneptSizes& size = call.size();
  const std::int64_t points = levels * size.points, step = size.heads * call.points();
  const std::int64_t from = call.index(queries.image, queries.from, queries.head) * call.points() + level * size.points;
  const Real *offsets = call.offsets + 2 * from, *logits = call.logits + from;
  const Real *level_w = block.level_w, *level_h = block.level_h;
  const Real* softmax = call.softmax + 2 * ((queries.image * size.heads + queries.head) * size.queries);
  Real *x = block.x, *y = block.y, *weight = block.weight;
  for (std::int64_t query = queries.from; query < queries.to; ++query) {
    const Real most = softmax[2 * query], right = call.reference[2 * query], down = call.reference[2 * query + 1];
    std::int64_t i = 0;
    for (; i + lanes <= points; i += lanes) {
      Vector<Real> across, along;
      load_pairs(offsets + 2 * i, across, along);
      store(x + i, pixel(Vector<Real>{} + right, load(level_w + i), across));
      store(y + i, pixel(Vector<Real>{} + down, load(level_h + i), along));
      store(weight + i, Vector<Real>(load(logits + i) - most));
    }
    for (; i < points; ++i) {
      x[i] = pixel(right, level_w[i], offsets[2 * i]);
      y[i] = pixel(down, level_h[i], offsets[2 * i + 1]);
      weight[i] = logits[i] - most;
    }
    x += points, y += points, weight += points, offsets += 2 * step, logits += step;
  }
}

// Prefetches the inputs of a query: they lie too far from the previous query's for the hardware prefetcher.
template <class Real>
UNEPT_INLINE void prefetch_query(const Call<Real>& call, const Queries& queries, std::int64_t query, std::int64_t level,
                        std::int64_t levels) {
  if (query >= call.size().queries) return;
  const std::int64_t points = levels * call.size().points, index = call.index(queries.image, query, queries.head);
  const std::int64_t from = index * call.points() + level * call.size().points;
  prefetch(call.logits + from, points * std::int64_t(sizeof(Real)));
  prefetch(call.offsets + 2 * from, 2 * points * std::int64_t(sizeof(Real)));
  if (call.gradient) {
    prefetch(call.gradient + index * call.size().channels, call.size().channels * std::int64_t(sizeof(Real)));
  }
}

}  // namespace unept
