// Arguments of a launch of the CUDA kernels, and how threads share the work.
//
// A group of `lanes` threads of one warp computes one head of one query; each of its threads takes `width` neighbouring
// channels. A group works on points in batches: each thread locates one point and shares it by shuffles. The shuffles
// name the whole warp, so no thread may return early: a group without work (not `live`) repeats the last group's and
// does not store the result.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "gpu_values.cuh"
#include "point.h"

namespace unept {
namespace gpu {

constexpr int kThreads = 128;  // threads of a block

// Smallest number of resident blocks on a multiprocessor: leaves a thread 96 registers for float, 128 for double.
template <class Real>
constexpr int kBlocks = sizeof(Real) == 4 ? 5 : 4;
constexpr int kWarp = 32;
constexpr int kMostLevels = 64;  // passed as kernel arguments, so that no copy to the device is awaited
constexpr unsigned kFullWarp = 0xffffffffu;

struct Level {
  int height, width, token;  // `token` is the index of its pixel 0 among the tokens
};

// Layouts and types as in msda_cuda.cu. `value_sum` has the value's layout and collects its gradient.
template <class Real, class Stored>
struct Call {
  std::int64_t batch, queries, tokens;
  unsigned heads, groups;            // groups = queries * heads of one image
  int channels, points, all_points;  // points of one level, and of all levels
  const Stored* value;
  const Real *reference, *offsets, *logits;
  Real *result, *softmax;
  const Real* gradient;  // the rest is for the backward pass
  Real *value_sum, *offset_gradient, *logit_gradient;
  Level level[kMostLevels];
};

// One head of one query, from the view of one of its threads.
template <int lanes>
struct Group {
  int lane;
  bool live;
  unsigned head;
  std::int64_t index, image, query;  // index = (image * queries + query) * heads + head

  template <class Real, class Stored>
  __device__ __forceinline__ Group(const Call<Real, Stored>& call, std::int64_t of_image, std::int64_t first) {
    const std::int64_t own = first + threadIdx.x % kWarp / lanes;
    lane = threadIdx.x % lanes;
    live = own < call.groups;
    const unsigned group = live ? static_cast<unsigned>(own) : call.groups - 1;
    head = group % call.heads;
    query = group / call.heads;
    image = of_image;
    index = image * call.groups + group;
  }

  // Index of the head's channel 0 of token 0 in `value`.
  template <class Real, class Stored>
  __device__ __forceinline__ std::int64_t first_value(const Call<Real, Stored>& call) const {
    return (image * call.tokens * call.heads + head) * call.channels;
  }
  template <class Real, class Stored>
  __device__ __forceinline__ std::int64_t statistics(const Call<Real, Stored>& call) const {
    return 2 * ((image * call.heads + head) * call.queries + query);
  }
};

// Calls work(group) for each group of every image. All threads of a warp make the same number of calls.
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
  for (int step = lanes / 2; step > 0; step /= 2) part += __shfl_xor_sync(kFullWarp, part, step);
  return part;
}

// Largest logit of a group. NaN is ignored here; it appears in the sum of the exponentials.
template <int lanes, class Real, class Stored>
__device__ __forceinline__ Real largest_logit(const Call<Real, Stored>& call, const Group<lanes>& group) {
  const Real* logits = call.logits + group.index * call.all_points;
  Real most = -Real(INFINITY);
  for (int point = group.lane; point < call.all_points; point += lanes) most = larger(most, logits[point]);
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) most = larger(most, __shfl_xor_sync(kFullWarp, most, step));
  return most;
}

// Location of a point: the tokens of its four corners (-1 outside the map), and their shares times the point's weight.
template <class Real>
struct SampledPoint {
  int row[4];
  Real share[4];
  Real weight, right, down;
};

// Locates point `point` of a group, with the weight e^(logit - most) * times; past the last point all corners are
// outside the map.
template <int lanes, class Real, class Stored>
__device__ __forceinline__ SampledPoint<Real> sample_point(
    const Call<Real, Stored>& call, const Group<lanes>& group, int point, Real most, Real times) {
  if (point >= call.all_points) return {{-1, -1, -1, -1}, {0, 0, 0, 0}, 0, 0, 0};
  const std::int64_t at = group.index * call.all_points + point;
  const Level& map = call.level[static_cast<unsigned>(point) / static_cast<unsigned>(call.points)];
  const Real x = pixel(call.reference[2 * group.query], Real(map.width), call.offsets[2 * at]);
  const Real y = pixel(call.reference[2 * group.query + 1], Real(map.height), call.offsets[2 * at + 1]);
  const Point<Real> corners = locate(x, y, Map{map.height, map.width, map.token});
  const Real weight = exponential(call.logits[at] - most) * times;
  return {{corners.row0, corners.row1, corners.row2, corners.row3},
          {weight * share0(corners.right, corners.down), weight * share1(corners.right, corners.down),
           weight * share2(corners.right, corners.down), weight * share3(corners.right, corners.down)},
          weight, corners.right, corners.down};
}

}  // namespace gpu
}  // namespace unept
