// The backward pass on a CUDA card. Only the gradient of the values is shared between groups, and added up atomically.
#pragma once

#include "gpu_call.cuh"

namespace unept {
namespace gpu {

// <gradient, corner row> of a point's four corners.
template <class Real>
struct Dots {
  Real at[4];
};

// What a thread needs to work on a point's rows.
template <class Real, class Stored, int width, int lanes>
struct Rows {
  const Stored* value;   // of the head's channel 0
  Real* sum;             // likewise
  const Real* gradient;  // of the query's channel 0
  Pack<Real, width> kept;  // the thread's first channels of it
  std::int64_t step;
  int channels, lane;
  bool live;

  // The part of this thread's channels in the products of the point that lane `owner` has found; adds the gradient
  // times the shares to the corners' rows.
  __device__ __forceinline__ Dots<Real> work(const Spot<Real>& own, int owner) const {
    Dots<Real> dots;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int row = __shfl_sync(kAll, own.row[corner], owner, lanes);
      const Real share = __shfl_sync(kAll, own.share[corner], owner, lanes);
      dots.at[corner] = 0;
      if (row < 0) continue;
      int channel = lane * width;
      if (channel < channels) dots.at[corner] = work_on(row * step + channel, share, kept);
      if constexpr (lanes == kWarp) {  // fewer hold all channels
#pragma unroll 1
        for (channel += lanes * width; channel < channels; channel += lanes * width) {
          dots.at[corner] += work_on(row * step + channel, share, load<Real, width>(gradient + channel));
        }
      }
    }
    return dots;
  }

  __device__ __forceinline__ Real work_on(std::int64_t at, Real share, const Pack<Real, width>& slope) const {
    if (live) add(sum + at, share, slope);
    return dot(load<Real, width>(value + at), slope);
  }
};

// The products of `count` points from `first` on, summed over `count` neighbouring lanes: lane i of them receives those
// of point `first` + i. Two halves are made one by an exchange: one shuffle a number instead of log2(count).
template <int count, class Real, class Stored, int width, int lanes>
__device__ __forceinline__ Dots<Real> products(
    const Rows<Real, Stored, width, lanes>& rows, const Spot<Real>& own, int first) {
  if constexpr (count == 1) {
    return rows.work(own, first);
  } else {
    const Dots<Real> lower = products<count / 2>(rows, own, first);
    const Dots<Real> upper = products<count / 2>(rows, own, first + count / 2);
    const bool takes_upper = (rows.lane & (count / 2)) != 0;
    Dots<Real> dots;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const Real sent = takes_upper ? lower.at[corner] : upper.at[corner];
      const Real kept = takes_upper ? upper.at[corner] : lower.at[corner];
      dots.at[corner] = kept + __shfl_xor_sync(kAll, sent, count / 2);
    }
    return dots;
  }
}

// The gradients of a point's offset and logit.
template <class Real, class Stored>
__device__ __forceinline__ void finish(
    const Call<Real, Stored>& call, std::int64_t at, const Spot<Real>& own, const Dots<Real>& dots, Real delta) {
  const Real v0 = dots.at[0], v1 = dots.at[1], v2 = dots.at[2], v3 = dots.at[3];
  call.offset_gradient[2 * at] = own.weight * slope_x(v0, v1, v2, v3, own.down);
  call.offset_gradient[2 * at + 1] = own.weight * slope_y(v0, v1, v2, v3, own.right);
  call.logit_gradient[at] =
      own.share[0] * v0 + own.share[1] * v1 + own.share[2] * v2 + own.share[3] * v3 - own.weight * delta;
}

// <gradient, result> of a group: what the softmax takes off every logit's gradient.
template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ Real inner(const Call<Real, Stored>& call, const Group<lanes>& group) {
  const Real* gradient = call.gradient + group.place * call.channels;
  const Real* result = call.result + group.place * call.channels;
  Real part = 0;
  for (int channel = group.lane * width; channel < call.channels; channel += lanes * width) {
    part += dot(load<Real, width>(gradient + channel), load<Real, width>(result + channel));
  }
  return group_sum<lanes>(part);
}

template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ void backward_group(const Call<Real, Stored>& call, const Group<lanes>& group) {
  constexpr int batch = lanes < 8 ? lanes : 8;  // points worked on together: more would take too many registers
  const Real most = call.softmax[group.statistics(call)], times = call.softmax[group.statistics(call) + 1];
  const Real delta = inner<Real, Stored, width, lanes>(call, group);
  const std::int64_t head = group.first_value(call), step = std::int64_t(call.heads) * call.channels;
  const Real* gradient = call.gradient + group.place * call.channels;
  Rows<Real, Stored, width, lanes> rows{call.value + head, call.value_sum + head, gradient, nothing<Real, width>(),
                                        step, call.channels, group.lane, group.live};
  const int channel = group.lane * width;
  if (channel < call.channels) rows.kept = load<Real, width>(gradient + channel);
#pragma unroll 1
  for (int point = 0; point < call.all_points; point += batch) {
    const int mine = point + group.lane % batch;
    const Spot<Real> own = spot(call, group, mine, most, times);
    Dots<Real> dots = products<batch>(rows, own, 0);
#pragma unroll
    for (int apart = batch; apart < lanes; apart *= 2) {
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) dots.at[corner] += __shfl_xor_sync(kAll, dots.at[corner], apart);
    }
    if (group.live && group.lane < batch && mine < call.all_points) {
      finish(call, group.place * call.all_points + mine, own, dots, delta);
    }
  }
}

template <class Real, class Stored, int width, int lanes>
__global__ void __launch_bounds__(kThreads, kBlocks<Real>) backward(const Call<Real, Stored> call) {
  each_group<lanes>(call, [&call](const Group<lanes>& group) {
    backward_group<Real, Stored, width, lanes>(call, group);
  });
}

// The collected gradient of half-type values, in their type.
template <class Stored>
__global__ void __launch_bounds__(kThreads) convert(const float* sum, Stored* gradient, std::int64_t count) {
  const std::int64_t step = std::int64_t(gridDim.x) * kThreads;
  for (std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    narrow(gradient[i], sum[i]);
  }
}

}  // namespace gpu
}  // namespace unept
