"""The peak of every row's training step, side by side: predicted in processes of their own, verified where asked."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from typing import Any

from bench import environment
from bench.config import Settings
from bench.measures.ledger import Peak
from bench.memory.predict import StepSetting, predict
from unept.ops import build

MOST = 16 << 30  # bytes; a step that needs more is not run to verify it
Say = Callable[[str], None]
Record = dict[str, Any]


def predicted(rows: Mapping[str, Settings], setting: StepSetting, say: Say = print) -> list[Record]:
    """A record a row: its peak as the setting says, with bounded losses, and at twice the batch.

    A row that cannot be traced has its reason as `message` in place of figures.
    """
    asked = {
        "plain": replace(setting, bounded=False),
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


def verified(rows: Mapping[str, Settings], setting: StepSetting, say: Say = print) -> list[Record]:
    """A record a row whose step fits into MOST: what is predicted for this CPU, and what a real step allocates.

    One after the other. Where allocations cannot be counted there is one record that says why.
    """
    from bench.memory.verify import measure

    here = replace(setting, device="cpu")
    records: list[Record] = []
    for name, settings in rows.items():
        record: Record = {"name": name}
        try:
            record["predicted"] = predict(settings, here).bytes
            if record["predicted"] > MOST:
                record["message"] = f"not run: it needs more than {MOST >> 30} GiB"
            else:
                record["measured"] = measure(settings, here)
        except build.Unavailable as error:
            return [{"name": "every row", "message": str(error)}]
        except (RuntimeError, ValueError) as error:
            record["message"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        records.append(record)
        say(_verified_line(record))
    return records


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(max_workers=environment.cores(), mp_context=context)


def _found(peaks: Mapping[str, Future[Peak]]) -> Record:
    try:
        found = {kind: peak.result() for kind, peak in peaks.items()}
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return {"message": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    return {kind: peak.bytes for kind, peak in found.items()} | {
        "kinds": found["plain"].kinds,
        "place": found["plain"].place,
        "place_bounded": found["bounded"].place,
    }


def _line(record: Record) -> str:
    if "message" in record:
        return f"{record['name']}: {record['message']}"
    return f"{record['name']}: {record['plain'] / 2**30:.2f} GiB, {record['bounded'] / 2**30:.2f} with bounded losses"


def _verified_line(record: Record) -> str:
    if "measured" not in record:
        return f"{record['name']}: {record['message']}"
    ratio = record["predicted"] / record["measured"]
    return f"{record['name']}: measured {record['measured'] / 2**30:.3f} GiB, predicted {ratio:.4f} of it"
