"""The queue on a Ray cluster: without Ray by a stand-in that carries tasks out in threads, and slowly on Ray itself."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from driving import Silent, drive, jobs, opened
from locations import TESTS

from bench.launchers import ray_cluster
from bench.launchers.queue import Interrupted, Job, SourcesChanged, StoreUnwritable
from bench.results.store import Store

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
DRIVER = TESTS / "bench" / "driving_ray.py"


class RayError(Exception):
    """What Ray raises."""


class TaskFailed(RayError):
    """What a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a long text")
        self.cause = cause


class NoMemory(RayError):
    """Ray has ended a worker for memory."""


def machine(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


class StandIn:
    """As much of Ray as is used. `troubles` are raised, one in each attempt at a job, once it is `after` steps on."""

    def __init__(self, nodes: list[dict[str, Any]], troubles: dict[str, list[Exception]], after: int) -> None:
        self.found, self.troubles, self.after = nodes, troubles, after
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=TaskFailed, OutOfMemoryError=NoMemory)
        self.options: dict[str, Any] = {}
        self.cancelled: list[bool] = []

    def nodes(self) -> list[dict[str, Any]]:
        return self.found

    def cluster_resources(self) -> dict[str, float]:
        return {"GPU": sum(node["Resources"].get("GPU", 0) for node in self.found)}

    def get(self, event: Any) -> Any:
        return event

    def remote(self, task: Any) -> Any:
        def submit(spec: dict[str, Any], **rest: Any) -> Iterator[Any]:
            trouble = next(iter(self.troubles.get(spec["label"], [])), None)
            if trouble is not None:
                self.troubles[spec["label"]].pop(0)
            return self.attempt(task(spec, **rest), trouble)

        def options(**given: Any) -> Any:
            self.options = given
            return SimpleNamespace(remote=submit)

        return SimpleNamespace(options=options)

    def attempt(self, events: Iterator[Any], trouble: Exception | None) -> Iterator[Any]:
        steps = 0
        for event in events:
            steps += event["event"] == "step"
            yield event
            if trouble is not None and steps >= self.after:
                events.close()  # type: ignore[attr-defined]
                raise trouble
            if self.cancelled:
                events.close()  # type: ignore[attr-defined]
                raise RayError("cancelled")

    def cancel(self, _: Any, *, force: bool) -> None:
        self.cancelled.append(force)


def stand_in(
    monkeypatch: pytest.MonkeyPatch, *nodes: dict[str, Any], after: int = 0, **troubles: list[Exception]
) -> StandIn:
    named = {label.replace("_", " ").replace("N", "N=", 1): each for label, each in troubles.items()}
    ray = StandIn([*nodes] or [machine(CPU=2)], named, after)
    monkeypatch.setitem(sys.modules, "ray", ray)  # type: ignore[arg-type]
    return ray


def on_cluster(store: Store, todo: list[Job], listener: Silent | None = None, **options: Any) -> list[Any]:
    chosen = {"most": 0, "threads": 1, "gpu": False} | options
    return ray_cluster.run_ray_jobs(store, todo, progress=listener or Silent(), **chosen)


def test_rows_are_those_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    assert drive(tmp_path / "here", "in_steps", (4, 16), 2) == 0
    store, silent = opened(tmp_path / "there"), Silent()
    todo = jobs(tmp_path / "there", "in_steps", points=(4, 16), seeds=2)
    listed = [{name: job.spec[name] for name in ("key", "variant", "axes", "seed")} for job in todo]
    store.register("test", {"runs": listed, "measures": []})
    outcomes = on_cluster(store, todo, silent)
    store.write_tables()
    assert (tmp_path / "there/results.csv").read_bytes() == (tmp_path / "here/results.csv").read_bytes()
    assert [outcome.status for outcome in outcomes] == ["ok"] * 4
    assert len(silent.steps) == 40
    assert not list((tmp_path / "there" / "checkpoints").iterdir())
    assert on_cluster(store, todo)[0].status == "elsewhere"


def test_what_a_task_asks_of_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = stand_in(monkeypatch, machine(CPU=4, GPU=1))
    on_cluster(opened(tmp_path), jobs(tmp_path, "quick"), threads=3, gpu=True)
    assert ray.options == {"num_cpus": 3, "num_gpus": 1, "max_retries": 0, "num_returns": "streaming"}
    silent = Silent()
    on_cluster(opened(tmp_path), jobs(tmp_path, "quick"), silent, threads=3)
    assert ray.options["num_gpus"] == 0
    assert "the cluster has GPUs and this machine has none" in silent.notes[0]


