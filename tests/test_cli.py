"""The command as a user types it, with tasks that take milliseconds in place of training."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from locations import ROOT
from PIL import Image

import bench.environment
import bench.results.store
import cli
from bench.config.settings import Settings
from bench.profiling.memory.tracker import Peak
from bench.results.store import Store
from bench.study.study import WorkerTasks
from unept.ops import Backend

FAKES = ROOT / "tests" / "bench"
GRID = ("ablate", "--grid", "N=4,16", "L=1,3")
OUT = Path("study/quick-scenes")
TRAIN = """data preset profile backbone set steps seed backbone-weights out gpus processes threads backend precision
accumulation channels-last compile checkpointing workers denominators eval-every log-every tensorboard dry-run"""
MEASURE = "fake_tasks:measure"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and workers that find the fake tasks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), str(ROOT)]))
    monkeypatch.setenv("FAKE_LEDGER", str(tmp_path.with_name(f"{tmp_path.name}-ledger")))
    return tmp_path


def ledger() -> list[str]:
    path = Path(os.environ["FAKE_LEDGER"])
    return path.read_text().splitlines() if path.exists() else []


def call(*words: str, task: str = "quick", measure: str = "") -> int:
    return cli.main(words, tasks=WorkerTasks(run=f"fake_tasks:{task}", measure=measure))


def said_to(capsys: pytest.CaptureFixture[str]) -> str:
    """Everything that has been printed: results, then progress."""
    said = capsys.readouterr()
    return said.out + said.err


def refused(capsys: pytest.CaptureFixture[str], *words: str, task: str = "quick", is_started: bool = False) -> str:
    """The one line with which a command line is refused; nothing has been written or run unless `is_started`."""
    capsys.readouterr()
    assert call(*words, task=task) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1 or is_started, said.err
    assert lines[-1].startswith("unept-bench: ")
    assert "Traceback" not in said.err + said.out
    return lines[-1].removeprefix("unept-bench: ")


def test_the_main_job_end_to_end_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*GRID, "--seeds", "2", measure=MEASURE) == 0
    said = said_to(capsys)
    assert re.search(r"^8/8 N=\d+ L=\d seed 1: mIoU \d+\.\d \(\d+ s\)$", said, re.MULTILINE)
    assert "8 runs and 4 measures due in study/quick-scenes, " in said
    assert "8 of 8 runs have a row: 8 ok" in said
    assert len([line for line in ledger() if line.startswith("run")]) == 8
    assert len([line for line in ledger() if line.startswith("measure")]) == 4
    tables = {name: (OUT / name).read_bytes() for name in ("results.csv", "measures.csv", "provenance.csv")}
    assert len(tables["results.csv"].splitlines()) == 9
    assert list((OUT / "report").rglob("*.md"))

    assert call(*GRID, "--seeds", "2", measure=MEASURE) == 0
    said = said_to(capsys)
    assert "8 of 8 runs are there already" in said
    assert len(ledger()) == 12, "nothing was done again"
    assert {name: (OUT / name).read_bytes() for name in tables} == tables


def test_more_seeds_are_added_and_tables_share_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("table", "6", "--seeds", "1") == 0
    assert call("table", "6", "--seeds", "2", "--jobs", "4") == 0
    assert len(ledger()) == 12
    capsys.readouterr()
    assert call("table", "5", "--seeds", "1") == 0
    assert "1 of 5 runs are there already" in said_to(capsys)
    assert [row["variant"] for row in Store(OUT).read("run", "table 5").rows[:3]] == [
        "baseline",
        "+ pyramid features",
        "+ spatial path",
    ]
    assert [*Store(OUT).experiments()] == ["table 6", "table 5"]


def test_dry_run_writes_nothing_and_then_knows_times(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert call(*GRID, "--dry-run", "--jobs", "2", measure=MEASURE) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("N=4 L=1: 5 of 5 runs due (seeds 0 1 2 3 4)")
    assert said[-1].startswith("20 runs and 4 measures due in study/quick-scenes, 2 at a time, 1 thread each: about ")
    assert list(place.iterdir()) == []
    assert call(*GRID, "--seeds", "1") == 0
    capsys.readouterr()
    assert call(*GRID, "--dry-run", "--seeds", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("N=4 L=1: 1 of 2 runs due (seeds 1), about ")
    assert said[-1].startswith("4 runs and 0 measures due in ")
    assert "about" in said[-1]


def test_axes_keep_their_order_however_they_are_given() -> None:
    assert call("ablate", "--grid", "N=4", "heads=1", "--seeds", "1", "--grid=L=1", "width=32") == 0
    assert [*Store(OUT).experiments()] == ["ablate N=4 heads=1 L=1 width=32"]


def test_options_that_change_the_runs_are_another_experiment() -> None:
    for extra in ((), ("--steps", "7"), ("--threads", "2"), ("--split", "test")):
        assert call("ablate", "--grid", "N=4", "--seeds", "1", *extra) == 0
    names = ["ablate N=4", "ablate N=4 steps=7", "ablate N=4 threads=2", "ablate N=4 split=test"]
    assert [*Store(OUT).experiments()] == names
    settings = [row["settings"] for row in Store(OUT).read("run").rows]
    assert len({each["train"]["steps"] for each in settings}) == 2
    assert {each["evaluation"]["split"] for each in settings} == {"val", "test"}


def test_failed_runs_are_rows_and_retry_does_them_again(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MENDED", str(place / "mended"))
    words = ("ablate", "--grid", "N=4", "--seeds", "2")
    assert call(*words, task="failing_until_mended") == 1
    said = capsys.readouterr().out
    assert "2 of 2 runs have a row: 2 failed" in said
    assert "failed: N=4 seed 0, N=4 seed 1: RuntimeError: not mended" in said
    (log,) = re.findall(r"the same command with --retry failed; (logs/\w+\.log) tells more", said)
    assert "Traceback" in (OUT / log).read_text()
    (place / "mended").touch()
    assert call(*words, task="failing_until_mended") == 1, "a failed run is not due"
    assert call(*words, "--retry", "oom, diverged", task="failing_until_mended") == 1
    assert call(*words, "--retry", "failed", task="failing_until_mended") == 0
    assert {row["status"] for row in Store(OUT).read("run").rows} == {"ok"}
    assert len(list((OUT / "runs").glob("*.json.superseded-1"))) == 2


def test_other_ends_are_results_not_errors() -> None:
    assert call("ablate", "--grid", "N=4", "--seeds", "1", task="own_status") == 0
    assert [row["status"] for row in Store(OUT).read("run").rows] == ["skipped"]


def test_a_measure_that_fails_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ablate", "--grid", "N=4", "--seeds", "1", measure="fake_tasks:nothing") == 1
    assert "failed: measures of N=4: AttributeError" in capsys.readouterr().out


def test_a_damaged_row_is_said_and_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "2")
    assert call(*words) == 0
    before = (OUT / "results.csv").read_bytes()
    row = sorted((OUT / "runs").glob("*.json"))[0]
    row.write_bytes(row.read_bytes()[:50])
    capsys.readouterr()
    assert call(*words, "--dry-run") == 0
    assert "due again" in said_to(capsys)
    assert call(*words) == 0
    said = [line for line in said_to(capsys).splitlines() if "set aside" in line]
    assert len(said) == 1
    assert row.name in said[0]
    assert (OUT / "results.csv").read_bytes() == before


def test_a_report_says_which_rows_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ablate", "--grid", "N=4", "--seeds", "2") == 0
    (row, _) = sorted((OUT / "runs").glob("*.json"))
    row.write_text("[" * 100_000)
    capsys.readouterr()
    assert call("report", str(OUT)) == 0
    assert f"left out: {row}: not whole JSON" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [3, {"kind": "ablate"}, {"runs": [3], "measures": []}])
def test_a_study_file_of_another_form_is_damaged(capsys: pytest.CaptureFixture[str], entry: Any) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "1")
    assert call(*words) == 0
    study = json.loads((OUT / "study.json").read_text())
    (OUT / "study.json").write_text(json.dumps(study | {"experiments": {"ablate N=4": entry}}))
    assert "study.json is damaged" in refused(capsys, "report", str(OUT))
    assert call(*words) == 0
    assert "damaged; set aside as study.json.damaged-1" in said_to(capsys)
    assert call("report", str(OUT)) == 0


def test_a_table_that_is_no_text_is_made_again() -> None:
    assert call("ablate", "--grid", "N=4", "--seeds", "1") == 0
    before = (OUT / "results.csv").read_bytes()
    (OUT / "results.csv").write_bytes(b"\xff\xfe")
    assert call("report", str(OUT)) == 0
    assert (OUT / "results.csv").read_bytes() == before


def test_report_again_from_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ablate", "--grid", "N=4", "--seeds", "1") == 0
    for path in [OUT / "results.csv", *(OUT / "report").rglob("*.md")]:
        path.unlink()
    assert call("report", str(OUT)) == 0
    assert (OUT / "results.csv").exists()
    assert list((OUT / "report").rglob("*.md"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ablate", "--grid", "N="], "axis 'N='"),
        (["ablate", "--grid", "N=four"], "N=four: expected a whole number"),
        (["ablate", "--grid", "N=0"], "N=0: expected at least 1"),
        (["ablate", "--grid", "X=1"], "there is no field 'X'"),
        (["ablate", "--grid", "N=4", "levls=1"], "did you mean 'levels'?"),
        (["ablate", "--grid", "N=4", "N=16"], "axis N is given twice"),
        (["ablate", "--grid", "N=4", "--grid", "points=16"], "axis N is given twice"),
        (["ablate", "--grid", f"N={10**23}"], f"N={10**23}: expected at most 1000000000"),
        (["ablate", "--grid", "N=4,", "16"], "axis 'N=4,': a comma without a value beside it"),
        (["ablate", "--grid", "threads=2"], "a study has one value of threads; use --threads"),
        (["ablate", "--grid", "seed=3"], "did you mean 'seeds'?"),
        (["ablate", "--grid", "heads=3"], "heads=3 does not divide width=64"),
        (["ablate", "--grid", "scene_noise=1000"], "scene_noise is 1000: expected at most 255"),
        (["ablate", "N=4,16", "L=1"], "axes follow --grid, as in --grid N=4,16 L=1,3"),
        (["ablate"], "the grid is empty"),
        (["ablate", "--grid", ""], "the grid is empty"),
        (["ablate", "--grid"], "--grid"),
        (["ablate", "N=4"], "N=4"),
        (["ablate", "--grid", "L=4"], "L=4: levels=4, but tiny_conv has 3 levels"),
        (["ablate", "--grid", "queries=spatial", "spatial=false"], "spatial"),
        (["ablate", "--grid", "encoder_self=deformabel"], "deformable"),
        (["ablate", "--grid", "encoder_self=no.such:Thing"], "no.such"),
        (["ablate", "--grid", "encoder_self=longformer", "encoder_self.window=-2"], "window=-2: expected at least 2"),
        (["ablate", "--grid", "encoder_self=longformer", "encoder_self.dilation=1+2+3"], "one for each of 2 heads"),
        (["ablate", "--grid", "encoder_self=reformer", "encoder_self.buckets=7"], "buckets=7: expected an even number"),
        (["ablate", "--grid", "decoder_self=reformer", "decoder_self.hashes=0"], "hashes=0: expected at least 1"),
        (["ablate", "--grid", "encoder_self=reformer", "encoder_self.hashs=2"], "did you mean 'hashes'?"),
        (["ablate", "--grid", "encoder_self=sparse_transformer", "encoder_self.block=0"], "block=0"),
        (["ablate", "--grid", "encoder_self=sparse_transformer", "heads=1"], "split=heads needs 2 heads or more"),
        (["ablate", "--grid", "steps=5", "--steps", "7"], "steps is both an axis and an option (--steps): give one"),
        (["ablate", "--grid", "N=4", "--split", "tset"], "--split tset: expected train, val or test; did you mean"),
        (["ablate", "--grid", "classes=5"], "8 classes, but the model has 5"),
        (
            ["ablate", "--grid", "N=4", "--preset", "quik"],
            "--preset quik: expected quick, small or paper; did you mean",
        ),
        (["ablate", "--grid", "N=4", "--seeds", "0"], "--seeds 0: expected at least 1"),
        (["ablate", "--grid", "N=4", "--seeds", "many"], "many"),
        (["ablate", "--grid", "N=4", "--threads", "0"], "--threads 0: expected at least 1"),
        (["ablate", "--grid", "N=4", "--jobs", "-1"], "--jobs -1: expected at least 0"),
        (["ablate", "--grid", "N=4", "--steps", str(10**12)], "--steps 1000000000000: expected at most 1000000000"),
        (["ablate", "--grid", "N=4", "--retry", ","], "--retry : expected oom"),
        (["ablate", "--grid", "N=4", "--out", "/proc/study"], "/proc/study: "),
        (["ablate", "--grid", "N=4", "--preset", "paper"], "the preset looks there, name another place with --data"),
        (["ablate", "--grid", "N=4", "--retry", "faild"], "--retry faild: expected oom, diverged, unsupported, failed"),
        (["ablate", "--grid", "N=4", "--sedes", "3"], "--seeds"),
        (["ablate", "--grid", "N=4", "--data", "scnes"], "did you mean scenes?"),
        (["ablate", "--grid", "N=4", "--data", "folder:absent"], "absent"),
        (["ablate", "--grid", "N=4", "--backbone-weights", "absent.pth"], "absent.pth"),
        (["ablate", "--grid", "N=4", "--shard", "3/2"], "--shard 3/2: expected i/n with 1 <= i <= n, as in 2/8"),
        (["table", "6", "--shard", "0/2"], "--shard 0/2: expected i/n with 1 <= i <= n, as in 2/8"),
        (["table", "6", "--engine", "rey"], "--engine rey: expected local or ray; did you mean 'ray'?"),
        (["table", "6", "--address", "auto"], "--address auto: only with --engine ray"),
        (["hours", "--tflops", "0"], "--tflops 0.0: expected more than 0"),
        (["hours", "--utilisation", "50"], "--utilisation 50.0: expected more than 0 and at most 1"),
        (["hours", "--seeds", "0"], "--seeds 0: expected at least 1"),
        (["ablte", "--grid", "N=4"], "ablate"),
        (["table", "9"], "table 9: expected 5, 6, 7 or 8"),
        (["table", "five"], "five"),
        (["report", "absent"], "absent: no study here"),
        (["data"], "Missing command"),
        (["data", "verfy"], "verfy"),
        (["data", "verify"], "Missing argument"),
        (["data", "verify", "absent"], "data 'absent': expected scenes, folder:PATH"),
        (["data", "verify", "cityscapes:absent"], "absent: data folder does not exist"),
        (["data", "verify", "cityscape:absent"], "did you mean cityscapes?"),
        (["data", "verify", "scenes"], "there are no files to read"),
        (["data", "verify", "absent", "--jobs", "-1"], "--jobs -1: expected 0 to 256"),
        (["data", "verify", "absent", "--jobs", "257"], "--jobs 257: expected 0 to 256"),
        (["data", "verify", "absent", "--jobs", "two"], "--jobs two: expected a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in refused(capsys, *words)
    assert list(place.iterdir()) == []
    assert ledger() == []


def picture(path: Path, mode: str, side: int = 32, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def dataset(folder: Path) -> None:
    """Two pictures each for training and validation, three classes."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            picture(folder / "images" / split / f"{name}.png", "RGB", value=90)
            picture(folder / "labels" / split / f"{name}.png", "L", value=1)


