"""One process of a kernel benchmark.

A process has one malloc setting from its start to its end, since that cannot be taken back. Progress goes to standard
output, a line each; rows and notes go to the result.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict
from typing import Any

import torch

from bench import environment
from bench.child_process import serve_child
from bench.microbench.operator import parts
from bench.microbench.operator.cases import CASES, QUICK_CASES, select_cases
from bench.microbench.operator.implementations import operator_implementations
from bench.microbench.rows import BenchmarkRow


def main(arguments: list[str]) -> int:
    """Carry out the spec in the first file and write the result to the second; return the exit status."""
    return serve_child(lambda spec: [run_parts(spec)], arguments)


def run_parts(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure the parts of a spec and return rows, notes, and the setting of malloc."""
    malloc = environment.raise_malloc_thresholds() if spec["malloc"] == "tuned" else "system default"
    torch.set_num_threads(spec["threads"])
    warnings.simplefilter("ignore")  # of the imports of other packages
    setting = parts.BenchmarkSetting(
        malloc=spec["malloc"],
        threads=spec["threads"],
        repeats=spec["repeats"],
        cases=select_cases(spec["shapes"], QUICK_CASES if spec["quick"] else CASES),
        implementations=operator_implementations(),
        say=lambda what: print(f"{spec['malloc']} malloc: {what}", file=sys.stderr, flush=True),
    )
    for side in setting.implementations:
        if side.missing:
            setting.note(side.missing)
    rows: list[BenchmarkRow] = []
    for part in spec["parts"]:
        rows += _part(part, setting, spec["quick"])
    return {"rows": [asdict(row) for row in rows], "notes": setting.notes, "malloc": malloc}


def _part(name: str, setting: parts.BenchmarkSetting, quick: bool) -> list[BenchmarkRow]:
    if name == "scaling":
        swept = parts.BenchmarkSetting(**{**vars(setting), "cases": parts.scaling_cases(quick)})
        return list(parts.scaling_rows(swept))
    run = {
        "operator": parts.operator_rows,
        "machine": parts.machine_rows,
        "module": parts.module_rows,
        "instructions": parts.instruction_set_rows,
        "memory": parts.memory_rows,
    }[name]
    return list(run(setting))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
