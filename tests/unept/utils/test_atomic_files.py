"""Files that are written whole, also by several processes at once."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from unept.utils.atomic_files import atomic_write


def test_two_that_write_one_file_at_once_each_write_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    contents = [bytes([letter]) * 20_000 for letter in b"abcd"]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(25):
            list(pool.map(lambda content: atomic_write(path, content), contents))
            assert path.read_bytes() in contents
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


def test_who_writes_alone_replaces_what_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    (tmp_path / "last.safetensors.tmp").write_bytes(b"half")
    atomic_write(path, b"whole", alone=True)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"last.safetensors": b"whole"}


def test_the_longest_name_that_a_file_may_have_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    assert atomic_write(path, b"1").read_bytes() == b"1"


def test_a_refused_write_leaves_the_old_file_and_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.html"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="File too large") as refused:
        atomic_write(path, b"new")
    assert refused.value.filename == str(path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"page.html": b"old"}
