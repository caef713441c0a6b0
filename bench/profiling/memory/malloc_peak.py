"""The same training step for real, on a CPU, its memory counted at malloc: what a prediction is checked against.

A step runs in a process of its own with the counting malloc before the C library's (`python -m
bench.profiling.memory.malloc_peak SPEC.json`). The figure is what the step adds at its peak, and the tensors there
before it by their own sizes: modules, caches and what else a process holds are not a step's. One step before the
measured one lets libraries set up theirs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from bench.profiling.memory.predict import StepUnderWatch, at_size, empty_batch
from bench.profiling.memory.setting import StepSetting


def measure(settings: Settings, setting: StepSetting) -> int:
    """Bytes at the peak of a real step. `build.Unavailable` where allocations cannot be counted; RuntimeError, in one
    line, for a step that fails.
    """
    from bench.microbench import malloc_count

    variables = malloc_count.preloaded(malloc_count.counter()) | {"UNEPT_BACKEND": "native"}
    return int(in_own_process("bench.profiling.memory.malloc_peak", settings, setting, variables))


def in_own_process(module: str, settings: Settings, setting: StepSetting, variables: Mapping[str, str]) -> str:
    """The last line that `python -m MODULE SPEC.json` prints, a fresh process; RuntimeError in one line if it fails."""
    spec = {"settings": settings_to_dict(settings), "setting": dataclasses.asdict(setting)}
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "spec.json")
        given.write_text(json.dumps(spec), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", module, str(given)],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        raise RuntimeError(last[:300])
    return done.stdout.strip().splitlines()[-1]


def main(arguments: list[str]) -> int:
    """Take the steps that the file describes and print the bytes."""
    print(_counted(*read_spec(arguments[0])))
    return 0


def read_spec(path: str) -> tuple[Settings, StepSetting]:
    """What `in_own_process` wrote for its process."""
    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    return settings_from_dict(spec["settings"]), StepSetting(**spec["setting"])


def _counted(settings: Settings, setting: StepSetting) -> int:
    import torch

    from bench.microbench.malloc_count import Counter

    step, batch = warm_step(settings, setting, torch.device("cpu"))
    counter = Counter()
    before = counter.start()
    step(batch)
    return counter.most() - before + _bytes([*step.tensors(), *batch.values()])


def warm_step(settings: Settings, setting: StepSetting, device: Any) -> tuple[StepUnderWatch, dict[str, Any]]:
    """A step whose optimiser has its state, taken once on a batch, and the batch."""
    import torch

    import unept

    settings = at_size(settings, setting)
    torch.manual_seed(0)
    with warnings.catch_warnings(action="ignore"):
        model = unept.build(settings.model).train().to(device)
    step = StepUnderWatch(model, settings, setting, None)
    batch = {name: tensor.to(device) for name, tensor in empty_batch(setting).items()}
    step.prepare()
    step(batch)
    return step, batch


def _bytes(tensors: list[Any]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
