// Forward pass on a CUDA device.
#pragma once

#include "gpu_call.cuh"

namespace unept {
namespace gpu {

// Adds the corner rows times their shares of the group's first `count` points to `sum`.
template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ void gather(const SampledPoint<Real>& sampled, int count, const Stored* rows,
                                       std::int64_t step, bool has_channels, Pack<Real, width>& sum) {
#pragma unroll 2
  for (int owner = 0; owner < count; ++owner) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int row = __shfl_sync(kFullWarp, sampled.row[corner], owner, lanes);
      const Real share = __shfl_sync(kFullWarp, sampled.share[corner], owner, lanes);
      if (row >= 0 && has_channels) {
        const Pack<Real, width> value = load<Real, width>(rows + row * step);
#pragma unroll
        for (int i = 0; i < width; ++i) sum.at[i] += share * value.at[i];
      }
    }
  }
}

// Writes the sum over all points, for the channels from `channel` on, to the result. The weights are normalised at the
// end, when the sum of the exponentials is known.
template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ void sum_points(
    const Call<Real, Stored>& call, const Group<lanes>& group, Real most, int channel) {
  const bool has_channels = channel < call.channels;
  const Stored* rows = call.value + group.first_value(call) + channel;
  const std::int64_t step = std::int64_t(call.heads) * call.channels;
  Pack<Real, width> sum = nothing<Real, width>();
  Real total = 0;
  for (int point = 0; point < call.all_points; point += lanes) {
    const SampledPoint<Real> sampled = sample_point(call, group, point + group.lane, most, Real(1));
    const int count = call.all_points - point < lanes ? call.all_points - point : lanes;
    total += sampled.weight;
    gather<Real, Stored, width, lanes>(sampled, count, rows, step, has_channels, sum);
  }
  total = group_sum<lanes>(total);
  const Real times = call.all_points > 0 ? Real(1) / total : Real(0);
#pragma unroll
  for (int i = 0; i < width; ++i) sum.at[i] *= times;
  if (group.live && has_channels) store(call.result + group.index * call.channels + channel, sum);
  if (group.live && channel == 0) {
    call.softmax[group.statistics(call)] = most;
    call.softmax[group.statistics(call) + 1] = times;
  }
}

// Only groups of a whole warp go over the points more than once: narrower groups are chosen only where they hold all
// channels.
template <class Real, class Stored, int width, int lanes>
__global__ void __launch_bounds__(kThreads, kBlocks<Real>) forward(const Call<Real, Stored> call) {
  each_group<lanes>(call, [&call](const Group<lanes>& group) {
    const Real most = largest_logit(call, group);
    if constexpr (lanes < kWarp) {
      sum_points<Real, Stored, width, lanes>(call, group, most, group.lane * width);
    } else {
      for (int from = 0; from < call.channels || from == 0; from += lanes * width) {
        sum_points<Real, Stored, width, lanes>(call, group, most, from + group.lane * width);
      }
    }
  });
}

}  // namespace gpu
}  // namespace unept
