"""Side-by-side runs with sides that are made up: what is measured, what fails how, and how a run goes on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fake_cores import comparisons

from bench import child_process
from bench.microbench.attention import run, worker
from bench.microbench.attention.request import AttentionBenchRequest
from bench.microbench.attention.run import QUICK_SIZES, run_attention_benchmark

WHERE = "fake_cores:comparisons"


def spec(*names: str, **more: Any) -> dict[str, Any]:
    facts = {"comparisons": WHERE, "names": names, "size": asdict(QUICK_SIZES[0]), "kind": "time", "malloc": "default"}
    return facts | {"threads": 1, "repeats": 2} | more


def request(out: Path, **more: Any) -> AttentionBenchRequest:
    return AttentionBenchRequest(
        **{"out": out, "comparisons": WHERE, "known": comparisons(), "threads": 1, "quick": True} | more
    )


def table(out: Path) -> list[dict[str, str]]:
    with (out / "attention.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class FakeProcess:
    """A child process that has done its work; waiting for it gives its exit status, or the interruption."""

    def __init__(self, status: int, *, interrupted: bool = False) -> None:
        self.returncode = status
        self.interrupted = interrupted

    def wait(self, *_: object) -> int:
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        return self.returncode


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Workers run here, without a counting malloc; the specs that they were given."""
    given: list[dict[str, Any]] = []

    def fake(command: list[str], **_: object) -> FakeProcess:
        given.append(json.loads(Path(command[-2]).read_text(encoding="utf-8")))
        return FakeProcess(worker.main(command[-2:]))

    monkeypatch.setattr(child_process.subprocess, "Popen", fake)
    monkeypatch.setattr(run, "_preload", lambda notes: notes.append("memory is not measured: a test"))
    return given


def test_sides_are_timed_in_turns_and_ratios_are_over_the_first() -> None:
    *_, result = worker.run_comparisons(spec("sound"))
    found = result["sound"]
    assert found["whole"]
    assert {name: said["status"] for name, said in found["sides"].items()} == {"ours": "ok", "flat": "ok"}
    values = {(row["side"], row["phase"], row["quantity"]): row for row in found["rows"]}
    assert set(values) == {
        (side, phase, quantity)
        for side, quantity in (("ours", "seconds"), ("flat", "seconds"), ("flat", "ratio"))
        for phase in ("forward", "forward+backward")
    }
    assert all(row["value"] > 0 and row["n"] >= 2 for row in values.values())
    assert values["ours", "forward", "seconds"]["shape"] == f"{QUICK_SIZES[0].tokens} tokens"


def test_what_fails_is_a_side_with_a_status_and_the_others_go_on() -> None:
    *_, result = worker.run_comparisons(spec("unsound"))
    found = result["unsound"]
    assert {name: said["status"] for name, said in found["sides"].items()} == {
        "ours": "ok",
        "wrong": "failed",
        "other": "ok",
        "absent": "unsupported",
        "broken": "failed",
        "large": "skipped",
    }
    said = {name: each["message"] for name, each in found["sides"].items()}
    assert "differs from the first side's by 5.0e-01" in said["wrong"]
    assert said["absent"].endswith("No module named 'absent'): pip install absent")
    assert said["broken"] == "RuntimeError: two lines of a message"
    assert "needs 1073741824.0 GiB" in said["large"]
    assert {row["side"] for row in found["rows"]} == {"ours", "other"}


def test_memory_is_counted_with_what_a_side_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.malloc_count, "count_call_bytes", lambda *_: {"forward": 1000, "held": 10})
    *_, result = worker.run_comparisons(spec("sound", kind="memory", malloc="counted"))
    found = {(row["side"], row["phase"], row["quantity"]): row["value"] for row in result["sound"]["rows"]}
    assert found["ours", "forward", "bytes"] == 1000
    assert found["flat", "forward", "bytes"] == 2000
    assert found["flat", "forward", "ratio"] == 2
    assert ("ours", "forward", "ratio") not in found


