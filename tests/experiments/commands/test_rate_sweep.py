"""Learning rates chosen before a study, by `table --rates` and `ablate --rates`; the queue is this process."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fake_tasks
import pytest
from command_line import GATED_ATTENTION, assert_usage_error, captured, dataset, ledger
from command_line import run_cli as run_any
from synthetic import without_plots

from bench.launchers.queue import Interrupted, Job, Outcome
from bench.launchers.worker import make_row
from bench.results.store import Store, utc_now

OUT = Path("study/quick-scenes")


def run_jobs(store: Store, jobs: Sequence[Job], **_: Any) -> list[Outcome]:
    """Make the rows of the jobs at once; stop as if told to once $FAKE_LAST runs have been made."""
    for job in jobs:
        if len(ledger()) >= int(os.environ.get("FAKE_LAST", "1000")):
            raise Interrupted("SIGTERM")
        try:
            result = fake_tasks.by_rate(job.spec, Path(), lambda *_: None)
        except fake_tasks.NonFiniteError as error:
            result = {"status": "diverged", "message": str(error)}
        store.write(make_row(job.spec, result, started=utc_now()))
    return []


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.study.run.run_local_jobs", run_jobs)
    without_plots(monkeypatch)
    monkeypatch.setenv("FAKE_BEST_RATE", "0.004")


def run_cli(*words: str) -> int:
    return run_any(*words)


RATES = "0.001,0.002,0.004"


def test_the_stages_of_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEST_RATE", "0.004")
    words = ("table", "8", "--row", "deformable", "--row", "none", "--seeds", "2")
    assert run_cli(*words, "--dry-run") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-3].startswith("12 runs and 0 measures due")
    assert re.fullmatch(r"at least 24 runs, about .*: 20 to choose rates, 4 at the chosen rates", said[-2])
    assert re.fullmatch(r"at most 76 runs, about .*: 72 to choose rates, 4 at the chosen rates", said[-1])
    assert run_cli(*words) == 0
    said = captured(capsys)
    assert "measured on: data scenes:v2, crops of 64 px, 500 steps of 8 images, backbone tiny_conv" in said.out
    assert "Best on the split val: 0.004 for deformable, none; interior for 2 of 2 rows." in said.out
    assert "choosing learning rates: 4 runs more after those so far\n" in said.err, "twice 0.008, for each row"
    assert "choosing learning rates: 8 runs more after those so far\n" in said.err, "two seeds at two rates"
    assert ", scored on the split test, learning rates chosen on the split val\n" in said.out
    grid = "table 8 deformable none rates=0.001,0.002,0.004"
    names = [f"rates {grid} seeds=1000-1003", grid]
    assert [*Store(OUT).experiments()] == names
    tried, final = (Store(OUT).read("run", name).rows for name in names)
    assert (len(tried), len(final)) == (24, 4)
    assert {row["seed"] for row in tried} == {1000, 1001, 1002, 1003}
    assert {row["seed"] for row in final} == {0, 1}
    assert {row["settings"]["evaluation"]["split"] for row in tried} == {"val"}
    assert {row["settings"]["evaluation"]["split"] for row in final} == {"test"}
    assert {row["settings"]["train"]["lr"] for row in final} == {0.004}
    page = (OUT / "report" / "table-8-deformable-none-rates=0.001,0.002,0.004" / "report.md").read_text()
    assert "scored on the split test, learning rates chosen on the split val.\n" in page
    assert "## Accuracy, measured (scenes:v2, split test, 64 px, 500 steps)" in page

    before, listed = ledger(), (OUT / "study.json").read_bytes()
    assert run_cli(*words) == 0
    assert run_cli(*words, "--dry-run") == 0
    assert "0 runs and 0 measures due" in capsys.readouterr().out
    assert ledger() == before, "the same command does nothing again"
    assert (OUT / "study.json").read_bytes() == listed
    assert run_cli(*words, "--steps", "900") == 0
    assert [*Store(OUT).experiments()] == [*names, f"{names[1]} steps=900"], "a longer table shares the choice"


def test_each_stage_of_the_choice_resumes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEST_RATE", "0.004")
    monkeypatch.setenv("FAKE_TOO_HIGH", "0.008")
    words = ("table", "8", "--row", "none", "--rates", "0.002,0.004", "--seeds", "1", "--jobs", "1")
    name = "table 8 none rates=0.002,0.004"
    for done in range(10):  # 2 rates, the one beyond, and further seeds, stopped after every run
        monkeypatch.setenv("FAKE_LAST", str(done + 1))
        assert run_cli(*words) == 130
        assert len(Store(OUT).read("run").rows) == done + 1
        assert run_cli(*words, "--dry-run") == 0
    capsys.readouterr()
    monkeypatch.setenv("FAKE_LAST", "100")
    assert run_cli(*words) == 0
    assert len(ledger()) == len({line.split()[1] for line in ledger()}) == 11, "nothing was done twice"
    tried = Store(OUT).read("run", f"rates {name} seeds=1000-1003").rows
    assert sorted((row["settings"]["train"]["lr"], row["seed"], row["status"]) for row in tried) == [
        *((rate, seed, "ok") for rate in (0.002, 0.004) for seed in (1000, 1001, 1002, 1003)),
        *((0.008, seed, "diverged") for seed in (1000, 1001)),
    ]
    assert [row["settings"]["train"]["lr"] for row in Store(OUT).read("run", name).rows] == [0.004]


def test_shards_share_the_choice_of_rates(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_BEST_RATE", "0.002")
    words = ("table", "8", "--row", "deformable", "--row", "none", "--rates", RATES, "--seeds", "1")
    shards = [(*words, "--shard", f"{index}/2") for index in (1, 2)]
    assert run_cli(*shards[0]) == 0
    said = captured(capsys).text
    assert "the runs at the chosen rates follow once the other shards have tried theirs: by the same command" in said
    assert len(ledger()) == 6
    for index in (1, 0, 1):
        assert run_cli(*shards[index]) == 0
    assert len(ledger()) == len({line.split()[1] for line in ledger()}) == 22
    assert len(Store(OUT).read("run", f"table 8 deformable none rates={RATES}").rows) == 2
    assert "report of table 8" in captured(capsys).text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rates", "0"], "--rates 0: expected numbers above 0 joined by commas"),
        (["--seeds", "1001"], "--seeds 1001: expected at most 1000, later ones choose rates; --rates none trains at"),
        (["--split", "val"], "--split val: rates are chosen on it, so that another is scored; --rates none trains at"),
    ],
    ids=str,
)
def test_what_does_not_go_with_a_choice_of_rates(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in assert_usage_error(capsys, "table", "8", "--row", "none", *words)
    assert list(place.iterdir()) == []


def test_a_report_of_the_table_that_cannot_be_written_is_said_before_rates_are_tried(
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = OUT / "report" / "table-8-none-rates=0.001"
    report.parent.mkdir(parents=True)
    report.write_text("kept", encoding="utf-8")
    line = assert_usage_error(capsys, "table", "8", "--row", "none", "--rates", "0.001")
    assert line == f"--out {report}: {report.absolute()} is a file; expected a folder, name another"
    assert ledger() == []


def test_an_own_attention_is_a_row_of_table_8_at_its_own_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_row.py").write_text(GATED_ATTENTION)
    words = ("table", "8", "--row", "own_row:Gated", "--row", "deformable", "--rates", "1e-3,2e-3", "--seeds", "2")
    assert run_cli(*words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "own_row:Gated lr=0.001: 2 of 2 runs due" in said
    assert "8 runs and 0 measures due" in said
    monkeypatch.setenv("FAKE_BEST_RATE", "0.001")
    assert run_cli(*words) == 0
    name = "table 8 own_row:Gated deformable rates=0.001,0.002"
    assert [*Store(OUT).experiments()] == [f"rates {name} seeds=1000-1003", name]
    rows = {row["variant"]: row for row in Store(OUT).read("run", name).rows}
    assert list(rows) == ["deformable", "own_row:Gated"]
    own, ours = (rows[name]["settings"]["model"] for name in ("own_row:Gated", "deformable"))
    assert (own["encoder_self"], own["decoder_self"]) == ("own_row:Gated", "own_row:Gated")
    changed = {field for field in ours if ours[field] != own[field]}
    assert changed == {"encoder_self", "decoder_self"}, "nothing else differs"
    assert {row["settings"]["evaluation"]["split"] for row in rows.values()} == {"test"}
    assert run_cli(*words) == 0
    assert "4 of 4 runs are there already" in captured(capsys).text
    assert run_cli("report", str(OUT), "--experiment", name) == 0
    pages = [*(OUT / "report").glob("table-8-own_row-Gated*/report.md")]
    assert ["own_row:Gated" in page.read_text() for page in pages] == [True]


def test_an_ablation_chooses_a_rate_for_each_variant(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own_row.py").write_text(GATED_ATTENTION)
    words = ("ablate", "--grid", "encoder_self=deformable,own_row:Gated", "L=1,3", "--rates", "4e-3", "--seeds", "2")
    words = (*words, "--control", "none")
    assert run_cli(*words) == 0
    grid = "ablate encoder_self=deformable,own_row:Gated L=1,3 none rates=0.004"
    assert [*Store(OUT).experiments()] == [f"rates {grid} seeds=1000-1003", grid]
    tried, final = (Store(OUT).read("run", name).rows for name in Store(OUT).experiments())
    assert (len(tried), len(final)) == (50, 10)
    assert {row["settings"]["train"]["lr"] for row in final} == {0.004}
    assert {row["settings"]["evaluation"]["split"] for row in final} == {"test"}
    assert {*final[0]["axes"]} == {"encoder_self", "levels"}, "the rate is no axis of the grid"
    said = capsys.readouterr().out
    assert "Best on the split val: 0.004 for encoder_self=deformable L=1, encoder_self=deformable L=3, " in said
    assert "interior for 5 of 5 rows" in said
    before = ledger()
    assert run_cli(*words) == 0
    assert ledger() == before
    results = (OUT / "results.csv").read_text().splitlines()
    split, rate = (results[0].split(",").index(name) for name in ("split", "lr"))
    assert {(line.split(",")[split], line.split(",")[rate]) for line in results[1:]} >= {
        ("test", "0.004"),
        ("val", "0.008"),
    }


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ("lr=1e-3", "axis lr=0.001: the rates of --rates take its place; --rates none trains at that one"),
        ("split=test", "axis split=test: with --rates one split is scored, named by --split; --rates none "),
    ],
)
def test_axes_that_the_choice_sets_are_refused(
    capsys: pytest.CaptureFixture[str], place: Path, grid: str, message: str
) -> None:
    assert message in assert_usage_error(capsys, "ablate", "--grid", "N=4", grid, "--rates", "1e-3")
    assert list(place.iterdir()) == []
    assert run_cli("ablate", "--grid", grid, "--rates", "none", "--seeds", "1") == 0


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_an_ablation_misses_the_split_that_is_scored_last_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    dataset(tmp_path / "data")
    data = f"folder:{tmp_path / 'data'}?classes=3"
    line = assert_usage_error(capsys, "ablate", "--grid", "N=4", "--data", data, "--rates", "0.001", *more)
    assert line.startswith(f"{tmp_path / 'data'}: split 'test' has neither a folder images/test/ nor a list")
    assert line.endswith("the study is scored on test: --rates none trains at the recipe's rate")
    assert ledger() == []
    assert not Path("study").exists()


def test_a_control_that_no_variant_is_is_said_before_rates_are_tried(capsys: pytest.CaptureFixture[str]) -> None:
    line = assert_usage_error(capsys, "ablate", "--grid", "N=4,16", "--rates", "0.001", "--control", "N=8")
    assert line.startswith("--control N=8: expected N=4, N=16 or none")
    assert ledger() == []


def test_a_retry_does_runs_of_the_choice_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_TOO_HIGH", "0.004")
    words = ("table", "8", "--row", "none", "--rates", RATES, "--seeds", "1")
    assert run_cli(*words) == 0
    name = f"table 8 none rates={RATES}"
    assert [row["settings"]["train"]["lr"] for row in Store(OUT).read("run", name).rows] == [0.002]
    monkeypatch.delenv("FAKE_TOO_HIGH")
    made = len(ledger())
    assert run_cli(*words, "--retry", "diverged") == 0
    assert [row["settings"]["train"]["lr"] for row in Store(OUT).read("run", name).rows] == [0.004]
    assert len(ledger()) == made + 7, "0.004 twice, the one beyond twice, two further seeds at 0.004, and the study's"
