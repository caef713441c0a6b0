// The training loss of a batch (Eq. 7) on a CPU: the sums of its terms, and their gradients, picture by picture.
//
// The semantics are those of unept/losses/total_loss.py, for float logits at 1 / stride of the label's size. All arrays
// are contiguous: logits (batch, channels, h, w), targets (batch, height, width) with 255 for pixels that do not count.
// Logits are enlarged plane by plane. A plane is padded to whole vectors. The sums of a picture are taken in double
// precision in the order of its pixels and those of the pictures in their order, so that the result has the same bits
// for any number of threads. A logit that is not finite is the caller's to see; here it spoils numbers and nothing else.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#include "call.h"
#include "lanes.h"

extern "C" {
struct UneptLoss {
  std::int64_t batch, classes, edge_channels, rows, columns, height, width, stride;
  std::int64_t edge_by_logit;  // 1: an edge is where the (last) boundary logit exceeds 0.5
  std::int64_t area;           // where directions are supervised; 0: predicted boundary, 1: true boundary, 2: both
  const float *logits, *boundary, *direction;
  const std::int64_t *label, *boundary_target, *direction_target;
  float *plain_gradient, *refined_gradient, *boundary_gradient, *direction_gradient;
  // Plain, refined, boundary and direction terms, summed; then what they are divided by: pixels with a label, boundary
  // pixels that count (with two channels: their weights), weights of directions; last a label that is no class.
  double* sums;
};
}

