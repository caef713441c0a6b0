from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from driving import jobs

from bench.shard import WHOLE, Shard, parse
from bench.store import Store

PROGRAM = """
import sys
from pathlib import Path
from bench.grid import expand, parse_axes
from bench.presets import preset
from bench.shard import parse
from bench.study import Study, Tasks, finished, perform, remaining

out, task, seeds, shard = sys.argv[1:]
study = Study(
    name="test", kind="ablate", variants=expand(parse_axes(["N=4,16", "L=1,3"]), preset("quick")), seeds=int(seeds),
    preset="quick", data="scenes", out=Path(out), jobs=2, shard=parse(shard),
    tasks=Tasks(run=f"fake_tasks:{task}", measure="fake_tasks:measure"),
)
rows = perform(study)
print(finished(study), len(rows), remaining(study), sep=" | ")
"""


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "-1/2", "1", "1/", "/2", "a/b", "1/2/3", "1.0/2", "1 / 2", "²/3", "1/0"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected i/n with 1 <= i <= n, as in 2/8") as caught:
        parse(text)
    assert str(caught.value).startswith(f"--shard {text}: ")


def test_a_shard_is_every_nth_of_the_list() -> None:
    todo = jobs(Path("x"), "quick", points=(4, 16, 64), seeds=4)
    assert parse("") == WHOLE == Shard(index=1, count=1)
    assert str(parse("2/5")) == "2/5"
    assert list(WHOLE.of(todo)) == todo
    assert [job.label for job in parse("2/5").of(todo)] == ["N=16 seed 0", "N=4 seed 2", "N=64 seed 3"]
    for count in (1, 2, 5, 12, 13):
        parts = [Shard(index=index, count=count).of(todo) for index in range(1, count + 1)]
        assert Counter(job.key for part in parts for job in part) == Counter(job.key for job in todo)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [shard.measures for shard in (WHOLE, parse("1/3"), parse("3/3"))] == [True, True, False]


def test_more_seeds_move_no_run_to_another_shard() -> None:
    few, many = (jobs(Path("x"), "quick", points=(4, 16, 64), seeds=seeds) for seeds in (2, 5))
    for index in (1, 2, 3, 4):
        shard = Shard(index=index, count=4)
        assert [job.key for job in shard.of(many)][: len(shard.of(few))] == [job.key for job in shard.of(few)]


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    monkeypatch.setenv("FAKE_LEDGER", str(path))
    return path


def start(out: Path, shard: str, task: str = "quick", seeds: int = 3) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out), task, str(seeds), shard],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said(process: subprocess.Popen[str]) -> str:
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return text.splitlines()[-1]


def test_shards_over_one_folder_do_each_run_once_and_equal_one_process(tmp_path: Path, ledger: Path) -> None:
    said(start(tmp_path / "one", ""))
    ledger.write_text("")
    out = tmp_path / "out"
    ends = [said(process) for process in [start(out, f"{index}/3") for index in (1, 2, 3)]]
    assert [end.split(" | ")[:2] for end in ends] == [["(4, 4)", "8"], ["(4, 4)", "4"], ["(4, 4)", "4"]]
    assert any(end.endswith(" | ") for end in ends), "whoever ends last finds nothing left"
    done = Counter(line.rsplit(" ", 1)[0] for line in ledger.read_text().splitlines())
    assert set(done.values()) == {1}
    assert len(done) == 12 + 4
    assert (out / "results.csv").read_bytes() == (tmp_path / "one" / "results.csv").read_bytes()


def test_a_shard_says_what_is_left_and_overlap_is_done_once(tmp_path: Path, ledger: Path) -> None:
    out = tmp_path / "out"
    assert said(start(out, "2/2")).startswith("(6, 6) | 6 | 6 runs and 4 measures of the experiment have no row yet; ")
    assert said(start(out, "")) == "(12, 12) | 16 | "  # the whole, beside it
    assert said(start(out, "1/2")) == "(6, 6) | 10 | "
    assert len(ledger.read_text().splitlines()) == 16


def test_a_shard_that_is_killed_is_taken_up_where_it_stopped(tmp_path: Path, ledger: Path) -> None:
    said(start(tmp_path / "one", "", "in_steps"))
    ledger.write_text("")
    out = tmp_path / "out"
    killed, other = start(out, "1/2", "in_steps"), start(out, "2/2", "in_steps")
    while not any(path.is_dir() and list(path.iterdir()) for path in (out / "checkpoints").glob("*")):
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert " of the experiment have no row yet" in said(other)
    assert said(start(out, "1/2", "in_steps")).endswith(" | ")
    assert (out / "results.csv").read_bytes() == (tmp_path / "one" / "results.csv").read_bytes()
    assert len(Store(out).read("run", "test").rows) == 12


def test_the_measures_that_a_report_takes_are_those_of_shard_1(tmp_path: Path, ledger: Path) -> None:
    """A machine of another kind has other keys for its measures, and must not list them in their place."""
    out = tmp_path / "out"
    said(start(out, "2/2"))
    said(start(out, "1/2"))
    study = json.loads((out / "study.json").read_text())
    listed = [entry["key"] for entry in study["experiments"]["test"]["measures"]]
    store = Store(out)
    entry = study["experiments"]["test"]
    foreign = [{**each, "key": "0" * 16} for each in entry["measures"]]
    store.register("test", entry | {"measures": foreign}, measures=False)
    assert [each["key"] for each in store.experiments()["test"]["measures"]] == listed
    assert store.missing("measure", "test") == 0
    store.register("test", entry | {"measures": foreign})
    assert store.missing("measure", "test") == 4


def test_shards_that_do_not_agree_on_the_runs_say_so(tmp_path: Path, ledger: Path) -> None:
    out = tmp_path / "out"
    said(start(out, "2/2"))
    store = Store(out)
    entry = store.experiments()["test"]
    store.register("test", entry | {"runs": [{**each, "key": "0" * 16} for each in entry["runs"]]})
    text, _ = start(out, "1/2").communicate(timeout=120)
    assert "test was listed with other runs, of another backend or other sources" in text
    text, _ = start(out, "1/2").communicate(timeout=120)
    assert "other runs" not in text
