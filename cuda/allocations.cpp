// Counting malloc, loaded before the C library's with LD_PRELOAD. It reports the bytes that are allocated and the
// largest number since the last report, over the whole heap of the process, including scratch memory of compiled
// kernels. glibc only.
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <malloc.h>

#ifndef UNEPT_SOURCES
#define UNEPT_SOURCES ""
#endif
#define UNEPT_PUBLIC __attribute__((visibility("default")))

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
}

namespace {

std::atomic<std::int64_t> current{0}, peak{0};

void add(std::int64_t bytes) {
  const std::int64_t sum = current.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::int64_t known = peak.load(std::memory_order_relaxed);
  while (sum > known && !peak.compare_exchange_weak(known, sum, std::memory_order_relaxed)) {
  }
}

std::int64_t size_of(void* block) { return block ? static_cast<std::int64_t>(malloc_usable_size(block)) : 0; }

void* counted(void* block) {
  add(size_of(block));
  return block;
}

}  // namespace

extern "C" {

UNEPT_PUBLIC void* malloc(std::size_t bytes) { return counted(__libc_malloc(bytes)); }
UNEPT_PUBLIC void* calloc(std::size_t count, std::size_t bytes) { return counted(__libc_calloc(count, bytes)); }
UNEPT_PUBLIC void* memalign(std::size_t line, std::size_t bytes) { return counted(__libc_memalign(line, bytes)); }
UNEPT_PUBLIC void* aligned_alloc(std::size_t line, std::size_t bytes) { return counted(__libc_memalign(line, bytes)); }

UNEPT_PUBLIC int posix_memalign(void** block, std::size_t line, std::size_t bytes) {
  if (line % sizeof(void*) || (line & (line - 1)) || !line) return EINVAL;
  void* allocated = __libc_memalign(line, bytes);
  if (!allocated) return ENOMEM;
  *block = counted(allocated);
  return 0;
}

UNEPT_PUBLIC void* realloc(void* block, std::size_t bytes) {
  const std::int64_t before = size_of(block);
  void* moved = __libc_realloc(block, bytes);
  if (moved || !bytes) add(size_of(moved) - before);
  return moved;
}

UNEPT_PUBLIC void free(void* block) {
  add(-size_of(block));
  __libc_free(block);
}

UNEPT_PUBLIC std::int64_t unept_allocated() { return current.load(); }

// Largest number of bytes allocated at once since the last call of this function.
UNEPT_PUBLIC std::int64_t unept_most_allocated() { return peak.exchange(current.load()); }

UNEPT_PUBLIC const char* unept_sources() { return UNEPT_SOURCES; }

}  // extern "C"
