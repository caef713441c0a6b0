"""Report of a kernel benchmark: Markdown, plots and lines for a terminal, from its table and its facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports.formats import markdown, plain_text
from reports.formats.markdown import DASH
from reports.paper import kernel_goals
from reports.plots import kernels

OURS = "native"
WIDE_QUARTILES = 0.25  # quartiles of a ratio that lie farther apart than this share of it decide nothing
PHASES = ("forward", "forward+backward")
NOT_INSTALLED = "not installed"


@dataclass(frozen=True, kw_only=True)
class KernelBenchmark:
    """Contents of `kernels.csv` and `kernels.json` of a folder."""

    rows: pd.DataFrame
    facts: Mapping[str, Any]

    def row_where(self, **columns: str) -> pd.Series | None:
        """Return the row with these columns; None where there is none."""
        rows = self.rows_where(**columns)
        return None if rows.empty else rows.iloc[0]

    def rows_where(self, **columns: str) -> pd.DataFrame:
        """Return the rows with these columns."""
        rows = self.rows
        for name, text in columns.items():
            rows = rows[rows[name] == text]
        return rows


@dataclass(frozen=True, kw_only=True)
class KernelTable:
    """Table of text, with a title and an explanation."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def read_kernel_benchmark(folder: Path) -> KernelBenchmark:
    """Return a folder's benchmark.

    Raises:
        ValueError: The folder has none.
    """
    table, facts = folder / "kernels.csv", folder / "kernels.json"
    if not (table.is_file() and facts.is_file()):
        raise ValueError(f"{folder}: no kernel benchmark; there should be kernels.csv and kernels.json")
    rows = pd.read_csv(table, keep_default_na=False, dtype={"rounds": str})
    return KernelBenchmark(rows=rows, facts=json.loads(facts.read_text(encoding="utf-8")))


