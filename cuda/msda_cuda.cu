// Multi-scale deformable attention on a CUDA device behind a plain C interface.
//
// The semantics are those of unept/ops/reference.py, the arrays those of msda_cpu.cpp, in device memory and contiguous:
//   value (batch, tokens, heads, channels), of `value_type`       reference (queries, 2): x and y
//   offsets (batch, queries, heads, levels, points, 2)            logits (batch, queries, heads, levels, points)
//   result (batch, queries, heads * channels)
//   softmax (batch, heads, queries, 2): the largest logit and 1 / the sum of the exponentials
// and all but the value in the type of the computation: double for double values, else float. Gradients are laid out
// as what they belong to; the result and the softmax of the forward pass are inputs of the backward pass. `sizes` and
// `shapes` (levels, 2: height and width) are in host memory and may be changed after the call returns.
//
// Work is queued on `stream` of `device`; no call waits for it. The value gradient is a sum of atomic additions, so its
// last bits vary from run to run; every other result is the same in every run.
#include <climits>

#include "gpu_backward.cuh"
#include "gpu_forward.cuh"
#include "interface.h"

#ifndef UNEPT_SOURCES
#define UNEPT_SOURCES ""
#endif
#ifndef UNEPT_MOST_BLOCKS
#define UNEPT_MOST_BLOCKS INT_MAX
#define UNEPT_MOST_REPEATS 65535
#endif

namespace unept {
namespace gpu {
namespace {

struct Pointers {
  bool back;  // backward pass; the gradient may be null in either pass, since an empty one has no memory
  const void *value, *reference, *offsets, *logits, *gradient;
  void *result, *softmax, *value_gradient, *value_sum, *offset_gradient, *logit_gradient;
};

int code_of(cudaError_t error) { return error == cudaSuccess ? none : cuda_error + static_cast<int>(error); }

// Makes a device the current one during its lifetime.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    error = cudaGetDevice(&before_);
    changed_ = error == cudaSuccess && before_ != device;
    if (changed_) error = cudaSetDevice(device);
  }
  ~DeviceGuard() {
    if (changed_) cudaSetDevice(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  cudaError_t error;

 private:
  int before_ = 0;
  bool changed_ = false;
};

unsigned smaller(std::int64_t one, std::int64_t other) { return static_cast<unsigned>(one < other ? one : other); }

// Launches a kernel with `threads` threads, `repeats` times. Kernels loop over what a grid cannot hold.
template <class... Arguments>
int launch(void (*kernel)(Arguments...), std::int64_t threads, std::int64_t repeats, cudaStream_t stream,
           Arguments... values) {
  if (threads == 0 || repeats == 0) return none;
  const std::int64_t blocks = (threads + kThreads - 1) / kThreads;
  const dim3 grid(smaller(blocks, UNEPT_MOST_BLOCKS), smaller(repeats, UNEPT_MOST_REPEATS));
  void* arguments[] = {&values...};
  const cudaError_t error = cudaLaunchKernel(kernel, grid, dim3(kThreads), arguments, 0, stream);
  const cudaError_t last = cudaGetLastError();
  return code_of(error != cudaSuccess ? error : last);
}

// a * b, or -1 if the product is `limit` or more or a factor is negative.
std::int64_t times(std::int64_t a, std::int64_t b, std::int64_t limit) {
  if (a < 0 || b < 0 || (b > 0 && a > (limit - 1) / b)) return -1;
  return a * b;
}

// Checks that indices within a token, a query, a map and an image's groups fit an int, and all others an int64.
int check(const UneptSizes& size) {
  constexpr std::int64_t narrow_limit = INT_MAX / 4, limit = LLONG_MAX / 64;
  if (size.levels > kMostLevels) return too_many_levels;
  const std::int64_t points = times(size.levels, size.points, narrow_limit);
  const std::int64_t row = times(size.heads, size.channels, narrow_limit);
  const std::int64_t in_image = times(size.queries, size.heads, INT_MAX);
  const std::int64_t groups = times(size.batch, in_image, limit);
  const bool fits = size.batch >= 0 && size.tokens >= 0 && size.heads >= 0 && size.channels >= 0 && size.levels >= 0 &&
                    size.points >= 0 && size.queries >= 0 && points >= 0 && row >= 0 && groups >= 0 &&
                    size.tokens < narrow_limit && size.channels < narrow_limit && size.heads < narrow_limit &&
                    size.points < narrow_limit && times(groups, points, limit) >= 0 &&
                    times(groups, size.channels, limit) >= 0 &&
                    times(size.batch, times(size.tokens, row, limit), limit) >= 0;
  return fits ? none : bad_sizes;
}

template <class Real, class Stored>
int fill(Call<Real, Stored>& call, const UneptSizes& size, const std::int64_t* shapes, const Pointers& pointers) {
  if (const int error = check(size)) return error;
  call = Call<Real, Stored>{size.batch, size.queries, size.tokens, static_cast<unsigned>(size.heads),
                            static_cast<unsigned>(size.queries * size.heads), static_cast<int>(size.channels),
                            static_cast<int>(size.points),
                            static_cast<int>(size.levels * size.points), static_cast<const Stored*>(pointers.value),
                            static_cast<const Real*>(pointers.reference), static_cast<const Real*>(pointers.offsets),
                            static_cast<const Real*>(pointers.logits), static_cast<Real*>(pointers.result),
                            static_cast<Real*>(pointers.softmax), static_cast<const Real*>(pointers.gradient),
                            static_cast<Real*>(pointers.value_sum), static_cast<Real*>(pointers.offset_gradient),
                            static_cast<Real*>(pointers.logit_gradient), {}};
  std::int64_t token = 0;
  for (std::int64_t level = 0; level < size.levels; ++level) {
    const std::int64_t height = shapes[2 * level], width = shapes[2 * level + 1];
    const std::int64_t pixels = times(height, width, INT_MAX / 4);
    if (height >= INT_MAX / 4 || width >= INT_MAX / 4 || pixels < 0 || token + pixels > size.tokens) return bad_sizes;
    call.level[level] = {static_cast<int>(height), static_cast<int>(width), static_cast<int>(token)};
    token += pixels;
  }
  return token == size.tokens ? none : bad_sizes;
}

template <class Kind>
bool aligned(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignof(Four<Kind>) == 0;
}

template <class Real, class Stored, int width, int lanes>
int pass(const Call<Real, Stored>& call, bool back, cudaStream_t stream) {
  void (*kernel)(Call<Real, Stored>) =
      back ? &backward<Real, Stored, width, lanes> : &forward<Real, Stored, width, lanes>;
  return launch(kernel, std::int64_t(call.groups) * lanes, call.batch, stream, call);
}

// Runs a pass with as many lanes as a head has vectors, at most a warp.
template <class Real, class Stored>
int pass_by_width(const Call<Real, Stored>& call, bool back, cudaStream_t stream) {
  const bool vectors = call.channels % 4 == 0 && aligned<Stored>(call.value) && aligned<Real>(call.result) &&
                       aligned<Real>(call.gradient) && aligned<Real>(call.value_sum);
  if (!vectors && call.channels <= 8) return pass<Real, Stored, 1, 8>(call, back, stream);
  if (!vectors) return pass<Real, Stored, 1, 32>(call, back, stream);
  if (call.channels <= 16) return pass<Real, Stored, 4, 4>(call, back, stream);
  if (call.channels <= 32) return pass<Real, Stored, 4, 8>(call, back, stream);
  if (call.channels <= 64) return pass<Real, Stored, 4, 16>(call, back, stream);
  return pass<Real, Stored, 4, 32>(call, back, stream);
}

template <class Real, class Stored>
int run(const UneptSizes& size, const std::int64_t* shapes, const Pointers& pointers, int device, cudaStream_t stream) {
  Call<Real, Stored> call;
  if (const int error = fill(call, size, shapes, pointers)) return error;
  const DeviceGuard guard(device);
  if (guard.error != cudaSuccess) return code_of(guard.error);
  if (!pointers.back) return pass_by_width(call, false, stream);
  constexpr bool half = sizeof(Stored) < sizeof(Real);
  if (!half) call.value_sum = static_cast<Real*>(pointers.value_gradient);
  const std::int64_t values = size.batch * size.tokens * size.heads * size.channels;
  if (values > 0) {
    const cudaError_t error = cudaMemsetAsync(call.value_sum, 0, values * sizeof(Real), stream);
    if (error != cudaSuccess) return code_of(error);
  }
  if (const int error = pass_by_width(call, true, stream)) return error;
  if constexpr (half) {
    return launch<const float*, Stored*, std::int64_t>(
        &convert<Stored>, values, 1, stream, call.value_sum, static_cast<Stored*>(pointers.value_gradient), values);
  }
  return none;
}

int run_typed(const UneptSizes& size, const std::int64_t* shapes, const Pointers& pointers, int value_type, int device,
              void* stream_of_call) {
  const cudaStream_t stream = static_cast<cudaStream_t>(stream_of_call);
  switch (value_type) {
    case float32: return run<float, float>(size, shapes, pointers, device, stream);
#ifndef UNEPT_ONLY_FLOAT32
    case float64: return run<double, double>(size, shapes, pointers, device, stream);
    case bfloat16: return run<float, __nv_bfloat16>(size, shapes, pointers, device, stream);
    case float16: return run<float, __half>(size, shapes, pointers, device, stream);
#endif
    default: return bad_type;
  }
}

}  // namespace
}  // namespace gpu
}  // namespace unept

