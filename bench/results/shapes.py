"""Shapes of the JSON that files hold: the first value that is missing or of another type is named.

A shape gives by name what a value must be: a type, several, or the shape of an inner mapping. A name that ends in `?`
may be missing. Names that the shape lacks may hold anything.

>>> check_shape({"seed": "1"}, {"seed": int})
Traceback (most recent call last):
ValueError: seed: expected a whole number, it is "1"
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import NoneType
from typing import Any

NUMBER = (int, float, NoneType)
LARGEST_WHOLE = 2**63  # what tables hold
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
    NoneType: "null",
}
_SHOWN_LETTERS = 40

Shape = Mapping[str, Any]

_ROW: Shape = {
    **dict.fromkeys(("key", "variant", "status", "preset"), str),
    **dict.fromkeys(("message?", "command?", "started?", "finished?", "release?"), (str, NoneType)),
    "axes": dict,
    "settings": {"data": str, "train": {"steps": int}},
    "metrics": {
        **dict.fromkeys(("miou?", "pixel_accuracy?", "parameters?", "gmacs?", "peak_rss_gib?"), NUMBER),
        **dict.fromkeys(("iou?", "size_iou?", "trimap?", "reach?"), dict),
    },
    "environment": {"packages?": dict},
    "roles?": dict,
}
ROW_SHAPES: Mapping[str, Shape] = {
    "run": {**_ROW, "seed": int, "training?": dict, "evaluation?": dict},
    "measure": {**_ROW, "protocol?": dict},
}


def check_shape(value: Any, shape: Shape, parent: str = "") -> None:
    """Check that `value` has this shape.

    Raises:
        ValueError: Names the first part that has not, and what is expected there.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{parent or 'content'}: expected an object, it is {_shown(value)}")
    for name, expected in shape.items():
        bare = name.removesuffix("?")
        name_path = f"{parent}.{bare}" if parent else bare
        if bare not in value:
            if name.endswith("?"):
                continue
            raise ValueError(f"{name_path} is missing")
        if isinstance(expected, Mapping):
            check_shape(value[bare], expected, name_path)
        else:
            _check_type(value[bare], expected if isinstance(expected, tuple) else (expected,), name_path)


def _check_type(value: Any, kinds: tuple[type, ...], name_path: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = type(value) in kinds or (number and float in kinds)
    if fits and number:
        fits = abs(value) < LARGEST_WHOLE and math.isfinite(value)
    if not fits:
        words = " or ".join(_WORDS[kind] for kind in kinds if kind is not int or float not in kinds)
        raise ValueError(f"{name_path}: expected {words}, it is {_shown(value)}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."
