"""Time and memory of a report of many rows: both grow with their number and no faster.

    python tests/benchmarks/bench_report.py               4,000 rows: under 20 s
    python tests/benchmarks/bench_report.py 100000        under 2 GiB

Each shape of a study (many variants, many seeds) is made in a folder that is removed, and reported in a process of its
own. Seconds are those of the processor, so that other work on the machine is not in them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHAPES = ("many variants", "many seeds")


def main(count: int) -> None:
    """Report `count` rows in every shape, and print a line for each."""
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "reports")))
            for step in ("make", "report"):
                command = [sys.executable, __file__, step, folder, shape, str(count)]
                subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": paths})


def make(folder: str, shape: str, count: int) -> None:
    """Write a study of so many rows: of 5 seeds a variant, or of 4 variants."""
    from synthetic import full_row, measure_row, write_study

    seeds = 5 if shape == "many variants" else count // 4
    variants = [f"width={number}" for number in range(count // seeds)]
    runs = [
        full_row(variant, seed, 0.3 + 0.0001 * (number % 50) + 0.003 * (seed % 7))
        for number, variant in enumerate(variants)
        for seed in range(seeds)
    ]
    write_study(Path(folder), "grid", "ablate", runs, [measure_row(variant) for variant in variants])


def report(folder: str, shape: str, count: int) -> None:
    """Report the study as the command does, and print what it took."""
    import contextlib
    import io
    import resource

    import cli

    began = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        code = cli.main(["report", folder])
    seconds, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count:,} rows, {shape}: exit code {code}, {seconds:.1f} s of processor time, peak {peak:.2f} GiB")


if __name__ == "__main__":
    if sys.argv[1:2] in (["make"], ["report"]):
        {"make": make, "report": report}[sys.argv[1]](sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
