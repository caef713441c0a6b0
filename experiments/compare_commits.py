"""Is this version slower than another commit? `make bench BASE=commit`, or `python -m experiments.compare_commits`.

Each command runs as a process of its own, in turns from the working tree and from a git worktree of the commit. Its
seconds are those of the processor, so that other work on the machine is mostly not in them. A ratio is of one round;
the median and the range over the rounds are printed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.timing import quartiles, run_in_turns

ROOT = Path(__file__).resolve().parents[1]
NOW, BASE = "now", "base"
RUN = "import cli, sys; sys.exit(cli.main(sys.argv[1:]))"
ROWS = "2000"
SMALL_WORK = "images=2 probes=0 mode=whole scales=1 flip_test=false"
OPERATOR = """
import json, time, torch
from unept import ops
torch.manual_seed(0); torch.set_num_threads(1)
shapes = ((30, 30), (15, 15), (8, 8)); S = sum(h * w for h, w in shapes)
value = torch.randn(1, S, 8, 32, requires_grad=True)
offsets = torch.randn(1, S, 8, 3, 16, 2, requires_grad=True)
logits = torch.randn(1, S, 8, 3, 16, requires_grad=True)
places = torch.rand(S, 2)
seconds = {"forward": 0.0, "backward": 0.0}
for turn in range(12):
    began = time.process_time(); out = ops.msda(value, places, offsets, logits, shapes)
    middle = time.process_time(); out.sum().backward()
    if turn > 1: seconds["forward"] += middle - began; seconds["backward"] += time.process_time() - middle
print(json.dumps(seconds))
"""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A command that is timed from both trees.

    Args:
        name: Its row of the table.
        words: What follows `python`; `{model}` and `{study}` stand for what `prepare` made.
        phases: True where the last line that it prints is JSON, of seconds by phase; else the process's are taken.
    """

    name: str
    words: tuple[str, ...]
    phases: bool = False


def _train(preset: str, steps: int, *more: str) -> tuple[str, ...]:
    options = ("--steps", str(steps), "--backbone-weights", "none", "--threads", "1", "--out", "trained")
    return ("-c", RUN, "train", "--preset", preset, "--data", "scenes", *options, "--set", *SMALL_WORK.split(), *more)


BENCHMARKS = (
    Benchmark(name="--help", words=("-c", RUN, "--help")),
    Benchmark(name="train quick, 40 steps", words=_train("quick", 40)),
    Benchmark(name="train small, 6 steps", words=_train("small", 6, "batch=2")),
    Benchmark(name="train paper, 1 step", words=_train("paper", 1, "batch=1")),
    Benchmark(
        name="evaluate, 64 pictures",
        words=(
            *("-c", RUN, "evaluate", "{model}", "--data", "scenes", "--images", "64", "--mode", "whole"),
            *("--scales", "1", "--no-flip", "--threads", "1", "--out", "scores"),
        ),
    ),
    Benchmark(name=f"report, {ROWS} rows", words=("-c", RUN, "report", "{study}", "--no-pictures")),
    Benchmark(name="attention kernel", words=("-c", OPERATOR), phases=True),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Time every benchmark from both trees, print the table of ratios, and return the exit code: 2 for a wrong word."""
    parser = argparse.ArgumentParser(prog="python -m experiments.compare_commits", description="Compare two commits.")
    parser.add_argument("base", nargs="?", default="", help="a commit; else the last tag, else the last release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="benchmarks whose name has this in it")
    options = parser.parse_args(arguments)
    chosen = [benchmark for benchmark in BENCHMARKS if options.only in benchmark.name]
    try:
        if options.rounds < 1 or not chosen:
            raise ValueError("--rounds: expected at least 1; --only: expected a part of the name of a benchmark")
        commit = resolve_commit(options.base or default_base(ROOT), ROOT)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, worktree_of(commit, ROOT) as base:
        made = prepare(Path(folder), {"model", "study"} & {w.strip("{}") for b in chosen for w in b.words})
        trees = {NOW: ROOT, BASE: base}
        print(f"working tree against {commit[:10]}: seconds of the processor, {options.rounds} rounds in turns")
        print("\n".join(ratio_table(compare(chosen, trees, options.rounds, partial(measure, made=made)))))
    return 0


def default_base(root: Path) -> str:
    """Return the last tag, else the commit before the version last changed: that of the last release."""
    tag = _git(root, "describe", "--tags", "--abbrev=0")
    changed = _git(root, "log", "-1", "--format=%H", "-G", "^version = ", "--", "pyproject.toml")
    return tag or (f"{changed}^" if changed else "HEAD")


def resolve_commit(name: str, root: Path) -> str:
    """Return the hash of a commit. ValueError, one line, for a name that no commit has."""
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not commit:
        raise ValueError(f"BASE={name}: no commit of this repository; expected a hash, tag or branch")
    return commit


@contextlib.contextmanager
def worktree_of(commit: str, root: Path) -> Iterator[Path]:
    """Check a commit out beside the working tree; yields the folder, which is removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "base")
        subprocess.run(["git", "-C", root, "worktree", "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", root, "worktree", "remove", "--force", tree], check=True)


