// Runs kernels that were compiled against the stand-in headers beside this file; see cuda_runtime.h.
#include "cuda_runtime.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

extern "C" char __start_emulated_shared[] __attribute__((weak));
extern "C" char __stop_emulated_shared[] __attribute__((weak));

namespace emulated {

Place place;

namespace {

constexpr int kWarp = 32, kDevices = 2;
constexpr std::size_t kStack = 1 << 16;

// What threads wait for. Two sets of slots: a thread may be at the next meeting while others still read this one.
struct Gathering {
  Meeting kind;
  int line, arrived = 0, members = 0;
  unsigned long generation = 0;
  unsigned char slots[2][kWarp][16];
};

struct Fiber {
  ucontext_t context;
  jmp_buf jump;
  std::unique_ptr<char[]> stack{new char[kStack]};
  bool started, done;
  const Gathering* waits_for;
  unsigned long waits_in;
};

constexpr int nobody = -1, several = -2;
struct Cell {  // two bytes of an array, in one launch
  int reader = nobody, writer = nobody;
  bool added = false;
};
struct Array {
  const char* first;
  std::size_t bytes;
  std::string name;
  std::vector<Cell> cells;
};

std::vector<Fiber> fibers;
std::vector<Gathering> warps;
Gathering whole_block;
std::vector<Array> arrays;
jmp_buf scheduler;
ucontext_t unused;
int current = nobody, first_of_block = 0;  // the running fiber; threads of earlier blocks
void (*body)(void*);
void* body_of;
std::string failure;
cudaError_t last_error = cudaSuccess, asked_error = cudaSuccess;
int good_before_error = nobody;
std::vector<cudaStream_t> streams;  // of the work that was queued
int device = 0, launch_device = nobody;
long long additions = 0;

// Work is queued on a stream: the error that a test has asked for here.
cudaError_t queue(cudaStream_t stream) {
  streams.push_back(stream);
  if (good_before_error == nobody || good_before_error-- > 0) return cudaSuccess;
  return std::exchange(asked_error, cudaSuccess);
}

[[noreturn]] void fail(const std::string& what) {
  failure = what + " (thread " + std::to_string(place.thread.x) + " of block " + std::to_string(place.block.x) + ", " +
            std::to_string(place.block.y) + ")";
  _longjmp(scheduler, 1);
}

void wait(const Gathering& gathering, unsigned long generation) {
  while (gathering.generation == generation) {
    Fiber& fiber = fibers[current];
    fiber.waits_for = &gathering;
    fiber.waits_in = generation;
    if (!_setjmp(fiber.jump)) _longjmp(scheduler, 1);
  }
}

// The generation that the meeting belongs to; returns once all members have come.
unsigned long meet(Gathering& gathering, Meeting kind, int line, const void* own, std::size_t bytes, int slot) {
  const unsigned long generation = gathering.generation;
  if (gathering.arrived == 0) gathering.kind = kind, gathering.line = line;
  if (gathering.kind != kind || gathering.line != line) {
    fail("divergent: threads that should meet are at lines " + std::to_string(gathering.line) + " and " +
         std::to_string(line));
  }
  if (bytes) std::memcpy(gathering.slots[generation & 1][slot], own, bytes);
  if (++gathering.arrived == gathering.members) {
    gathering.arrived = 0;
    ++gathering.generation;
  } else {
    wait(gathering, generation);
  }
  return generation;
}

void start_fiber() {
  body(body_of);
  fibers[current].done = true;
  _longjmp(scheduler, 1);
}

void resume(int index, unsigned block_size) {
  Fiber& fiber = fibers[index];
  current = index;
  place.thread = dim3(index % block_size, 0, 0);
  if (!_setjmp(scheduler)) {
    if (fiber.started) _longjmp(fiber.jump, 1);
    fiber.started = true;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &unused;
    makecontext(&fiber.context, start_fiber, 0);
    setcontext(&fiber.context);
  }
  current = nobody;
}

void run_block(int threads) {
  for (Fiber& fiber : fibers) fiber.started = fiber.done = false, fiber.waits_for = nullptr;
  for (Gathering& warp : warps) warp.arrived = 0, warp.members = kWarp;
  whole_block.arrived = 0, whole_block.members = threads;
  if (__start_emulated_shared) std::memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
  int left = threads;
  while (left > 0 && failure.empty()) {
    bool moved = false;
    for (int thread = 0; thread < threads && failure.empty(); ++thread) {
      Fiber& fiber = fibers[thread];
      if (fiber.done || (fiber.waits_for && fiber.waits_for->generation == fiber.waits_in)) continue;
      fiber.waits_for = nullptr;
      resume(thread, threads);
      moved = true;
      left -= fiber.done;
    }
    if (!moved) failure = "deadlock: threads wait in a barrier or shuffle that others never reach";
  }
  first_of_block += threads;
}

enum Access { reading, writing, adding };

void use(Cell& cell, Access access, int me, const Array& array) {
  const auto others = [me](int who) { return who != nobody && who != me; };
  bool race = false;
  if (access == adding) {
    race = cell.reader != nobody || cell.writer != nobody;
    cell.added = true;
  } else {
    race = cell.added || others(cell.writer) || (access == writing && others(cell.reader));
    int& user = access == reading ? cell.reader : cell.writer;
    user = others(user) ? several : me;
  }
  if (race) fail("race: threads use the same place of " + array.name + " and one writes, not atomically");
}

void check_access(const void* address, std::size_t bytes, Access access) {
  if (current == nobody || arrays.empty()) return;
  const char* at = static_cast<const char*>(address);
  const auto within = [at, bytes](const void* first, std::size_t size) {
    return at >= first && at + bytes <= static_cast<const char*>(first) + size;
  };
  if (within(fibers[current].stack.get(), kStack) || within(&place, sizeof place)) return;
  if (__start_emulated_shared && within(__start_emulated_shared, __stop_emulated_shared - __start_emulated_shared)) return;
  for (Array& array : arrays) {
    if (!within(array.first, array.bytes)) continue;
    const std::size_t first = at - array.first;
    for (std::size_t cell = first / 2; cell <= (first + bytes - 1) / 2; ++cell) {
      use(array.cells[cell], access, first_of_block + current, array);
    }
    return;
  }
  fail("outside: an access of " + std::to_string(bytes) + " bytes to none of the arrays");
}

template <class Kind>
void add_one(Kind* to, Kind more) {
  check_access(to, sizeof *to, adding);
  *to += more;
}

}  // namespace

void exchange(Meeting kind, int line, unsigned mask, const void* own, void* other, std::size_t bytes, int from) {
  if (mask != 0xffffffffu) fail("a shuffle of a part of the warp is not emulated");
  Gathering& warp = warps[current / kWarp];
  const unsigned long generation = meet(warp, kind, line, own, bytes, current % kWarp);
  std::memcpy(other, warp.slots[generation & 1][from], bytes);
}

void wait_for_block(int line) { meet(whole_block, barrier, line, nullptr, 0, 0); }
int lane() { return current % kWarp; }

void add(float* to, float more) { add_one(to, more), ++additions; }
void add(double* to, double more) { add_one(to, more), ++additions; }
void add(float4* to, const float4& more) {
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof *to) fail("a float4 that is not aligned");
  add_one(&to->x, more.x), add_one(&to->y, more.y), add_one(&to->z, more.z), add_one(&to->w, more.w);
  ++additions;
}

