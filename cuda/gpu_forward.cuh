// The forward pass on a CUDA card.
#pragma once

#include "gpu_call.cuh"

namespace unept {
namespace gpu {

// sum += the corners' rows times their shares, over the first `count` spots of the group.
template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ void gather(const Spot<Real>& own, int count, const Stored* rows, std::int64_t step,
                                       bool has_channels, Pack<Real, width>& sum) {
#pragma unroll 2
  for (int owner = 0; owner < count; ++owner) {
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int row = __shfl_sync(kAll, own.row[corner], owner, lanes);
      const Real share = __shfl_sync(kAll, own.share[corner], owner, lanes);
      if (row >= 0 && has_channels) {
        const Pack<Real, width> value = load<Real, width>(rows + row * step);
#pragma unroll
        for (int i = 0; i < width; ++i) sum.at[i] += share * value.at[i];
      }
    }
  }
}

// The sum over all points of the channels from `channel` on, into the result. Weights are not normalised before the
// end: the sum of the exponentials is not known sooner.
template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ void sum_points(
    const Call<Real, Stored>& call, const Group<lanes>& group, Real most, int channel) {
  const bool has_channels = channel < call.channels;
  const Stored* rows = call.value + group.first_value(call) + channel;
  const std::int64_t step = std::int64_t(call.heads) * call.channels;
  Pack<Real, width> sum = nothing<Real, width>();
  Real total = 0;
  for (int point = 0; point < call.all_points; point += lanes) {
    const Spot<Real> own = spot(call, group, point + group.lane, most, Real(1));
    const int count = call.all_points - point < lanes ? call.all_points - point : lanes;
    total += own.weight;
    gather<Real, Stored, width, lanes>(own, count, rows, step, has_channels, sum);
  }
  total = group_sum<lanes>(total);
  const Real times = call.all_points > 0 ? Real(1) / total : Real(0);
#pragma unroll
  for (int i = 0; i < width; ++i) sum.at[i] *= times;
  if (group.live && has_channels) store(call.result + group.place * call.channels + channel, sum);
  if (group.live && channel == 0) {
    call.softmax[group.statistics(call)] = most;
    call.softmax[group.statistics(call) + 1] = times;
  }
}

// Only whole warps may have to go over the points more than once: fewer lanes are chosen only where they hold all
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
