from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from driving import jobs

from bench.config.grid import expand_axes, parse_axes
from bench.config.presets import preset
from bench.results.store import Store
from bench.study.plan import count_finished_runs, remaining_work_line
from bench.study.run import run_study
from bench.study.shard import WHOLE_STUDY, Shard, parse_shard
from bench.study.study import Study, WorkerTasks

PROGRAM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_shard import study
from bench.study.run import run_study

run_study(study(Path(sys.argv[1]), "1/2", "in_steps"))
"""


def study(out: Path, shard: str, task: str = "quick") -> Study:
    """Two variants, three seeds."""
    return Study(
        name="test",
        kind="ablate",
        variants=expand_axes(parse_axes(["N=4,16"]), preset("quick")),
        seeds=3,
        preset="quick",
        data="scenes",
        out=out,
        jobs=2,
        shard=parse_shard(shard),
        tasks=WorkerTasks(run=f"fake_tasks:{task}", measure="fake_tasks:measure"),
    )


def do(out: Path, shard: str, task: str = "quick") -> tuple[tuple[int, int], int, str, list[str]]:
    """Its own runs done of how many, its rows, what is left to others, and what it said."""
    said: list[str] = []
    one = study(out, shard, task)
    rows = run_study(one, said.append)
    return count_finished_runs(one), len(rows), remaining_work_line(one), said


@pytest.mark.parametrize(
    "text", ["0/2", "3/2", "-1/2", "1", "1/", "/2", "a/b", "1/2/3", "1.0/2", "1 / 2", "²/3", "1/0"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected i/n with 1 <= i <= n, as in 2/8") as caught:
        parse_shard(text)
    assert str(caught.value).startswith(f"--shard {text}: ")


def test_a_shard_is_every_nth_of_the_list() -> None:
    todo = jobs(Path("x"), "quick", points=(4, 16, 64), seeds=4)
    assert parse_shard("") == WHOLE_STUDY == Shard(index=1, count=1)
    assert str(parse_shard("2/5")) == "2/5"
    assert list(WHOLE_STUDY.of(todo)) == todo
    assert [job.label for job in parse_shard("2/5").of(todo)] == ["N=16 seed 0", "N=4 seed 2", "N=64 seed 3"]
    for count in (1, 2, 5, 12, 13):
        parts = [Shard(index=index, count=count).of(todo) for index in range(1, count + 1)]
        assert Counter(job.key for part in parts for job in part) == Counter(job.key for job in todo)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert [shard.measures for shard in (WHOLE_STUDY, parse_shard("1/3"), parse_shard("3/3"))] == [True, True, False]


def test_more_seeds_move_no_run_to_another_shard() -> None:
    few, many = (jobs(Path("x"), "quick", points=(4, 16, 64), seeds=seeds) for seeds in (2, 5))
    for index in (1, 2, 3, 4):
        shard = Shard(index=index, count=4)
        assert [job.key for job in shard.of(many)][: len(shard.of(few))] == [job.key for job in shard.of(few)]


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    path.touch()
    monkeypatch.setenv("FAKE_LEDGER", str(path))
    return path


def test_shards_over_one_folder_do_each_run_once_and_equal_one_process(tmp_path: Path, ledger: Path) -> None:
    do(tmp_path / "one", "")
    ledger.write_text("")
    out = tmp_path / "out"
    with ThreadPoolExecutor() as pool:
        ends = [*pool.map(lambda shard: do(out, shard), ("1/3", "2/3", "3/3"))]
    assert [end[:2] for end in ends] == [((2, 2), 4), ((2, 2), 2), ((2, 2), 2)]
    assert "" in [end[2] for end in ends], "whoever ends last finds nothing left"
    done = Counter(line.rsplit(" ", 1)[0] for line in ledger.read_text().splitlines())
    assert set(done.values()) == {1}
    assert len(done) == 6 + 2
    assert (out / "results.csv").read_bytes() == (tmp_path / "one" / "results.csv").read_bytes()


def test_a_shard_says_what_is_left_and_what_overlaps_is_done_once(tmp_path: Path, ledger: Path) -> None:
    mine, rows, left, said = do(tmp_path, "2/2")
    assert (mine, rows) == ((3, 3), 3)
    assert left.startswith("3 runs and 2 measures of the experiment have no row yet; the shard that ends last writes")
    assert said[0].startswith("3 runs and 0 measures of shard 2/2 due in ")
    assert do(tmp_path, "2/2")[3] == ["3 of 3 runs of shard 2/2 are there already"]
    with ThreadPoolExecutor() as pool:
        ends = [*pool.map(lambda shard: do(tmp_path, shard), ("", "1/2"))]
    assert [end[:3] for end in ends] == [((6, 6), 8, ""), ((3, 3), 5, "")]
    assert len(ledger.read_text().splitlines()) == 8


def test_a_shard_that_is_killed_is_taken_up_where_it_stopped(tmp_path: Path, ledger: Path) -> None:
    out = tmp_path / "out"
    killed = subprocess.Popen([sys.executable, "-c", PROGRAM, str(out)], start_new_session=True)
    while not list((out / "checkpoints").glob("*/state.json")):
        assert killed.poll() is None, "it ended by itself"
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert do(out, "2/2", "in_steps")[2] != ""
    assert do(out, "1/2", "in_steps")[2] == ""
    assert [row["metrics"]["sum"] for row in Store(out).read("run", "test").rows] == 6 * [2**10 - 1], "each step once"


def test_the_measures_that_a_report_takes_are_those_of_shard_1(
    tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines of several kinds have several keys for a measure."""
    do(tmp_path, "1/2")
    listed = Store(tmp_path).experiments()["test"]["measures"]
    monkeypatch.setattr("bench.environment.machine_key", lambda: "another")
    assert do(tmp_path, "2/2")[1:3] == (3, "")
    assert Store(tmp_path).experiments()["test"]["measures"] == listed
    assert len(Store(tmp_path).read("measure", "test").rows) == 2
    do(tmp_path, "1/2")
    assert Store(tmp_path).experiments()["test"]["measures"] != listed, "shard 1 has moved"


def test_shards_that_do_not_agree_on_the_runs_say_so(tmp_path: Path, ledger: Path) -> None:
    do(tmp_path, "2/2")
    other = replace(study(tmp_path, "1/2"), backend="native")
    for expected in (1, 0):
        said: list[str] = []
        run_study(other, said.append)
        assert (
            sum("test was listed with other runs, of another backend or other sources" in line for line in said)
            == expected
        )
