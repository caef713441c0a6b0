"""A study's runs are due, listed and said to be missing as they should be, whatever was asked for before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import command_line
import pytest
from command_line import picture

from bench.config.grid import expand_axes, parse_axes
from bench.config.presets import preset
from bench.results import data_digest, source_hash
from bench.results.rows import Row, is_data_verified, row_to_text
from bench.results.store import Store
from bench.study import run as study_execution
from bench.study.plan import dry_run_lines, plan_study, unfinished_line
from bench.study.run import run_study, study_rows
from bench.study.study import Study, WorkerTasks

TASKS = WorkerTasks(run="fake_tasks:quick", measure="")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_digest, "_known", {})


def study(out: Path, *, seeds: int = 1, data: str = "scenes", task: str = "quick") -> Study:
    """Two variants."""
    base = replace(preset("quick"), data=data)
    return Study(
        name="test",
        kind="ablate",
        variants=expand_axes(parse_axes(["N=4,16"]), base),
        seeds=seeds,
        preset="quick",
        data=data,
        out=out,
        jobs=2,
        tasks=replace(TASKS, run=f"fake_tasks:{task}"),
    )


def do(asked: Study) -> list[str]:
    """What the study said."""
    said: list[str] = []
    run_study(asked, said.append)
    return said


def listed(asked: Study) -> list[tuple[str, int]]:
    """Variant and seed of each row of the report."""
    return [(row["variant"], row["seed"]) for row in study_rows(asked)]


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_a_command_with_fewer_seeds_keeps_the_others_listed(tmp_path: Path) -> None:
    three, one = study(tmp_path, seeds=3), study(tmp_path, seeds=1)
    do(three)
    entry = Store(tmp_path).experiments()["test"]
    assert do(one) == ["2 of 2 runs are there already"]
    assert Store(tmp_path).experiments()["test"] == entry
    assert listed(one) == listed(three) == [(name, seed) for seed in range(3) for name in ("N=4", "N=16")]


def test_a_command_with_fewer_seeds_lists_runs_that_another_is_still_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(study_execution, "_drain", lambda *_: None)
        do(study(tmp_path, seeds=3))
    do(study(tmp_path, seeds=1))
    assert len(Store(tmp_path).experiments()["test"]["runs"]) == 6
    assert unfinished_line(study(tmp_path, seeds=1)) == ""
    do(study(tmp_path, seeds=3))
    assert len(listed(study(tmp_path, seeds=1))) == 6


def test_rows_of_other_sources_do_not_stand_beside_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    do(study(tmp_path, seeds=2))
    ours = source_hash.our_roles()
    monkeypatch.setattr(source_hash, "our_roles", lambda: ours | {"losses": "0" * 16})
    monkeypatch.setattr(study_execution, "_drain", lambda *_: None)
    assert do(study(tmp_path, seeds=1))[1] == (
        "2 runs of further seeds, listed before, are of other sources or data and not in this report; --seeds 2 makes "
        "them again"
    )
    assert listed(study(tmp_path, seeds=1)) == []


# --- workers that are ended -------------------------------------------------------------------------------------------


def test_a_run_whose_worker_was_ended_is_said_to_be_missing(tmp_path: Path) -> None:
    ended = study(tmp_path, task="told_to_stop")
    assert do(ended)[-1].startswith("2 runs stopped from outside")
    assert unfinished_line(ended) == "2 runs ended from outside, without a row: the same command continues"
    do(study(tmp_path))
    assert unfinished_line(ended) == ""


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set in files with the classes of the quick preset."""
    folder = tmp_path / "pictures"
    command_line.dataset(folder)
    (folder / "meta.json").write_text(json.dumps({"classes": 8}))
    return folder


def in_files(tmp_path: Path, folder: Path, seeds: int = 1) -> Study:
    return study(tmp_path / "study", data=f"folder:{folder}", seeds=seeds)


def test_a_moved_folder_makes_nothing_due(tmp_path: Path, data: Path) -> None:
    do(in_files(tmp_path, data))
    moved = data.rename(tmp_path / "elsewhere")
    asked = in_files(tmp_path, moved, seeds=2)
    said = do(asked)
    assert said[0] == f"the data are at folder:{moved} now, before at folder:{data}: the same content"
    assert said[1] == "2 of 4 runs are there already"
    assert {row["settings"]["data"] for row in study_rows(asked)} == {f"folder:{data}", f"folder:{moved}"}
    assert do(asked) == ["4 of 4 runs are there already"]


def test_changed_data_are_said_and_their_runs_due_again(tmp_path: Path, data: Path) -> None:
    asked = in_files(tmp_path, data)
    do(asked)
    before = study_rows(asked)
    picture(data / "labels" / "val" / "a.png", "L", value=2)
    line = (
        f"the data at folder:{data} have changed since 2 runs were made: 1 file differs (labels/val/a.png); they are "
        "due again"
    )
    assert dry_run_lines(asked)[0] == line
    assert do(asked)[0] == line
    after = study_rows(asked)
    assert len(after) == 2
    assert {row["key"] for row in after}.isdisjoint(row["key"] for row in before)
    assert after[0]["data"]["splits"]["train"] == before[0]["data"]["splits"]["train"]
    assert after[0]["data"]["splits"]["val"] != before[0]["data"]["splits"]["val"]
    picture(data / "labels" / "val" / "a.png", "L", value=1)
    assert do(asked) == ["2 of 2 runs are there already"], "the old data again"


def test_another_data_set_is_refused(tmp_path: Path, data: Path) -> None:
    do(in_files(tmp_path, data))
    other = tmp_path / "other"
    command_line.dataset(other)
    (other / "meta.json").write_text(json.dumps({"classes": 8, "ignore": 7}))
    with pytest.raises(ValueError, match=f"belongs to preset quick, data folder:{data}"):
        do(in_files(tmp_path, other))


def test_rows_without_a_digest_of_their_data_are_read_and_their_runs_due(tmp_path: Path, data: Path) -> None:
    asked = in_files(tmp_path, data)
    do(asked)
    store = Store(asked.out)

    def as_before(row: Row) -> None:
        store.path("run", row["key"]).unlink()
        old = {name: value for name, value in row.items() if name != "data"}
        old["key"] = "0" * 15 + str(row["settings"]["model"]["points"])[0]
        store.path("run", old["key"]).write_text(row_to_text(old))

    for row in study_rows(asked):
        as_before(row)
    assert [is_data_verified(row) for row in store.read("run").rows] == [False, False]
    assert len(plan_study(asked).due_runs) == 2
    assert do(asked)[0] == (
        "2 runs are due again: data not verified, their rows were made before a study recorded a digest of its data"
    )
    assert [is_data_verified(row) for row in study_rows(asked)] == [True, True]
    assert len(store.read("run").rows) == 4


def test_data_that_change_while_the_study_runs_give_no_row(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = replace(in_files(tmp_path, data), jobs=1)
    drain = study_execution._drain

    def change_and_drain(*arguments: object) -> None:
        picture(data / "labels" / "train" / "a.png", "L", value=2)
        drain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(study_execution, "_drain", change_and_drain)
    with pytest.raises(ValueError, match=f"the data at folder:{data} changed while the study ran"):
        do(asked)
    assert study_rows(asked) == ()
