"""JSON of another shape is refused by the name of the value."""

from __future__ import annotations

from typing import Any

import pytest

from bench.results.rows import content_key, row_from_text
from bench.results.shapes import ROW_SHAPES, check_shape

ROW: dict[str, Any] = {
    "schema": 1,
    "kind": "run",
    "key": "k",
    "variant": "N=4",
    "seed": 0,
    "status": "ok",
    "preset": "quick",
    "message": "",
    "axes": {"points": 4},
    "settings": {"data": "scenes", "train": {"steps": 2}},
    "metrics": {"miou": 0.5, "iou": {"sky": None}},
    "environment": {},
}
WRONG = [
    ({"seed": "0"}, 'seed: expected a whole number, it is "0"'),
    ({"seed": True}, "seed: expected a whole number, it is true"),
    ({"seed": 10**30}, "seed: expected a whole number, it is 1000000000000000000000000000000"),
    ({"variant": ["a"]}, 'variant: expected a text, it is ["a"]'),
    ({"metrics": [1]}, "metrics: expected an object, it is [1]"),
    ({"metrics": {"miou": "high"}}, 'metrics.miou: expected a number or null, it is "high"'),
    ({"metrics": {"iou": [0.5]}}, "metrics.iou: expected an object, it is [0.5]"),
    ({"settings": {"data": "scenes"}}, "settings.train is missing"),
    ({"axes": None}, "axes: expected an object, it is null"),
    ({"environment": "here"}, 'environment: expected an object, it is "here"'),
]


def text_of(row: dict[str, Any]) -> str:
    import json

    return json.dumps(row | {"digest": content_key(row)})


def test_a_row_of_the_right_shape() -> None:
    assert row_from_text(text_of(ROW), "run", "k")["seed"] == 0


@pytest.mark.parametrize(("change", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_row_of_another_shape_with_a_right_digest_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        row_from_text(text_of(ROW | change), "run", "k")
    assert str(refused.value) == said


@pytest.mark.parametrize("name", [name for name in ROW_SHAPES["run"] if not name.endswith("?")])
def test_what_a_row_must_have(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is missing$"):
        check_shape({key: value for key, value in ROW.items() if key != name}, ROW_SHAPES["run"])


def test_what_is_no_object() -> None:
    with pytest.raises(ValueError, match=r"^content: expected an object, it is \[\]$"):
        check_shape([], {})
