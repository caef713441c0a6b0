"""`unept-bench table` as a user types it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_line import (
    GATED_ATTENTION,
    MEASURE,
    assert_usage_error,
    captured,
    dataset,
    ledger,
    picture,
    run_cli,
)

from bench.results.store import Store

OUT = Path("study/quick-scenes")


def test_more_seeds_are_added_and_tables_share_cells(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("table", "6", "--seeds", "1") == 0
    assert run_cli("table", "6", "--seeds", "2", "--jobs", "4") == 0
    assert len(ledger()) == 12
    capsys.readouterr()
    assert run_cli("table", "5", "--seeds", "1") == 0
    assert "1 of 5 runs are there already" in captured(capsys).text
    assert [row["variant"] for row in Store(OUT).read("run", "table 5").rows[:3]] == [
        "baseline",
        "+ pyramid features",
        "+ spatial path",
    ]
    assert [*Store(OUT).experiments()] == ["table 6", "table 5"]


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_the_split_that_is_scored_last_is_missed_before_the_first_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    dataset(tmp_path / "data")
    (tmp_path / "data" / "meta.json").write_text('{"classes": 3}', encoding="utf-8")
    words = ("table", "8", "--row", "none", "--seeds", "1", "--data", f"folder:{tmp_path / 'data'}")
    line = assert_usage_error(capsys, *words, "--rates", "0.001,0.002", *more)
    assert line.startswith(f"{tmp_path / 'data'}: split 'test' has neither a folder images/test/ nor a list")
    assert line.endswith("the study is scored on test: --rates none trains at the recipe's rate")
    assert ledger() == []
    assert not Path("study").exists()
    assert run_cli(*words, "--rates", "none", *more) == 0


def test_a_report_that_cannot_be_written_is_said_before_the_first_run(capsys: pytest.CaptureFixture[str]) -> None:
    (OUT / "report").parent.mkdir(parents=True)
    (OUT / "report").write_text("kept", encoding="utf-8")
    line = assert_usage_error(capsys, "table", "8", "--row", "none", "--seeds", "1", "--rates", "none")
    assert line.startswith(f"--out {OUT}/report/table-8-none: ")
    assert line.endswith("report is a file; expected a folder, name another")
    assert ledger() == []


def test_rates_are_chosen_then_the_table_is_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BEST_RATE", "0.002")
    words = ("table", "8", "--row", "none", "--seeds", "1")
    assert run_cli(*words, task="by_rate", measure=MEASURE) == 0
    names = [
        "rates table 8 none rates=0.001,0.002,0.004 seeds=1000-1003",
        "table 8 none rates=0.001,0.002,0.004",
    ]
    assert [*Store(OUT).experiments()] == names
    assert [len(Store(OUT).read("run", name).rows) for name in names] == [10, 1]
    assert len([line for line in ledger() if line.startswith("measure")]) == 1, "candidates are not measured"
    before, listed = ledger(), (OUT / "study.json").read_bytes()
    assert run_cli(*words, task="by_rate", measure=MEASURE) == 0
    assert ledger() == before, "the same command does nothing again"
    assert (OUT / "study.json").read_bytes() == listed
    assert "expected 5, 6, 7 or 8" in assert_usage_error(capsys, "table", "4")
    assert "did you mean 'none'?" in assert_usage_error(capsys, "table", "8", "--row", "nine")


def test_a_folder_that_table_7_writes_last_is_checked_first(capsys: pytest.CaptureFixture[str]) -> None:
    OUT.mkdir(parents=True)
    (OUT / "complexity").write_text("kept", encoding="utf-8")
    line = assert_usage_error(capsys, "table", "7", "--row", "CCNet", "--seeds", "1")
    assert line.startswith(f"--out {OUT}/complexity: ")
    assert line.endswith("complexity is a file; expected a folder, name another")
    assert ledger() == []


def test_fields_of_all_rows_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table", "8", "--row", "none", "--rates", "none", "--seeds", "1", "--set", "size=96", "probes=0")
    assert run_cli(*words) == 0
    assert run_cli(*words[:-3]) == 0
    assert [*Store(OUT).experiments()] == ["table 8 none size=96 probes=0", "table 8 none"]
    row, other = (Store(OUT).read("run", name).rows[0]["settings"] for name in Store(OUT).experiments())
    assert (row["model"]["size"], row["train"]["probes"]) == (96, 0)
    assert (other["model"]["size"], other["train"]["probes"]) == (64, 20)
    capsys.readouterr()
    assert run_cli(*words) == 0
    assert "1 of 1 run are there already" in captured(capsys).text
    assert "use --steps" in assert_usage_error(capsys, *words, "steps=4")


def test_what_cannot_be_a_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own_row.py").write_text(GATED_ATTENTION)
    rows = ("table", "8", "--row")
    assert "did you mean 'Reformer'?" in assert_usage_error(capsys, *rows, "Reformr")
    assert "or module:Class" in assert_usage_error(capsys, *rows, "Reformr")
    said = assert_usage_error(capsys, *rows, "no_such:Gated")
    assert said.startswith("--row no_such:Gated: encoder_self=no_such:Gated: importing no_such failed: ")
    assert "own_row has no torch.nn.Module class Gate" in assert_usage_error(capsys, *rows, "own_row:Gate")
    assert "--row own_row:Gated: expected " in assert_usage_error(capsys, "table", "7", "--row", "own_row:Gated")
    said = assert_usage_error(capsys, *rows, "deformable", "--set", "encoder_self=none")
    assert said == "--set encoder_self=none: deformable sets encoder_self itself, to deformable"
    said = assert_usage_error(capsys, *rows, "none", "--set", "lr=0.1")
    assert said == "--set lr=0.1: the rates of --rates take its place; --rates none trains at that one"


def test_a_dry_run_at_the_papers_size_predicts_gpu_hours(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.profiling.target_cost.count_operations", lambda _: SimpleNamespace(gmacs=100.0))
    monkeypatch.setattr(
        "bench.study.oom_policy.advise_on_memory", lambda *_, **__: SimpleNamespace(warnings=[], misfits={})
    )
    for part in ("training", "validation"):
        picture(place / "ade" / "images" / part / "ADE_00000001.jpg", "RGB")
        picture(place / "ade" / "annotations" / part / "ADE_00000001.png", "L", value=1)
    words = ("table", "6", "--preset", "paper", "--data", "ade20k:ade", "--seeds", "2", "--dry-run")
    assert run_cli(*words, measure=MEASURE) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("N=64 L=3: 100.0 GMACs an image, 43.8 GPU-hours a run, 0.0 of them evaluation")
    assert said[-1].startswith("predicted: 525 GPU-hours for the 12 runs due, if NVIDIA A100, float32 ")
    assert run_cli(*words, "--shard", "2/6", measure=MEASURE) == 0
    assert "predicted: 88 GPU-hours for the 2 runs due" in capsys.readouterr().out
    assert not (place / "study").exists()


def test_table_7_counts_the_published_networks_and_trains_the_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.tables import published_networks

    chosen = published_networks.select_networks
    monkeypatch.setattr(published_networks, "select_networks", lambda size: chosen(size, names=["PointRend"]))
    assert run_cli("table", "7", "--seeds", "1") == 0
    said = capsys.readouterr().out
    assert re.search(r"^PointRend +480x480 +47\.881 +63\.302 +126\.604 +63\.211 +126\.421 +0\.139$", said, re.MULTILINE)
    assert "11 of 11 runs have a row: 11 ok" in said
    assert (OUT / "complexity" / "complexity.csv").exists()
    assert (OUT / "report" / "table-7" / "report.md").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["table", "6", "--shard", "0/2"], "--shard 0/2: expected i/n with 1 <= i <= n, as in 2/8"),
        (["table", "6", "--engine", "rey"], "--engine rey: expected local or ray; did you mean 'ray'?"),
        (["table", "6", "--address", "auto"], "--address auto: only with --engine ray"),
        (["table", "9"], "table 9: expected 5, 6, 7 or 8"),
        (["table", "five"], "five"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in assert_usage_error(capsys, *words)
    assert list(place.iterdir()) == []
    assert ledger() == []
