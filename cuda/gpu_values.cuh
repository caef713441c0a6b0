// Loads, additions and stores of the CUDA kernels: `width` channels at a time, computed in float or double.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>

namespace unept {
namespace gpu {

__device__ __forceinline__ float exponential(float power) { return expf(power); }
__device__ __forceinline__ double exponential(double power) { return exp(power); }
__device__ __forceinline__ float larger(float one, float other) { return fmaxf(one, other); }
__device__ __forceinline__ double larger(double one, double other) { return fmax(one, other); }

// Conversion from the stored type to the type of the computation, and back (to nearest, ties to even).
__device__ __forceinline__ float widen(float stored) { return stored; }
__device__ __forceinline__ double widen(double stored) { return stored; }
__device__ __forceinline__ float widen(__half stored) { return __half2float(stored); }
__device__ __forceinline__ float widen(__nv_bfloat16 stored) { return __bfloat162float(stored); }
__device__ __forceinline__ void narrow(__half& stored, float sum) { stored = __float2half_rn(sum); }
__device__ __forceinline__ void narrow(__nv_bfloat16& stored, float sum) { stored = __float2bfloat16_rn(sum); }

// Four stored numbers, moved in one instruction where possible; every device moves at least 16 bytes at once.
template <class Stored>
struct alignas(sizeof(Stored) * 4 < 16 ? sizeof(Stored) * 4 : 16) Four {
  Stored at[4];
};

template <class Real, int width>
struct Pack {
  Real at[width];
};

template <class Real, int width>
__device__ __forceinline__ Pack<Real, width> nothing() {
  Pack<Real, width> pack;
#pragma unroll
  for (int i = 0; i < width; ++i) pack.at[i] = 0;
  return pack;
}

template <class Real, int width, class Stored>
__device__ __forceinline__ Pack<Real, width> load(const Stored* from) {
  Pack<Real, width> pack;
  if constexpr (width == 4) {
    const Four<Stored> four = *reinterpret_cast<const Four<Stored>*>(from);
#pragma unroll
    for (int i = 0; i < 4; ++i) pack.at[i] = widen(four.at[i]);
  } else {
    pack.at[0] = widen(*from);
  }
  return pack;
}

template <class Real, int width>
__device__ __forceinline__ void store(Real* to, const Pack<Real, width>& pack) {
  if constexpr (width == 4) {
    *reinterpret_cast<Four<Real>*>(to) = {{pack.at[0], pack.at[1], pack.at[2], pack.at[3]}};
  } else {
    *to = pack.at[0];
  }
}

// Adds times * pack to memory that other threads add to as well.
template <class Real, int width>
__device__ __forceinline__ void add(Real* to, Real times, const Pack<Real, width>& pack) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool at_once = width == 4 && sizeof(Real) == 4;
#else
  constexpr bool at_once = false;
#endif
  if constexpr (at_once) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    const float4 sum = {times * pack.at[0], times * pack.at[1], times * pack.at[2], times * pack.at[3]};
    atomicAdd(reinterpret_cast<float4*>(to), sum);
#endif
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) atomicAdd(to + i, times * pack.at[i]);
  }
}

template <class Real, int width>
__device__ __forceinline__ Real dot(const Pack<Real, width>& one, const Pack<Real, width>& other) {
  Real sum = 0;
#pragma unroll
  for (int i = 0; i < width; ++i) sum += one.at[i] * other.at[i];
  return sum;
}

}  // namespace gpu
}  // namespace unept
