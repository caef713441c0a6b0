// What a launch of the CUDA kernels is given, and how threads share the work.
//
// A group of `lanes` threads of one warp does one head of one query; each of its threads takes `width` neighbouring
// channels. A group works on points in batches: each thread finds out where one of them lies, and shuffles tell the
// others. Shuffles name the whole warp, so no thread may leave before the last one: a group without work ("not live")
// repeats the last group's and keeps the outcome to itself.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "gpu_values.cuh"
#include "point.h"

namespace unept {
namespace gpu {

constexpr int kThreads = 128;  // of a block

// Blocks that a multiprocessor must have room for: leaves a thread 96 registers for float, 128 for double.
template <class Real>
constexpr int kBlocks = sizeof(Real) == 4 ? 5 : 4;
constexpr int kWarp = 32;
constexpr int kMostLevels = 64;  // they travel with the launch, so that no copy to the card is waited for
constexpr unsigned kAll = 0xffffffffu;

struct Level {
  int height, width, token;  // token: of its pixel 0
};

// Layouts and types as in msda_cuda.cu. `value_sum` has the value's layout and collects its gradient.
template <class Real, class Stored>
struct Call {
  std::int64_t batch, queries, tokens;
  unsigned heads, groups;            // groups = queries * heads: those of an image
  int channels, points, all_points;  // points of a level, and of all levels
  const Stored* value;
  const Real *reference, *offsets, *logits;
  Real *result, *softmax;
  const Real* gradient;  // from here on: backward only
  Real *value_sum, *offset_gradient, *logit_gradient;
  Level level[kMostLevels];
};

// One head of one query, as one of its threads sees it.
template <int lanes>
struct Group {
  int lane;
  bool live;
  unsigned head;
  std::int64_t place, image, query;  // place = (image * queries + query) * heads + head

  template <class Real, class Stored>
  __device__ __forceinline__ Group(const Call<Real, Stored>& call, std::int64_t of_image, std::int64_t first) {
    const std::int64_t own = first + threadIdx.x % kWarp / lanes;
    lane = threadIdx.x % lanes;
    live = own < call.groups;
    const unsigned group = live ? static_cast<unsigned>(own) : call.groups - 1;
    head = group % call.heads;
    query = group / call.heads;
    image = of_image;
    place = image * call.groups + group;
  }

  // Of the head's token 0 and channel 0.
  template <class Real, class Stored>
  __device__ __forceinline__ std::int64_t first_value(const Call<Real, Stored>& call) const {
    return (image * call.tokens * call.heads + head) * call.channels;
  }
  template <class Real, class Stored>
  __device__ __forceinline__ std::int64_t statistics(const Call<Real, Stored>& call) const {
    return 2 * ((image * call.heads + head) * call.queries + query);
  }
};

// Calls work(group) for each group of every image. All threads of a warp stay together.
template <int lanes, class Real, class Stored, class Work>
__device__ __forceinline__ void each_group(const Call<Real, Stored>& call, const Work& work) {
  constexpr int in_warp = kWarp / lanes, in_block = kThreads / lanes;
  const std::int64_t start = std::int64_t(blockIdx.x) * in_block + threadIdx.x / kWarp * in_warp;
  for (std::int64_t image = blockIdx.y; image < call.batch; image += gridDim.y) {
    for (std::int64_t first = start; first < call.groups; first += std::int64_t(gridDim.x) * in_block) {
      work(Group<lanes>(call, image, first));
    }
  }
}

template <int lanes, class Real>
__device__ __forceinline__ Real group_sum(Real part) {
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) part += __shfl_xor_sync(kAll, part, step);
  return part;
}

// The largest logit of a group; NaN is passed over, it shows in the sum of the exponentials.
template <int lanes, class Real, class Stored>
__device__ __forceinline__ Real largest_logit(const Call<Real, Stored>& call, const Group<lanes>& group) {
  const Real* logits = call.logits + group.place * call.all_points;
  Real most = -Real(INFINITY);
  for (int point = group.lane; point < call.all_points; point += lanes) most = larger(most, logits[point]);
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) most = larger(most, __shfl_xor_sync(kAll, most, step));
  return most;
}

// Where a point lies, with the shares of its four corners times its weight. Its rows are tokens, -1 outside the map.
template <class Real>
struct Spot {
  int row[4];
  Real share[4];
  Real weight, right, down;
};

// Point `point` of a group, with the weight e^(logit - most) * times; beyond the last point one that lies nowhere.
template <int lanes, class Real, class Stored>
__device__ __forceinline__ Spot<Real> spot(
    const Call<Real, Stored>& call, const Group<lanes>& group, int point, Real most, Real times) {
  if (point >= call.all_points) return {{-1, -1, -1, -1}, {0, 0, 0, 0}, 0, 0, 0};
  const std::int64_t at = group.place * call.all_points + point;
  const Level& map = call.level[static_cast<unsigned>(point) / static_cast<unsigned>(call.points)];
  const Real x = pixel(call.reference[2 * group.query], Real(map.width), call.offsets[2 * at]);
  const Real y = pixel(call.reference[2 * group.query + 1], Real(map.height), call.offsets[2 * at + 1]);
  const Point<Real> here = locate(x, y, Map{map.height, map.width, map.token});
  const Real weight = exponential(call.logits[at] - most) * times;
  return {{here.row0, here.row1, here.row2, here.row3},
          {weight * share0(here.right, here.down), weight * share1(here.right, here.down),
           weight * share2(here.right, here.down), weight * share3(here.right, here.down)},
          weight, here.right, here.down};
}

}  // namespace gpu
}  // namespace unept