def _remove_label(folder: Path) -> Path:
    path = folder / "labels" / "val" / "b.png"
    path.unlink()
    return folder / "images" / "val" / "b.png"


def _other_size(folder: Path) -> Path:
    picture(folder / "labels" / "val" / "b.png", "L", side=16)
    return folder / "labels" / "val" / "b.png"


def _outside_the_classes(folder: Path) -> Path:
    picture(folder / "labels" / "val" / "b.png", "L", value=7)
    return folder / "labels" / "val" / "b.png"


def _truncated(folder: Path) -> Path:
    path = folder / "images" / "train" / "b.png"
    path.write_bytes(path.read_bytes()[:40])
    return path


def _no_image(folder: Path) -> Path:
    path = folder / "images" / "train" / "b.png"
    path.write_text("not a picture")
    return path


def _empty(folder: Path) -> Path:
    for path in (folder / "images").rglob("*.png"):
        path.unlink()
    return folder


@pytest.mark.parametrize(
    "damage",
    [_remove_label, _other_size, _outside_the_classes, _truncated, _no_image, _empty],
    ids=lambda damage: damage.__name__,
)
def test_a_bad_data_folder_is_one_line(capsys: pytest.CaptureFixture[str], place: Path, damage: Any) -> None:
    dataset(place / "pictures")
    words = ("ablate", "--grid", "N=4", "--seeds", "1", "--data", "folder:pictures?classes=3")
    named = damage(place / "pictures")
    assert named.stem in refused(capsys, *words)
    assert not (place / "study").exists()


