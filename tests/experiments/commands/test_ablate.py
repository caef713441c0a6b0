"""`unept-bench ablate` as a user types it."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import (
    MEASURE,
    assert_usage_error,
    captured,
    dataset,
    ledger,
    picture,
    run_cli,
)
from locations import ROOT

import bench.environment
import bench.results.store
from bench import user_code
from bench.config.settings import Settings
from bench.profiling.memory.tracker import PeakMemory
from bench.results.store import Store
from unept.ops import Backend

GRID = ("ablate", "--grid", "N=4,16", "L=1,3")
OUT = Path("study/quick-scenes")


def test_the_main_job_end_to_end_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(*GRID, "--seeds", "2", measure=MEASURE) == 0
    said = captured(capsys).text
    assert re.search(r"^8/8 N=\d+ L=\d seed [01]: mIoU \d+\.\d \(\d+ s\)$", said, re.MULTILINE)
    assert "8 runs and 4 measures due in study/quick-scenes, " in said
    assert "8 of 8 runs have a row: 8 ok" in said
    assert len([line for line in ledger() if line.startswith("run")]) == 8
    assert len([line for line in ledger() if line.startswith("measure")]) == 4
    tables = {name: (OUT / name).read_bytes() for name in ("results.csv", "measures.csv", "provenance.csv")}
    assert len(tables["results.csv"].splitlines()) == 9
    assert list((OUT / "report").rglob("*.md"))

    assert run_cli(*GRID, "--seeds", "2", measure=MEASURE) == 0
    said = captured(capsys).text
    assert "8 of 8 runs are there already" in said
    assert len(ledger()) == 12, "nothing was done again"
    assert {name: (OUT / name).read_bytes() for name in tables} == tables


def test_dry_run_writes_nothing_and_then_knows_times(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert run_cli(*GRID, "--dry-run", "--jobs", "2", measure=MEASURE) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("N=4 L=1: 5 of 5 runs due (seeds 0 1 2 3 4)")
    assert said[-1].startswith("20 runs and 4 measures due in study/quick-scenes, 2 at a time, 1 thread each: about ")
    assert list(place.iterdir()) == []
    assert run_cli(*GRID, "--seeds", "1") == 0
    capsys.readouterr()
    assert run_cli(*GRID, "--dry-run", "--seeds", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("N=4 L=1: 1 of 2 runs due (seeds 1), about ")
    assert said[-1].startswith("4 runs and 0 measures due in ")
    assert "about" in said[-1]


def test_axes_keep_their_order_however_they_are_given() -> None:
    assert run_cli("ablate", "--grid", "N=4", "heads=1", "--seeds", "1", "--grid=L=1", "width=32") == 0
    assert [*Store(OUT).experiments()] == ["ablate N=4 heads=1 L=1 width=32"]


def test_options_that_change_the_runs_are_another_experiment() -> None:
    for extra in ((), ("--steps", "7"), ("--threads", "2"), ("--split", "test")):
        assert run_cli("ablate", "--grid", "N=4", "--seeds", "1", *extra) == 0
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
    assert run_cli(*words, task="failing_until_mended") == 1
    said = capsys.readouterr().out
    assert "2 of 2 runs have a row: 2 failed" in said
    assert "failed: N=4 seed 0, N=4 seed 1: RuntimeError: not mended" in said
    (log,) = re.findall(r"the same command with --retry failed; (logs/\w+\.log) tells more", said)
    assert "Traceback" in (OUT / log).read_text()
    (place / "mended").touch()
    assert run_cli(*words, task="failing_until_mended") == 1, "a failed run is not due"
    assert run_cli(*words, "--retry", "oom, diverged", task="failing_until_mended") == 1
    assert run_cli(*words, "--retry", "failed", task="failing_until_mended") == 0
    assert {row["status"] for row in Store(OUT).read("run").rows} == {"ok"}
    assert len(list((OUT / "runs").glob("*.json.superseded-1"))) == 2


def test_other_ends_are_results_not_errors() -> None:
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "1", task="own_status") == 0
    assert [row["status"] for row in Store(OUT).read("run").rows] == ["skipped"]


def test_a_measure_that_fails_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "1", measure="fake_tasks:nothing") == 1
    assert "failed: measures of N=4: AttributeError" in capsys.readouterr().out


def test_a_damaged_row_is_said_and_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "2")
    assert run_cli(*words) == 0
    before = (OUT / "results.csv").read_bytes()
    row = sorted((OUT / "runs").glob("*.json"))[0]
    row.write_bytes(row.read_bytes()[:50])
    capsys.readouterr()
    assert run_cli(*words, "--dry-run") == 0
    assert "due again" in captured(capsys).text
    assert run_cli(*words) == 0
    said = [line for line in captured(capsys).text.splitlines() if "set aside" in line]
    assert len(said) == 1
    assert row.name in said[0]
    assert (OUT / "results.csv").read_bytes() == before


def test_the_number_of_classes_follows_the_data(place: Path) -> None:
    dataset(place / "pictures")
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "1", "--data", "folder:pictures?classes=3") == 0
    (row,) = Store(Path("study/quick-pictures")).read("run").rows
    assert row["settings"]["model"]["classes"] == 3


def test_another_experiments_folder_is_refused(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    dataset(place / "pictures")
    words = ("ablate", "--grid", "N=4", "--seeds", "1", "--out", "mine")
    assert run_cli(*words) == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    for extra in (("--data", "folder:pictures?classes=3"), ("--data", "folder:pictures?classes=3", "--dry-run")):
        assert "belongs to preset quick, data scenes" in assert_usage_error(capsys, *words, *extra)
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before


def test_the_home_folder_may_be_written_as_a_tilde(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place / "home"))
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "1", "--out", "~/mine") == 0
    assert (place / "home" / "mine" / "results.csv").exists()


def test_a_module_that_ends_the_program_is_said(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "a_script.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(place)
    said = assert_usage_error(capsys, "ablate", "--grid", "encoder_self=a_script:Thing")
    assert said == "encoder_self=a_script:Thing: importing a_script failed: it ended the program (SystemExit: 3)"


@pytest.mark.parametrize("words", [("ablate", "--grid", "encoder_self=leaving:Own,none"), ("check", "leaving:Own")])
def test_a_module_that_ends_its_process_ends_no_command(
    capfd: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.delenv(user_code.VARIABLE)
    (place / "leaving.py").write_text("import os\nos.chdir('/')\nos._exit(0)\n")
    assert run_cli(*words) == 2
    assert captured(capfd).err.splitlines()[-1].endswith(":Own: importing leaving ended its process (exit status 0)")
    assert Path.cwd() == place


def test_a_missing_package_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unept.model", None)
    assert "`unept-bench doctor` says what" in assert_usage_error(capsys, "ablate", "--grid", "N=4")


def test_a_folder_of_something_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis").mkdir()
    Path("thesis/thesis.tex").write_text("precious")
    assert "thesis.tex" in assert_usage_error(capsys, "ablate", "--grid", "N=4", "--out", "thesis")
    assert "is a file" in assert_usage_error(capsys, "ablate", "--grid", "N=4", "--out", "thesis/thesis.tex")
    assert "thesis.tex/x" in assert_usage_error(capsys, "ablate", "--grid", "N=4", "--out", "thesis/thesis.tex/x")
    assert [path.name for path in Path("thesis").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "not writable"), (errno.EROFS, "not writable"), (errno.ENOSPC, "the disk is full")],
)
def test_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refuse(path: Path, data: bytes, *, alone: bool = False) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(bench.results.store, "atomic_write", refuse)
    assert words in assert_usage_error(capsys, "ablate", "--grid", "N=4", "--seeds", "1")


def test_what_is_predicted_not_to_fit_is_warned_of_and_run_or_skipped_if_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def predicted(settings: Settings, *_: object, **__: object) -> PeakMemory:
        return PeakMemory(bytes=settings.model.points << 30, kinds={}, location="")

    monkeypatch.setattr("bench.profiling.memory.predict.predict_peak", predicted)
    monkeypatch.setattr(bench.environment, "available_memory_bytes", lambda: 8 << 30)
    monkeypatch.setattr("bench.profiling.memory.upper_bound.step_upper_bound", lambda *_: 9 << 30)
    words = ("ablate", "--grid", "N=4,16", "--seeds", "1", "--jobs", "1")
    warned = "warning: N=16: a training step needs 16.0 GiB, predicted; there are 8.0 GiB of memory free here; "
    assert run_cli(*words, "--dry-run") == 0
    assert warned in captured(capsys).text
    assert run_cli(*words, "--out", "all", measure=MEASURE) == 0
    said = captured(capsys).text
    assert f"{warned}it runs all the same; --skip-oom would leave it out\n" in said
    assert "2 of 2 runs have a row: 2 ok" in said
    assert run_cli(*words, "--out", "some", "--skip-oom", measure=MEASURE) == 0
    said = captured(capsys).text
    assert f"{warned}it is skipped\n" in said
    assert "2 of 2 runs have a row: 1 ok, 1 skipped" in said
    assert "skipped: N=16 seed 0, measures of N=16: --skip-oom: a training step needs 16.0 GiB, predicted; " in said
    assert run_cli(*words, "--out", "some", "--retry", "skipped", measure=MEASURE) == 0
    assert "2 of 2 runs have a row: 2 ok" in captured(capsys).text


def test_a_disk_that_fills_up_while_running(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "3", "--jobs", "1")
    assert f"{OUT}: the disk is full" in assert_usage_error(capsys, *words, task="disk_full", is_started=True)
    assert [row["seed"] for row in Store(OUT).read("run").rows] == [0]
    assert run_cli(*words) == 0
    assert [row["seed"] for row in Store(OUT).read("run", "ablate N=4").rows] == [0, 1, 2]


def test_a_backend_is_another_run_and_must_exist(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "1")
    assert run_cli(*words, "--backend", "reference") == 0
    (row,) = Store(OUT).read("run", "ablate N=4 backend=reference").rows
    assert row["backend"] == "reference"
    monkeypatch.setattr("unept.ops.resolve", lambda _, device: Backend("native", f"for the test on {device}"))
    assert run_cli(*words) == 0
    (row,) = Store(OUT).read("run", "ablate N=4").rows
    assert row["backend"] == "native"  # what auto stood for
    monkeypatch.undo()
    assert "--backend fast: expected auto, reference, native" in assert_usage_error(capsys, *words, "--backend", "fast")


def test_control_is_declared_replaced_and_added(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("ablate", "--grid", "N=4,16", "--seeds", "2", "--control", "N=4") == 0
    assert Store(OUT).experiments()["ablate N=4,16"]["control"] == "N=4"
    report = OUT / "report" / "ablate-N=4,16" / "report.md"
    assert "\n## Compared with N=4, " in report.read_text()
    assert run_cli("report", str(OUT), "--control", "N=16") == 0
    assert "\n## Compared with N=16, " in report.read_text()
    assert run_cli("ablate", "--grid", "N=4,16", "--seeds", "2", "--control", "none") == 0
    rows = Store(OUT).read("run", "ablate N=4,16 none").rows
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (variant, seed) for seed in range(2) for variant in ("N=4", "N=16", "none")
    ]
    assert len(ledger()) == 6, "the four runs of before are shared"
    said = assert_usage_error(capsys, "ablate", "--grid", "N=4,16", "--control", "N=8")
    assert said == "--control N=8: expected N=4, N=16 or none; did you mean 'N=4'?"
    said = assert_usage_error(capsys, "report", str(OUT), "--experiment", "ablate N=4,16", "--control", "none")
    assert said == "--control none: ablate N=4,16 has N=4, N=16"


def test_a_command_ends_with_the_table_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("ablate", "--grid", "N=4,16", "--seeds", "2") == 0
    *_, head, first, second, verdict, how, path = [
        line for line in capsys.readouterr().out.splitlines() if not line.startswith("The exact permutation")
    ]
    assert head.split()[:5] == ["variant", "n", "mIoU,", "%", "GMACs"]
    assert head.endswith("memory, GiB  at the target size")
    assert (first.split()[:2], second.split()[:2]) == (["N=4", "2"], ["N=16", "2"])
    assert "N=4" in verdict + how
    assert path == (f"report of ablate N=4,16: {OUT / 'report' / 'ablate-N=4,16' / 'report.md'} and report.html")


def test_the_shard_that_ends_last_writes_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(*GRID, "--seeds", "2", "--shard", "2/2", "--dry-run", measure=MEASURE) == 0
    said = capsys.readouterr().out
    assert "4 runs and 0 measures of shard 2/2 due in study/quick-scenes, " in said
    assert [line.partition(" due")[0] for line in said.splitlines()[:2]] == [
        "N=4 L=3: 2 of 2 runs",
        "N=16 L=3: 2 of 2 runs",
    ]

    assert run_cli(*GRID, "--seeds", "2", "--shard", "2/2", measure=MEASURE) == 0
    said = capsys.readouterr().out
    assert "4 of 4 runs have a row: 4 ok" in said
    assert "shard 2/2 is done; 4 runs and 4 measures of the experiment have no row yet" in said
    assert not (OUT / "report").exists()

    assert run_cli(*GRID, "--seeds", "2", "--shard", "1/2", measure=MEASURE) == 0
    assert "report of ablate N=4,16 L=1,3: " in capsys.readouterr().out
    assert len(ledger()) == 8 + 4
    assert run_cli(*GRID, "--seeds", "2", "--shard", "2/2", measure=MEASURE) == 0
    assert "report of ablate N=4,16 L=1,3: " in capsys.readouterr().out
    assert len(ledger()) == 8 + 4


def test_where_ray_is_absent_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    line = assert_usage_error(capsys, *GRID, "--engine", "ray")
    assert line == "--engine ray: Ray is not installed; pip install 'ray>=2.40,<3'"
    assert '\nray = ["ray>=2.40,<3"]\n' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


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
    assert run_cli(*study) == 0
    assert [row["status"] for row in Store(OUT).read("run", "ablate N=4,16 backend=reference").rows] == ["ok", "ok"]


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
    assert named.stem in assert_usage_error(capsys, *words)
    assert not (place / "study").exists()


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
        (["ablate", "--grid", "encoder_self=longformer", "encoder_self.dilation=1+2+3"], "one for each of 8 heads"),
        (["ablate", "--grid", "encoder_self=reformer", "encoder_self.buckets=7"], "buckets=7: expected an even number"),
        (["ablate", "--grid", "decoder_self=reformer", "decoder_self.hashes=0"], "hashes=0: expected at least 1"),
        (["ablate", "--grid", "encoder_self=reformer", "encoder_self.hashs=2"], "did you mean 'hashes'?"),
        (["ablate", "--grid", "encoder_self=sparse_transformer", "encoder_self.block=0"], "block=0"),
        (["ablate", "--grid", "encoder_self=sparse_transformer", "heads=1"], "split=heads needs 2 heads or more"),
        (["ablate", "--grid", "steps=5", "--steps", "7"], "steps is both an axis and an option (--steps): give one"),
        (["ablate", "--grid", "N=4", "--split", "tset"], "--split tset: expected train, val or test; did you mean"),
        (["ablate", "--grid", "classes=5"], "7 classes, but the model has 5"),
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
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in assert_usage_error(capsys, *words)
    assert list(place.iterdir()) == []
    assert ledger() == []


def test_runs_that_are_missing_are_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("ablate", "--grid", "N=4,16", "--seeds", "1")
    assert run_cli(*words, task="told_to_stop") == 1
    last = captured(capsys).err.splitlines()[-1]
    assert last == "unept-bench: 2 runs ended from outside, without a row: the same command continues"
    assert run_cli(*words) == 0


def test_learning_rates_are_not_chosen_while_runs_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table", "8", "--row", "none", "--rates", "0.001", "--seeds", "1", "--steps", "10")
    assert run_cli(*words, task="told_to_stop") == 1
    said = captured(capsys)
    assert said.err.splitlines()[-1].startswith("unept-bench: 2 runs ended from outside")
    assert "other shards" not in said.text
