"""Which recipe lets every mechanism learn? `python -m experiments.recipe_sweep --out FOLDER` trains candidates.

Candidates for the recipe of the `quick` preset are compared on scenes and seeds that no record of results uses. Each
mechanism is trained by each candidate with the same few seeds, and scored on the validation scenes. A run that is in
FOLDER/results.csv is not done again. The page beside it is written from the rows alone.
"""

from __future__ import annotations

import argparse
import csv
import io
import multiprocessing
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from bench.config.grid import with_field_values
from bench.config.presets import preset
from bench.config.settings import Settings, settings_to_dict
from experiments.tables.table8 import MECHANISMS as MECHANISMS_OF_TABLE_8
from experiments.tables.table8 import SELF_SLOTS
from reports.analysis.cue_groups import learned_accuracy
from unept.data.scene_spec import KIND, parse_scene_spec
from unept.data.scenes_v2 import unplaced_accuracy
from unept.utils.atomic_files import atomic_write

DATA = f"{KIND}:v2"
SCENE_SEED = 7  # of the sweep's scenes; those of records have the default
FIRST_SEED = 300  # of the sweep's runs; those of records count from 0
CHOSEN = "8 heads"  # the recipe of the preset
RECIPES: Mapping[str, str] = {
    "2 heads, no warm-up": "heads=2 lr=0.001 warmup=0.0 lr_drop=0.6667",
    "4 heads": "heads=4 lr=0.002 warmup=0.1 lr_drop=0.9",
    CHOSEN: "heads=8 lr=0.002 warmup=0.1 lr_drop=0.9",
    "8 heads, half the rate": "heads=8 lr=0.001 warmup=0.1 lr_drop=0.9",
    "8 heads, cosine": "heads=8 lr=0.002 warmup=0.1 schedule=cosine",
}
_DENSE = " ".join(f"{slot}={MECHANISMS_OF_TABLE_8['dense, fused']}" for slot in SELF_SLOTS)
MECHANISMS: Mapping[str, str] = {
    "N=4 L=1": "N=4 L=1",
    "N=16 L=3": "N=16 L=3",
    "N=64 L=3": "N=64 L=3",
    "dense": _DENSE,
}


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One training of the sweep; `miou` and `lookalike_accuracy` are fractions, empty where it did not end well."""

    recipe: str
    fields: str
    mechanism: str
    steps: int
    seed: int
    status: str
    miou: str
    lookalike_accuracy: str
    seconds: str

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What is trained, whatever the recipe is called."""
        return (self.fields, self.mechanism, self.steps, self.seed)


def settings_of(recipe: str, mechanism: str, steps: int = 0) -> Settings:
    """Return the settings of a training by the fields of its recipe and mechanism; 0 steps for the preset's."""
    base = preset("quick", DATA)
    base = replace(base, scenes=replace(base.scenes, scene_seed=SCENE_SEED))
    words = f"{recipe} {mechanism}" + (f" steps={steps}" if steps else "")
    return with_field_values(base, [words])


def train_one(recipe: str, mechanism: str, steps: int, seed: int) -> SweepRow:
    """Train and score one candidate."""
    import torch

    from bench.training.loop import train_and_evaluate
    from unept.utils.finite import NonFiniteError

    torch.set_num_threads(1)
    settings = settings_of(RECIPES[recipe], MECHANISMS[mechanism], steps)
    spec = {"settings": settings_to_dict(settings), "seed": seed}
    result: dict[str, Any] = {"status": "diverged", "metrics": {}, "training": {}}
    with tempfile.TemporaryDirectory() as folder, suppress(NonFiniteError):
        result = train_and_evaluate(spec, Path(folder), lambda *_: None)
    return SweepRow(
        recipe=recipe,
        fields=RECIPES[recipe],
        mechanism=mechanism,
        steps=settings.train.steps,
        seed=seed,
        status=result["status"],
        miou=_text(result["metrics"].get("miou")),
        lookalike_accuracy=_text(result["metrics"].get("lookalike_accuracy")),
        seconds=_text(result["training"].get("seconds")),
    )


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def read_rows(path: Path) -> list[SweepRow]:
    """Return the rows of a sweep's file; [] where there is none."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [_row(cells) for cells in csv.DictReader(file)]


def _row(cells: dict[str, str]) -> SweepRow:
    values: dict[str, Any] = {**cells, "steps": int(cells["steps"]), "seed": int(cells["seed"])}
    return SweepRow(**values)


def write_rows(path: Path, rows: Iterable[SweepRow]) -> None:
    """Write the rows, in the order of recipes and mechanisms."""
    order = {name: place for place, name in enumerate((*RECIPES, *MECHANISMS))}
    ordered = sorted(
        rows, key=lambda row: (row.steps, order.get(row.recipe, 99), order.get(row.mechanism, 99), row.seed)
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(SweepRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in ordered)
    atomic_write(path, text.getvalue().encode())


def sweep_page(rows: Sequence[SweepRow]) -> str:
    """Return the page: a line a recipe, a column a mechanism, and how each cell is read."""
    columns = list(dict.fromkeys(row.mechanism for row in rows))
    lines = [
        "| recipe | fields | steps | " + " | ".join(columns) + " | seconds a run |",
        "|---|---|---:|" + "---|" * len(columns) + "---:|",
    ]
    for recipe, words, steps in dict.fromkeys((row.recipe, row.fields, row.steps) for row in rows):
        own = [row for row in rows if (row.recipe, row.fields, row.steps) == (recipe, words, steps)]
        cells = [_cell([row for row in own if row.mechanism == name]) for name in columns]
        seconds = [float(row.seconds) for row in own if row.seconds]
        spent = f"{fmean(seconds):.0f}" if seconds else "–"
        lines.append(f"| {recipe} | `{words}` | {steps} | {' | '.join(cells)} | {spent} |")
    return "\n".join(lines) + "\n"


def _cell(rows: Sequence[SweepRow]) -> str:
    """Return how many seeds learned, and mean and spread of mIoU over all of them, in percent."""
    if not rows:
        return "–"
    ended = [row for row in rows if row.status == "ok"]
    least = learned_accuracy(unplaced_accuracy(parse_scene_spec(DATA).emblems))
    learned = sum(float(row.lookalike_accuracy) >= least for row in ended)
    scores = [100 * float(row.miou) for row in ended]
    spread = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
    score = f"{fmean(scores):.2f}{spread}" if scores else "diverged"
    return f"{learned} of {len(rows)}: {score}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is due, then write rows and table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.recipe_sweep", description="Compare recipes.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="0: the preset's")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: all")
    parser.add_argument("--mechanism", action="append", choices=MECHANISMS, help="default: all")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.csv"
    rows = {row.key: row for row in read_rows(path)}
    due = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        for recipe in options.recipe or RECIPES:
            for mechanism in options.mechanism or MECHANISMS:
                steps = settings_of(RECIPES[recipe], MECHANISMS[mechanism], options.steps).train.steps
                if (RECIPES[recipe], mechanism, steps, seed) not in rows:
                    due.append((recipe, mechanism, options.steps, seed))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        for future in as_completed([pool.submit(train_one, *job) for job in due]):
            row = future.result()
            rows[row.key] = row
            write_rows(path, rows.values())
            print(f"{len(rows)} rows; {row.recipe}, {row.mechanism}, seed {row.seed}: mIoU {row.miou}", flush=True)
    print(sweep_page(list(rows.values())))


if __name__ == "__main__":
    main()
