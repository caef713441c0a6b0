"""The same training step on a CUDA card, by three meters: what is allocated, what is reserved, what NVML sees.

`python -m bench.profiling.memory.cuda_peak SPEC.json`, a process of its own for each step, since what an allocator has
reserved depends on all that it did before. *Allocated* are torch's tensors at their peak, with the allocator's
rounding; *reserved* is what the allocator holds of the card for them; NVML's figure is the process's: context,
libraries and work spaces too. It is read when the step has ended: torch's allocator gives nothing back by then, so it
stands as at its peak. cuDNN does not try algorithms (`cudnn.benchmark` is off), which would leave its trials in the
peak.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from bench.config.settings import Settings
from bench.profiling.memory.malloc_peak import in_own_process, read_spec, warm_step
from bench.profiling.memory.setting import StepSetting


def measure(settings: Settings, setting: StepSetting) -> dict[str, Any]:
    """The three figures in bytes and under what they were taken; RuntimeError, in one line, for a step that fails.

    `nvml` is None where NVML does not tell this process's memory; then `reason` says why.
    """
    found: dict[str, Any] = json.loads(in_own_process("bench.profiling.memory.cuda_peak", settings, setting, {}))
    return found


def main(arguments: list[str]) -> int:
    """Take the steps that the file describes and print what was found, as JSON."""
    print(json.dumps(peaks(*read_spec(arguments[0]))))
    return 0


def peaks(settings: Settings, setting: StepSetting, device: str = "cuda") -> dict[str, Any]:
    """`measure` in this process, which must have done nothing on the card before."""
    import torch

    from unept.ops import resolve

    torch.backends.cudnn.benchmark = False
    step, batch = warm_step(settings, setting, torch.device(device))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step(batch)
    torch.cuda.synchronize()
    card = torch.cuda.get_device_properties(0)
    nvml, reason = process_bytes(f"GPU-{card.uuid}", os.getpid())
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "nvml": nvml,
        "reason": reason,
        "gpu": card.name,
        "backend": resolve("auto", device=device).name,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def process_bytes(uuid: str, pid: int) -> tuple[int | None, str]:
    """Bytes of the card `uuid` that the process holds, by NVML; else None and why. Never 0 for "not known"."""
    try:
        import pynvml
    except ImportError:
        return None, "NVML cannot be asked: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError as error:
        return None, f"NVML refuses: {error}"
    mine = [process.usedGpuMemory for process in processes if process.pid == pid]
    if not mine:
        return None, f"NVML does not list process {pid}: it numbers processes as the host does, a container otherwise"
    if not mine[0]:
        return None, f"NVML lists process {pid} without its memory"
    return int(mine[0]), ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
