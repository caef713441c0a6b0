"""The emulator itself: kernels that are wrong on purpose must be refused, right ones give the right numbers."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence

import emulated
import pytest

pytestmark = emulated.needs_compiler

SOURCE = """
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>

struct Arrays {
  float *in, *out;
};

#define KERNEL(name) __global__ void name(Arrays given)

KERNEL(shuffles) { given.out[threadIdx.x] = __shfl_sync(~0u, given.in[threadIdx.x], 1, 4); }
KERNEL(exchanges) { given.out[threadIdx.x] = __shfl_xor_sync(~0u, given.in[threadIdx.x], 2); }
KERNEL(reverses) {
  __shared__ float kept[64];
  kept[threadIdx.x] = given.in[threadIdx.x];
  __syncthreads();
  given.out[threadIdx.x] = kept[63 - threadIdx.x];
}
KERNEL(reads_shared_memory_first) {
  __shared__ float never_written[64];
  given.out[threadIdx.x] = never_written[threadIdx.x];
}
KERNEL(adds) { atomicAdd(given.out, given.in[threadIdx.x]); }
KERNEL(leaves_before_a_shuffle) {
  if (threadIdx.x == 40) return;
  given.out[threadIdx.x] = __shfl_sync(~0u, given.in[threadIdx.x], 0);
}
KERNEL(leaves_before_a_barrier) {
  if (threadIdx.x < 32) __syncthreads();
  given.out[threadIdx.x] = 0;
}
KERNEL(meets_at_two_places) {
  float other;
  if (threadIdx.x % 2) {
    other = __shfl_sync(~0u, given.in[threadIdx.x], 0);
  } else {
    other = __shfl_sync(~0u, given.in[threadIdx.x], 1);
  }
  given.out[threadIdx.x] = other;
}
KERNEL(shuffles_half_a_warp) { given.out[threadIdx.x] = __shfl_sync(0xffffu, given.in[threadIdx.x], 0); }
KERNEL(adds_without_atomics) { given.out[0] += given.in[threadIdx.x]; }
KERNEL(reads_what_others_write) {
  given.out[threadIdx.x] = 1;
  given.in[threadIdx.x] = given.out[63 - threadIdx.x];
}
KERNEL(reads_outside) { given.out[threadIdx.x] = given.in[threadIdx.x + 1]; }
KERNEL(writes_outside) { given.out[int(threadIdx.x) - 1] = 0; }

extern "C" int run(void (*kernel)(Arrays), float* in, float* out, unsigned x, unsigned y, unsigned threads) {
  Arrays given{in, out};
  void* arguments[] = {&given};
  return cudaLaunchKernel(kernel, dim3(x, y), dim3(threads), arguments, 0, nullptr);
}
extern "C" const char* message() { return cudaGetErrorString(cudaErrorLaunchFailure); }
extern "C" float as_half(float number) { return __half2float(__float2half_rn(number)); }
extern "C" float as_bfloat16(float number) { return __bfloat162float(__float2bfloat16_rn(number)); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("emulator")
    (folder / "small.cu").write_text(SOURCE, encoding="utf-8")
    made = emulated.build(folder / "small.cu", folder / "libsmall.so")
    made.message.restype = ctypes.c_char_p
    for name in ("as_half", "as_bfloat16"):
        getattr(made, name).restype, getattr(made, name).argtypes = ctypes.c_float, [ctypes.c_float]
    return made


def fenced(numbers: Sequence[float]) -> ctypes.Array[ctypes.c_float]:
    """An array with a number before and after it that is nobody's, so that none lies right beside another."""
    count = len(numbers)
    whole = (ctypes.c_float * (count + 2))(0, *numbers, 0)
    return (ctypes.c_float * count).from_buffer(whole, ctypes.sizeof(ctypes.c_float))


def run(library: ctypes.CDLL, name: str, *, grid=(1, 1), threads=64) -> tuple[int, list[float]]:
    """The code of a launch on 0, 1, ... 63, and what it has put out."""
    given, out = fenced(range(64)), fenced([0] * 64)
    for name_of_array, array in (("in", given), ("out", out)):
        library.emulated_watch(ctypes.byref(array), ctypes.sizeof(array), name_of_array.encode())
    mangled = f"_Z{len(name)}{name}6Arrays"
    code = library.run(getattr(library, mangled), given, out, *grid, threads)
    library.emulated_forget()
    return code, list(out)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shuffles", [thread // 4 * 4 + 1 for thread in range(64)]),
        ("exchanges", [thread ^ 2 for thread in range(64)]),
        ("reverses", [63 - thread for thread in range(64)]),
        ("adds", [sum(range(64)), *[0] * 63]),
    ],
)
def test_what_right_kernels_give(library, name, expected):
    assert run(library, name) == (0, expected)


def test_shared_memory_is_poisoned(library):
    code, out = run(library, "reads_shared_memory_first")
    assert code == 0
    assert all(number != number for number in out)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("leaves_before_a_shuffle", "deadlock"),
        ("leaves_before_a_barrier", "deadlock"),
        ("meets_at_two_places", "divergent"),
        ("shuffles_half_a_warp", "a part of the warp"),
        ("adds_without_atomics", "race: threads use the same place of out"),
        ("reads_what_others_write", "race: threads use the same place of out"),
        ("reads_outside", "outside: an access of 4 bytes"),
        ("writes_outside", "outside: an access of 4 bytes"),
    ],
)
def test_what_wrong_kernels_are_told(library, name, message):
    code, _ = run(library, name)
    assert code == 719
    assert message in library.message().decode()
    assert run(library, "shuffles")[0] == 0  # the next launch is not blamed


@pytest.mark.parametrize("wrong", [{"grid": (0, 1)}, {"grid": (1, 65536)}, {"threads": 2048}, {"threads": 0}])
def test_launches_that_no_card_takes(library, wrong):
    assert run(library, "shuffles", **wrong)[0] == 9


def test_half_types_are_those_of_torch(library):
    torch = pytest.importorskip("torch")
    numbers = [0.0, -0.0, 1.0, 1.0009766, 1.00048828125, 1.00146484375, 65504.0, 65519.9, 65520.0, 1e-8, 3e-8, 6.1e-5]
    numbers += [-2.5e-5, 1e30, float("inf"), -float("inf"), 0.1, 3.14159, 6.09756e-05, 2047.5, 1.99999]
    for number in torch.tensor(numbers).tolist():
        for convert, dtype in ((library.as_half, torch.float16), (library.as_bfloat16, torch.bfloat16)):
            assert convert(number) == torch.tensor(number).to(dtype).item(), (number, dtype)
    assert library.as_half(float("nan")) != library.as_half(float("nan"))
    assert library.as_bfloat16(float("nan")) != library.as_bfloat16(float("nan"))


def test_the_sanitizer_reports_to_the_emulator():
    """Without -fsanitize=thread the emulator would see no access: then every race and every stray access is missed."""
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("no nm to look into the library with")
    emulated.library("-DUNEPT_ONLY_FLOAT32")
    path = next(path for path in emulated.emulator_object().parent.glob("lib*.o"))
    names = subprocess.run([nm, str(path)], capture_output=True, text=True, check=True).stdout
    assert "U __tsan_read" in names
    assert "U __tsan_write" in names
