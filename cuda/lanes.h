// Vectors of exactly the machine's width and the operations on them. Compilers lower wider vectors badly.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

#include "point.h"

#if defined(UNEPT_BYTES)  // set on the command line, to test vector widths that the machine lacks
#elif defined(__AVX512F__)
#define UNEPT_BYTES 64
#elif defined(__AVX2__)
#define UNEPT_BYTES 32
#else
#define UNEPT_BYTES 16
#endif

namespace unept {

template <class Real>
struct Lanes {
  static constexpr int count = UNEPT_BYTES / static_cast<int>(sizeof(Real));
  using Int = std::conditional_t<sizeof(Real) == 4, std::int32_t, std::int64_t>;
  typedef Real Vector __attribute__((vector_size(UNEPT_BYTES)));
  typedef Int Ints __attribute__((vector_size(UNEPT_BYTES)));
  typedef std::make_unsigned_t<Int> Bits __attribute__((vector_size(UNEPT_BYTES)));
};

template <class Real>
using Vector = typename Lanes<Real>::Vector;
template <class Real>
using Ints = typename Lanes<Real>::Ints;

// Rounding down, in one instruction where there is one.
#if UNEPT_BYTES == 64 && defined(__AVX512F__)
inline Vector<float> vector_floor(Vector<float> number) { return _mm512_floor_ps(number); }
inline Vector<double> vector_floor(Vector<double> number) { return _mm512_floor_pd(number); }
#elif UNEPT_BYTES == 32 && defined(__AVX__)
inline Vector<float> vector_floor(Vector<float> number) { return _mm256_floor_ps(number); }
inline Vector<double> vector_floor(Vector<double> number) { return _mm256_floor_pd(number); }
#elif UNEPT_BYTES == 16 && defined(__SSE4_1__)
inline Vector<float> vector_floor(Vector<float> number) { return _mm_floor_ps(number); }
inline Vector<double> vector_floor(Vector<double> number) { return _mm_floor_pd(number); }
#else
template <class Real>
inline Vector<Real> vector_floor_of(Vector<Real> number) {
  const Vector<Real> whole = __builtin_convertvector(__builtin_convertvector(number, Ints<Real>), Vector<Real>);
  return number < whole ? whole - 1 : whole;
}
inline Vector<float> vector_floor(Vector<float> number) { return vector_floor_of<float>(number); }
inline Vector<double> vector_floor(Vector<double> number) { return vector_floor_of<double>(number); }
#endif

#define UNEPT_ROUNDING(Real)                                                                           \
  template <>                                                                                       \
  struct Rounding<Vector<Real>> {                                                                      \
    using Int = Ints<Real>;                                                                         \
    static UNEPT_INLINE Vector<Real> floor(Vector<Real> number) { return vector_floor(number); }    \
    static UNEPT_INLINE Int to_int(Vector<Real> whole) { return __builtin_convertvector(whole, Int); }  \
  };
UNEPT_ROUNDING(float)
UNEPT_ROUNDING(double)
#undef UNEPT_ROUNDING

template <class Real>
inline Vector<Real> load(const Real* from) {
  Vector<Real> vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Real>
inline void store(Real* to, Vector<Real> vector) {
  std::memcpy(to, &vector, sizeof vector);
}

template <class Real>
inline Ints<Real> load_ints(const typename Lanes<Real>::Int* from) {
  Ints<Real> vector;
  std::memcpy(&vector, from, sizeof vector);
  return vector;
}

template <class Real>
inline void store_ints(typename Lanes<Real>::Int* to, Ints<Real> vector) {
  std::memcpy(to, &vector, sizeof vector);
}

// Shuffle: lane i of the result is lane from(i) of the concatenation of `first` and `second`.
template <class Real, int (*from)(int), int... lane>
inline Vector<Real> shuffled(Vector<Real> first, Vector<Real> second, std::integer_sequence<int, lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(first, second, from(lane)...);
#else
  return __builtin_shuffle(first, second, Ints<Real>{from(lane)...});
#endif
}
template <class Real, int (*from)(int)>
inline Vector<Real> shuffled(Vector<Real> first, Vector<Real> second) {
  return shuffled<Real, from>(first, second, std::make_integer_sequence<int, Lanes<Real>::count>{});
}

// Blend: lane i comes from the first vector where bit `step` of i is 0, else from the second; a crossed vector gives
// lane i ^ step.
template <int count, int step, bool crossed_first, bool crossed_second>
constexpr int either(int lane) {
  return lane & step ? count + (crossed_second ? lane ^ step : lane) : crossed_first ? lane ^ step : lane;
}
template <class Real, int step, bool crossed_first, bool crossed_second>
inline Vector<Real> pick(Vector<Real> first, Vector<Real> second) {
  return shuffled<Real, either<Lanes<Real>::count, step, crossed_first, crossed_second>>(first, second);
}

// Swaps lane i of the second vector with lane i + step of the first, for every i whose bit `step` is 0.
template <class Real, int step>
inline void exchange(Vector<Real>& first, Vector<Real>& second) {
  const Vector<Real> kept = first;
  first = pick<Real, step, false, true>(kept, second);
  second = pick<Real, step, true, false>(kept, second);
}

template <int from>
constexpr int every_second(int lane) { return 2 * lane + from; }
template <int count, int from>
constexpr int in_turn(int lane) { return (lane + from) / 2 + lane % 2 * count; }

// Deinterleaves x, y, x, y, ... from memory, and interleaves them back.
template <class Real>
inline void load_pairs(const Real* from, Vector<Real>& x, Vector<Real>& y) {
  const Vector<Real> first = load(from), second = load(from + Lanes<Real>::count);
  x = shuffled<Real, every_second<0>>(first, second);
  y = shuffled<Real, every_second<1>>(first, second);
}
template <class Real>
inline void store_pairs(Real* to, Vector<Real> x, Vector<Real> y) {
  constexpr int count = Lanes<Real>::count;
  store(to, shuffled<Real, in_turn<count, 0>>(x, y));
  store(to + count, shuffled<Real, in_turn<count, count>>(x, y));
}

// Horizontal sums of `count` vectors as the lanes of one vector, by a tree of shuffles. Overwrites `vectors`.
template <class Real, int step = Lanes<Real>::count / 2>
inline Vector<Real> sums(Vector<Real>* vectors) {
  for (int i = 0; i < step; ++i) {
    const Vector<Real> one = vectors[i], other = vectors[i + step];
    if constexpr (step > 1) {
      vectors[i] = pick<Real, step, false, false>(one, other) + pick<Real, step, true, true>(one, other);
    } else {  // the same with cheaper shuffles
      const Vector<Real> rest = pick<Real, step, false, false>(other, one);
      vectors[i] = pick<Real, step, false, false>(one, other) + pick<Real, step, true, true>(rest, rest);
    }
  }
  if constexpr (step > 1) return sums<Real, step / 2>(vectors);
  return vectors[0];
}

// Sum of a vector's lanes, and the largest lane; NaN is never the largest.
template <class Real, int step = Lanes<Real>::count / 2>
inline Real sum_of(Vector<Real> vector) {
  const Vector<Real> both = vector + pick<Real, step, true, true>(vector, vector);
  if constexpr (step > 1) return sum_of<Real, step / 2>(both);
  return both[0];
}
template <class Real, int step = Lanes<Real>::count / 2>
inline Real largest_of(Vector<Real> vector) {
  const Vector<Real> other = pick<Real, step, true, true>(vector, vector), more = other > vector ? other : vector;
  if constexpr (step > 1) return largest_of<Real, step / 2>(more);
  return more[0];
}

// Largest of `count` numbers; NaN is never the largest, and no numbers give -inf.
template <class Real>
inline Real largest(const Real* numbers, std::int64_t count) {
  constexpr int lanes = Lanes<Real>::count;
  Real most = -static_cast<Real>(__builtin_inf());
  std::int64_t i = 0;
  if (count >= lanes) {
    Vector<Real> best = most - Vector<Real>{};
    for (; i + lanes <= count; i += lanes) {
      const Vector<Real> next = load(numbers + i);
      best = next > best ? next : best;
    }
    most = largest_of<Real>(best);
  }
  for (; i < count; ++i) most = numbers[i] > most ? numbers[i] : most;
  return most;
}

// Sum of `count` numbers, always in the same order.
template <class Real>
inline Real total(const Real* numbers, std::int64_t count) {
  constexpr int lanes = Lanes<Real>::count;
  Real sum = 0;
  std::int64_t i = 0;
  if (count >= lanes) {
    Vector<Real> part = {};
    for (; i + lanes <= count; i += lanes) part += load(numbers + i);
    sum = sum_of<Real>(part);
  }
  for (; i < count; ++i) sum += numbers[i];
  return sum;
}

template <class Real>
struct Exponential;

template <>
struct Exponential<float> {
  static constexpr float lowest = -87.0f, round = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
  static constexpr float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr int mantissa = 23, terms = 7;
};

template <>
struct Exponential<double> {
  static constexpr double lowest = -708.0, round = 6755399441055744.0;
  static constexpr double log2e = 1.4426950408889634, ln2_high = 0.693147180369123816490,
                          ln2_low = 1.90821492927058770002e-10;
  static constexpr int mantissa = 52, terms = 13;
};

// e^x for x <= 0, without a branch; NaN stays NaN, and results below the smallest normal number are 0.
template <class Real>
inline Vector<Real> exponential(Vector<Real> x) {
  using E = Exponential<Real>;
  constexpr Real inverse_factorials[] = {1.0, 1.0, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040,
                                         1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600,
                                         1.0 / 6227020800};
  const Vector<Real> zero = {}, lowest = zero + E::lowest;
  const Vector<Real> kept = x < lowest ? lowest : x;
  const Vector<Real> rounded = kept * E::log2e + E::round;
  const Vector<Real> power = rounded - E::round;
  const Vector<Real> rest = kept - power * E::ln2_high - power * E::ln2_low;
  Vector<Real> series = zero + inverse_factorials[E::terms];
#pragma GCC unroll 16
  for (int term = E::terms - 1; term >= 0; --term) series = series * rest + inverse_factorials[term];
  // Multiply by 2^power by adding the exponents; the shift drops the bits of `round`.
  using Bits = typename Lanes<Real>::Bits;
  const Bits bits = reinterpret_cast<Bits>(series) + (reinterpret_cast<Bits>(rounded) << E::mantissa);
  return x < lowest ? zero : reinterpret_cast<Vector<Real>>(bits);
}

}  // namespace unept
