"""The environment variables that a worker process is started with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import environment
from bench.launchers.process import worker_environment

HUGE = "glibc.malloc.hugetlb=1"


def variables(tmp_path: Path, kind: str) -> dict[str, str]:
    """Those of a worker for a run or a measure."""
    spec: dict[str, Any] = {"kind": kind, "threads": 2, "backend": "native", "out": str(tmp_path)}
    return worker_environment(spec, gpu=None)


def test_a_run_has_huge_pages_and_a_measure_has_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert variables(tmp_path, "run")["GLIBC_TUNABLES"] == HUGE
    assert "GLIBC_TUNABLES" not in variables(tmp_path, "measure")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("glibc.malloc.arena_max=2", f"glibc.malloc.arena_max=2:{HUGE}"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_user_s_own_tunables_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, expected: str) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", own)
    assert variables(tmp_path, "run")["GLIBC_TUNABLES"] == expected


def test_a_row_says_that_it_had_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    plain = environment.raise_malloc_thresholds()
    monkeypatch.setenv("GLIBC_TUNABLES", HUGE)
    huge = environment.raise_malloc_thresholds()
    assert HUGE not in plain
    if plain != "system default":  # glibc
        assert huge == f"{plain} {HUGE}"
