"""Known mistakes, put into the text of the CUDA kernels one at a time: the comparison must catch each of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import emulated
import pytest

from unept.ops import cuda_selftest

pytestmark = emulated.needs_compiler

LIVE = "if (group.live && has_channels) store"
# name: (edits by file, what the message must say)
MUTANTS = {
    "swapped x and y": ({"gpu_call.cuh": ("(x, y, Map{", "(y, x, Map{")}, "the result is off"),
    "wrong start of a level": ({"gpu_call.cuh": ("map.width, map.token}", "map.width, 0}")}, "the result is off"),
    "missing corner mask, forward": ({"gpu_forward.cuh": ("row >= 0 && has_channels", "has_channels")}, ""),
    "missing corner mask, backward": ({"gpu_backward.cuh": ("if (row < 0) continue;", "")}, ""),
    "early return before a shuffle": (
        {
            "gpu_forward.cuh": (
                "    const Real most = largest",
                "    if (!group.live) return;\n    const Real most = largest",
            )
        },
        "deadlock",
    ),
    "missing atomic": (
        {"gpu_values.cuh": ("atomicAdd(to + i, times * pack.at[i])", "to[i] += times * pack.at[i]")},
        "race: threads use the same place of value gradient",
    ),
    "missing atomic, four at once": (
        {
            "gpu_values.cuh": (
                "atomicAdd(reinterpret_cast<float4*>(to), sum)",
                "to[0] += sum.x, to[1] += sum.y, to[2] += sum.z, to[3] += sum.w",
            )
        },
        "race: threads use the same place of value gradient",
    ),
    "early return before a shuffle, backward": (
        {
            "gpu_backward.cuh": (
                "    const SampledPoint<Real> sampled = sample_point(call",
                "    if (!group.live) return;\n    const SampledPoint<Real> sampled = sample_point(call",
            )
        },
        "deadlock",
    ),
    "one too many in the last vector": (
        {"gpu_forward.cuh": ("const bool has_channels = channel <", "const bool has_channels = channel <=")},
        "",
    ),
    "a group without work writes": ({"gpu_forward.cuh": (LIVE, "if (has_channels) store")}, "race"),
    "a group without work adds": ({"gpu_backward.cuh": ("if (live) add(", "add(")}, "the gradient of the value is off"),
    "a wrong partner in the exchange": (
        {"gpu_backward.cuh": ("__shfl_xor_sync(kFullWarp, sent, count / 2)", "__shfl_xor_sync(kFullWarp, sent, 1)")},
        "the gradient of the offsets is off",
    ),
}
FLAGS = ("-DUNEPT_ONLY_FLOAT32",)
NEWEST = {"missing atomic, four at once": ("-D__CUDA_ARCH__=900",)}  # what older cards do not have
# The last warp of each is partly filled; 24 channels leave lanes of a group without channels.
INPUTS = [cuda_selftest.make_inputs(((4, 5), (3, 2)), 5, 3, channels, 9, batch=1) for channels in (24, 32)]


@pytest.fixture(scope="module")
def caught(tmp_path_factory):
    """What the comparison says of each mutant. Compiled side by side: g++ is what takes the time."""

    def compiled(name):
        folder = emulated.mutated(MUTANTS[name][0], tmp_path_factory.mktemp("mutant"))
        emulated.library(*FLAGS, *NEWEST.get(name, ()), folder=folder)
        return folder

    emulated.emulator_object()
    with ThreadPoolExecutor(2) as pool:
        folders = dict(zip(MUTANTS, pool.map(compiled, MUTANTS), strict=True))
    return {name: said_of(folder, *NEWEST.get(name, ())) for name, folder in folders.items()}


def said_of(folder, *more) -> str:
    kernel = emulated.kernel(*FLAGS, *more, folder=folder)
    for inputs in INPUTS:
        try:
            said = cuda_selftest.disagreement(kernel, inputs)
        except RuntimeError as error:
            said = str(error)
        if said:
            return said
    return ""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(caught, name):
    assert caught[name], "not caught"
    assert MUTANTS[name][1] in caught[name]


def test_the_kernels_themselves_pass():
    assert said_of(emulated.ROOT / "cuda") == ""
