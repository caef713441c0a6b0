// Multi-scale deformable attention on a CPU behind a plain C interface.
//
// The semantics are those of unept/ops/reference.py. All arrays are contiguous:
//   shapes (levels, 2): height and width      value (batch, tokens, heads, channels), of `value_type`
//   reference (queries, 2): x and y           offsets (batch, queries, heads, levels, points, 2)
//   logits (batch, queries, heads, levels, points)         result (batch, queries, heads * channels)
//   softmax (batch, heads, queries, 2): the largest logit and 1 / the sum of the exponentials
// and all but the value in the type of the computation: double for double values, else float. Gradients are laid out
// as what they belong to; the result and the softmax of the forward pass are inputs of the backward pass.
//
// A head's values are copied into a table (layout.h), so that its maps are contiguous in the cache. Points are worked
// on in blocks: first their locations (vectors of points), then the sums over their four rows (vectors of channels). No
// sum is shared between tasks, so there are no atomics, and the result has the same bits for any number of threads.
#include "backward.h"
#include "forward.h"
#include "loss.h"

#ifndef UNEPT_SOURCES
#define UNEPT_SOURCES ""
#endif
#define UNEPT_PUBLIC __attribute__((visibility("default")))

namespace {

enum Type { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

struct Pointers {
  const UneptSizes* sizes;
  const std::int64_t* shapes;
  const void *value, *reference, *offsets, *logits, *gradient;
  void *result, *softmax, *value_gradient, *offset_gradient, *logit_gradient;
};

template <class Real, class Stored>
int run(const Pointers& pointers, int threads, bool backwards) {
  const UneptSizes& size = *pointers.sizes;
  if (size.batch < 0 || size.tokens < 0 || size.heads < 0 || size.channels < 0 || size.levels < 0 || size.points < 0 ||
      size.queries < 0) {
    return unept::bad_sizes;
  }
  const unept::Call<Real> call{unept::Layout<Real>(size, pointers.shapes),
                               unept::threads_for(size, threads),
                               pointers.value,
                               static_cast<const Real*>(pointers.reference),
                               static_cast<const Real*>(pointers.offsets),
                               static_cast<const Real*>(pointers.logits),
                               static_cast<Real*>(pointers.result),
                               static_cast<Real*>(pointers.softmax),
                               static_cast<const Real*>(pointers.gradient),
                               pointers.value_gradient,
                               static_cast<Real*>(pointers.offset_gradient),
                               static_cast<Real*>(pointers.logit_gradient)};
  if (!call.layout.fits) return unept::bad_sizes;
  return backwards ? unept::backward<Real, Stored>(call) : unept::forward<Real, Stored>(call);
}

int run_typed(const Pointers& pointers, int value_type, int threads, bool backwards) {
  switch (value_type) {
    case float32: return run<float, float>(pointers, threads, backwards);
#if !defined(UNEPT_ONLY_FLOAT32)  // for tests that compile the kernel many times
    case float64: return run<double, double>(pointers, threads, backwards);
    case bfloat16: return run<float, unept::BFloat16>(pointers, threads, backwards);
    case float16: return run<float, unept::Float16>(pointers, threads, backwards);
#endif
    default: return unept::bad_type;
  }
}

}  // namespace

extern "C" {

// Both return 0, or an Error of call.h.
UNEPT_PUBLIC int unept_msda_forward(const UneptSizes* sizes, const std::int64_t* shapes, int value_type, int threads,
                       const void* value, const void* reference, const void* offsets, const void* logits, void* result,
                       void* softmax) {
  return run_typed(
      {sizes, shapes, value, reference, offsets, logits, nullptr, result, softmax, nullptr, nullptr, nullptr},
      value_type, threads, false);
}

UNEPT_PUBLIC int unept_msda_backward(const UneptSizes* sizes, const std::int64_t* shapes, int value_type, int threads,
                        const void* gradient, const void* value, const void* reference, const void* offsets,
                        const void* logits, const void* result, const void* softmax, void* value_gradient,
                        void* offset_gradient, void* logit_gradient) {
  return run_typed({sizes, shapes, value, reference, offsets, logits, gradient, const_cast<void*>(result),
                    const_cast<void*>(softmax), value_gradient, offset_gradient, logit_gradient},
                   value_type, threads, true);
}

// The training loss and its gradients; loss.h describes it. Returns 0, an Error of call.h, or 4 for a wrong label.
UNEPT_PUBLIC int unept_loss(const UneptLoss* loss, int threads) { return unept::loss(*loss, threads); }

// Facts about this library: hash of its sources, bytes of its vectors, and 1 if it uses threads.
UNEPT_PUBLIC const char* unept_sources() { return UNEPT_SOURCES; }
UNEPT_PUBLIC int unept_vector_bytes() { return UNEPT_BYTES; }
UNEPT_PUBLIC int unept_threaded() {
#if defined(_OPENMP)
  return 1;
#else
  return 0;
#endif
}

}  // extern "C"
