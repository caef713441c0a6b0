// Vectors of exactly the machine's width, and the few things that are done with them: compilers lower wider ones badly.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

#include "point.h"

#if defined(UNEPT_BYTES)  // told by who compiles: a test of vectors that its machine has not
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

// Rounding down, where the machine does it at once.
#if UNEPT_BYTES == 64 && defined(__AVX512F__)
inline Vector<float> rounded_down(Vector<float> number) { return _mm512_floor_ps(number); }
inline Vector<double> rounded_down(Vector<double> number) { return _mm512_floor_pd(number); }
#elif UNEPT_BYTES == 32 && defined(__AVX__)
inline Vector<float> rounded_down(Vector<float> number) { return _mm256_floor_ps(number); }
inline Vector<double> rounded_down(Vector<double> number) { return _mm256_floor_pd(number); }
#elif UNEPT_BYTES == 16 && defined(__SSE4_1__)
inline Vector<float> rounded_down(Vector<float> number) { return _mm_floor_ps(number); }
inline Vector<double> rounded_down(Vector<double> number) { return _mm_floor_pd(number); }
#else
template <class Real>
inline Vector<Real> rounded_down_of(Vector<Real> number) {
  const Vector<Real> whole = __builtin_convertvector(__builtin_convertvector(number, Ints<Real>), Vector<Real>);
  return number < whole ? whole - 1 : whole;
}
inline Vector<float> rounded_down(Vector<float> number) { return rounded_down_of<float>(number); }
inline Vector<double> rounded_down(Vector<double> number) { return rounded_down_of<double>(number); }
#endif

#define UNEPT_WHOLE(Real)                                                                           \
  template <>                                                                                       \
  struct Whole<Vector<Real>> {                                                                      \
    using Int = Ints<Real>;                                                                         \
    static UNEPT_INLINE Vector<Real> below(Vector<Real> number) { return rounded_down(number); }    \
    static UNEPT_INLINE Int of(Vector<Real> whole) { return __builtin_convertvector(whole, Int); }  \
  };
UNEPT_WHOLE(float)
UNEPT_WHOLE(double)
#undef UNEPT_WHOLE

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

// Lane i is lane from(i) of `first` and `second` put one after the other.
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

// Lane i of two vectors, or lane i ^ step: the first's where bit `step` of i is 0, else the second's.
template <int count, int step, bool crossed_first, bool crossed_second>
constexpr int either(int lane) {
  return lane & step ? count + (crossed_second ? lane ^ step : lane) : crossed_first ? lane ^ step : lane;
}
template <class Real, int step, bool crossed_first, bool crossed_second>
inline Vector<Real> pick(Vector<Real> first, Vector<Real> second) {
  return shuffled<Real, either<Lanes<Real>::count, step, crossed_first, crossed_second>>(first, second);
}

// Lane i of the second, where bit `step` of i is 0, takes the place of lane i + step of the first, and that its place.
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

// Numbers that lie x, y, x, y, ... from `from` on, as the x and the y; and back.
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

// The sums over the lanes of each of `count` vectors, as the lanes of one: a tree of shuffles. Uses `vectors` up.
template <class Real, int step = Lanes<Real>::count / 2>
inline Vector<Real> sums(Vector<Real>* vectors) {
  for (int i = 0; i < step; ++i) {
    const Vector<Real> one = vectors[i], other = vectors[i + step];
    if constexpr (step > 1) {
      vectors[i] = pick<Real, step, false, false>(one, other) + pick<Real, step, true, true>(one, other);
    } else {  // the same in cheaper steps
      const Vector<Real> rest = pick<Real, step, false, false>(other, one);
      vectors[i] = pick<Real, step, false, false>(one, other) + pick<Real, step, true, true>(rest, rest);
    }
  }
  if constexpr (step > 1) return sums<Real, step / 2>(vectors);
  return vectors[0];
}

// The sum of a vector's lanes, and the largest of them; NaN never is.
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

// The largest of some numbers; NaN never is. -inf for none.
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

// Their sum, always in the same order.
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

// e^x for x <= 0, without a branch; NaN stays NaN, and what is below the smallest normal number is 0.
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
  // times 2^power: the sum of the exponents; the bits of `round` are shifted out
  using Bits = typename Lanes<Real>::Bits;
  const Bits bits = reinterpret_cast<Bits>(series) + (reinterpret_cast<Bits>(rounded) << E::mantissa);
  return x < lowest ? zero : reinterpret_cast<Vector<Real>>(bits);
}

}  // namespace unept
