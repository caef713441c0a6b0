"""JSON that files hold: read with a limit of its depth, and checked, so that the first wrong value is named.

A shape gives by name what a value must be: a type, several, the shape of an inner mapping, or a list of one shape,
which every item of a list must have. A name that ends in `?` may be missing, and `*` stands for every name that the
shape does not have; without it these may hold anything.

>>> check_shape({"seed": "1"}, {"seed": int})
Traceback (most recent call last):
ValueError: seed: expected a whole number, it is "1"
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from types import NoneType
from typing import Any

NUMBER = (int, float, NoneType)
WHOLE = (int, NoneType)
TEXT = (str, NoneType)
LARGEST_WHOLE = 2**63  # what tables hold
MAX_DEPTH = 40  # of lists and objects within each other; this program writes about ten
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

COST_AND_SCORES = (
    *("miou?", "pixel_accuracy?", "gmacs?", "peak_rss_gib?"),
    *("step_memory_gib?", "target_memory_gib?", "target_gmacs?"),
)
_ROW: Shape = {
    **dict.fromkeys(("key", "variant", "status", "preset"), str),
    **dict.fromkeys(("message?", "command?", "started?", "finished?", "release?"), TEXT),
    "axes": dict,
    "settings": {"data": str, "train": {"steps": int}, "model?": {"attention_options?": dict}},
    "metrics": {
        **dict.fromkeys(COST_AND_SCORES, NUMBER),
        **{name: {"*": NUMBER} for name in ("iou?", "size_iou?", "trimap?")},
        **{name: {"*": WHOLE} for name in ("size_classes?", "trimap_classes?")},
        **{f"{phase}_images_per_second?": {"*": NUMBER, "n?": WHOLE} for phase in ("train", "inference")},
        **dict.fromkeys(("parameters?", "interior_classes?", "target_size?"), WHOLE),
        "reach?": dict,
    },
    "environment": {"packages?": dict},
    "data?": {"digest?": str, "splits?": {"*": str}},
    "roles?": {"*": str},
}
ROW_SHAPES: Mapping[str, Shape] = {
    "run": {**_ROW, "seed": int, "training?": dict, "evaluation?": dict},
    "measure": {**_ROW, "protocol?": dict},
}
_KEY = re.compile(r"[\w.-]{1,100}", re.ASCII)  # of a row; it is the name of a file
_LISTED: Shape = {"key": _KEY, "variant?": str, "axes?": dict, "seed?": int}
STUDY_SHAPE: Shape = {
    **dict.fromkeys(("preset", "data"), str),
    "created?": TEXT,
    "data_splits?": {"*": str},
    "experiments": {
        "*": {
            **dict.fromkeys(("kind?", "command?", "control?", "created?", "rate_split?"), TEXT),
            "seeds?": int,
            "variants?": [str],
            "runs": [_LISTED],
            "measures": [_LISTED],
        }
    },
}


def read_json(text: str) -> Any:
    """Return the content of JSON text.

    Raises:
        ValueError: Says that it is no whole JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("not whole JSON") from None
    if _is_deeper(content, MAX_DEPTH):
        raise ValueError("nested too deeply")
    return content


def _is_deeper(content: Any, most: int) -> bool:
    """Return True where more than `most` lists and objects stand within each other."""
    layer = [content] if isinstance(content, dict | list) else []
    for _ in range(most):
        values = (value for outer in layer for value in (outer.values() if isinstance(outer, dict) else outer))
        layer = [value for value in values if isinstance(value, dict | list)]
    return bool(layer)


def check_shape(value: Any, shape: Any, name_path: str = "") -> None:
    """Check that `value` has this shape.

    Raises:
        ValueError: Names the first part that has not, and what is expected there.
    """
    if isinstance(shape, Mapping):
        _check_mapping(value, shape, name_path)
    elif isinstance(shape, list):
        _check_type(value, (list,), name_path)
        for index, item in enumerate(value):
            check_shape(item, shape[0], f"{name_path}[{index}]")
    elif isinstance(shape, re.Pattern):
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise ValueError(f"{name_path}: expected a name of letters, digits, dots and dashes, it is {_shown(value)}")
    else:
        _check_type(value, shape if isinstance(shape, tuple) else (shape,), name_path)


def _check_mapping(value: Any, shape: Shape, name_path: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{name_path or 'content'}: expected an object, it is {_shown(value)}")
    inside = f"{name_path}." if name_path else ""
    named = {name.removesuffix("?") for name in shape}
    for name, expected in shape.items():
        bare = name.removesuffix("?")
        if name == "*":
            for other in value:
                if other not in named:
                    check_shape(value[other], expected, f"{inside}{_shown_name(other)}")
        elif bare in value:
            check_shape(value[bare], expected, f"{inside}{bare}")
        elif not name.endswith("?"):
            raise ValueError(f"{inside}{bare} is missing")


def _check_type(value: Any, kinds: tuple[type, ...], name_path: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = type(value) in kinds or (number and float in kinds)
    if fits and number:
        fits = abs(value) < LARGEST_WHOLE and math.isfinite(value)
    if not fits:
        words = " or ".join(_WORDS[kind] for kind in kinds if kind is not int or float not in kinds)
        raise ValueError(f"{name_path}: expected {words}, it is {_shown(value)}")


def _shown_name(name: str) -> str:
    return name if name.isidentifier() else _shown(name)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LETTERS else f"{text[:_SHOWN_LETTERS]}..."