def prepare(folder: Path, needed: set[str]) -> dict[str, str]:
    """Make what benchmarks start from, by the working tree: a trained model, a study of many rows."""
    made = {"model": folder / "model" / "trained" / "model.safetensors", "study": folder / "study"}
    words = {
        "model": _train("quick", 2),
        "study": (str(ROOT / "tests/benchmarks/bench_report.py"), "make", str(made["study"]), "many variants", ROWS),
    }
    for name in needed:
        (folder / name).mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'reports'}"}
        command = [sys.executable, *words[name]]
        subprocess.run(command, cwd=folder / name, env=environment, check=True, capture_output=True)
    return {name: str(made[name]) for name in needed}


def measure(benchmark: Benchmark, tree: Path, *, made: Mapping[str, str]) -> dict[str, float]:
    """Run a benchmark once from a tree, in a fresh folder, and return its seconds by phase; {} where it fails."""
    words = [made.get(word.strip("{}"), word) for word in benchmark.words]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as out:
        command, silent = [sys.executable, *words], subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=silent)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().decode().splitlines()
    if process.returncode:
        return {}
    return dict(json.loads(lines[-1])) if benchmark.phases else {"": usage.ru_utime + usage.ru_stime}


def compare(
    benchmarks: Sequence[Benchmark],
    trees: Mapping[str, Path],
    rounds: int,
    run: Callable[[Benchmark, Path], Mapping[str, float]],
) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of every round by row of the table and side, after a round that warms up."""
    rows: dict[str, dict[str, list[float]]] = {}
    for benchmark in benchmarks:
        tasks = {side: partial(run, benchmark, tree) for side, tree in trees.items()}
        rows |= {benchmark.name: {}} if (samples := run_in_turns(tasks, rounds)) == {} else {}
        for (side, phase), seconds in samples.items():
            rows.setdefault(f"{benchmark.name} {phase}".strip(), {})[side] = seconds
    return rows


def ratio_table(rows: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[str]:
    """Yield the lines of a Markdown table: medians of both sides, and the ratio with its range over the rounds."""
    yield "| benchmark | base, s | now, s | now / base | range |"
    yield "|---|---:|---:|---:|---|"
    for name, sides in rows.items():
        medians = {side: quartiles(seconds).median for side, seconds in sides.items()}
        cells = [f"{medians[side]:.3g}" if side in medians else "fails" for side in (BASE, NOW)]
        ratios = [now / base for now, base in zip(sides.get(NOW, ()), sides.get(BASE, ()), strict=False)]
        told = [f"{quartiles(ratios).median:.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"] if ratios else ["", ""]
        yield f"| {' | '.join([name, *cells, *told])} |"


def _git(root: Path, *words: str) -> str:
    """Return what git prints, "" where it fails."""
    return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
