"""Write the figures of the README and of docs/ from the committed records: `python -m experiments.docs`, `make docs`.

A figure stands between markers, on lines of its own or within a line, and is never typed:

    <!-- begin: attention time -->29 of 32<!-- end -->

Add one with a function in FIGURES from the folder of records to Markdown. With --check nothing is written, and the exit
code is 1 if a page is stale.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

import unept
from bench.config.grid import PROFILES
from bench.config.presets import preset
from bench.config.settings import TrainConfig
from bench.profiling.gpu_hours import DEFAULT_IMAGE_SIZE
from bench.results.gpu_assumption import GpuAssumption
from experiments import scene_sanity_check
from experiments.tables import table7
from reports.analysis import verdict_sentences
from reports.analysis.axis_effects import TEXT, axis_sentences
from reports.analysis.time_to_learn import time_sentences
from reports.formats import markdown
from reports.formats.data_frames import frame_from_csv
from reports.pages import attention, gpu_hours
from reports.study import result_sections

ROOT = Path(__file__).parents[1]
RECORDS = Path("reports/records")
MARKED = re.compile(r"<!-- begin: (?P<name>.*?) -->(?P<body>.*?)<!-- end -->", re.DOTALL)
STUDIES = (
    "quick-grid",
    "quick-grid-1000-steps",
    "table-5",
    "table-7",
    "table-8",
    "table-8-1000-steps",
    "camvid",
)
SEEDS = 5
CAMVID_CLASSES = 11
RECIPES = ("ade20k", "pascal_context", "cityscapes")
OUR_CITYSCAPES = (  # where neither the paper nor its authors' configurations give a value
    "stride of the window",
    "base scale: long, short side",
    "rate drops at, profile `released`",
)


def accuracy(study: str, records: Path) -> str:
    """Return the table of accuracies of a study's record."""
    return result_sections.accuracy_table(frame_from_csv(records / study / "accuracy.csv"))


def verdict(study: str, records: Path) -> str:
    """Return what a study's record shows of its variants against the control, as a quotation."""
    compared = frame_from_csv(records / study / "comparisons.csv")
    learned = frame_from_csv(records / study / "learned.csv")
    times = frame_from_csv(records / study / "time_to_learn.csv")
    (control,) = set(compared["control"])
    by_axis = axis_sentences(frame_from_csv(records / study / "axes.csv", text=TEXT))
    sentences = [
        *by_axis,
        *verdict_sentences.outcome_sentences(compared, control),
        *verdict_sentences.split_seeds(learned),
        *time_sentences(times),
    ]
    return "\n>\n".join(f"> {sentence}" for sentence in sentences)


def runs(study: str, records: Path) -> str:
    """Return the number of trained models of a study's record."""
    return str(len(frame_from_csv(records / study / "results.csv")))


def minutes(study: str, records: Path) -> str:
    """Return how long a study's record took from its first start to its last end, measures included."""
    rows = frame_from_csv(records / study / "provenance.csv")
    spent = pd.to_datetime(rows["finished"]).max() - pd.to_datetime(rows["started"]).min()
    return f"{spent.total_seconds() / 60:.0f} minutes"


def attention_wins(kind: str, records: Path) -> str:
    """Return the number of comparisons in which our attention needs no more `kind` ("time" or "memory"), and of all."""
    ratios = attention.ratios(attention.read_attention_benchmark(records / "attention"), kind)
    return f"{(ratios['q1'] >= 1).sum()} of {len(ratios)}"


def memory_error(records: Path) -> str:
    """Return the least and the largest share of the memory that was really allocated which was predicted."""
    ratios = _verified(records)
    return f"{ratios.min():.4f} and {ratios.max():.4f}"


def memory_rows(records: Path) -> str:
    """Return the number of training steps that were taken to verify the prediction of memory."""
    return str(len(_verified(records)))


def bounded_gain(records: Path) -> str:
    """Return the memory of a training step of our network that computing the loss in bands of rows saves."""
    row = pd.read_csv(records / "memory" / "memory.csv").set_index("row").loc["Ours, ResNet50"]
    return f"{row['gib'] - row['bounded_gib']:.2f} GiB"


