"""One process of a kernel benchmark: `python -m bench.microbench.operator.worker SPEC.json RESULT.json`.

A process has one malloc setting from its start to its end, since that cannot be taken back. What it does is told on
standard output, a line each; rows and notes go to the result.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bench import environment
from bench.microbench.operator import parts
from bench.microbench.operator.implementations import sides
from bench.microbench.operator.inputs import SHAPES, TINY, chosen
from bench.microbench.rows import Row


def main(arguments: list[str]) -> int:
    """Carry out the spec in the first file and write the result to the second; returns the exit status."""
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    Path(arguments[1]).write_text(json.dumps(work(spec)), encoding="utf-8")
    return 0


def work(spec: dict[str, Any]) -> dict[str, Any]:
    """Rows, notes, and what malloc was set to."""
    malloc = environment.raise_malloc_thresholds() if spec["malloc"] == "tuned" else "system default"
    torch.set_num_threads(spec["threads"])
    warnings.simplefilter("ignore")  # of the rivals' imports
    setting = parts.Setting(
        malloc=spec["malloc"],
        threads=spec["threads"],
        repeats=spec["repeats"],
        cases=chosen(spec["shapes"], TINY if spec["quick"] else SHAPES),
        sides=sides(),
        say=lambda what: print(f"{spec['malloc']} malloc: {what}", file=sys.stderr, flush=True),
    )
    for side in setting.sides:
        if side.missing:
            setting.note(side.missing)
    rows: list[Row] = []
    for part in spec["parts"]:
        rows += _part(part, setting, spec["quick"])
    return {"rows": [asdict(row) for row in rows], "notes": setting.notes, "malloc": malloc}


def _part(name: str, setting: parts.Setting, quick: bool) -> list[Row]:
    if name == "scaling":
        swept = parts.Setting(**{**vars(setting), "cases": parts.sweep(quick)})
        return list(parts.scaling(swept))
    run = {
        "operator": parts.operator,
        "machine": parts.machine,
        "module": parts.module,
        "instructions": parts.instructions,
        "memory": parts.allocations,
    }[name]
    return list(run(setting))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