@pytest.mark.parametrize(
    ("nodes", "threads", "gpu", "slots"),
    [
        ([machine(CPU=8), machine(CPU=3)], 2, False, 5),
        ([machine(CPU=8, GPU=2), machine(CPU=8)], 1, True, 2),
        ([machine(CPU=2, GPU=8)], 1, True, 2),
        ([machine(CPU=8, alive=False), machine(CPU=1)], 1, False, 1),
        ([machine(CPU=1)], 2, False, 0),
        ([machine(GPU=1)], 1, False, 0),
    ],
)
def test_how_many_runs_a_cluster_takes(
    monkeypatch: pytest.MonkeyPatch, nodes: list[dict[str, Any]], threads: int, gpu: bool, slots: int
) -> None:
    stand_in(monkeypatch, *nodes)
    assert ray_cluster.count_cluster_slots(threads, gpu=gpu) == slots


def test_nodes_that_join_are_used_and_most_is_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "NODE_POLL_SECONDS", 0.0)
    ray = stand_in(monkeypatch, machine(CPU=1))
    work = ray_cluster._RayQueue(opened(tmp_path), jobs(tmp_path, "gpu", seeds=6), 3, 1, False, Silent())
    try:
        work.step()
        assert work.working() == 1
        ray.found = [machine(CPU=2), machine(CPU=8)]
        work.step()
        work.step()
        assert work.working() == 3
    finally:
        work.stop()


def test_a_lost_run_continues_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, after=4, N4_seed_0=[RayError("node died")])
    store, silent = opened(tmp_path), Silent()
    (outcome,) = on_cluster(store, jobs(tmp_path, "in_steps"), silent)
    assert outcome.status == "ok"
    assert outcome.metrics["sum"] == 1023
    (note,) = silent.notes
    assert note.startswith("N=4 seed 0 was lost with ")
    assert note.endswith("; it begins again")
    heard = [step for _, step, _, _ in silent.steps]
    assert heard[:4] == [1, 2, 3, 4]
    assert heard[4:] == list(range(heard[4], 11)), "from its last checkpoint on"
    assert heard[4] > 4
    assert store.log(outcome.job.key).read_text().count('"key"') == 2


@pytest.mark.parametrize(
    ("trouble", "status", "message"),
    [
        (RayError("node died"), "failed", r"was lost 4 times, last on \S+"),
        (NoMemory(), "oom", r"was ended by Ray for memory 4 times, last on \S+"),
    ],
)
def test_a_run_that_is_lost_too_often_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception, status: str, message: str
) -> None:
    stand_in(monkeypatch, N4_seed_0=[trouble] * 9)
    store = opened(tmp_path)
    first, second = on_cluster(store, jobs(tmp_path, "quick", seeds=2))
    lost, well = (first, second) if first.job.spec["seed"] == 0 else (second, first)
    assert (lost.status, well.status) == (status, "ok")
    row = store.row("run", lost.job.key)
    assert row is not None
    assert row["status"] == status
    assert re.fullmatch(message, row["message"])
    assert row["environment"]["threads"] == 1


def test_a_node_that_is_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, N4_seed_0=[TaskFailed(ModuleNotFoundError("No module\nnamed 'bench'"))])
    with pytest.raises(ValueError, match=r"cannot carry out a run: ModuleNotFoundError: No module named 'bench';"):
        on_cluster(opened(tmp_path), jobs(tmp_path, "quick"))


def test_sources_and_disks_of_a_node_stop_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    store = opened(tmp_path)
    (job,) = jobs(tmp_path, "quick")
    with pytest.raises(SourcesChanged, match="the sources there are not those of this command"):
        on_cluster(store, [Job(spec=job.spec | {"sources": "another"}, label="x")])
    stand_in(monkeypatch)
    with pytest.raises(StoreUnwritable, match="no space left") as caught:
        on_cluster(store, jobs(tmp_path, "disk_full", seeds=2), most=1)
    assert caught.value.errno == errno.ENOSPC
    assert [row["seed"] for row in store.read("run").rows] == [0]
    assert not any(store.is_claimed("run", each.key) for each in jobs(tmp_path, "quick", seeds=2))


def test_a_full_disk_here_stops_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, "write", full)
    with pytest.raises(StoreUnwritable, match="No space left"):
        on_cluster(opened(tmp_path), jobs(tmp_path, "quick"))


def test_what_lies_beside_a_row_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    store, silent = opened(tmp_path), Silent()
    drawn, told = jobs(tmp_path, "drawing"), jobs(tmp_path, "by_seed", points=(16,), seeds=2)[1:]
    store.path("run", drawn[0].key).write_text("{")
    on_cluster(store, drawn + told, silent)
    assert store.pictures(drawn[0].key).read_bytes() == b"drawn by seed 0"
    assert "set aside" in silent.notes[0]
    spec, head, *text = store.log(told[0].key).read_text().splitlines()
    assert json.loads(spec) == told[0].spec
    assert head.endswith("N=16 seed 1")
    assert text[0] == "a task may print"
    assert text[-1] == "lines"