def kernel_gain(records: Path) -> str:
    """Return how many times faster the CPU kernel is than torch-ms-deform-attn, forward + backward, over its shapes."""
    ratios = _kernel_ratios(records)
    return f"{ratios.min():.1f} to {ratios.max():.1f}"


def kernel_shapes(records: Path) -> str:
    """Return the number of shapes at which the CPU kernel was compared with torch-ms-deform-attn."""
    return str(len(_kernel_ratios(records)))


def step_gain(records: Path) -> str:
    """Return how many times as long a whole training step takes in plain PyTorch, over the presets.

    The record is the page that `unept-bench step --out docs/performance.md` writes.
    """
    page = (records.parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    ratios = [float(ratio) for ratio in re.findall(r"^\| whole step \|.* (\d+\.\d+)x \|$", page, re.MULTILINE)]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def growth(records: Path) -> str:
    """Return the exponents of memory and operations against tokens, a row an attention."""
    rows = pd.read_csv(records / "scaling" / "exponents.csv")
    rows = rows[rows["axis"] == "side"]
    columns = {"peak": "peak memory", "saved": "kept for backward", "gmacs": "operations"}
    lines = []
    for name, own in rows.groupby("attention", sort=False):
        exponents = own.set_index("quantity")["exponent"]
        if "gmacs" in exponents:
            lines.append([str(name), *(f"{exponents[quantity]:.2f}" for quantity in columns)])
    return markdown.markdown_table(["attention", *columns.values()], lines)


def scene_scores(records: Path) -> str:
    """Return the scores of the two small networks that check the design of the generated scenes."""
    rows = _lines(records / "scene-sanity-check" / "scores.csv")
    return scene_sanity_check.results_table([scene_sanity_check.SceneScore(**row) for row in rows])


def hours(records: Path) -> str:
    """Return the predicted GPU-hours of the paper's tables."""
    return gpu_hours.gpu_hours_markdown(
        _lines(records / "gpu-hours" / "hours.csv"), GpuAssumption(), SEEDS, DEFAULT_IMAGE_SIZE
    )


def recipes(_: Path) -> str:
    """Return the settings in which the recipes of the preset `paper` differ between data sets, a column a data set."""
    settings = [preset("paper", f"{name}:PATH") for name in RECIPES]
    rows = {
        "classes": [str(one.model.classes) for one in settings],
        "crop, window": [str(one.model.size) for one in settings],
        "stride of the window": [str(one.evaluation.stride) for one in settings],
        "base scale: long, short side": [f"{one.train.base_long}, {one.train.base_short}" for one in settings],
        "iterations": [f"{one.train.steps:,}" for one in settings],
    }
    for name, parts in PROFILES.items():
        (drop,) = (part.lr_drop for part in parts if isinstance(part, TrainConfig))
        rows[f"rate drops at, profile `{name}`"] = [f"{round(one.train.steps * drop):,}" for one in settings]
    for name in OUR_CITYSCAPES:
        rows[name][RECIPES.index("cityscapes")] += ", ours"
    lines = [["", *(f"`{name}`" for name in RECIPES)], ["---", *["---:"] * len(RECIPES)]]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def published_networks(_: Path) -> str:
    """Return the number of published networks that `unept-bench complexity` counts."""
    return str(len(table7.table7_networks()))


def small_parameters(_: Path) -> str:
    """Return the number of parameters of the model of the preset `small`, with the classes of its data set."""
    with torch.device("meta"):
        model = unept.build(replace(preset("small").model, classes=CAMVID_CLASSES))
    return f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.1f} M"