namespace unept {

constexpr int kDirections = 8;
constexpr std::int32_t kNone = 255;
constexpr int kDown[kDirections + 1] = {0, -1, -1, -1, 0, 1, 1, 1, 0};
constexpr int kAcross[kDirections + 1] = {-1, -1, 0, 1, 1, 1, 0, -1, 0};
enum LossSum { plain = 0, refined = 1, boundary_term = 2, direction_term = 3, valid = 4, boundary_norm = 5,
               direction_norm = 6, bad_label = 7, loss_sums = 8 };
constexpr int wrong_label = 4;  // beside the codes of call.h

// Natural logarithm of positive normal numbers; NaN stays NaN. Cephes' polynomial.
inline Vector<float> logarithm(Vector<float> x) {
  using Bits = Lanes<float>::Bits;
  const Vector<float> zero = {};
  const Bits bits = reinterpret_cast<Bits>(x);
  const Ints<float> exponent = reinterpret_cast<Ints<float>>(bits >> 23) - 126;
  Vector<float> power = __builtin_convertvector(exponent, Vector<float>);
  Vector<float> part = reinterpret_cast<Vector<float>>((bits & 0x007fffffu) | 0x3f000000u);  // 0.5 to 1
  const Vector<float> low = part < 0.707106781f ? zero + 1.0f : zero;
  power -= low;
  part = part + low * part - 1.0f;
  constexpr float series[] = {7.0376836292e-2f, -1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                              -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
  Vector<float> sum = zero + series[0];
#pragma GCC unroll 8
  for (int term = 1; term < 9; ++term) sum = sum * part + series[term];
  const Vector<float> square = part * part;
  sum = sum * part * square + power * -2.12194440e-4f - 0.5f * square;
  const Vector<float> result = part + sum + power * 0.693359375f;
  return x == x ? result : x;
}

// Linear interpolation along an axis: pixel i lies between two logits, `weight` of the way to the upper one.
struct LossAxis {
  std::vector<std::int32_t> lower, upper;
  std::vector<float> weight;
  LossAxis(std::int64_t logits, std::int64_t pixels, std::int64_t stride, bool align_corners)
      : lower(pixels), upper(pixels), weight(pixels) {
    const double full = double(logits * stride), step = full > 1 ? double(logits - 1) / (full - 1) : 0.0;
    for (std::int64_t i = 0; i < pixels; ++i) {
      const double centred = (double(i) + 0.5) / double(stride) - 0.5;
      const double position = align_corners ? double(i) * step : centred < 0 ? 0.0 : centred;
      const std::int64_t whole = std::int64_t(position) < logits ? std::int64_t(position) : logits - 1;
      lower[i] = std::int32_t(whole);
      upper[i] = std::int32_t(whole + 1 < logits ? whole + 1 : whole);
      weight[i] = float(position - double(whole));
    }
  }
};

// Maps of the logits' size from and to planes of the label's size.
struct Resampler {
  const UneptLoss& loss;
  LossAxis down, across;
  Resampler(const UneptLoss& of, bool align_corners)
      : loss(of), down(of.rows, of.height, of.stride, align_corners),
        across(of.columns, of.width, of.stride, align_corners) {}

  // `wide` holds rows * width numbers.
  void enlarge(const float* map, float* wide, float* plane) const {
    const std::int64_t width = loss.width;
    for (std::int64_t row = 0; row < loss.rows; ++row) {
      const float* from = map + row * loss.columns;
      float* to = wide + row * width;
      for (std::int64_t i = 0; i < width; ++i) {
        const float left = from[across.lower[i]], right = from[across.upper[i]];
        to[i] = left + across.weight[i] * (right - left);
      }
    }
    for (std::int64_t row = 0; row < loss.height; ++row) {
      const float *above = wide + down.lower[row] * width, *below = wide + down.upper[row] * width;
      const float weight = down.weight[row];
      float* to = plane + row * width;
      for (std::int64_t i = 0; i < width; ++i) to[i] = above[i] + weight * (below[i] - above[i]);
    }
  }

  // The transpose of `enlarge`.
  void shrink(const float* plane, float* wide, float* map) const {
    const std::int64_t width = loss.width;
    std::memset(wide, 0, sizeof(float) * loss.rows * width);
    for (std::int64_t row = 0; row < loss.height; ++row) {
      float *above = wide + down.lower[row] * width, *below = wide + down.upper[row] * width;
      const float weight = down.weight[row], rest = 1 - weight;
      const float* from = plane + row * width;
      for (std::int64_t i = 0; i < width; ++i) above[i] += rest * from[i];
      for (std::int64_t i = 0; i < width; ++i) below[i] += weight * from[i];
    }
    for (std::int64_t row = 0; row < loss.rows; ++row) {
      const float* from = wide + row * width;
      float* to = map + row * loss.columns;
      std::memset(to, 0, sizeof(float) * loss.columns);
      for (std::int64_t i = 0; i < width; ++i) {
        to[across.lower[i]] += (1 - across.weight[i]) * from[i];
        to[across.upper[i]] += across.weight[i] * from[i];
      }
    }
  }
};

// Turns planes of logits into probabilities; `log_sum` becomes the logarithm of the sum of the exponentials.
inline void softmax(float* planes, std::int64_t channels, std::int64_t size, float* log_sum) {
  constexpr std::int64_t lanes = Lanes<float>::count;
  for (std::int64_t i = 0; i < size; i += lanes) {
    Vector<float> most = load(planes + i), sum = {};
    for (std::int64_t c = 1; c < channels; ++c) {
      const Vector<float> next = load(planes + c * size + i);
      most = next > most ? next : most;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      const Vector<float> power = exponential<float>(load(planes + c * size + i) - most);
      store(planes + c * size + i, power);
      sum += power;
    }
    store(log_sum + i, Vector<float>(most + logarithm(sum)));
    const Vector<float> inverse = 1.0f / sum;
    for (std::int64_t c = 0; c < channels; ++c) {
      store(planes + c * size + i, Vector<float>(load(planes + c * size + i) * inverse));
    }
  }
}

// What the second pass over a picture needs of the first one over all of them.
struct LossCounts {
  double valid = 0, edges[2] = {0, 0}, kept_edges = 0, directions[kDirections] = {};
  std::int64_t wrong = -1;  // a label that is no class
  void add(const LossCounts& other) {
    valid += other.valid, kept_edges += other.kept_edges;
    for (int c = 0; c < 2; ++c) edges[c] += other.edges[c];
    for (int c = 0; c < kDirections; ++c) directions[c] += other.directions[c];
    if (wrong < 0) wrong = other.wrong;
  }
};

// A class weighs 1 - its share of the pixels; returns the weights of all pixels together.
inline double balance(const double* counts, int classes, float* weights) {
  double all = 0, norm = 0;
  for (int c = 0; c < classes; ++c) all += counts[c];
  for (int c = 0; c < classes; ++c) {
    weights[c] = float(1 - counts[c] / (all > 1 ? all : 1));
    norm += double(weights[c]) * counts[c];
  }
  return norm;
}

// Memory of one thread.
struct LossScratch {
  std::vector<float> planes, slopes, wide, log_sum, own, moved;
  std::vector<std::int32_t> source, readers, choice;
  LossScratch(const UneptLoss& loss, std::int64_t size) {
    const std::int64_t channels = loss.classes > kDirections ? loss.classes : kDirections;
    planes.resize(channels * size), slopes.resize(loss.classes * size), wide.resize(loss.rows * loss.width);
    log_sum.resize(size), own.resize(size), moved.resize(size);
    source.resize(size), readers.resize(size), choice.resize(size);
  }
};

class Loss {
 public:
  Loss(const UneptLoss& loss, int threads)
      : loss_(loss),
        pixels_(loss.height * loss.width),
        threads_(threads < loss.batch ? threads : int(loss.batch)),
        aligned_(loss, true),
        centred_(loss, false) {
    constexpr std::int64_t lanes = Lanes<float>::count;
    size_ = (pixels_ + lanes - 1) / lanes * lanes;
    edges_.resize(loss.batch * loss.edge_channels * size_);
  }

  int run() {
    const std::int64_t batch = loss_.batch;
    std::vector<LossCounts> counts(batch);
    std::vector<double> sums(batch * 4);
    std::vector<LossScratch> scratch;  // before threads begin: an exception could not leave them
    for (int thread = 0; thread < threads_ || !thread; ++thread) scratch.emplace_back(loss_, size_);
    parallel(batch, threads_, [&](std::int64_t picture, int thread) {
      count(picture, scratch[thread].wide.data(), counts[picture]);
    });
    for (const LossCounts& one : counts) total_.add(one);
    if (total_.wrong >= 0) {
      loss_.sums[bad_label] = double(total_.wrong);
      return wrong_label;
    }
    std::memset(loss_.sums, 0, sizeof(double) * loss_sums);
    loss_.sums[valid] = total_.valid;
    loss_.sums[boundary_norm] = loss_.edge_channels == 2 ? balance(total_.edges, 2, edge_weights_) : total_.kept_edges;
    loss_.sums[direction_norm] = balance(total_.directions, kDirections, direction_weights_);
    parallel(batch, threads_, [&](std::int64_t picture, int thread) {
      LossScratch& own = scratch[thread];
      double* terms = sums.data() + 4 * picture;
      if (loss_.edge_channels) {
        direction(picture, own, terms);
        boundary(picture, own, terms);
      }
      segmentation(picture, own, terms);
    });
    for (std::int64_t picture = 0; picture < batch; ++picture) {
      for (int term = 0; term < 4; ++term) loss_.sums[term] += sums[4 * picture + term];
    }
    return none;
  }

 private:
  const std::int64_t* label(std::int64_t picture) const { return loss_.label + picture * pixels_; }
  const std::int64_t* edge_target(std::int64_t picture) const { return loss_.boundary_target + picture * pixels_; }
  const std::int64_t* way_target(std::int64_t picture) const { return loss_.direction_target + picture * pixels_; }
  const float* edges(std::int64_t picture) const { return edges_.data() + picture * loss_.edge_channels * size_; }
  std::int64_t map_size() const { return loss_.rows * loss_.columns; }

  bool predicted(const float* edge, std::int64_t pixel) const {
    return loss_.edge_channels == 2 ? edge[size_ + pixel] > edge[pixel] : edge[pixel] > 0;
  }
  bool supervised(const float* edge, const std::int64_t* target, std::int64_t pixel) const {
    const bool truth = target[pixel] == 1;
    return loss_.area == 1 ? truth : predicted(edge, pixel) && (loss_.area == 0 || truth);
  }

  // Enlarges the boundary logits, counts, and checks every label that is read.
  void count(std::int64_t picture, float* wide, LossCounts& counts) {
    const std::int64_t* labels = label(picture);
    for (std::int64_t i = 0; i < pixels_; ++i) {
      if (labels[i] == kNone) continue;
      if (labels[i] < 0 || labels[i] >= loss_.classes) counts.wrong = labels[i] < 0 ? kNone : labels[i];
      counts.valid += 1;
    }
    if (!loss_.edge_channels) return;
    float* edge = edges_.data() + picture * loss_.edge_channels * size_;
    for (std::int64_t c = 0; c < loss_.edge_channels; ++c) {
      const float* map = loss_.boundary + (picture * loss_.edge_channels + c) * map_size();
      aligned_.enlarge(map, wide, edge + c * size_);
    }
    const std::int64_t *targets = edge_target(picture), *ways = way_target(picture);
    for (std::int64_t i = 0; i < pixels_; ++i) {
      if (targets[i] != kNone) {
        counts.kept_edges += 1;
        if (targets[i] == 0 || targets[i] == 1) counts.edges[targets[i]] += 1;
        else if (loss_.edge_channels == 2) counts.wrong = targets[i] < 0 ? kNone : targets[i];
      }
      if (ways[i] == kNone || !supervised(edge, targets, i)) continue;
      if (ways[i] < 0 || ways[i] >= kDirections) counts.wrong = ways[i] < 0 ? kNone : ways[i];
      else counts.directions[ways[i]] += 1;
    }
  }

  // The direction term, and the pixel that each pixel's refined logits are read at.
  void direction(std::int64_t picture, LossScratch& own, double* terms) const {
    float* planes = own.planes.data();
    for (std::int64_t c = 0; c < kDirections; ++c) {
      aligned_.enlarge(loss_.direction + (picture * kDirections + c) * map_size(), own.wide.data(), planes + c * size_);
    }
    const float *edge = edges(picture), *last = edge + (loss_.edge_channels - 1) * size_;
    float* best = own.own.data();
    std::memcpy(best, planes, sizeof(float) * size_);
    std::memset(own.choice.data(), 0, sizeof(std::int32_t) * size_);
    for (std::int32_t c = 1; c < kDirections; ++c) {
      const float* plane = planes + c * size_;
      std::int32_t* choice = own.choice.data();
      for (std::int64_t i = 0; i < pixels_; ++i) {
        choice[i] = plane[i] > best[i] ? c : choice[i];
        best[i] = plane[i] > best[i] ? plane[i] : best[i];
      }
    }
    for (std::int64_t row = 0, i = 0; row < loss_.height; ++row) {
      for (std::int64_t column = 0; column < loss_.width; ++column, ++i) {
        const bool is_edge = loss_.edge_by_logit ? last[i] > 0.5f : predicted(edge, i);
        const int way = is_edge ? own.choice[i] : kDirections;
        const std::int64_t y = row + kDown[way], x = column + kAcross[way];
        const std::int64_t inside_y = y < 0 ? 0 : y < loss_.height ? y : loss_.height - 1;
        const std::int64_t inside_x = x < 0 ? 0 : x < loss_.width ? x : loss_.width - 1;
        own.source[i] = std::int32_t(inside_y * loss_.width + inside_x);
      }
    }
    const std::int64_t *targets = edge_target(picture), *ways = way_target(picture);
    float* weights = own.moved.data();
    for (std::int64_t i = 0; i < pixels_; ++i) {
      const bool counts = ways[i] != kNone && supervised(edge, targets, i);
      weights[i] = counts ? direction_weights_[ways[i]] : 0;
      best[i] = counts ? planes[ways[i] * size_ + i] : 0;
      own.choice[i] = std::int32_t(ways[i]);
    }
    softmax(planes, kDirections, size_, own.log_sum.data());
    for (std::int64_t i = 0; i < pixels_; ++i) {
      if (weights[i] != 0) terms[direction_term] += double(weights[i] * (own.log_sum[i] - best[i]));
    }
    for (std::int32_t c = 0; c < kDirections; ++c) {
      float* plane = planes + c * size_;
      const std::int32_t* target = own.choice.data();
      for (std::int64_t i = 0; i < pixels_; ++i) plane[i] = weights[i] * (plane[i] - (target[i] == c ? 1.0f : 0.0f));
      aligned_.shrink(plane, own.wide.data(), loss_.direction_gradient + (picture * kDirections + c) * map_size());
    }
  }

  void boundary(std::int64_t picture, LossScratch& own, double* terms) const {
    constexpr std::int64_t lanes = Lanes<float>::count;
    const std::int64_t* targets = edge_target(picture);
    const float* edge = edges(picture);
    float *value = own.own.data(), *slope = own.planes.data(), *loss = own.log_sum.data();
    // With two channels the loss of their difference, weighted by class; the difference's gradient has opposite signs.
    const bool two = loss_.edge_channels == 2;
    for (std::int64_t i = 0; i < size_; ++i) value[i] = two ? edge[size_ + i] - edge[i] : edge[i];
    for (std::int64_t i = 0; i < size_; i += lanes) {
      const Vector<float> x = load(value + i), zero = {}, size = x < 0 ? -x : x, power = exponential<float>(-size);
      const Vector<float> sum = 1.0f + power;  // log(1 + e), exact also where e vanishes beside 1
      const Vector<float> log_sum = logarithm(sum) + (power - (sum - 1.0f)) / sum;
      store(loss + i, Vector<float>(log_sum + (x < 0 ? zero : x)));
      store(slope + i, Vector<float>((x < 0 ? power : zero + 1.0f) / sum));
    }
    for (std::int64_t i = 0; i < pixels_; ++i) {
      const bool positive = targets[i] == 1;
      const float weight = targets[i] == kNone ? 0.0f : two ? edge_weights_[positive] : 1.0f;
      if (weight != 0) terms[boundary_term] += double(weight * (loss[i] - (positive ? value[i] : 0.0f)));
      slope[i] = weight * (slope[i] - (positive ? 1.0f : 0.0f));
    }
    float* gradient = loss_.boundary_gradient + picture * loss_.edge_channels * map_size();
    float* upper = gradient + (loss_.edge_channels - 1) * map_size();
    aligned_.shrink(slope, own.wide.data(), upper);
    if (two) {
      for (std::int64_t i = 0; i < map_size(); ++i) gradient[i] = -upper[i];
    }
  }

  // The plain and the refined term from one softmax: a pixel's refined loss is read at its source.
  void segmentation(std::int64_t picture, LossScratch& own, double* terms) const {
    const std::int64_t* labels = label(picture);
    float *planes = own.planes.data(), *slopes = own.slopes.data(), *log_sum = own.log_sum.data();
    const std::int64_t map = picture * loss_.classes * map_size();
    const bool refines = loss_.edge_channels > 0;
    for (std::int64_t c = 0; c < loss_.classes; ++c) {
      centred_.enlarge(loss_.logits + map + c * map_size(), own.wide.data(), planes + c * size_);
    }
    std::memset(own.readers.data(), 0, sizeof(std::int32_t) * size_);
    for (std::int64_t i = 0; i < pixels_; ++i) {
      if (labels[i] == kNone) continue;
      own.own[i] = planes[labels[i] * size_ + i];
      if (!refines) continue;
      own.moved[i] = planes[labels[i] * size_ + own.source[i]];
      own.readers[own.source[i]] += 1;
    }
    softmax(planes, loss_.classes, size_, log_sum);
    for (std::int64_t i = 0; i < pixels_; ++i) {
      if (labels[i] == kNone) continue;
      terms[plain] += double(log_sum[i] - own.own[i]);
      if (refines) terms[refined] += double(log_sum[own.source[i]] - own.moved[i]);
    }
    if (refines) {
      for (std::int64_t c = 0; c < loss_.classes; ++c) {
        const float* plane = planes + c * size_;
        float* slope = slopes + c * size_;
        for (std::int64_t i = 0; i < pixels_; ++i) slope[i] = float(own.readers[i]) * plane[i];
      }
      for (std::int64_t i = 0; i < pixels_; ++i) {
        if (labels[i] != kNone) slopes[labels[i] * size_ + own.source[i]] -= 1;
      }
      for (std::int64_t c = 0; c < loss_.classes; ++c) {
        float* gradient = loss_.refined_gradient + map + c * map_size();
        centred_.shrink(slopes + c * size_, own.wide.data(), gradient);
      }
    }
    std::int32_t* target = own.choice.data();
    for (std::int64_t i = 0; i < pixels_; ++i) target[i] = std::int32_t(labels[i]);
    for (std::int32_t c = 0; c < loss_.classes; ++c) {
      float* plane = planes + c * size_;
      for (std::int64_t i = 0; i < pixels_; ++i) {
        const float slope = plane[i] - (target[i] == c ? 1.0f : 0.0f);
        plane[i] = target[i] == kNone ? 0.0f : slope;
      }
      centred_.shrink(plane, own.wide.data(), loss_.plain_gradient + map + c * map_size());
    }
  }

  const UneptLoss& loss_;
  std::int64_t pixels_, size_;  // of a plane; of one padded to whole vectors
  int threads_;
  Resampler aligned_, centred_;
  std::vector<float> edges_;
  LossCounts total_;
  float edge_weights_[2] = {}, direction_weights_[kDirections] = {};
};

inline int loss(const UneptLoss& loss, int threads) {
  try {
    return Loss(loss, threads < 1 ? 1 : threads).run();
  } catch (const std::bad_alloc&) {
    return no_memory;
  }
}

}  // namespace unept
