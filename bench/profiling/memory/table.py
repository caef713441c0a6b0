"""The peak of every row's training step, side by side: predicted in processes of their own, verified where asked."""

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
from bench.environment import peak_resident_gib
from bench.errors import one_line
from bench.profiling.memory.predict import predict
from bench.profiling.memory.setting import StepSetting
from bench.profiling.memory.tracker import Peak
from unept.ops import cpu_build

MOST = 16 << 30  # bytes; a step that needs more is not run to verify it
SHARE = 0.8  # of the memory that is free, to be used
Say = Callable[[str], None]
Record = dict[str, Any]


def predicted(
    rows: Mapping[str, Settings], setting: StepSetting, say: Say = print, *, alone: bool = False
) -> list[Record]:
    """A record a row: its peak as the setting says (`plain`), with bounded losses, and at twice the batch with those.

    With `alone` only the first. A row that cannot be traced has its reason as `message` in place of figures.
    """
    asked = {"plain": replace(setting, bounded=False)}
    if not alone:
        asked |= {
            "bounded": replace(setting, bounded=True),
            "twice": replace(setting, bounded=True, batch=2 * setting.batch),
        }
    records: list[Record] = []
    with _pool() as pool:
        waiting = {
            name: {kind: pool.submit(predict, settings, each) for kind, each in asked.items()}
            for name, settings in rows.items()
        }
        for name, peaks in waiting.items():
            records.append({"name": name, "batch": setting.batch} | _found(peaks))
            say(_line(records[-1]))
    return records


def effort(began: float) -> Record:
    """What predicting took: `seconds` since `began` (of `time.perf_counter`), `cores`, `resident_gib` of all processes.

    The latter is a bound: this process's peak and, for each core, that of the largest process that it started; None
    where the system does not say.
    """
    own, largest = peak_resident_gib(), _largest_child_gib()
    resident = None if own is None or largest is None else own + environment.usable_cores() * largest
    return {"seconds": time.perf_counter() - began, "cores": environment.usable_cores(), "resident_gib": resident}


def _largest_child_gib() -> float | None:
    if os.name == "nt":
        return None
    import resource

    found = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return found / 2**30 if sys.platform == "darwin" else found / 2**20


def verified(rows: Mapping[str, Settings], setting: StepSetting, say: Say = print) -> list[Record]:
    """A record a row: what is predicted for this CPU and, where that fits into MOST, what a real step allocates.

    One after the other. With a CUDA card also, as `card`, what is predicted for it and what its meters show. What
    could not be measured has its reason as `message`.
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
    from bench.profiling.memory.malloc_peak import measure

    record: Record = {}
    try:
        record["predicted"] = predict(settings, setting).bytes
        if record["predicted"] > MOST:
            return record | {"message": f"not run: it needs more than {MOST >> 30} GiB"}
        free = environment.available_memory_bytes()
        if record["predicted"] > SHARE * free:
            return record | {"message": f"not run: {free / 2**30:.1f} GiB are free"}
        return record | {"measured": measure(settings, setting)}
    except cpu_build.Unavailable as error:
        return record | {"message": str(error)}
    except (RuntimeError, ValueError) as error:
        return record | {"message": one_line(error, most=200)}


def _on_card(settings: Settings, setting: StepSetting) -> Record:
    from bench.profiling.memory.cuda_peak import measure

    try:
        found = measure(settings, setting)
        return found | {"predicted": predict(settings, setting, backend=found["backend"]).bytes}
    except (RuntimeError, ValueError) as error:
        return {"message": one_line(error, most=200)}


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=environment.usable_cores(), mp_context=context)


def _found(peaks: Mapping[str, Future[Peak]]) -> Record:
    try:
        found = {kind: peak.result() for kind, peak in peaks.items()}
    except (RuntimeError, ValueError) as error:
        return {"message": one_line(error, most=200)}
    record: Record = {kind: peak.bytes for kind, peak in found.items()}
    record |= {"kinds": found["plain"].kinds, "place": found["plain"].place}
    return record | ({"place_bounded": found["bounded"].place} if "bounded" in found else {})


def _line(record: Record) -> str:
    if "message" in record:
        return f"{record['name']}: {record['message']}"
    bounded = f", {record['bounded'] / 2**30:.2f} with bounded losses" if "bounded" in record else ""
    return f"{record['name']}: {record['plain'] / 2**30:.2f} GiB{bounded}"


def _verified_line(record: Record) -> str:
    if "measured" not in record:
        return f"{record['name']}: {record['message']}"
    ratio = record["predicted"] / record["measured"]
    return f"{record['name']}: measured {record['measured'] / 2**30:.3f} GiB, predicted {ratio:.4f} of it"


def _card_line(record: Record) -> str:
    card = record["card"]
    if "message" in card:
        return f"{record['name']} on the card: {card['message']}"
    why = f" ({card['reason']})" if card["reason"] else ""
    names = ("predicted", "allocated", "reserved", "nvml")
    figures = [f"{name} {'-' if card[name] is None else f'{card[name] / 2**30:.3f}'}" for name in names]
    return f"{record['name']} on the card, GiB: {', '.join(figures)}{why}"
