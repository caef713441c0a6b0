"""Rows as the store holds them, made by hand, and the page that comes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.results.rows import SCHEMA, content_key, row_to_text
from reports.analysis.study_rows import Study
from reports.plots import accuracy, cost, curves
from reports.study import report

SETTINGS = {
    "data": "scenes",
    "model": {"backbone": "tiny_conv", "classes": 3, "size": 64, "levels": 3, "points": 16, "heads": 2, "width": 64},
    "train": {"steps": 500, "batch": 8, "lr": 1e-3, "backbone_weights": ""},
    "evaluation": {"split": "val", "scales": [1.0], "flip_test": False},
}


def run_row(variant: str, seed: int, miou: float | None, **changes: Any) -> dict[str, Any]:
    """A run; `miou` None makes a failed one. Accuracy is mIoU + .3."""
    metrics: dict[str, Any] = {}
    if miou is not None:
        metrics = {
            "miou": miou,
            "pixel_accuracy": miou + 0.3,
            "miou_refined": None,
            "pixel_accuracy_refined": None,
            "iou": {"ground": miou + 0.1, "pole": miou - 0.1, "sky": None},
        }
    row = {
        "schema": SCHEMA,
        "kind": "run",
        "key": content_key([variant, seed]),
        "variant": variant,
        "axes": axes_of(variant),
        "settings": SETTINGS,
        "seed": seed,
        "preset": "quick",
        "status": "ok" if miou is not None else "failed",
        "message": "" if miou is not None else "boom",
        "metrics": metrics,
        "training": {"seconds": 12.5, "evaluation_seconds": 2.0},
        "environment": {"python": "3.11.2", "versions": {"torch": "2.13.0"}},
        "threads": 1,
        "backend": "reference",
        "sources": "abc123",
        "started": "2026-01-01T10:00:00.000+00:00",
        "finished": "2026-01-01T10:01:00.000+00:00",
        "command": "unept-bench ablate --grid N=4,16 L=1,3",
    }
    return row | changes


def full_row(
    variant: str,
    seed: int,
    miou: float,
    *,
    lookalike: float | None = None,
    refined: float | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A run with everything that a row may hold: boundaries, sizes, probes, and refined scores where given."""
    row = run_row(variant, seed, miou)
    row["metrics"] |= {
        "boundary_iou": miou - 0.2,
        "boundary_f": miou - 0.1,
        "interior_miou": miou + 0.2,
        "error_near_boundary": 0.8,
        "boundary_iou_refined": None if refined is None else refined - 0.2,
        "boundary_f_refined": None if refined is None else refined - 0.1,
        "miou_refined": refined,
        "size_iou": {"large": miou + 0.1, "medium": miou, "small": miou - 0.1},
        "trimap": {str(radius): miou - 0.1 / radius for radius in (1, 13, 2, 40)},
        "interior_classes": 7,
        "size_classes": {"large": 6, "medium": 8, "small": 1},
        "trimap_classes": {str(radius): 8 for radius in (1, 13, 2, 40)},
        "lookalike_accuracy": lookalike,
    }
    probe = [[step, miou * step / 500, None if lookalike is None else 0.5] for step in (100, 200, 300)]
    probe += [[step, miou * step / 500, lookalike] for step in (400, 500)]
    row["training"] |= {
        "curve": [[10, 5.0, 1.0, 1.0, 1.0, 2.0], [500, 2.0, 0.4, 0.4, 0.4, 0.8]],
        "curve_columns": ["step", "total", "ce", "refined", "boundary", "direction"],
        "probe": probe,
        "probe_columns": ["step", "miou", "lookalike_accuracy"],
        "probe_images": 16,
    }
    facts = {"images": 256, "boundary_width_px": [2, 3], "tolerance_px": [1, 1], "size_limits": [0.01, 0.1]}
    return row | {"evaluation": facts} | changes


def measure_row(variant: str, **changes: Any) -> dict[str, Any]:
    """What a variant costs."""
    row = {
        "schema": SCHEMA,
        "kind": "measure",
        "key": content_key(variant),
        "variant": variant,
        "axes": axes_of(variant),
        "settings": SETTINGS,
        "preset": "quick",
        "status": "ok",
        "message": "",
        "metrics": {
            "parameters": 198765,
            "gmacs": 0.0512,
            "gflops": 0.1024,
            "module_gmacs": 0.0498,
            "step_memory_gib": 0.0248,
            "target_size": 480,
            "target_memory_gib": 1.2505,
            "target_gmacs": 1.94,
            "train_images_per_second": {"median": 130.26, "q1": 128.0, "q3": 131.0, "n": 9},
            "inference_images_per_second": {"median": 512.5, "q1": 500.0, "q3": 520.0, "n": 9},
        },
        "protocol": {"batch": 8, "size": [64, 64], "threads": 1, "device": "cpu"},
        "environment": {"python": "3.11.2", "versions": {"torch": "2.13.0"}},
        "finished": "2026-01-01T11:00:00.000+00:00",
    }
    return row | changes


def axes_of(variant: str) -> dict[str, Any]:
    """`N=4 L=3` as the fields it stands for."""
    fields = {"N": "points", "L": "levels"}
    words = [word.split("=", 1) for word in variant.split() if "=" in word]
    return {fields.get(name, name): int(value) if value.isdigit() else value for name, value in words}


def write_study(
    out: Path, name: str, kind: str, runs: list[dict[str, Any]], measures: list[dict[str, Any]], control: str = ""
) -> None:
    """A study's folder with these rows, all listed by one experiment of this name and kind."""
    for place, listed in (("runs", runs), ("measures", measures)):
        (out / place).mkdir(parents=True, exist_ok=True)
        for row in listed:
            (out / place / f"{row['key']}.json").write_text(row_to_text(row))
    names = ("key", "variant", "axes", "seed")
    entry = {
        "kind": kind,
        "command": f"unept-bench {kind}",
        "control": control,
        "runs": [{name: row[name] for name in names} for row in runs],
        "measures": [{name: row[name] for name in names[:3]} for row in measures],
    }
    study = {
        "format": "unept-bench study",
        "schema": SCHEMA,
        "preset": "quick",
        "data": "scenes",
        "created": "2026-01-01T09:00:00.000+00:00",
        "experiments": {name: entry},
    }
    (out / "study.json").write_text(json.dumps(study))


def page(study: Study) -> str:
    """The study's report as Markdown."""
    return report.study_report_files(study)["report.md"].decode()


def section(text: str, heading: str) -> str:
    """The text under the heading that starts so, up to the next one."""
    _, _, rest = text.partition(f"\n## {heading}")
    assert rest, f"no section {heading}"
    return rest.partition("\n## ")[0]


def cells(text: str) -> list[list[str]]:
    """The lines of Markdown's tables, each as its cells with the escapes undone; rules left out."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|-: ")]
    return [[re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def without_plots(patch: pytest.MonkeyPatch) -> None:
    """Let a report take milliseconds."""
    patch.setattr(accuracy, "draw_accuracy", lambda *_: {"png": b"", "svg": b"<svg/>"})
    patch.setattr(cost, "draw_cost", lambda *_: {})
    patch.setattr(curves, "draw_curves", lambda *_: {})
