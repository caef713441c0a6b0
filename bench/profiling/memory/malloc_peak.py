"""The training step for real, on a CPU, its memory counted at malloc: what a prediction is checked against.

A step runs in a process of its own with the counting malloc before the C library's. The figure is what the step adds
at its peak, and the tensors there before it by their own sizes: modules, caches and whatever else a process holds are
not a step's. One step before the measured one lets libraries set up theirs.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from bench.child_process import run_child, serve_child
from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from bench.profiling.memory.predict import TrackedStep, settings_at_size, zero_batch
from bench.profiling.memory.setting import StepSetting


def measure_malloc_peak(settings: Settings, setting: StepSetting) -> int:
    """Return the bytes at the peak of a real training step, taken in a fresh process.

    Raises:
        cpu_build.Unavailable: Allocations cannot be counted here.
        RuntimeError: The step fails; the message is one line.
    """
    from bench.microbench import malloc_count

    variables = malloc_count.preload_variables(malloc_count.counter_library()) | {"UNEPT_BACKEND": "native"}
    return int(step_in_child(__name__, settings, setting, variables))


def step_in_child(module: str, settings: Settings, setting: StepSetting, variables: Mapping[str, str]) -> Any:
    """Return what `module` measures of a step in a fresh process.

    Args:
        module: Its `main` serves the child with a function of `read_spec`'s values.
        settings: The model and the recipe.
        setting: How the step is taken.
        variables: Environment variables beside those of this process.

    Raises:
        RuntimeError: The child fails; the message is the last line of its standard error.
    """
    spec = {"settings": settings_to_dict(settings), "setting": dataclasses.asdict(setting)}
    outcome = run_child(module, spec, variables=variables, capture=True)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.exit_status:
        last = (outcome.stderr.strip().splitlines() or [f"ended with {outcome.exit_status}"])[-1]
        raise RuntimeError(last[:300])
    return outcome.result


def read_spec(spec: Mapping[str, Any]) -> tuple[Settings, StepSetting]:
    """Return the settings and the step that `step_in_child` put into a child's spec."""
    return settings_from_dict(spec["settings"]), StepSetting(**spec["setting"])


def main(arguments: list[str]) -> int:
    """Take the steps that the spec describes and write the bytes of the peak; return the exit status."""
    return serve_child(_results, arguments)


def _results(spec: Mapping[str, Any]) -> Iterator[int]:
    import torch

    from bench.microbench.malloc_count import MallocCounter

    step, batch = warmed_up_step(*read_spec(spec), torch.device("cpu"))
    counter = MallocCounter()
    before = counter.start()
    step(batch)
    yield counter.peak_bytes() - before + _bytes([*step.tensors(), *batch.values()])


def warmed_up_step(settings: Settings, setting: StepSetting, device: Any) -> tuple[TrackedStep, dict[str, Any]]:
    """Return a step whose optimiser has its state, taken once on a batch, and the batch."""
    import torch

    import unept

    settings = settings_at_size(settings, setting)
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):
        model = unept.build(settings.model).train().to(device)
    step = TrackedStep(model, settings, setting, None)
    batch = {name: tensor.to(device) for name, tensor in zero_batch(setting).items()}
    step.prepare()
    step(batch)
    return step, batch


def _bytes(tensors: list[Any]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
