"""Strategies for JSON and files as another program, a hand or a damaged disk leaves them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FEW, SOME = (
    settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    for count in (25, 50)
)
ODD_TEXTS = ("", "x", "nan", "../x", "a\nb", "\x1b[31m", "=1+1", "\ud800", "é" * 300, "4")
ODD_NUMBERS = (0, 1, -1, 2**31, 2**63, 10**40, 0.5, -1e-300, 1e308, float("nan"), float("inf"))
odd_values = st.deferred(
    lambda: (
        st.sampled_from([None, True, False, *ODD_NUMBERS, *ODD_TEXTS])
        | st.lists(st.sampled_from([None, 1, "x", [], [1], {}]), max_size=3)
        | st.dictionaries(st.sampled_from(["", "x", "1", "level 1 from 2"]), st.sampled_from([None, 1, "x", [2]]))
    )
)


def refusal(call: Callable[..., Any], *arguments: Any) -> str:
    """The one line of the ValueError with which a call refuses its arguments; "" where it returns."""
    try:
        call(*arguments)
    except ValueError as error:
        text = str(error)
    else:
        return ""
    assert text
    assert not set(text) & {"\n", "\r"}, text
    assert len(text) < 12_000
    return text


def paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value below the root."""
    if isinstance(tree, dict):
        pairs: Any = tree.items()
    else:
        pairs = enumerate(tree) if isinstance(tree, list) else ()
    for name, value in pairs:
        yield (*path, name)
        yield from paths(value, (*path, name))


@st.composite
def changed(draw: st.DrawFn, tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with one to three values replaced, removed, added or nested deeper."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        *above, last = draw(st.sampled_from([*paths(tree)] or [("x",)]))
        inner: Any = tree
        for name in above:
            inner = inner[name]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "nest"])):
            case "replace":
                inner[last] = draw(odd_values)
            case "remove" if last in inner or isinstance(inner, list):
                del inner[last]
            case "add" if isinstance(inner, dict):
                inner[draw(st.sampled_from(["x", "", "NaN", "miou", "iou"]))] = draw(odd_values)
            case "nest" if isinstance(inner, list) or last in inner:
                inner[last] = [inner[last]]
    return tree


@st.composite
def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """The bytes of a JSON file cut off, changed, put twice, nested deeply, or with a name that stands twice."""
    place = draw(st.integers(0, max(0, len(text) - 1)))
    match draw(st.sampled_from(["cut", "change", "insert", "twice", "deep", "name", "number", "wide"])):
        case "cut":
            return text[:place]
        case "change":
            return text[:place] + draw(st.binary(min_size=1, max_size=3)) + text[place + 1 :]
        case "insert":
            return (
                text[:place] + draw(st.sampled_from([b"\0", b"\xff\xfe", b"\xc3", b"}", b"NaN", b"-"])) + text[place:]
            )
        case "twice":
            return text + text
        case "deep":
            return b"[" * 100_000
        case "name":
            names = [*json.loads(text)] or ["x"]
            return text.replace(b"{", b'{"%s": 7,' % draw(st.sampled_from(names)).encode(), 1)
        case "number":
            return text.replace(b": 1", b": " + b"9" * 5000)
        case _:
            return text.decode().encode(draw(st.sampled_from(["utf-16", "utf-8-sig", "utf-32"])))
