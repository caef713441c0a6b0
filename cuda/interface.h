// C interface of the CUDA library: sizes, types of values, error codes.
#pragma once

#include <cstdint>

extern "C" {
struct UneptSizes {
  std::int64_t batch, tokens, heads, channels, levels, points, queries;
};
}

namespace unept {

enum Type { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };

// Codes above `cuda_error` are CUDA's own plus `cuda_error`.
enum Error { none = 0, bad_type = 1, no_memory = 2, bad_sizes = 3, too_many_levels = 4, cuda_error = 1000 };

}  // namespace unept