extern "C" {

// Both return 0, or an Error of interface.h.
int unept_msda_cuda_forward(const UneptSizes* sizes, const std::int64_t* shapes, int value_type, int device,
                            void* stream, const void* value, const void* reference, const void* offsets,
                            const void* logits, void* result, void* softmax) {
  return unept::gpu::run_typed(*sizes, shapes,
                               {false, value, reference, offsets, logits, nullptr, result, softmax, nullptr, nullptr,
                                nullptr, nullptr},
                               value_type, device, stream);
}

// `value_sum` is needed for half types only: memory for as many floats as there are values.
int unept_msda_cuda_backward(const UneptSizes* sizes, const std::int64_t* shapes, int value_type, int device,
                             void* stream, const void* gradient, const void* value, const void* reference,
                             const void* offsets, const void* logits, const void* result, const void* softmax,
                             void* value_gradient, void* value_sum, void* offset_gradient, void* logit_gradient) {
  return unept::gpu::run_typed(*sizes, shapes,
                               {true, value, reference, offsets, logits, gradient, const_cast<void*>(result),
                                const_cast<void*>(softmax), value_gradient, value_sum, offset_gradient, logit_gradient},
                               value_type, device, stream);
}

// Text of an error code; it stays valid.
const char* unept_cuda_message(int code) {
  switch (code) {
    case unept::none: return "no error";
    case unept::bad_type: return "unknown type of values";
    case unept::no_memory: return "out of memory";
    case unept::bad_sizes: return "sizes that are negative, too large or do not fit each other";
    case unept::too_many_levels: return "more than 64 levels";
    default: break;
  }
  return code > unept::cuda_error ? cudaGetErrorString(static_cast<cudaError_t>(code - unept::cuda_error))
                                  : "unknown error code";
}

// The hash of the sources that this library was built from.
const char* unept_cuda_sources() { return UNEPT_SOURCES; }

}  // extern "C"