def test_a_data_set_is_verified(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    dataset(place / "pictures")
    words = ("data", "verify", "folder:pictures?classes=3", "--out", "tables")
    assert call(*words) == 1
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert re.fullmatch(r"train +2 +– +32 +32 +1 +0\.00% +1/3", lines[2])
    assert lines[-2:] == ["3 wrong, 2 to note", "tables: tables"]
    assert [line[:9] for line in lines if line.startswith("WRONG")] == ["WRONG tra", "WRONG val", "WRONG tra"]
    assert "train/a.png = pictures/images/train/b.png. To do: keep one of each, with the right label." in said.out
    assert sorted(path.name for path in Path("tables").iterdir()) == ["classes.csv", "findings.csv", "splits.csv"]

    for number, path in enumerate(sorted((place / "pictures" / "images").rglob("*.png"))):
        picture(path, "RGB", value=number)
    assert call(*words[:3]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 wrong, 2 to note"


def test_the_number_of_classes_follows_the_data(place: Path) -> None:
    dataset(place / "pictures")
    assert call("ablate", "--grid", "N=4", "--seeds", "1", "--data", "folder:pictures?classes=3") == 0
    (row,) = Store(Path("study/quick-pictures")).read("run").rows
    assert row["settings"]["model"]["classes"] == 3


def test_another_experiments_folder_is_refused(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    dataset(place / "pictures")
    words = ("ablate", "--grid", "N=4", "--seeds", "1", "--out", "mine")
    assert call(*words) == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    for extra in (("--data", "folder:pictures?classes=3"), ("--data", "folder:pictures?classes=3", "--dry-run")):
        assert "belongs to preset quick, data scenes" in refused(capsys, *words, *extra)
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before


def test_the_home_folder_may_be_written_as_a_tilde(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place / "home"))
    assert call("ablate", "--grid", "N=4", "--seeds", "1", "--out", "~/mine") == 0
    assert (place / "home" / "mine" / "results.csv").exists()


def test_a_module_that_ends_the_program_is_said(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a_script.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(place)
    assert "ended the program" in refused(capsys, "ablate", "--grid", "encoder_self=a_script:Thing")


def test_a_missing_package_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unept.model", None)
    assert "`unept-bench doctor` says what" in refused(capsys, "ablate", "--grid", "N=4")


def test_a_folder_of_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis").mkdir()
    Path("thesis/thesis.tex").write_text("precious")
    assert "thesis.tex" in refused(capsys, "ablate", "--grid", "N=4", "--out", "thesis")
    assert "is a file" in refused(capsys, "ablate", "--grid", "N=4", "--out", "thesis/thesis.tex")
    assert "thesis.tex/x" in refused(capsys, "ablate", "--grid", "N=4", "--out", "thesis/thesis.tex/x")
    assert [path.name for path in Path("thesis").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "not writable"), (errno.EROFS, "not writable"), (errno.ENOSPC, "the disk is full")],
)
def test_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(bench.results.store, "atomic_write", refuse)
    assert words in refused(capsys, "ablate", "--grid", "N=4", "--seeds", "1")


def test_a_step_is_timed_by_its_parts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("step", "quick N=4", "--images", "1", "--rounds", "1", "--threads", "1", "--backends", "reference")
    assert call(*words, "--out", str(tmp_path / "page.md")) == 0
    page = (tmp_path / "page.md").read_text()
    assert "## quick N=4: 1 x 64 px, tiny_conv" in page
    assert page in capsys.readouterr().out
    assert "--rounds 0: expected at least 1" in refused(capsys, "step", "quick", "--rounds", "0")
    assert "--backends fast: expected auto, reference, native, cuda or mmcv" in refused(
        capsys, "step", "quick", "--backends", "fast"
    )
    assert "preset 'quikc'" in refused(capsys, "step", "quikc")


def test_what_is_predicted_not_to_fit_is_warned_of_and_run_or_skipped_if_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def predicted(settings: Settings, *_: object, **__: object) -> Peak:
        return Peak(bytes=settings.model.points << 30, kinds={}, place="")

    monkeypatch.setattr("bench.profiling.memory.predict.predict", predicted)
    monkeypatch.setattr(bench.environment, "available_memory_bytes", lambda: 8 << 30)
    monkeypatch.setattr("bench.profiling.memory.upper_bound.bound", lambda *_: 9 << 30)
    words = ("ablate", "--grid", "N=4,16", "--seeds", "1", "--jobs", "1")
    warned = "warning: N=16: a training step needs 16.0 GiB, predicted; there are 8.0 GiB of memory free here; "
    assert call(*words, "--dry-run") == 0
    assert warned in said_to(capsys)
    assert call(*words, "--out", "all", measure=MEASURE) == 0
    said = said_to(capsys)
    assert f"{warned}it runs all the same; --skip-oom would leave it out\n" in said
    assert "2 of 2 runs have a row: 2 ok" in said
    assert call(*words, "--out", "some", "--skip-oom", measure=MEASURE) == 0
    said = said_to(capsys)
    assert f"{warned}it is skipped\n" in said
    assert "2 of 2 runs have a row: 1 ok, 1 skipped" in said
    assert "skipped: N=16 seed 0, measures of N=16: --skip-oom: a training step needs 16.0 GiB, predicted; " in said
    assert call(*words, "--out", "some", "--retry", "skipped", measure=MEASURE) == 0
    assert "2 of 2 runs have a row: 2 ok" in said_to(capsys)


def test_memory_is_predicted_and_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("memory", "--row", "none, ResNet50", "--size", "64", "--batch", "1", "--out", str(tmp_path))
    assert call(*words) == 0
    said = capsys.readouterr().out
    assert re.search(r"none, ResNet50 +\d\.\d\d +\d\.\d\d  \w+", said)
    page = (tmp_path / "report.md").read_text()
    assert "Live tensors, predicted: a lower bound of what a GPU shows" in page
    assert "Beside the paper" not in page  # not its setting
    assert (tmp_path / "memory.csv").read_text().startswith("row,gib,bounded_gib,")
    took = re.search(r"^Predicting took \d+ s on \d+ cores?(, at most (.*) GiB resident)?, ", page, re.MULTILINE)
    assert took
    assert not took[2] or 0.1 < float(took[2]) < 100
    assert "--row CCNet: expected one of" in refused(capsys, "memory", "--row", "CCNet")
    assert "--batch 0: expected at least 1" in refused(capsys, "memory", "--batch", "0")
    assert "--precision fp8" in refused(capsys, "memory", "--precision", "fp8")


def test_a_disk_that_fills_up_while_running(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "3", "--jobs", "1")
    assert f"{OUT}: the disk is full" in refused(capsys, *words, task="disk_full", is_started=True)
    assert [row["seed"] for row in Store(OUT).read("run").rows] == [0]
    assert call(*words) == 0
    assert [row["seed"] for row in Store(OUT).read("run", "ablate N=4").rows] == [0, 1, 2]


def test_a_backend_is_another_run_and_must_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "1")
    assert call(*words, "--backend", "reference") == 0
    (row,) = Store(OUT).read("run", "ablate N=4 backend=reference").rows
    assert row["backend"] == "reference"
    monkeypatch.setattr("unept.ops.resolve", lambda _, device: Backend("native", f"for the test on {device}"))
    assert call(*words) == 0
    (row,) = Store(OUT).read("run", "ablate N=4").rows
    assert row["backend"] == "native"  # what auto stood for
    monkeypatch.undo()
    assert "--backend fast: expected auto, reference, native, cuda or mmcv" in refused(
        capsys, *words, "--backend", "fast"
    )


