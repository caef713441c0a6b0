// Backward pass on a CUDA device. Only the value gradient is shared between groups; it is summed atomically.
#pragma once

#include "gpu_call.cuh"

namespace unept {
namespace gpu {

// Dot products of the gradient with the rows of a point's four corners.
template <class Real>
struct Dots {
  Real at[4];
};

// State of a thread for working on the rows of points.
template <class Real, class Stored, int width, int lanes>
struct Rows {
  const Stored* value;   // of the head's channel 0
  Real* sum;             // likewise
  const Real* gradient;  // of the query's channel 0
  Pack<Real, width> kept;  // the thread's first channels of it
  std::int64_t step;
  int channels, lane;
  bool live;

  // Partial dot products, over this thread's channels, for the point of lane `owner`. Also adds the gradient times the
  // shares to the corner rows.
  __device__ __forceinline__ Dots<Real> work(const SampledPoint<Real>& sampled, int owner) const {
    Dots<Real> dots;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const int row = __shfl_sync(kFullWarp, sampled.row[corner], owner, lanes);
      const Real share = __shfl_sync(kFullWarp, sampled.share[corner], owner, lanes);
      dots.at[corner] = 0;
      if (row < 0) continue;
      int channel = lane * width;
      if (channel < channels) dots.at[corner] = work_on(row * step + channel, share, kept);
      if constexpr (lanes == kWarp) {  // narrower groups hold all channels at once
#pragma unroll 1
        for (channel += lanes * width; channel < channels; channel += lanes * width) {
          dots.at[corner] += work_on(row * step + channel, share, load<Real, width>(gradient + channel));
        }
      }
    }
    return dots;
  }

  __device__ __forceinline__ Real work_on(std::int64_t at, Real share, const Pack<Real, width>& grad) const {
    if (live) add(sum + at, share, grad);
    return dot(load<Real, width>(value + at), grad);
  }
};

// Dot products of `count` points from `first` on, summed over `count` neighbouring lanes; lane i receives those of
// point `first` + i. Two halves are merged by an exchange: one shuffle for each number instead of log2(count).
template <int count, class Real, class Stored, int width, int lanes>
__device__ __forceinline__ Dots<Real> products(
    const Rows<Real, Stored, width, lanes>& rows, const SampledPoint<Real>& sampled, int first) {
  if constexpr (count == 1) {
    return rows.work(sampled, first);
  } else {
    const Dots<Real> lower = products<count / 2>(rows, sampled, first);
    const Dots<Real> upper = products<count / 2>(rows, sampled, first + count / 2);
    const bool takes_upper = (rows.lane & (count / 2)) != 0;
    Dots<Real> dots;
#pragma unroll
    for (int corner = 0; corner < 4; ++corner) {
      const Real sent = takes_upper ? lower.at[corner] : upper.at[corner];
      const Real kept = takes_upper ? upper.at[corner] : lower.at[corner];
      dots.at[corner] = kept + __shfl_xor_sync(kFullWarp, sent, count / 2);
    }
    return dots;
  }
}

// Writes the gradients of a point's offset and logit.
template <class Real, class Stored>
__device__ __forceinline__ void store_point_gradients(const Call<Real, Stored>& call, std::int64_t at,
                                                      const SampledPoint<Real>& sampled, const Dots<Real>& dots,
                                                      Real delta) {
  const Real v0 = dots.at[0], v1 = dots.at[1], v2 = dots.at[2], v3 = dots.at[3];
  call.offset_gradient[2 * at] = sampled.weight * grad_x(v0, v1, v2, v3, sampled.down);
  call.offset_gradient[2 * at + 1] = sampled.weight * grad_y(v0, v1, v2, v3, sampled.right);
  call.logit_gradient[at] =
      sampled.share[0] * v0 + sampled.share[1] * v1 + sampled.share[2] * v2 + sampled.share[3] * v3 -
      sampled.weight * delta;
}

// Dot product of gradient and result of a group. The derivative of the softmax subtracts it from every logit's
// gradient.
template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ Real gradient_dot_result(const Call<Real, Stored>& call, const Group<lanes>& group) {
  const Real* gradient = call.gradient + group.index * call.channels;
  const Real* result = call.result + group.index * call.channels;
  Real part = 0;
  for (int channel = group.lane * width; channel < call.channels; channel += lanes * width) {
    part += dot(load<Real, width>(gradient + channel), load<Real, width>(result + channel));
  }
  return group_sum<lanes>(part);
}

template <class Real, class Stored, int width, int lanes>
__device__ __forceinline__ void backward_group(const Call<Real, Stored>& call, const Group<lanes>& group) {
  constexpr int batch = lanes < 8 ? lanes : 8;  // points in flight; more would take too many registers
  const Real most = call.softmax[group.statistics(call)], times = call.softmax[group.statistics(call) + 1];
  const Real delta = gradient_dot_result<Real, Stored, width, lanes>(call, group);
  const std::int64_t head = group.first_value(call), step = std::int64_t(call.heads) * call.channels;
  const Real* gradient = call.gradient + group.index * call.channels;
  Rows<Real, Stored, width, lanes> rows{call.value + head, call.value_sum + head, gradient, nothing<Real, width>(),
                                        step, call.channels, group.lane, group.live};
  const int channel = group.lane * width;
  if (channel < call.channels) rows.kept = load<Real, width>(gradient + channel);
#pragma unroll 1
  for (int point = 0; point < call.all_points; point += batch) {
    const int mine = point + group.lane % batch;
    const SampledPoint<Real> sampled = sample_point(call, group, mine, most, times);
    Dots<Real> dots = products<batch>(rows, sampled, 0);
#pragma unroll
    for (int apart = batch; apart < lanes; apart *= 2) {
#pragma unroll
      for (int corner = 0; corner < 4; ++corner) dots.at[corner] += __shfl_xor_sync(kFullWarp, dots.at[corner], apart);
    }
    if (group.live && group.lane < batch && mine < call.all_points) {
      store_point_gradients(call, group.index * call.all_points + mine, sampled, dots, delta);
    }
  }
}

template <class Real, class Stored, int width, int lanes>
__global__ void __launch_bounds__(kThreads, kBlocks<Real>) backward(const Call<Real, Stored> call) {
  each_group<lanes>(call, [&call](const Group<lanes>& group) {
    backward_group<Real, Stored, width, lanes>(call, group);
  });
}

// Converts the value gradient, collected in float, to the half type of the values.
template <class Stored>
__global__ void __launch_bounds__(kThreads) convert(const float* sum, Stored* gradient, std::int64_t count) {
  const std::int64_t step = std::int64_t(gridDim.x) * kThreads;
  for (std::int64_t i = std::int64_t(blockIdx.x) * kThreads + threadIdx.x; i < count; i += step) {
    narrow(gradient[i], sum[i]);
  }
}

}  // namespace gpu
}  // namespace unept