def test_a_run_is_a_table_with_a_row_for_each_side(tmp_path: Path, in_process: list[dict[str, Any]]) -> None:
    run_attention_benchmark(request(tmp_path, only=("sound", "unsound")), say=lambda _: None)
    rows = table(tmp_path)
    assert len({row["key"] for row in rows}) == len(rows)
    assert {row["side"]: row["status"] for row in rows if row["part"] == "unsound"}["large"] == "skipped"
    (flat,) = [row for row in rows if row["side"] == "flat" and row["key"].endswith("forward/seconds")]
    assert (flat["difference"], flat["ours"], flat["disagreement"]) == ("its layout", "False", "0.0")
    assert json.loads((tmp_path / "attention.json").read_text())["notes"] == ["memory is not measured: a test"]


def test_the_same_command_goes_on_and_another_setting_begins_anew(
    tmp_path: Path, in_process: list[dict[str, Any]]
) -> None:
    quiet: Callable[[str], None] = lambda _: None  # noqa: E731
    run_attention_benchmark(request(tmp_path, only=("unsound",)), say=quiet)
    run_attention_benchmark(request(tmp_path, only=("sound", "unsound")), say=quiet)
    assert [each["names"] for each in in_process] == [["unsound"], ["sound"]]
    assert {row["part"] for row in table(tmp_path)} == {"sound", "unsound"}
    run_attention_benchmark(request(tmp_path, only=("sound",), repeats=1), say=quiet)
    assert in_process[2]["names"] == ["sound"]
    assert {row["part"] for row in table(tmp_path)} == {"sound"}
    (tmp_path / "attention.json").write_text("torn {", encoding="utf-8")
    run_attention_benchmark(request(tmp_path, only=("sound",), repeats=1), say=quiet)
    assert in_process[3]["names"] == ["sound"]


def test_a_process_that_dies_leaves_what_it_had_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a real process."""
    monkeypatch.setattr(run, "_preload", lambda _: None)
    run_attention_benchmark(request(tmp_path, only=("sound", "deadly")), say=lambda _: None)
    rows = table(tmp_path)
    dead = [row for row in rows if row["part"] == "deadly"]
    assert {row["side"]: row["status"] for row in dead} == dict.fromkeys(("ours", "first", "it"), "failed")
    assert {row["message"] for row in dead} == {"the process ended with exit status 9"}
    assert {row["part"] for row in rows if row["quantity"] == "seconds"} == {"sound"}


def test_what_a_dead_process_did_not_come_to_is_given_to_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: list[dict[str, Any]]
) -> None:
    usual = child_process.subprocess.Popen

    def dying(command: list[str], **more: object) -> FakeProcess:
        usual(command, **more)
        place = Path(command[-1])
        found = json.loads(place.read_text(encoding="utf-8"))
        first = next(iter(found))
        place.write_text(json.dumps({first: found[first] | {"whole": False, "rows": []}}), encoding="utf-8")
        return FakeProcess(-9)

    monkeypatch.setattr(child_process.subprocess, "Popen", dying)
    run_attention_benchmark(request(tmp_path, only=("sound", "unsound")), say=lambda _: None)
    assert [each["names"] for each in in_process] == [["sound", "unsound"], ["unsound"]]
    assert {row["message"] for row in table(tmp_path) if row["side"] == "flat"} == {
        "the process ended with exit status -9"
    }


def test_a_stop_keeps_what_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: list[dict[str, Any]]
) -> None:
    usual = child_process.subprocess.Popen

    def stopped(command: list[str], **more: object) -> FakeProcess:
        usual(command, **more)
        place = Path(command[-1])
        found = json.loads(place.read_text(encoding="utf-8"))
        found["unsound"]["whole"] = False
        place.write_text(json.dumps(found), encoding="utf-8")
        return FakeProcess(0, interrupted=True)

    monkeypatch.setattr(child_process.subprocess, "Popen", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_attention_benchmark(request(tmp_path, only=("sound", "unsound")), say=lambda _: None)
    monkeypatch.setattr(child_process.subprocess, "Popen", usual)
    run_attention_benchmark(request(tmp_path, only=("sound", "unsound")), say=lambda _: None)
    assert [each["names"] for each in in_process] == [["sound", "unsound"], ["unsound"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 0}, "--threads 0: expected 1 or more"),
        ({"threads": 4096}, "--threads 4096: this process may use"),
        ({"repeats": 0}, "--repeats 0: expected 1 or more"),
        ({"malloc": "mine"}, "--malloc mine: expected tuned or default"),
        ({"only": ("sond",)}, "--only sond: there are sound, deadly, unsound"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        request(tmp_path, **options)