def own_attention_lines(records: Path) -> str:
    """Return the length of the class that CONTRIBUTING.md shows as an attention of one's own, without empty lines."""
    page = (records.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    source = page.split("```python\n")[1].split("```")[0]
    return str(sum(bool(line.strip()) for line in source.splitlines()))


def check_example(records: Path) -> str:
    """Return what `unept-bench check batch --slot decoder_self` printed."""
    printed = (records / "check" / "batch.txt").read_text(encoding="utf-8")
    return f"```text\n{printed}```"


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file by column, empty cells as empty text."""
    rows = pd.read_csv(path, keep_default_na=False)
    return [dict(zip(rows.columns, row, strict=True)) for row in rows.astype(object).to_numpy().tolist()]


def _verified(records: Path) -> pd.Series:
    """Return predicted over measured memory of every step that was really taken."""
    return pd.read_csv(records / "memory-verified" / "verified.csv")["ratio"].dropna()


def _kernel_ratios(records: Path) -> pd.Series:
    """Return the time of torch-ms-deform-attn over ours, tuned malloc, forward + backward, a value a shape."""
    rows = pd.read_csv(records / "kernels" / "kernels.csv")
    wanted = {"part": "operator", "malloc": "tuned", "quantity": "ratio", "phase": "forward+backward"}
    for column, value in (wanted | {"side": "torch-ms-deform-attn"}).items():
        rows = rows[rows[column] == value]
    return rows["value"]


FIGURES: Mapping[str, Callable[[Path], str]] = {
    **{f"{study} verdict": partial(verdict, study) for study in STUDIES},
    "quick-grid accuracy": partial(accuracy, "quick-grid"),
    "quick-grid runs": partial(runs, "quick-grid"),
    "quick-grid minutes": partial(minutes, "quick-grid"),
    "attention time": partial(attention_wins, "time"),
    "attention memory": partial(attention_wins, "memory"),
    "memory error": memory_error,
    "memory rows": memory_rows,
    "memory bounded": bounded_gain,
    "kernel gain": kernel_gain,
    "kernel shapes": kernel_shapes,
    "step gain": step_gain,
    "growth": growth,
    "scene scores": scene_scores,
    "hours": hours,
    "check example": check_example,
    "recipes": recipes,
    "networks": published_networks,
    "small parameters": small_parameters,
    "own attention lines": own_attention_lines,
}


def render(text: str, records: Path) -> str:
    """Return a page with every figure made anew from the folder of records.

    A figure whose markers stand on lines of their own is put between empty lines, any other within its line.

    Raises:
        ValueError: a marker names no figure, or has no end.
    """

    def renewed(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in FIGURES:
            raise ValueError(f"begin: {name}: no such figure; there are: {', '.join(FIGURES)}")
        figure = FIGURES[name](records).strip("\n")
        body = f"\n\n{figure}\n\n" if match["body"].startswith("\n") else figure
        return f"<!-- begin: {name} -->{body}<!-- end -->"

    made = MARKED.sub(renewed, text)
    marks = [made.count(f"<!-- {mark}") for mark in ("begin: ", "end -->")]
    if marks[0] != marks[1] or marks[0] != len(MARKED.findall(text)):
        raise ValueError(f"{marks[0]} figures begin and {marks[1]} end")
    return made


def pages(root: Path) -> list[Path]:
    """Return the Markdown pages that may hold figures: the README and docs/."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def stale(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each page of a checkout whose figures are not those of its records, with the text that it should have.

    Raises:
        ValueError: a marker of a page names no figure, or has no end.
    """
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        try:
            made = render(text, root / RECORDS)
        except ValueError as error:
            raise ValueError(f"{page.relative_to(root)}: {error}") from error
        if made != text:
            yield page, made


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Write the figures, or with --check name the pages that are stale.

    Returns:
        The exit code: 1 if --check finds a stale page, 2 if a marker is wrong, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.docs", description="Write the figures of the docs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    check = parser.parse_args(arguments).check
    try:
        renewed = list(stale(root))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for page, text in renewed:
        print(f"{page.relative_to(root)}: {'stale; `make docs` writes it' if check else 'written'}")
        if not check:
            page.write_text(text, encoding="utf-8")
    return int(check and bool(renewed))


if __name__ == "__main__":
    sys.exit(main())