def test_control_is_declared_replaced_and_added(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ablate", "--grid", "N=4,16", "--seeds", "2", "--control", "N=4") == 0
    assert Store(OUT).experiments()["ablate N=4,16"]["control"] == "N=4"
    report = OUT / "report" / "ablate-N=4,16" / "report.md"
    assert "\n## Compared with N=4, " in report.read_text()
    assert call("report", str(OUT), "--control", "N=16") == 0
    assert "\n## Compared with N=16, " in report.read_text()
    assert call("ablate", "--grid", "N=4,16", "--seeds", "2", "--control", "none") == 0
    rows = Store(OUT).read("run", "ablate N=4,16 none").rows
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (variant, seed) for seed in range(2) for variant in ("N=4", "N=16", "none")
    ]
    assert len(ledger()) == 6, "the four runs of before are shared"
    said = refused(capsys, "ablate", "--grid", "N=4,16", "--control", "N=8")
    assert said == "--control N=8: expected N=4, N=16 or none; did you mean 'N=4'?"
    said = refused(capsys, "report", str(OUT), "--experiment", "ablate N=4,16", "--control", "none")
    assert said == "--control none: ablate N=4,16 has N=4, N=16"


def test_a_command_ends_with_the_table_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("ablate", "--grid", "N=4,16", "--seeds", "2") == 0
    *_, head, first, second, verdict, how, path = [
        line for line in capsys.readouterr().out.splitlines() if not line.startswith("The exact permutation")
    ]
    assert head.split() == ["variant", "n", "mIoU,", "%", "GMACs", "peak", "RSS,", "GiB"]
    assert (first.split()[:2], second.split()[:2]) == (["N=4", "2"], ["N=16", "2"])
    assert "N=4" in verdict + how
    assert path == (f"report of ablate N=4,16: {OUT / 'report' / 'ablate-N=4,16' / 'report.md'} and report.html")


