"""What is read from a card's meters, with torch's and NVML's replaced: no card is here."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import Settings, settings_to_dict
from bench.profiling.memory import cuda_peak, malloc_peak, table
from bench.profiling.memory.setting import StepSetting

GIB = 1 << 30
MINE = os.getpid()


class NVMLError(Exception):
    """As pynvml's."""


def fake_nvml(monkeypatch: pytest.MonkeyPatch, processes: dict[int, int | None] | NVMLError) -> list[Any]:
    """A pynvml that lists these processes of the card it is asked for; what it was asked for."""
    asked: list[Any] = []

    def running(handle: object) -> list[SimpleNamespace]:
        asked.append(handle)
        if isinstance(processes, NVMLError):
            raise processes
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes.items()]

    module = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetComputeRunningProcesses=running,
    )
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return asked


def test_the_process_s_own_memory_is_found_among_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = fake_nvml(monkeypatch, {1: GIB, MINE: 3 * GIB})
    assert cuda_peak.nvml_process_bytes("GPU-7", MINE) == (3 * GIB, "")
    assert asked == ["GPU-7"]


@pytest.mark.parametrize(
    ("processes", "reason"),
    [
        ({1: GIB}, f"NVML does not list process {MINE}: it numbers processes as the host does, a container otherwise"),
        ({}, f"NVML does not list process {MINE}: it numbers processes as the host does, a container otherwise"),
        ({MINE: None}, f"NVML lists process {MINE} without its memory"),
        ({MINE: 0}, f"NVML lists process {MINE} without its memory"),
        (NVMLError("Driver Not Loaded"), "NVML refuses: Driver Not Loaded"),
    ],
    ids=["others", "nobody", "unknown", "nothing", "refused"],
)
def test_what_nvml_does_not_tell_is_none_with_a_reason_and_never_0(
    processes: dict[int, int | None] | NVMLError, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvml(monkeypatch, processes)
    assert cuda_peak.nvml_process_bytes("GPU-7", MINE) == (None, reason)


def test_without_nvml_there_is_a_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert cuda_peak.nvml_process_bytes("GPU-7", MINE) == (None, "NVML cannot be asked: pip install nvidia-ml-py")


@pytest.fixture
def a_card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counters of an imagined card beside steps on the CPU; what was called, in order."""
    called: list[str] = []
    fakes = {
        "synchronize": lambda: called.append("synchronize"),
        "reset_peak_memory_stats": lambda: called.append("reset"),
        "max_memory_allocated": lambda: 5 * GIB,
        "max_memory_reserved": lambda: 6 * GIB,
        "get_device_properties": lambda _: SimpleNamespace(uuid="7", name="A Card", total_memory=24 * GIB),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    usual = cuda_peak.warmed_up_step

    def warm(*given: Any) -> Any:
        called.append("warm")
        step, batch = usual(*given)
        return lambda batch: (called.append("step"), step(batch)), batch

    monkeypatch.setattr(cuda_peak, "warmed_up_step", warm)
    return called


def test_the_three_meters_of_a_step(a_card: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_nvml(monkeypatch, {MINE: 7 * GIB})
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setenv("UNEPT_BACKEND", "reference")
    found = cuda_peak.cuda_peak_here(preset("quick"), StepSetting(batch=1, size=32), device="cpu")
    assert found == {
        "allocated": 5 * GIB,
        "reserved": 6 * GIB,
        "nvml": 7 * GIB,
        "reason": "",
        "gpu": "A Card",
        "backend": "reference",
        "cudnn_benchmark": False,
    }
    assert a_card == ["warm", "synchronize", "reset", "step", "synchronize"]
    monkeypatch.setattr(cuda_peak, "cuda_peak_here", lambda *_: found)
    spec, result = tmp_path / "spec.json", tmp_path / "result.json"
    settings, setting = settings_to_dict(preset("quick")), asdict(StepSetting(batch=1, size=32))
    spec.write_text(json.dumps({"settings": settings, "setting": setting}), encoding="utf-8")
    assert cuda_peak.main([str(spec), str(result)]) == 0
    assert json.loads(result.read_text(encoding="utf-8")) == found


def test_with_a_card_every_verified_row_has_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"allocated": 5 * GIB, "reserved": 6 * GIB, "nvml": None, "reason": "NVML refuses: no", "backend": "cuda"}
    devices = []

    def on_card(settings: Settings, setting: StepSetting) -> dict[str, Any]:
        devices.append(setting.device)
        if settings.model.points == 4:
            raise RuntimeError("CUDA out of memory")
        return found

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda_peak, "measure_cuda_peak", on_card)
    monkeypatch.setattr(malloc_peak, "measure_malloc_peak", lambda *_: GIB)
    said: list[str] = []
    rows = {"fits": preset("quick"), "does not": replace_fields(preset("quick"), {"points": 4})}
    fits, does_not = table.verify_rows(rows, StepSetting(batch=1, size=32), say=said.append)
    assert devices == ["cuda", "cuda"]
    assert fits["card"].items() >= found.items()
    assert fits["card"]["predicted"] < fits["predicted"] + GIB
    assert does_not["card"] == {"message": "RuntimeError: CUDA out of memory"}
    assert said[1].startswith("fits on the card, GiB: predicted 0.0")
    assert said[1].endswith("allocated 5.000, reserved 6.000, nvml - (NVML refuses: no)")
    assert said[3] == "does not on the card: RuntimeError: CUDA out of memory"
