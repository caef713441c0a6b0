// Hardware limits that the kernel is compared with: gathering rows of 32 floats from random positions, adding to rows
// at random positions, multiply-adds, and reading memory.
//
// A sampling point of the kernel reads four rows and, in the backward pass, adds to four. A point of the probes does
// that and nothing else: no softmax, no location, no shares. Every thread has tables of its own, as every head has.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "call.h"

#ifndef UNEPT_SOURCES
#define UNEPT_SOURCES ""
#endif
#define UNEPT_PUBLIC __attribute__((visibility("default")))

namespace {

using Floats = unept::Vector<float>;

constexpr std::int64_t kChannels = 32, kCorners = 4;
constexpr std::int64_t kVectors = kChannels / unept::Lanes<float>::count;
constexpr std::int64_t kDrawn = 1 << 14;  // points with random rows; later points repeat them
constexpr std::int64_t kParts = 16;       // tasks for each thread
constexpr std::int64_t kStream = 1 << 24; // floats read to measure bandwidth, by all threads together

struct ThreadState {
  std::vector<std::int32_t> rows;
  std::unique_ptr<unept::Scratch> table;
  float kept = 0;  // never read; keeps the compiler from removing the loops
};

struct Probe {
  std::int64_t rows;
  int threads;
  std::vector<ThreadState> states;
  std::unique_ptr<unept::Scratch> stream;
};

std::uint64_t next(std::uint64_t& random) {
  random ^= random << 13, random ^= random >> 7, random ^= random << 17;
  return random;
}

void gather(ThreadState& state, std::int64_t points) {
  const Floats* table = state.table->as<Floats>();
  Floats sums[kCorners][kVectors] = {};
  const float share = 0.25f;
  for (std::int64_t point = 0, drawn = 0; point < points; ++point, drawn = (drawn + 1) & (kDrawn - 1)) {
    const std::int32_t* rows = state.rows.data() + drawn * kCorners;
#pragma GCC unroll 4
    for (std::int64_t corner = 0; corner < kCorners; ++corner) {
      const Floats* row = table + rows[corner];
#pragma GCC unroll 8
      for (std::int64_t vector = 0; vector < kVectors; ++vector) sums[corner][vector] += share * row[vector];
    }
  }
  for (auto& corner : sums) {
    for (const Floats& vector : corner) state.kept += unept::sum_of<float>(vector);
  }
}

void scatter(ThreadState& state, std::int64_t points) {
  Floats* __restrict table = state.table->as<Floats>();
  const std::int32_t* __restrict places = state.rows.data();
  Floats added[kVectors];
  for (Floats& vector : added) vector = Floats{} + 1e-6f;
  for (std::int64_t point = 0, drawn = 0; point < points; ++point, drawn = (drawn + 1) & (kDrawn - 1)) {
    const std::int32_t* rows = places + drawn * kCorners;
#pragma GCC unroll 4
    for (std::int64_t corner = 0; corner < kCorners; ++corner) {
      Floats* row = table + rows[corner];
#pragma GCC unroll 8
      for (std::int64_t vector = 0; vector < kVectors; ++vector) row[vector] += added[vector];
    }
  }
}

void multiply_add(ThreadState& state, std::int64_t count) {  // count is in multiply-adds of a lane
  constexpr int chains = 12;
  Floats sums[chains], factor = {}, term = {};
  for (int chain = 0; chain < chains; ++chain) sums[chain] = Floats{} + static_cast<float>(state.rows[chain]);
  factor += 0.999f, term += 1e-3f;
  for (std::int64_t i = 0; i < count; i += chains * unept::Lanes<float>::count) {
#pragma GCC unroll 12
    for (int chain = 0; chain < chains; ++chain) sums[chain] = sums[chain] * factor + term;
  }
  for (const Floats& vector : sums) state.kept += unept::sum_of<float>(vector);
}

void read(ThreadState& state, const Floats* from, std::int64_t count) {  // vectors
  Floats sums[8] = {};
  for (std::int64_t i = 0; i + 8 <= count; i += 8) {
#pragma GCC unroll 8
    for (int part = 0; part < 8; ++part) sums[part] += from[i + part];
  }
  for (const Floats& vector : sums) state.kept += unept::sum_of<float>(vector);
}

}  // namespace

extern "C" {

enum UneptProbe { unept_gather = 0, unept_scatter = 1, unept_multiply_add = 2, unept_read = 3 };

// Creates a probe whose tables have `rows` rows; null if there is no memory.
UNEPT_PUBLIC void* unept_probe_new(std::int64_t rows, int threads) {
  if (rows < 1 || rows > (std::int64_t(1) << 30) / kVectors || threads < 1) return nullptr;
  try {
    auto probe = std::make_unique<Probe>();
    probe->rows = rows, probe->threads = threads;
    probe->states.resize(threads);
    probe->stream = std::make_unique<unept::Scratch>(kStream * std::int64_t(sizeof(float)));
    if (!*probe->stream) return nullptr;
    std::memset(probe->stream->as<char>(), 0, kStream * sizeof(float));
    for (int thread = 0; thread < threads; ++thread) {
      ThreadState& state = probe->states[thread];
      const std::int64_t bytes = rows * kChannels * std::int64_t(sizeof(float));
      state.table = std::make_unique<unept::Scratch>(bytes);
      if (!*state.table) return nullptr;
      std::memset(state.table->as<char>(), 0, bytes);
      std::uint64_t random = 0x9e3779b97f4a7c15ull * (thread + 1);
      state.rows.resize(kDrawn * kCorners);
      for (std::int32_t& row : state.rows) row = static_cast<std::int32_t>(next(random) % rows * kVectors);
    }
    return probe.release();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// Runs a probe with all threads. `amount` counts points, multiply-adds of a lane, or passes over the memory. Returns
// the number of points, multiply-adds or bytes, or -1 for an unknown kind.
UNEPT_PUBLIC std::int64_t unept_probe_run(void* handle, int kind, std::int64_t amount) {
  Probe& probe = *static_cast<Probe*>(handle);
  const std::int64_t tasks = kParts * probe.threads, per_task = (amount + tasks - 1) / tasks;
  const std::int64_t vectors = kStream / unept::Lanes<float>::count / tasks;
  if (kind < unept_gather || kind > unept_read) return -1;
  unept::parallel(tasks, probe.threads, [&](std::int64_t task, int thread) {
    ThreadState& state = probe.states[thread];
    switch (kind) {
      case unept_gather: return gather(state, per_task);
      case unept_scatter: return scatter(state, per_task);
      case unept_multiply_add: return multiply_add(state, per_task);
      default:
        for (std::int64_t pass = 0; pass < amount; ++pass) {
          read(state, probe.stream->as<Floats>() + task * vectors, vectors);
        }
    }
  });
  return kind == unept_read ? amount * tasks * vectors * UNEPT_BYTES : per_task * tasks;
}

UNEPT_PUBLIC void unept_probe_free(void* handle) { delete static_cast<Probe*>(handle); }

UNEPT_PUBLIC const char* unept_sources() { return UNEPT_SOURCES; }

}  // extern "C"
