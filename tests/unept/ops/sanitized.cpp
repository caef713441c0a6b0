// Runs the kernel over arrays of exactly the sizes it is told, for the sanitizers. With an argument it lies about one.
#include <cmath>
#include <cstdio>
#include <vector>

#include "msda_cpu.cpp"

static unsigned state = 1;
static float number() {  // in [-1, 1)
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
}

template <class Real>
static std::vector<Real> some(std::int64_t count, float scale) {
  std::vector<Real> made(static_cast<std::size_t>(count));
  for (Real& one : made) one = static_cast<Real>(scale * number());
  return made;
}

#ifdef _OPENMP
constexpr int threads = 3;
#else
constexpr int threads = 1;
#endif

template <class Real, class Stored = Real>
static int once(UneptSizes n, const std::vector<std::int64_t>& shapes, std::int64_t lie, int type) {
  const std::int64_t points = n.batch * n.queries * n.heads * n.levels * n.points;
  const std::int64_t values = n.batch * n.tokens * n.heads * n.channels;
  const std::int64_t sums = n.batch * n.queries * n.heads * n.channels;
  auto value = some<Stored>(values - lie, sizeof(Stored) == 2 ? 30000 : 1);  // halves: any bits
  auto place = some<Real>(n.queries * 2, 1), offsets = some<Real>(points * 2, 9);
  auto logits = some<Real>(points, 3), gradient = some<Real>(sums, 1), result = some<Real>(sums, 0);
  auto softmax = some<Real>(n.batch * n.heads * n.queries * 2, 0);
  auto by_value = value, by_offsets = offsets, by_logits = logits;
  const Real strange[] = {Real(NAN), Real(INFINITY), Real(-INFINITY), Real(1e30), Real(-1e30), Real(2147483648.0)};
  for (std::size_t i = 0; i < offsets.size(); i += 7) offsets[i] = strange[i % 6];
  if (!logits.empty()) logits.back() = Real(NAN), logits.front() = Real(-INFINITY);
  const int ahead = unept_msda_forward(&n, shapes.data(), type, threads, value.data(), place.data(), offsets.data(),
                                       logits.data(), result.data(), softmax.data());
  return ahead | unept_msda_backward(&n, shapes.data(), type, threads, gradient.data(), value.data(), place.data(),
                                     offsets.data(), logits.data(), result.data(), softmax.data(), by_value.data(),
                                     by_offsets.data(), by_logits.data());
}

int main(int count, char**) {
  const std::vector<std::int64_t> three{5, 9, 3, 3, 1, 7}, one{6, 4}, hollow{0, 4, 2, 1};
  int wrong = 0;
  for (const std::int64_t channels : {1, 3, 4, 8, 32, 33, 70}) {
    for (const std::int64_t points : {1, 2, 4, 5, 16, 200}) {
      wrong |= once<float>({2, 61, 2, channels, 3, points, 3}, three, count - 1, float32);
      wrong |= once<double>({1, 24, 3, channels, 1, points, 70}, one, 0, float64);
      for (const int half : {bfloat16, float16}) {
        wrong |= once<float, std::int16_t>({2, 61, 2, channels, 3, points, 3}, three, 0, half);
      }
    }
  }
  const std::vector<std::int64_t> large_map{70, 60};  // whose rows are asked for before they are read
  const unept::Layout<float> layout({1, 4200, 2, 33, 1, 1, 1}, large_map.data());
  if (layout.rows * layout.vectors * UNEPT_BYTES <= unept::kCachedTableBytes) wrong |= 128;
  for (const std::int64_t points : {1, 16, 200}) {
    wrong |= once<float>({1, 4200, 2, 33, 1, points, 9}, large_map, 0, float32);
    wrong |= once<float>({2, 4200, 2, 33, 1, points, 170}, large_map, 0, float32);  // enough for several threads
  }
  wrong |= once<float>({0, 24, 3, 4, 1, 4, 5}, one, 0, float32) | once<float>({2, 24, 3, 4, 1, 4, 0}, one, 0, float32);
  wrong |= once<float>({1, 2, 2, 5, 2, 4, 3}, hollow, 0, float32);
  const std::int64_t many[] = {1 << 16, 1 << 16};
  const UneptSizes large{1, many[0] * many[1], 1, 1, 1, 1, 1};
  const auto refused = [&](int type) {
    return unept_msda_forward(&large, many, type, 1, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
  };
  if (refused(float32) != unept::bad_sizes || refused(9) != unept::bad_type) wrong |= 64;
  std::puts(wrong ? "wrong" : "clean");
  return wrong;
}
