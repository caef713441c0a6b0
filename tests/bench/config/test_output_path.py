"""Where a command writes is checked before it starts, and nothing is made by the check."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from bench.config import output_path
from bench.config.option_fields import check_options
from bench.config.output_path import check_output
from bench.evaluation.options import EvaluationRequest
from bench.study.options import StudyRequest
from bench.training.options import TrainOptions


@pytest.mark.parametrize("name", ["new", "new/deep/er", ".", "été \u4fe1", "a" * 255, "x\u3000y"])
def test_what_can_be_written_passes_and_is_not_made(tmp_path: Path, name: str) -> None:
    check_output(tmp_path / name, "--out")
    check_output(tmp_path / name / "page.md", "--out", is_file=True)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad\udcff", r"bad\\xff: a name that is not UTF-8"),
        ("nul\0", "a name with a zero byte"),
        ("a" * 256, "a name of 256 bytes; the file system takes 255"),
        ("é" * 128, "a name of 256 bytes"),
        ("new/" + "a" * 256 + "/more", "a name of 256 bytes"),
        ("/".join(["a" * 200] * 20), "a path of .* bytes is too long"),
        ("file", "file is a file; expected a folder"),
        ("file/below/it", "file is a file; expected a folder"),
        ("link", "link is a file; expected a folder"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(ValueError, match=f"^--out .*{message}") as refusal:
        check_output(tmp_path / name, "--out")
    assert "\n" not in str(refusal.value)
    str(refusal.value).encode("utf-8")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_file_needs_room_for_its_temporary_name_and_no_folder_in_its_place(tmp_path: Path) -> None:
    check_output(tmp_path / ("a" * 251), "--out", is_file=True)
    with pytest.raises(ValueError, match="a name of 252 bytes"):
        check_output(tmp_path / ("a" * 252), "--out", is_file=True)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder: a folder; expected a file"):
        check_output(tmp_path / "folder", "--out", is_file=True)


def test_a_folder_that_is_not_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_path.os, "access", lambda path, mode: path != tmp_path or not mode & os.W_OK)
    with pytest.raises(ValueError, match=f"^--out {tmp_path}/new: {tmp_path} is not writable; name another folder$"):
        check_output(tmp_path / "new", "--out")


def test_a_limit_of_file_sizes_that_a_report_would_exceed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (resource.RLIM_INFINITY, 8 << 20):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, resource.RLIM_INFINITY))
        check_output(tmp_path / "new", "--out")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100 << 10, resource.RLIM_INFINITY))
    with pytest.raises(
        ValueError, match=r"^--out .*new: a file of this process may have 102,400 bytes at most \(ulimit"
    ):
        check_output(tmp_path / "new", "--out")


def test_options_that_write_are_checked_with_the_others(tmp_path: Path) -> None:
    bad = tmp_path / "bad\udcff"
    for options in (
        StudyRequest(out=bad),
        TrainOptions(out=bad),
        EvaluationRequest(checkpoints=(Path("m"),), data="scenes", out=bad),
        EvaluationRequest(checkpoints=(Path("m"),), data="cityscapes:x", results=bad),
    ):
        with pytest.raises(ValueError, match=r"^--(out|results) .*not UTF-8"):
            check_options(options)
    check_options(StudyRequest())  # the default is known later
