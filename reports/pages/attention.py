"""Report of `unept-bench attention`: Markdown, a plot and lines for a terminal, from its table and its facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from reports.formats import markdown, plain_text
from reports.formats.markdown import DASH
from reports.plots import attention

PHASES = ("forward", "forward+backward")
COLUMNS = ("tokens", "implementation", "forward", "forward + backward", "forward, times ours", "both, times ours")
COUNTED = "counted"
OUTCOMES = {  # in words: ours against another package, where it wins and where it does not
    "time": ("is as fast or faster", "is slower"),
    "memory": ("needs as much memory or less", "needs more memory"),
}
PACKAGES = ("torch", "reformer-pytorch", "transformers", "local-attention")
KINDS = {"time": "milliseconds", "memory": "peak MiB beyond the inputs, counted at malloc"}
METHOD = (
    "Each core takes queries, keys and values and returns the mixed values: one image, float32, no dropout, no causal "
    "order. Forward runs without gradients. The time of an implementation includes the padding that it needs, but not "
    "the conversion of its inputs to its layout. The first implementation of each table is ours. A ratio is another "
    "implementation's figure over ours in the same round: above 1, ours is faster or needs less memory."
)


@dataclass(frozen=True, kw_only=True)
class AttentionBenchmark:
    """Contents of `attention.csv` and `attention.json` of a folder."""

    rows: pd.DataFrame
    facts: Mapping[str, Any]

    def row_where(self, **columns: str) -> pd.Series | None:
        """Return the row with these columns; None where there is none."""
        rows = self.rows
        for name, text in columns.items():
            rows = rows[rows[name] == text]
        return None if rows.empty else rows.iloc[0]


@dataclass(frozen=True, kw_only=True)
class AttentionTable:
    """Table of one comparison, and notes on differences and failures, a line each."""

    title: str
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]


def read_attention_benchmark(folder: Path) -> AttentionBenchmark:
    """Return a folder's benchmark.

    Raises:
        ValueError: The folder has none.
    """
    table, facts = folder / "attention.csv", folder / "attention.json"
    if not (table.is_file() and facts.is_file()):
        raise ValueError(f"{folder}: no comparison; there should be attention.csv and attention.json")
    rows = pd.read_csv(table, keep_default_na=False, dtype=str)
    for name in ("value", "q1", "q3"):
        rows[name] = pd.to_numeric(rows[name])
    return AttentionBenchmark(rows=rows, facts=json.loads(facts.read_text(encoding="utf-8")))


def write_attention_report(folder: Path) -> list[Path]:
    """Write `attention.md` and the plot beside the table and return their paths, the same for the same table."""
    benchmark = read_attention_benchmark(folder)
    plots = attention.draw_attention(benchmark.rows, _caption(benchmark))
    made = {
        "attention.md": attention_markdown(benchmark, [name for name in plots if name.endswith(".png")]).encode(),
        **plots,
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in made]


def attention_markdown(benchmark: AttentionBenchmark, plots: Sequence[str]) -> str:
    """Return the report in Markdown, with these plots."""
    parts = ["# Attention cores of ours and of other packages, measured\n"]
    parts.append(markdown.bullet_list(attention_header(benchmark)))
    parts.append(f"{METHOD}\n")
    parts += [f"![{name.removesuffix('.png')}]({name})\n" for name in plots]
    for section in attention_tables(benchmark):
        parts += [markdown.heading(section.title), markdown.markdown_table(COLUMNS, section.rows, left=2)]
        parts += [markdown.bullet_list(section.notes)] * bool(section.notes)
    return "\n".join(parts)


def attention_lines(benchmark: AttentionBenchmark) -> Iterator[str]:
    """Yield the report for a terminal."""
    yield from attention_header(benchmark)
    yield METHOD
    for section in attention_tables(benchmark):
        yield from ("", section.title)
        yield from plain_text.left_aligned_rows([COLUMNS, *section.rows])
        yield from section.notes


def attention_header(benchmark: AttentionBenchmark) -> Iterator[str]:
    """Yield the machine, the protocol, what is missing, and the outcome."""
    setting, jobs = benchmark.facts["setting"], benchmark.facts["jobs"].values()
    yield f"{setting['processor']}, {setting['cores']} usable; {setting['threads']} threads; {setting['system']}"
    installed = [f"{name} {setting['packages'][name]}" for name in PACKAGES if name in setting["packages"]]
    yield f"{', '.join(installed)}; commit {setting['commit'] or 'unknown'}"
    mallocs = dict.fromkeys(job["malloc"] for job in jobs if job["kind"] == "time" and job["malloc"])
    loads = [job["load"] for job in jobs]
    if loads:
        yield f"malloc of the timed processes: {', '.join(mallocs) or 'unknown'}"
        yield f"1-minute load average when a process was started: {min(loads):.1f} to {max(loads):.1f}"
    yield f"{setting['repeats']} rounds or more, implementations in turns; cells are medians, quartiles in brackets"
    if not setting["quick"]:
        yield "8 heads of 32 channels"
    else:
        yield "a small size and few rounds (--quick): a test of the command, not a measurement of speed"
    yield from benchmark.facts["notes"]
    yield from _reached(benchmark)


def attention_tables(benchmark: AttentionBenchmark) -> Iterator[AttentionTable]:
    """Yield a table of times and one of memory for each comparison."""
    kind = benchmark.rows["malloc"].eq(COUNTED).map({True: "memory", False: "time"})
    for name in benchmark.rows["part"].drop_duplicates():
        for which, unit in KINDS.items():
            rows = benchmark.rows[(benchmark.rows["part"] == name) & (kind == which)]
            if not rows.empty:
                yield _section(AttentionBenchmark(rows=rows, facts=benchmark.facts), f"{name}, {which}: {unit}")


def ratios(benchmark: AttentionBenchmark, kind: str) -> pd.DataFrame:
    """Return the rows that compare ours with others, a row a ratio of their `kind` ("time" or "memory") over ours.

    `q1` and `q3` are the quartiles of the ratio: ours is as good or better where `q1` is at least 1.
    """
    rows = benchmark.rows
    rows = rows[(rows["quantity"] == "ratio") & (rows["ours"] != "True") & rows["phase"].isin(PHASES)]
    return rows[(rows["malloc"] == COUNTED) == (kind == "memory")]


def _section(benchmark: AttentionBenchmark, title: str) -> AttentionTable:
    rows, notes = [], dict[str, None]()
    for (shape, side), side_rows in benchmark.rows.groupby(["shape", "side"], sort=False):
        first = side_rows.iloc[0]
        tokens, selection = str(shape).partition(" ")[0], {"shape": str(shape), "side": str(side)}
        if first["difference"]:
            notes[f"{side}: {first['difference']}"] = None
        if first["status"] != "ok":
            rows.append([tokens, str(side), first["status"], *[DASH] * 3])
            notes[f"{side} at {shape}: {first['status']}: {first['message']}"] = None
            continue
        cells = []
        for figure, text_of in (("amount", _amount), ("ratio", _ratio)):
            quantity = figure if figure == "ratio" else "bytes" if first["malloc"] == COUNTED else "seconds"
            cells += [text_of(benchmark.row_where(**selection, phase=phase, quantity=quantity)) for phase in PHASES]
        rows.append([tokens, str(side), *cells])
    return AttentionTable(title=title, rows=rows, notes=[*notes])


def _reached(benchmark: AttentionBenchmark) -> Iterator[str]:
    """Outcome: the ratios in which a third-party package needs less than ours, and the undecided ones."""
    if benchmark.facts["setting"]["quick"]:
        return
    for which in KINDS:
        rows = ratios(benchmark, which)
        less, open_ = rows[rows["q3"] < 1], rows[(rows["q1"] < 1) & (rows["q3"] >= 1)]
        if rows.empty:
            yield f"{which}: nothing was compared"
            continue
        wins, loses = OUTCOMES[which]
        yield f"{which}: ours {wins} in {int((rows['q1'] >= 1).sum())} of {len(rows)} comparisons"
        for outcome, listed in ((f"ours {loses}", less), ("undecided, quartiles on both sides of 1", open_)):
            if not listed.empty:
                yield f"{which}, {outcome}: {'; '.join(_compared(row) for _, row in listed.iterrows())}"


def _compared(row: pd.Series) -> str:
    value = f"{row['value']:.3g}"
    shown = f"{row['value']:.4f}" if value == "1" != f"{row['value']:g}" else value  # not 1 by rounding
    return f"{row['part']}, {row['side']}, {row['shape']}, {row['phase']} {shown}"


def _amount(row: pd.Series | None) -> str:
    """Milliseconds with quartiles, or MiB."""
    if row is None:
        return DASH
    if row["quantity"] == "bytes":
        return f"{row['value'] / 2**20:.1f}"
    return f"{1e3 * row['value']:.4g} ({1e3 * row['q1']:.4g} to {1e3 * row['q3']:.4g})"


def _ratio(row: pd.Series | None) -> str:
    """Ratio, with its quartiles where there are several rounds."""
    if row is None:
        return DASH
    many = row["q1"] < row["q3"]
    return f"{row['value']:.3g}" + (f" ({row['q1']:.3g} to {row['q3']:.3g})" if many else "")


def _caption(benchmark: AttentionBenchmark) -> str:
    setting = benchmark.facts["setting"]
    return (
        f"{setting['processor']}, {setting['threads']} threads; medians, and quartiles of times over "
        f"{setting['repeats']} rounds or more. Right of the line, ours is faster or needs less memory."
    )