def test_rates_are_chosen_then_the_table_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table", "8", "--row", "deformable", "--row", "none", "--seeds", "3")
    assert call(*words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "12 runs and 0 measures due" in said
    assert said.endswith("then the table, each row at the learning rate that is chosen from these\n")
    assert call(*words, measure=MEASURE) == 0
    names = [*Store(OUT).experiments()]
    assert names == [
        "rates table 8 deformable none rates=0.001,0.002,0.004",
        "table 8 deformable none rates=0.001,0.002,0.004",
    ]
    tried, final = (Store(OUT).read("run", name).rows for name in names)
    assert (len(tried), len(final)) == (12, 6)
    assert {row["settings"]["evaluation"]["split"] for row in final} == {"test"}
    assert len([line for line in ledger() if line.startswith("measure")]) == 2, "candidates are not measured"
    capsys.readouterr()
    assert call(*words, "--dry-run") == 0
    assert "0 runs and 0 measures due" in capsys.readouterr().out.replace("2 measures", "0 measures")
    assert "expected 5, 6, 7 or 8" in refused(capsys, "table", "4")
    assert "did you mean 'none'?" in refused(capsys, "table", "8", "--row", "nine")
    assert refused(capsys, "table", "5", "--rates", "0").startswith("--rates 0: expected numbers above 0 ")
    assert call(*words, "--steps", "900") == 0
    assert [*Store(OUT).experiments()] == [*names, f"{names[1]} steps=900"], "a longer table shares the choice"


def test_fields_of_all_rows_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table", "8", "--row", "none", "--rates", "none", "--seeds", "1", "--set", "size=96", "probes=0")
    assert call(*words) == 0
    assert call(*words[:-3]) == 0
    assert [*Store(OUT).experiments()] == ["table 8 none size=96 probes=0", "table 8 none"]
    row, other = (Store(OUT).read("run", name).rows[0]["settings"] for name in Store(OUT).experiments())
    assert (row["model"]["size"], row["train"]["probes"]) == (96, 0)
    assert (other["model"]["size"], other["train"]["probes"]) == (64, 20)
    capsys.readouterr()
    assert call(*words) == 0
    assert "1 of 1 run are there already" in said_to(capsys)
    assert "use --steps" in refused(capsys, *words, "steps=4")


def test_two_folders_are_read_together(capsys: pytest.CaptureFixture[str]) -> None:
    for place, seeds in (("a", "1"), ("b", "3")):
        assert call("ablate", "--grid", "N=4,16", "--seeds", seeds, "--out", place) == 0
    assert call("report", "a", "b") == 0
    assert "| N=4 | 3 |" in (Path("a") / "report" / "ablate-N=4,16" / "report.md").read_text()
    assert "6 runs of 2 variants: 6 ok" in (Path("a") / "report" / "ablate-N=4,16" / "report.md").read_text()
    assert "nowhere: no study here" in refused(capsys, "report", "a", "nowhere")


def test_power(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("power", "--difference", "1", "--sd", "1") == 0
    assert capsys.readouterr().out.startswith("17 seeds a variant show a difference of 1 point with 80 % probability")
    assert call("ablate", "--grid", "N=4,16", "--seeds", "2") == 0
    capsys.readouterr()
    assert call("power", str(OUT), "--difference", "5") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ablate N=4,16:"
    assert said[1].startswith("  Differences of 5 points of mIoU from N=4,")
    for words in (("power",), ("power", str(OUT), "--sd", "1")):
        assert "expected --sd, or the folder of a study" in refused(capsys, *words)
    assert refused(capsys, "power", "--sd", "-1") == "sd -1.0: expected a standard deviation of 0 or more"
    assert "difference 0.0" in refused(capsys, "power", "--sd", "1", "--difference", "0")


@pytest.mark.parametrize("words", [("memory",), ("scaling",), ("complexity",), ("hours",)], ids=" ".join)
def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    assert refused(capsys, *words, "--out", str(file)) == f"{file}: File exists; name another folder with --out"
    assert file.read_text(encoding="utf-8") == "kept"


def test_how_a_layer_grows_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.attention_layer import scaling

    tiny = scaling.Effort(
        base=scaling.Size(side=4, points=2), side=(4, 6), points=(2,), levels=(1,), batch=(1,), rounds=1
    )
    monkeypatch.setattr(scaling, "QUICK", tiny)
    assert call("scaling", "--quick", "--out", str(tmp_path / "scaling")) == 0
    said = capsys.readouterr()
    assert "deformable" in said.out
    assert said.err.splitlines()[0] == "predicting along side"
    names = {path.name for path in (tmp_path / "scaling").iterdir()}
    assert {"report.md", "report.html", "scaling.csv", "exponents.csv", "scaling-time.png"} < names
    assert call("memory", "--scale", "--quick", "--out", str(tmp_path / "older")) == 0
    older = capsys.readouterr()
    assert older.err.splitlines()[0] == "unept-bench: memory --scale is now a verb of its own: unept-bench scaling"
    assert {path.name for path in (tmp_path / "older").iterdir()} == names
    for words in (["--row", "SETR"], ["--batch", "4"], ["--verify"]):
        assert "--scale goes with --quick and --out alone" in refused(capsys, "memory", "--scale", *words)
    assert "--quick goes with --scale" in refused(capsys, "memory", "--quick")


def test_help_version_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unept-bench ")
    assert cli.main([]) == 0
    assert "ablate" in capsys.readouterr().out
    assert cli.main(["ablate", "--help"]) == 0
    assert "--dry-run" in capsys.readouterr().out
    assert cli.main(["doctor"]) == 0
    assert "attention backends:" in capsys.readouterr().out


def test_the_options_are_these() -> None:
    """A change of the command line is a decision, not an accident."""
    shared = {"seeds", "preset", "data", "steps", "backbone-weights", "out", "jobs", "threads", "retry", "dry-run"}
    shared |= {"control", "backend", "split", "engine", "address", "shard", "skip-oom"}
    protocol = {f"--{name}" for name in ("mode", "window", "stride", "scales", "flip", "base", "device")}
    protocol |= {"--own-modules", "--out"}
    commands = dict(cli.typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    commands |= {f"data {name}": command for name, command in commands.pop("data").commands.items()}
    found = {name: {opt for p in command.params for opt in p.opts} for name, command in commands.items()}
    assert found == {
        "ablate": {f"--{name}" for name in shared | {"grid"}},
        "table": {f"--{name}" for name in shared | {"row", "rates", "set"}} | {"number"},
        "train": {f"--{name}" for name in TRAIN.split()},
        "complexity": {f"--{name}" for name in ("size", "model", "network", "time", "batch", "rounds", "out")},
        "report": {"folders", "--experiment", "--control", "--no-pictures"},
        "power": {"folder", "--difference", "--sd", "--comparisons", "--experiment", "--control"},
        "kernels": {"--out", "--threads", "--repeats", "--shapes", "--quick"},
        "attention": {f"--{name}" for name in ("only", "out", "threads", "repeats", "malloc", "quick")},
        "step": {"cases"} | {f"--{name}" for name in ("backends", "images", "rounds", "threads", "out")},
        "memory": {f"--{name}" for name in ("row", "batch", "size", "precision", "optimizer", "out")}
        | {"--checkpointing", "--verify", "--scale", "--quick"},
        "scaling": {"--quick", "--out"},
        "check": {"name", "--set", "--slot"},
        "data verify": {"spec", "--jobs", "--out"},
        "hours": {"--tflops", "--utilisation", "--card", "--seeds", "--out"},
        "convert": {"released", "--out", "--heads"},
        "evaluate": {"checkpoints"}
        | protocol
        | {f"--{name}" for name in ("data", "split", "images", "results")}
        | {f"--{name}" for name in ("processes", "gpus", "threads")},
        "predict": {"path", "--checkpoint"} | protocol,
        "doctor": set(),
    }


def test_version_without_installation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", absent)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "unept-bench (not installed)\n"


def test_the_shard_that_ends_last_writes_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*GRID, "--seeds", "2", "--shard", "2/2", "--dry-run", measure=MEASURE) == 0
    said = capsys.readouterr().out
    assert "4 runs and 0 measures of shard 2/2 due in study/quick-scenes, " in said
    assert [line.partition(" due")[0] for line in said.splitlines()[:2]] == [
        "N=4 L=3: 2 of 2 runs",
        "N=16 L=3: 2 of 2 runs",
    ]

    assert call(*GRID, "--seeds", "2", "--shard", "2/2", measure=MEASURE) == 0
    said = capsys.readouterr().out
    assert "4 of 4 runs have a row: 4 ok" in said
    assert "shard 2/2 is done; 4 runs and 4 measures of the experiment have no row yet" in said
    assert not (OUT / "report").exists()

    assert call(*GRID, "--seeds", "2", "--shard", "1/2", measure=MEASURE) == 0
    assert "report of ablate N=4,16 L=1,3: " in capsys.readouterr().out
    assert len(ledger()) == 8 + 4
    assert call(*GRID, "--seeds", "2", "--shard", "2/2", measure=MEASURE) == 0
    assert "report of ablate N=4,16 L=1,3: " in capsys.readouterr().out
    assert len(ledger()) == 8 + 4


def test_where_ray_is_absent_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    line = refused(capsys, *GRID, "--engine", "ray")
    assert line == "--engine ray: Ray is not installed; pip install 'ray>=2.40,<3'"
    assert '\nray = ["ray>=2.40,<3"]\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_a_dry_run_at_the_papers_size_predicts_gpu_hours(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.profiling.variant.count_operations", lambda _: SimpleNamespace(gmacs=100.0))
    monkeypatch.setattr(
        "bench.study.oom_policy.advise_on_memory", lambda *_, **__: SimpleNamespace(warnings=[], misfits={})
    )
    for part in ("training", "validation"):
        picture(place / "ade" / "images" / part / "ADE_00000001.jpg", "RGB")
        picture(place / "ade" / "annotations" / part / "ADE_00000001.png", "L", value=1)
    words = ("table", "6", "--preset", "paper", "--data", "ade20k:ade", "--seeds", "2", "--dry-run")
    assert call(*words, measure=MEASURE) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("N=64 L=3: 100.0 GMACs an image, 43.8 GPU-hours a run, 0.0 of them evaluation")
    assert said[-1].startswith("predicted: 525 GPU-hours for the 12 runs due, if NVIDIA A100, float32 ")
    assert call(*words, "--shard", "2/6", measure=MEASURE) == 0
    assert "predicted: 88 GPU-hours for the 2 runs due" in capsys.readouterr().out
    assert not (place / "study").exists()


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does() -> None:
    program = (
        "import sys, cli; from bench.study.study import WorkerTasks\n"
        "sys.exit(cli.main(tasks=WorkerTasks(run='fake_tasks:' + sys.argv.pop(), measure='')))"
    )
    study = ("ablate", "--grid", "N=4,16", "--seeds", "1", "--backend", "reference")  # no word of a missing compiler
    command = [sys.executable, "-c", program, *study, "--jobs", "2"]
    process = subprocess.Popen([*command, "slow"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(ledger()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    *_, last = said.splitlines()
    assert last == "unept-bench: stopped by signal 2 (SIGINT); 0 of 2 runs are done, the same command continues"
    assert Store(OUT).read("run").rows == ()
    assert call(*study) == 0
    assert [row["status"] for row in Store(OUT).read("run", "ablate N=4,16 backend=reference").rows] == ["ok", "ok"]


def test_table_7_counts_the_published_networks_and_trains_the_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.tables import published_networks

    chosen = published_networks.chosen
    monkeypatch.setattr(published_networks, "chosen", lambda size: chosen(size, names=["PointRend"]))
    assert call("table", "7", "--seeds", "1") == 0
    said = capsys.readouterr().out
    assert re.search(r"^PointRend +480x480 +47\.881 +63\.302 +126\.604 +63\.211 +126\.421$", said, re.MULTILINE)
    assert "11 of 11 runs have a row: 11 ok" in said
    assert (OUT / "complexity" / "complexity.csv").exists()
    assert (OUT / "report" / "table-7" / "report.md").exists()


def test_complexity_of_any_model(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "own_net.py").write_text("import torch\n\ndef make():\n    return torch.nn.Conv2d(3, 4, 1)\n")
    words = ("complexity", "--model", "own_net:make", "--size", "32x64", "--out", "counts")
    assert call(*words, "--time", "--rounds", "1", "--batch", "2") == 0
    said = capsys.readouterr().out
    assert re.search(r"^own_net:make +32x64 +0\.000 ", said, re.MULTILINE)
    assert "report: counts/report.md and report.html" in said
    page = (place / "counts/report.md").read_text()
    assert "quartiles) of 1 rounds" in page
    assert "batch 2, 32x64 pixels" in page
    assert "Command: `unept-bench complexity --model own_net:make --size 32x64" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "7"], "--size 7: expected 16 to 16384 pixels a side"),
        (["--model", "resnet101"], "--model resnet101: expected timm:NAME or module:callable, as in timm:resnet101"),
        (
            ["--model", "absent_module:x"],
            "--model absent_module:x: importing absent_module failed: ModuleNotFoundError",
        ),
        (["--model", "timm:resnet1O1"], "--model timm:resnet1O1: timm has no model 'resnet1O1' (nearest: resnet1"),
        (["--network", "CCNets"], "--network CCNets: expected one of PSANet; UperNet; "),
        (["--model", "timm:resnet18", "--network", "CCNet"], "--model and --network: give one of them"),
        (["--batch", "0"], "--batch 0: expected at least 1"),
    ],
)
def test_what_complexity_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "complexity", *words).startswith(message)
    assert not Path("study").exists()