def test_a_run_that_another_program_has_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    store, silent = opened(tmp_path), Silent()
    first, second = jobs(tmp_path, "quick", seeds=2)
    with store.claim("run", first.key):
        thread = threading.Thread(target=on_cluster, args=(store, [first, second], silent))
        thread.start()
        while not store.has("run", second.key):
            time.sleep(0.01)
        assert not store.has("run", first.key)
    thread.join(30)
    assert store.has("run", first.key)
    assert silent.notes == ["waiting for 1 that another process has begun"]


def test_told_to_stop_tasks_are_cancelled_and_claims_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = stand_in(monkeypatch)

    class Stopped(Silent):
        def stepped(self, *_: Any) -> None:
            raise Interrupted("signal 2 (SIGINT)")

    store, todo = opened(tmp_path), jobs(tmp_path, "in_steps", seeds=2)
    with pytest.raises(Interrupted):
        on_cluster(store, todo, Stopped())
    assert ray.cancelled
    assert set(ray.cancelled) == {False}, "none needed force"
    assert store.read("run").rows == ()
    assert not any(store.is_claimed("run", job.key) for job in todo)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", "http://head:6379", "locl", ":6379"])
def test_an_address_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ValueError, match="expected auto, local or HOST:PORT"):
        ray_cluster.check_ray(address)
    for good in ("", "auto", "local", "head:6379", "10.0.0.1:6379", "[::1]:6379"):
        ray_cluster.check_ray(good)


def test_where_ray_is_absent_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"Ray is not installed; pip install 'ray>=2.40,<3'"):
        ray_cluster.check_ray("auto")


# --- on Ray itself: a cluster of two nodes on this machine -----------------------------------------------------------


def driven(out: Path, task: str, points: str, seeds: int, kill: str) -> dict[str, Any]:
    """What `driving_ray.py` says at its end."""
    done = subprocess.run(
        [sys.executable, str(DRIVER), str(out), task, points, str(seeds), kill],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@needs_ray
@pytest.mark.slow
def test_with_a_node_killed_in_the_middle_the_table_is_that_of_one_process(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert drive(here, "in_steps", (4, 16), 2) == 0
    told = driven(there, "in_slow_steps", "4,16", 2, "4")
    assert (there / "results.csv").read_bytes() == (here / "results.csv").read_bytes()
    assert len(Store(there).read("run", "test").rows) == 4
    (note,) = [note for note in told["notes"] if "was lost with" in note]
    lost = note.partition(" was lost")[0]
    heard = [step for label, step, *_ in told["steps"] if label == lost]
    assert heard == sorted(set(heard)), "it continued from its checkpoint"
    assert heard[-1] == 10
    assert not list((there / "checkpoints").iterdir())


@needs_ray
@pytest.mark.slow
def test_every_end_of_a_task_is_the_row_it_is_on_one_machine(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert drive(here, "by_seed", (4,), 11) == 0
    assert driven(there, "by_seed", "4", 11, "no")["notes"] == []
    assert (there / "results.csv").read_bytes() == (here / "results.csv").read_bytes()


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_ends_its_tasks_and_keeps_what_is_finished(
    tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, out = tmp_path / "ledger", tmp_path / "out"
    ledger.touch()
    monkeypatch.setenv("FAKE_LEDGER", str(ledger))
    store = opened(out)
    done = jobs(out, "quick", points=(4,))
    store.register("test", {"runs": [], "measures": []})
    assert drive(out, "quick", (4,), 1) == 0
    process = subprocess.Popen([sys.executable, str(DRIVER), str(out), "slow", "4,16,64", "1", "no"])
    while len(ledger.read_text().splitlines()) < 3:
        assert process.poll() is None
        time.sleep(0.1)
    workers = [int(line.split()[2]) for line in ledger.read_text().splitlines()[1:]]
    os.kill(process.pid, number)
    assert process.wait(60) == 130
    assert not any(psutil.pid_exists(pid) for pid in workers)
    assert [row["key"] for row in Store(out).read("run").rows] == [done[0].key]


@needs_ray
def test_a_cluster_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"--address 127.0.0.1:1: no Ray cluster could be joined") as caught:  # noqa: SIM117
        with ray_cluster.ray_connection("127.0.0.1:1"):
            pass
    assert "\n" not in str(caught.value)
