// A stand-in for CUDA's header of this name, so that g++ compiles the kernels as they are and emulator.cpp runs them.
//
// Every CUDA thread of a block is a fiber; blocks run one after the other. Barriers and shuffles are meeting points: a
// thread that is not there when the others wait, or is at another one, ends the launch with an error. Shared memory is
// filled with NaN before every block. The kernels are compiled with -fsanitize=thread, which makes the compiler report
// every access to memory; emulator.cpp answers those reports itself and finds accesses outside the arrays that it was
// told of, and places that one thread writes while another uses them.
//
// Not emulated: speed, registers, the order of atomic additions, caches, and anything else that kernels here don't use.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("emulated_shared")))
#define EMULATOR_ITSELF __attribute__((no_sanitize_thread, noinline))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(16) float4 {
  float x, y, z, w;
};

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9,
                   cudaErrorInvalidDevice = 101, cudaErrorLaunchFailure = 719 };
using cudaStream_t = void*;

namespace emulated {

struct Place {
  dim3 thread, block, block_size, grid_size;
};
extern Place place;  // of the thread that runs

enum Meeting { barrier, shuffle, shuffle_xor };

// Brings `bytes` of own data to the other threads of the warp, and back those of lane `from`.
void exchange(Meeting kind, int line, unsigned mask, const void* own, void* other, std::size_t bytes, int from);
void wait_for_block(int line);
void add(float* to, float more);
void add(double* to, double more);
void add(float4* to, const float4& more);
int lane();
cudaError_t launch(dim3 grid, dim3 block, void (*run)(void*), void* what, cudaStream_t stream);

template <class... Given>
struct Launch {
  void (*kernel)(Given...);
  void** arguments;

  template <std::size_t... at>
  EMULATOR_ITSELF void unpack(std::index_sequence<at...>) const {
    kernel(*static_cast<Given*>(arguments[at])...);
  }
  EMULATOR_ITSELF static void run(void* what) {
    static_cast<const Launch*>(what)->unpack(std::index_sequence_for<Given...>{});
  }
};

}  // namespace emulated

#define threadIdx (emulated::place.thread)
#define blockIdx (emulated::place.block)
#define blockDim (emulated::place.block_size)
#define gridDim (emulated::place.grid_size)

inline void __syncthreads(int line = __builtin_LINE()) { emulated::wait_for_block(line); }

template <class Kind>
Kind __shfl_sync(unsigned mask, Kind own, int from, int width = 32, int line = __builtin_LINE()) {
  static_assert(std::is_arithmetic<Kind>::value, "shuffles move numbers");
  Kind other;
  const int first = emulated::lane() / width * width;
  emulated::exchange(emulated::shuffle, line, mask, &own, &other, sizeof own, first + (from & (width - 1)));
  return other;
}

template <class Kind>
Kind __shfl_xor_sync(unsigned mask, Kind own, int step, int width = 32, int line = __builtin_LINE()) {
  static_assert(std::is_arithmetic<Kind>::value, "shuffles move numbers");
  Kind other;
  const int here = emulated::lane(), from = here ^ step;
  // a source in a later part of the warp gives the thread's own number back
  emulated::exchange(emulated::shuffle_xor, line, mask, &own, &other, sizeof own, from / width > here / width ? here : from);
  return other;
}

inline void atomicAdd(float* to, float more) { emulated::add(to, more); }
inline void atomicAdd(double* to, double more) { emulated::add(to, more); }
inline void atomicAdd(float4* to, float4 more) { emulated::add(to, more); }

template <class... Given>
cudaError_t cudaLaunchKernel(void (*kernel)(Given...), dim3 grid, dim3 block, void** arguments, std::size_t,
                             cudaStream_t stream) {
  emulated::Launch<Given...> what{kernel, arguments};
  return emulated::launch(grid, block, &emulated::Launch<Given...>::run, &what, stream);
}

cudaError_t cudaGetLastError();
const char* cudaGetErrorString(cudaError_t);
cudaError_t cudaGetDevice(int*);
cudaError_t cudaSetDevice(int);
cudaError_t cudaMemsetAsync(void*, int, std::size_t, cudaStream_t);
