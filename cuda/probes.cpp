// What the machine itself can do, for the kernel to be compared with: rows of 32 floats gathered from random places,
// rows added to at random places, multiply-adds, and reading memory.
//
// A sampling point of the kernel reads four rows and, backwards, adds to four; a point of the probes does that and
// nothing else: no softmax, no location, no shares to compute. Every thread has tables of its own, as every head has.
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
constexpr std::int64_t kDrawn = 1 << 14;  // points whose places are drawn; the next ones repeat them
constexpr std::int64_t kParts = 16;       // tasks of a thread
constexpr std::int64_t kStream = 1 << 24; // floats read for the bandwidth, by all threads together

struct Own {  // of a thread
  std::vector<std::int32_t> rows;
  std::unique_ptr<unept::Scratch> table;
  float kept = 0;  // what nobody reads, so that no loop is left out
};

struct Probe {
  std::int64_t rows;
  int threads;
  std::vector<Own> own;
  std::unique_ptr<unept::Scratch> stream;
};

std::uint64_t next(std::uint64_t& state) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

void gather(Own& own, std::int64_t points) {
  const Floats* table = own.table->as<Floats>();
  Floats sums[kCorners][kVectors] = {};
  const float share = 0.25f;
  for (std::int64_t point = 0, drawn = 0; point < points; ++point, drawn = (drawn + 1) & (kDrawn - 1)) {
    const std::int32_t* rows = own.rows.data() + drawn * kCorners;
#pragma GCC unroll 4
    for (std::int64_t corner = 0; corner < kCorners; ++corner) {
      const Floats* row = table + rows[corner];
#pragma GCC unroll 8
      for (std::int64_t vector = 0; vector < kVectors; ++vector) sums[corner][vector] += share * row[vector];
    }
  }
  for (auto& corner : sums) {
    for (const Floats& vector : corner) own.kept += unept::sum_of<float>(vector);
  }
}

void scatter(Own& own, std::int64_t points) {
  Floats* __restrict table = own.table->as<Floats>();
  const std::int32_t* __restrict places = own.rows.data();
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

void multiply_add(Own& own, std::int64_t count) {  // count is in multiply-adds of a lane
  constexpr int chains = 12;
  Floats sums[chains], factor = {}, term = {};
  for (int chain = 0; chain < chains; ++chain) sums[chain] = Floats{} + static_cast<float>(own.rows[chain]);
  factor += 0.999f, term += 1e-3f;
  for (std::int64_t i = 0; i < count; i += chains * unept::Lanes<float>::count) {
#pragma GCC unroll 12
    for (int chain = 0; chain < chains; ++chain) sums[chain] = sums[chain] * factor + term;
  }
  for (const Floats& vector : sums) own.kept += unept::sum_of<float>(vector);
}

void read(Own& own, const Floats* from, std::int64_t count) {  // vectors
  Floats sums[8] = {};
  for (std::int64_t i = 0; i + 8 <= count; i += 8) {
#pragma GCC unroll 8
    for (int part = 0; part < 8; ++part) sums[part] += from[i + part];
  }
  for (const Floats& vector : sums) own.kept += unept::sum_of<float>(vector);
}

}  // namespace

extern "C" {

enum UneptProbe { unept_gather = 0, unept_scatter = 1, unept_multiply_add = 2, unept_read = 3 };

// A probe with tables of so many rows, or null where there is no memory for them.
UNEPT_PUBLIC void* unept_probe_new(std::int64_t rows, int threads) {
  if (rows < 1 || rows > (std::int64_t(1) << 30) / kVectors || threads < 1) return nullptr;
  try {
    auto probe = std::make_unique<Probe>();
    probe->rows = rows, probe->threads = threads;
    probe->own.resize(threads);
    probe->stream = std::make_unique<unept::Scratch>(kStream * std::int64_t(sizeof(float)));
    if (!*probe->stream) return nullptr;
    std::memset(probe->stream->as<char>(), 0, kStream * sizeof(float));
    for (int thread = 0; thread < threads; ++thread) {
      Own& own = probe->own[thread];
      const std::int64_t bytes = rows * kChannels * std::int64_t(sizeof(float));
      own.table = std::make_unique<unept::Scratch>(bytes);
      if (!*own.table) return nullptr;
      std::memset(own.table->as<char>(), 0, bytes);
      std::uint64_t state = 0x9e3779b97f4a7c15ull * (thread + 1);
      own.rows.resize(kDrawn * kCorners);
      for (std::int32_t& row : own.rows) row = static_cast<std::int32_t>(next(state) % rows * kVectors);
    }
    return probe.release();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// Do `amount` of it, by all threads together: points, multiply-adds of a lane, or passes over the memory.
// Returns how many bytes or multiply-adds that was (points as they are), or -1 for a kind that there is not.
UNEPT_PUBLIC std::int64_t unept_probe_run(void* handle, int kind, std::int64_t amount) {
  Probe& probe = *static_cast<Probe*>(handle);
  const std::int64_t tasks = kParts * probe.threads, each = (amount + tasks - 1) / tasks;
  const std::int64_t vectors = kStream / unept::Lanes<float>::count / tasks;
  if (kind < unept_gather || kind > unept_read) return -1;
  unept::parallel(tasks, probe.threads, [&](std::int64_t task, int thread) {
    Own& own = probe.own[thread];
    switch (kind) {
      case unept_gather: return gather(own, each);
      case unept_scatter: return scatter(own, each);
      case unept_multiply_add: return multiply_add(own, each);
      default:
        for (std::int64_t pass = 0; pass < amount; ++pass) {
          read(own, probe.stream->as<Floats>() + task * vectors, vectors);
        }
    }
  });
  return kind == unept_read ? amount * tasks * vectors * UNEPT_BYTES : each * tasks;
}

UNEPT_PUBLIC void unept_probe_free(void* handle) { delete static_cast<Probe*>(handle); }

UNEPT_PUBLIC const char* unept_sources() { return UNEPT_SOURCES; }

}  // extern "C"
