"""Lines and page of an evaluation: every figure is the record's, and the verdict is the interval's."""

from __future__ import annotations

from typing import Any

import pytest
from golden_pages import assert_golden

from reports.pages import evaluation


def record(name: str, miou: float, refined: float | None = None) -> dict[str, Any]:
    def scores(value: float) -> dict[str, Any]:
        rest = {
            "pixel_accuracy": 0.9,
            "boundary_iou": 0.5,
            "boundary_f": 0.6,
            "interior_miou": None,
            "interior_classes": 2,
        }
        return {"miou": value, "iou": [value, None], **rest}

    found = {"plain": scores(miou)} | ({} if refined is None else {"refined": scores(refined)})
    return {
        "name": name,
        "checkpoint": f"/models/{name}.safetensors",
        "sha256": "0123456789abcdef" * 4,
        "facts": {"step": 300, "seed": None, "data": "scenes"},
        "data": "scenes",
        "split": "val",
        "pictures": 30,
        "classes": ["sky", "a|b"],
        "protocol": {"words": "whole, scale 1"},
        "scores": found,
    }


def pair(low: float, high: float, metric: str = "miou") -> dict[str, Any]:
    value = {"metric": metric, "first": 0.52, "second": 0.5, "low": low, "high": high, "above": 0.9}
    return {"first": "b", "second": "a", "value": value, "pictures": 30}


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.03, "b is better"), (-0.03, -0.01, "a is better"), (-0.01, 0.05, "the interval includes 0")],
)
def test_a_comparison_says_what_its_interval_says(low: float, high: float, verdict: str) -> None:
    line = evaluation.comparison_line(pair(low, high))
    assert line == (
        f"b - a, mIoU: +2.00 points, 95 % interval {100 * low:+.2f} to {100 * high:+.2f} (30 pictures): {verdict}"
    )


def test_lines() -> None:
    said = evaluation.evaluation_lines([record("a", 0.5, 0.51), record("b", 0.52)], [pair(0.01, 0.03)])
    assert said[0].startswith("a, plain: mIoU 50.00, pixel accuracy 90.00, boundary IoU 50.00")
    assert said[1].startswith("a, refined: mIoU 51.00")
    assert said[2].startswith("b: mIoU 52.00")
    assert said[2].endswith("interior mIoU – (%; interior: 2 classes)")
    assert said[-1] == evaluation.CAVEAT
    assert "another training seed" in evaluation.CAVEAT
    assert evaluation.evaluation_lines([record("b", 0.52)], [])[-1].startswith("b: ")


def test_page() -> None:
    records = [record("a", 0.5, 0.51), record("b", 0.52)]
    assert_golden(
        "evaluation.md", evaluation.evaluation_markdown(records, [pair(0.01, 0.03)], "unept-bench evaluate a b")
    )
    assert "## Comparisons" not in evaluation.evaluation_markdown(records[1:], [], "x")
