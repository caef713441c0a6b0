"""Paths as typed, and as they are printed to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from unept.utils.paths import quoted_path, user_path


def test_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert user_path("~/data") == Path("/somewhere/data")
    assert user_path("data/~x") == Path("data/~x")


@pytest.mark.parametrize("name", ["~nosuchuser", "~nosuchuser/x"])
def test_an_unknown_home_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: no home folder of ~nosuchuser is known here; "):
        user_path(name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a/b.pth", "a/b.pth"),
        ("a b", "'a b'"),
        ("-rf", "./-rf"),
        ("$(id)", "'$(id)'"),
        ("x'); y #", "'x'\"'\"'); y #'"),
    ],
)
def test_quoting(name: str, shown: str) -> None:
    assert quoted_path(Path(name)) == shown
    assert [Path(word) for word in shlex.split(shown)] == [Path(name)]
