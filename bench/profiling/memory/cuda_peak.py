"""The training step on a CUDA GPU, its memory by three meters: allocated, reserved, and what NVML sees.

A step has a process of its own, since what an allocator has reserved depends on all that it did before. *Allocated* are
torch's tensors at their peak, with the allocator's rounding; *reserved* is what the allocator holds of the GPU for
them; NVML's figure is the process's: context, libraries and work spaces too. It is read when the step has ended:
torch's allocator gives nothing back by then, so it stands as at its peak. cuDNN does not try algorithms
(`cudnn.benchmark` is off), which would leave its trials in the peak.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from bench.child_process import serve_child
from bench.config.settings import Settings
from bench.errors import message_line
from bench.profiling.memory.malloc_peak import read_spec, step_in_child, warmed_up_step
from bench.profiling.memory.setting import StepSetting


def measure_cuda_peak(settings: Settings, setting: StepSetting) -> dict[str, Any]:
    """Return the peak memory of a training step on the GPU, taken in a fresh process.

    Returns:
        `allocated`, `reserved` and `nvml` in bytes, and under what they were taken. `nvml` is None where NVML does not
        tell this process's memory; then `reason` says why.

    Raises:
        RuntimeError: The step fails; the message is one line.
    """
    figures: dict[str, Any] = step_in_child(__name__, settings, setting, {})
    return figures


def main(arguments: list[str]) -> int:
    """Take the steps that the spec describes and write the figures; return the exit status."""
    return serve_child(lambda spec: [cuda_peak_here(*read_spec(spec))], arguments)


def cuda_peak_here(settings: Settings, setting: StepSetting, device: str = "cuda") -> dict[str, Any]:
    """Return what `measure_cuda_peak` returns, from this process, which must have done nothing on the GPU before."""
    import torch

    from unept.ops import resolve

    torch.backends.cudnn.benchmark = False
    step, batch = warmed_up_step(settings, setting, torch.device(device))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    step(batch)
    torch.cuda.synchronize()
    gpu = torch.cuda.get_device_properties(0)
    nvml, reason = nvml_process_bytes(f"GPU-{gpu.uuid}", os.getpid())
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "nvml": nvml,
        "reason": reason,
        "gpu": gpu.name,
        "backend": resolve("auto", device=device).name,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def nvml_process_bytes(uuid: str, pid: int) -> tuple[int | None, str]:
    """Return the bytes of the GPU `uuid` that the process holds, by NVML; else None and the reason. Never 0 for "not
    known".
    """
    try:
        import pynvml
    except ImportError:
        return None, "NVML cannot be asked: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except (pynvml.NVMLError, AttributeError, OSError) as error:  # the latter of a library without the function
        return None, f"NVML refuses: {message_line(error)}"
    mine = [process.usedGpuMemory for process in processes if process.pid == pid]
    if not mine:
        return None, f"NVML does not list process {pid}: it numbers processes as the host does, a container otherwise"
    if not mine[0]:
        return None, f"NVML lists process {pid} without its memory"
    return int(mine[0]), ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
