"""Peak memory of every row's training step: predicted in processes of their own, verified on request."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from bench import environment
from bench.config.settings import Settings
from bench.environment import USABLE_MEMORY_SHARE, peak_resident_gib
from bench.errors import one_line
from bench.profiling.memory.predict import predict_peak
from bench.profiling.memory.setting import StepSetting
from bench.profiling.memory.tracker import PeakMemory
from bench.units import GIB
from unept.ops import cpu_build

MAX_VERIFIED_BYTES = 16 * GIB  # bytes; a step that needs more is not run to verify it
Say = Callable[[str], None]
Record = dict[str, Any]


def predict_rows(
    rows: Mapping[str, Settings], setting: StepSetting, say: Say = print, *, alone: bool = False
) -> list[Record]:
    """Predict each row's peak in worker processes.

    Args:
        rows: Settings by name.
        setting: How a step is taken.
        say: Called with a line for each row.
        alone: Predict `plain` only.

    Returns:
        A record a row, in bytes: `plain`, `bounded` (with bounded losses) and `twice` (those at twice the batch), with
        `kinds` and `place` of the peak. A row that cannot be traced has its reason as `message` in place of figures.
    """
    step_settings = {"plain": replace(setting, bounded=False)}
    if not alone:
        step_settings |= {
            "bounded": replace(setting, bounded=True),
            "twice": replace(setting, bounded=True, batch=2 * setting.batch),
        }
    records: list[Record] = []
    with _pool() as pool:
        pending = {
            name: {
                kind: pool.submit(predict_peak, settings, step_setting) for kind, step_setting in step_settings.items()
            }
            for name, settings in rows.items()
        }
        for name, peaks in pending.items():
            records.append({"name": name, "batch": setting.batch} | _record_of(peaks))
            say(_line(records[-1]))
    return records


def prediction_cost(began: float) -> Record:
    """Return what predicting took: `seconds` since `began`, `cores`, and `resident_gib` of all processes.

    The latter is an upper bound: this process's peak and, for each core, that of the largest process that it started;
    None where the system does not say.

    Args:
        began: `time.perf_counter()` at the start.
    """
    own, largest = peak_resident_gib(), _largest_child_gib()
    resident = None if own is None or largest is None else own + environment.usable_cores() * largest
    return {"seconds": time.perf_counter() - began, "cores": environment.usable_cores(), "resident_gib": resident}


def _largest_child_gib() -> float | None:
    if os.name == "nt":
        return None
    import resource

    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return largest / GIB if sys.platform == "darwin" else largest / 2**20


def verify_rows(rows: Mapping[str, Settings], setting: StepSetting, say: Say = print) -> list[Record]:
    """Take each row's training step for real, one after the other, and compare it with the prediction.

    Args:
        rows: Settings by name.
        setting: How a step is taken.
        say: Called with a line for each row.

    Returns:
        A record a row, in bytes: `predicted` for this CPU and, where that fits into MAX_VERIFIED_BYTES, `measured`.
        With a CUDA GPU also `card`: what is predicted for it and what its meters show. `message` says why a figure is
        absent.
    """
    records: list[Record] = []
    for name, settings in rows.items():
        records.append({"name": name} | _on_cpu(settings, replace(setting, device="cpu")))
        say(_verified_line(records[-1]))
        if torch.cuda.is_available():
            records[-1]["card"] = _on_card(settings, replace(setting, device="cuda"))
            say(_card_line(records[-1]))
    return records


def _on_cpu(settings: Settings, setting: StepSetting) -> Record:
    from bench.profiling.memory.malloc_peak import measure_malloc_peak

    record: Record = {}
    try:
        record["predicted"] = predict_peak(settings, setting).bytes
        if record["predicted"] > MAX_VERIFIED_BYTES:
            return record | {"message": f"not run: it needs more than {MAX_VERIFIED_BYTES // GIB} GiB"}
        free = environment.available_memory_bytes()
        if record["predicted"] > USABLE_MEMORY_SHARE * free:
            return record | {"message": f"not run: {free / GIB:.1f} GiB are free"}
        return record | {"measured": measure_malloc_peak(settings, setting)}
    except cpu_build.Unavailable as error:
        return record | {"message": str(error)}
    except (RuntimeError, ValueError) as error:
        return record | {"message": one_line(error, most=200)}


def _on_card(settings: Settings, setting: StepSetting) -> Record:
    from bench.profiling.memory.cuda_peak import measure_cuda_peak

    try:
        figures = measure_cuda_peak(settings, setting)
        return figures | {"predicted": predict_peak(settings, setting, backend=figures["backend"]).bytes}
    except (RuntimeError, ValueError) as error:
        return {"message": one_line(error, most=200)}


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=environment.usable_cores(), mp_context=context)


def _record_of(peaks: Mapping[str, Future[PeakMemory]]) -> Record:
    try:
        results = {kind: peak.result() for kind, peak in peaks.items()}
    except (RuntimeError, ValueError) as error:
        return {"message": one_line(error, most=200)}
    record: Record = {kind: peak.bytes for kind, peak in results.items()}
    record |= {"kinds": results["plain"].kinds, "place": results["plain"].location}
    return record | ({"place_bounded": results["bounded"].location} if "bounded" in results else {})


def _line(record: Record) -> str:
    if "message" in record:
        return f"{record['name']}: {record['message']}"
    bounded = f", {record['bounded'] / GIB:.2f} with bounded losses" if "bounded" in record else ""
    return f"{record['name']}: {record['plain'] / GIB:.2f} GiB{bounded}"


def _verified_line(record: Record) -> str:
    if "measured" not in record:
        return f"{record['name']}: {record['message']}"
    ratio = record["predicted"] / record["measured"]
    return f"{record['name']}: measured {record['measured'] / GIB:.3f} GiB, predicted {ratio:.4f} of it"


def _card_line(record: Record) -> str:
    card = record["card"]
    if "message" in card:
        return f"{record['name']} on the card: {card['message']}"
    why = f" ({card['reason']})" if card["reason"] else ""
    names = ("predicted", "allocated", "reserved", "nvml")
    figures = [f"{name} {'-' if card[name] is None else f'{card[name] / GIB:.3f}'}" for name in names]
    return f"{record['name']} on the card, GiB: {', '.join(figures)}{why}"