def write_kernel_report(folder: Path) -> list[Path]:
    """Write `kernels.md` and the plots beside the table and return their paths; the same table gives the same bytes."""
    benchmark = read_kernel_benchmark(folder)
    plots = kernels.draw_kernels(benchmark.rows, _caption(benchmark.facts))
    made = {
        "kernels.md": kernel_markdown(benchmark, [name for name in plots if name.endswith(".png")]).encode(),
        **plots,
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


def kernel_markdown(benchmark: KernelBenchmark, plots: Sequence[str]) -> str:
    """Return the report in Markdown, with these plots."""
    parts = [
        "# The attention kernel, measured\n",
        markdown.bullet_list(kernel_header(benchmark.facts)),
    ]
    for table in kernel_tables(benchmark):
        parts += [markdown.heading(table.title), f"{table.text}\n", markdown.markdown_table(table.columns, table.rows)]
    parts += [f"![{name.removesuffix('.png')}]({name})\n" for name in plots]
    return "\n".join(parts)


def kernel_lines(benchmark: KernelBenchmark) -> Iterator[str]:
    """Yield the report for a terminal."""
    yield from kernel_header(benchmark.facts)
    for table in kernel_tables(benchmark):
        yield from ("", f"{table.title}. {table.text}")
        yield from plain_text.left_aligned_rows([table.columns, *table.rows])


def kernel_header(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield the machine, the protocol, and what is missing."""
    start, end = facts["load"]
    yield f"{facts['processor']}, {facts['cores']} usable; {facts['threads']} threads; {facts['system']}"
    torch = facts["packages"].get("torch", "?")
    yield f"kernel: {facts['kernel'] or 'not there'}; torch {torch}; commit {facts['commit'] or 'unknown'}"
    yield (
        f"1-minute load average {start:.1f} at the start, {end:.1f} at the end; the latter includes the "
        f"benchmark's own {facts['threads']} threads"
    )
    for name, setting in facts["malloc"].items():
        if name != "counted":
            yield f"{name} malloc: {setting}"
    yield f"{facts['repeats']} rounds or more; cells are medians, quartiles in brackets"
    if facts["quick"]:
        yield "tiny sizes and few rounds (--quick): a test of the command, not a measurement of speed"
    if facts["threads"] != kernel_goals.GOAL_CORES:
        yield f"the goals are meant for {kernel_goals.GOAL_CORES} cores, and {facts['threads']} were used"
    yield from facts["notes"]


def kernel_tables(benchmark: KernelBenchmark) -> list[KernelTable]:
    """Return every table that has rows."""
    made = [
        _goals(benchmark),
        *(_operator(benchmark, malloc) for malloc in ("tuned", "default")),
        _probes(benchmark),
        _machine(benchmark),
        _module(benchmark),
        _instructions(benchmark),
        _memory(benchmark),
        _scaling(benchmark),
    ]
    return [table for table in made if table.rows]


def _goals(benchmark: KernelBenchmark) -> KernelTable:
    if benchmark.facts["quick"]:
        return KernelTable(title="", text="", columns=(), rows=())
    rows = []
    for judged in kernel_goals.judge_goals(_records(benchmark.rows)):
        row, goal = judged.row, judged.goal
        floor = DASH if goal.floor is None else f"{goal.floor:g}"
        if row is None:
            rows.append([goal.title, "not measured", DASH, DASH, floor, DASH, f"{goal.goal:g}", DASH])
            continue
        floor_met, goal_met = judged.against(goal.floor) or DASH, judged.against(goal.goal)
        most = DASH if judged.most is None else f"{judged.most['value']:.3g}"
        rows.append([goal.title, _spread(row), str(row["shape"]), most, floor, floor_met, f"{goal.goal:g}", goal_met])
    shapes = benchmark.rows_where(part="operator")["shape"].drop_duplicates()
    return KernelTable(
        title="Goals",
        text=f"Each goal is judged at its worst measured shape: {', '.join(shapes)}. At most is the hardware limit at "
        "that shape: the kernel takes only the time of the probes' gathers and scatters, the module only that of its "
        "linear layers, and memory holds only result and gradients.",
        columns=("what", "measured", "at", "at most", "floor", "against it", "goal", "against it"),
        rows=rows,
    )


def _records(rows: pd.DataFrame) -> list[Mapping[str, Any]]:
    return [{str(name): value for name, value in record.items()} for record in rows.to_dict("records")]


def _operator(benchmark: KernelBenchmark, malloc: str) -> KernelTable:
    operator_rows = benchmark.rows_where(part="operator", malloc=malloc)
    others = ("mmcv", "torch-ms-deform-attn", "reference")
    rows = []
    for shape in operator_rows["shape"].drop_duplicates():
        for phase in PHASES:
            selection = {"part": "operator", "malloc": malloc, "shape": shape, "phase": phase}
            if benchmark.rows_where(**selection).empty:
                continue
            ours = benchmark.row_where(**selection, side=OURS, quantity="seconds")
            point = benchmark.row_where(**selection, side=OURS, quantity="core_ns_per_point")
            quantity, text_of = ("seconds", _milliseconds) if ours is None else ("ratio", _spread)
            cells = [text_of(benchmark.row_where(**selection, side=name, quantity=quantity)) for name in others]
            mine = DASH if ours is None else _milliseconds(ours)
            rows.append([shape, phase, mine, _number(point, ".1f"), *cells])
    without = operator_rows[operator_rows["side"] == OURS].empty
    others_text = (
        "those of the other implementations" if without else "the time of each other implementation over its own"
    )
    return KernelTable(
        title=f"Operator, {malloc} malloc",
        text=f"Milliseconds and core-nanoseconds a sampling point of the native kernel, and {others_text}.",
        columns=("shape", "phase", "native, ms", "ns a point", *others),
        rows=rows,
    )


def _probes(benchmark: KernelBenchmark) -> KernelTable:
    rows = []
    for shape in benchmark.rows_where(part="operator", malloc="tuned")["shape"].drop_duplicates():
        selection = {"part": "operator", "malloc": "tuned", "shape": shape}
        for tables_of in ("pyramid", "level"):
            points = [
                benchmark.row_where(**selection, side=tables_of, phase=phase, quantity="core_ns_per_point")
                for phase in ("gather", "scatter")
            ]
            over = [
                benchmark.row_where(**selection, side=tables_of, phase=phase, quantity="over_probe")
                for phase in ("forward", "backward")
            ]
            if points[0] is not None:
                name = "a head's pyramid" if tables_of == "pyramid" else "one level of it"
                rows.append([shape, name, *(_number(row, ".1f") for row in points), *map(_spread, over)])
    return KernelTable(
        title="The kernel over the machine's own speed",
        text="A point of a probe reads four random rows of 128 bytes (gather) or adds to them (scatter), and does "
        "nothing else; core-nanoseconds a point, then the kernel's time over it. Backward: less the forward pass, over "
        "both.",
        columns=("shape", "tables as large as", "gather", "scatter", "forward over", "backward over"),
        rows=rows,
    )


def _machine(benchmark: KernelBenchmark) -> KernelTable:
    bandwidths = benchmark.rows_where(part="machine")
    rows = [[str(row["phase"]), f"{row['value'] / 1e9:.0f}"] for _, row in bandwidths.iterrows()]
    return KernelTable(
        title="The machine",
        text="With as many threads: multiply-adds of floats in registers, and bytes read from 64 MiB; 10^9 a second.",
        columns=("what", "10^9 a second"),
        rows=rows,
    )


def _module(benchmark: KernelBenchmark) -> KernelTable:
    rows = []
    for _, ours in benchmark.rows_where(part="module", side=OURS, quantity="seconds").iterrows():
        selection = {name: str(ours[name]) for name in ("part", "malloc", "shape", "phase")}
        sides = ("mmcv", "reference", "linear layers")
        ratios = [_spread(benchmark.row_where(**selection, side=side, quantity="ratio")) for side in sides]
        rows.append([selection["shape"], selection["malloc"], selection["phase"], _milliseconds(ours), *ratios])
    return KernelTable(
        title="The whole module",
        text="Deformable self-attention with its four linear layers: milliseconds with the native kernel. Ratios "
        "are the time with another operator over that, and the time of the linear layers alone over that.",
        columns=("shape", "malloc", "phase", "native, ms", "mmcv", "reference", "linear layers"),
        rows=rows,
    )


def _instructions(benchmark: KernelBenchmark) -> KernelTable:
    rows = []
    for _, ours in benchmark.rows_where(part="instructions", side="avx512", quantity="seconds").iterrows():
        selection = {name: str(ours[name]) for name in ("part", "malloc", "shape", "phase")}
        ratio = benchmark.row_where(**selection, side="avx2", quantity="ratio")
        rows.append([selection["shape"], selection["phase"], _milliseconds(ours), _spread(ratio)])
    return KernelTable(
        title="Instruction sets",
        text="The kernel alone, without autograd: milliseconds with AVX-512, and the ratio of the AVX2 build to that.",
        columns=("shape", "phase", "AVX-512, ms", "AVX2"),
        rows=rows,
    )


def _memory(benchmark: KernelBenchmark) -> KernelTable:
    others = ("mmcv", "torch-ms-deform-attn", "reference")
    peaks = benchmark.rows_where(part="memory", quantity="bytes")
    rows = []
    for shape in peaks["shape"].drop_duplicates():
        for phase in ("forward", "held", "forward+backward"):
            selection = {"part": "memory", "shape": shape, "phase": phase}
            cells = []
            for name in (OURS, *others):
                count, ratio = (
                    benchmark.row_where(**selection, side=name, quantity=quantity) for quantity in ("bytes", "ratio")
                )
                cell = NOT_INSTALLED if count is None else f"{count['value'] / 2**20:.1f}"
                cells.append(cell if ratio is None else f"{cell} ({ratio['value']:.1f}x)")
            rows.append([shape, phase, *cells])
    return KernelTable(
        title="Memory",
        text="MiB beyond the inputs, counted at malloc. forward: the peak of a forward pass without gradients. held: "
        "kept for the backward pass, with the result. forward+backward: the peak of both passes, with the gradients.",
        columns=("shape", "phase", OURS, *others),
        rows=rows,
    )


def _scaling(benchmark: KernelBenchmark) -> KernelTable:
    times = benchmark.rows_where(part="scaling", quantity="core_ns_per_point")
    rows = []
    for shape in times["shape"].drop_duplicates():
        selection = {"part": "scaling", "shape": shape, "quantity": "core_ns_per_point"}
        cells = [
            _number(benchmark.row_where(**selection, side=side, phase=phase), ".1f")
            for side in (OURS, "reference")
            for phase in PHASES
        ]
        rows.append([shape, *cells])
    return KernelTable(
        title="Cost along an axis",
        text="Core-nanoseconds per sampling point; a cost that grows linearly is constant along an axis. The other "
        "axes stay at 900 queries, 3 levels and 16 points.",
        columns=("at", "native, forward", "native, both", "reference, forward", "reference, both"),
        rows=rows,
    )


def _spread(row: Any) -> str:
    """Median and quartiles, with a word where they are too far apart to decide anything."""
    if row is None:
        return NOT_INSTALLED
    text = f"{row['value']:.3g}"
    if row["n"] == 1:
        return text
    doubt = f", {kernel_goals.UNDECIDED}" if row["q3"] - row["q1"] > WIDE_QUARTILES * row["value"] else ""
    return f"{text} ({row['q1']:.3g} to {row['q3']:.3g}{doubt})"


def _milliseconds(row: Any) -> str:
    return NOT_INSTALLED if row is None else f"{1e3 * row['value']:.2f}"


def _number(row: Any, form: str) -> str:
    return DASH if row is None else format(row["value"], form)


def _caption(facts: Mapping[str, Any]) -> str:
    start, end = facts["load"]
    return (
        f"{facts['processor']}, {facts['threads']} threads; medians and quartiles of {facts['repeats']} rounds or "
        f"more; load {start:.1f} to {end:.1f}."
    )