cudaError_t launch(dim3 grid, dim3 block, void (*run)(void*), void* what, cudaStream_t stream) {
  launch_device = device;
  if (const cudaError_t error = queue(stream)) return last_error = error;
  const bool possible = grid.x > 0 && grid.y > 0 && grid.z == 1 && grid.x <= std::numeric_limits<int>::max() &&
                        grid.y <= 65535 && block.x > 0 && block.x <= 1024 && block.x % kWarp == 0 && block.y * block.z == 1;
  if (!possible) return last_error = cudaErrorInvalidConfiguration;
  failure.clear();
  for (Array& array : arrays) array.cells.assign((array.bytes + 1) / 2, Cell{});
  if (fibers.size() < block.x) fibers = std::vector<Fiber>(block.x);
  warps = std::vector<Gathering>(block.x / kWarp);
  body = run, body_of = what, first_of_block = 0;
  place.block_size = block, place.grid_size = grid;
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x && failure.empty(); ++x) {
      place.block = dim3(x, y, 0);
      run_block(static_cast<int>(block.x));
    }
  }
  return last_error = failure.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace emulated

cudaError_t cudaGetLastError() { return std::exchange(emulated::last_error, cudaSuccess); }
const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorLaunchFailure) return emulated::failure.c_str();
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "an error of the emulator";
}
cudaError_t cudaGetDevice(int* device) { return *device = emulated::device, cudaSuccess; }
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= emulated::kDevices) return cudaErrorInvalidDevice;
  return emulated::device = device, cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int byte, std::size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = emulated::queue(stream)) return error;
  return std::memset(to, byte, bytes), cudaSuccess;
}

extern "C" {

// Kernels may use these arrays and, once there is one, nothing else.
void emulated_watch(const void* first, std::size_t bytes, const char* name) {
  emulated::arrays.push_back({static_cast<const char*>(first), bytes, name, {}});
}
void emulated_forget() { emulated::arrays.clear(); }
// After so many launches and fillings that succeed the next one fails.
void emulated_fail_after(int good, int code) {
  emulated::good_before_error = good, emulated::asked_error = static_cast<cudaError_t>(code);
}
// How many launches and fillings there were since the last question; -1 if one was not queued on `stream`.
int emulated_queued_on(void* stream) {
  const std::vector<cudaStream_t> found = std::exchange(emulated::streams, {});
  const bool all = std::count(found.begin(), found.end(), stream) == static_cast<std::ptrdiff_t>(found.size());
  return all ? static_cast<int>(found.size()) : -1;
}
int emulated_launch_device() { return emulated::launch_device; }
int emulated_device() { return emulated::device; }
long long emulated_additions() { return std::exchange(emulated::additions, 0); }

// What -fsanitize=thread makes the compiler call.
#define REPORTS(bytes)                                                                                    \
  void __tsan_read##bytes(void* at) { emulated::check_access(at, bytes, emulated::reading); }             \
  void __tsan_write##bytes(void* at) { emulated::check_access(at, bytes, emulated::writing); }            \
  void __tsan_unaligned_read##bytes(void* at) { emulated::check_access(at, bytes, emulated::reading); }   \
  void __tsan_unaligned_write##bytes(void* at) { emulated::check_access(at, bytes, emulated::writing); }
REPORTS(1)
REPORTS(2)
REPORTS(4)
REPORTS(8)
REPORTS(16)
void __tsan_read_range(void* at, std::size_t bytes) { emulated::check_access(at, bytes, emulated::reading); }
void __tsan_write_range(void* at, std::size_t bytes) { emulated::check_access(at, bytes, emulated::writing); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

}  // extern "C"
