"""What a node does with a job, without Ray: events in the order in which they come."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import psutil
import pytest
from driving import Job, Silent, opened, spec
from filelock import FileLock

from bench.launchers import ray_node
from bench.launchers.local import run_local_jobs


def events(out: Path, task: str, *, token: str | None = None, **changes: Any) -> list[ray_node.Event]:
    made = spec(out, task, **changes)
    chosen = opened(out).token() if token is None else token
    return list(ray_node.run_job_on_node(made, token=chosen, folder=os.getcwd(), gpu=False))


def test_a_run_is_told_and_handed_back_and_nothing_is_written(tmp_path: Path) -> None:
    begun, *steps, done = events(tmp_path, "in_steps")
    assert begun["event"] == "begun"
    assert begun["environment"]["threads"] == 1
    assert [(step["event"], step["step"], step["total"]) for step in steps] == [("step", n, 10) for n in range(1, 11)]
    assert (done["event"], done["row"]["status"], done["row"]["metrics"]["sum"]) == ("done", "ok", 1023)
    assert done["pictures"] is None
    assert not list((tmp_path / "runs").iterdir())
    assert not list((tmp_path / "logs").iterdir())


@pytest.mark.parametrize("seed", [0, 3, 8, 9])  # tests/bench/test_cluster.py has them all
def test_every_end_is_the_one_it_has_on_this_machine(tmp_path: Path, seed: int) -> None:
    store = opened(tmp_path / "local")
    made = spec(tmp_path / "local", "by_seed", seed=seed)
    run_local_jobs(store, [Job(spec=made, label="x")], parallel=1, progress=Silent())
    here = store.row("run", made["key"])
    *_, done = events(tmp_path / "away", "by_seed", seed=seed)
    assert here is not None
    for name in ("status", "message", "metrics", "training", "key", "environment"):
        assert done["row"][name] == here[name], name
    assert done["log"].startswith(b"a task may print")


def test_checkpoints_are_shared_where_the_studys_folder_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = opened(out)
    made = spec(out, "in_steps")
    first = ray_node.run_job_on_node(made, token=store.token(), folder=os.getcwd(), gpu=False)
    while next(first).get("step") != 4:
        pass
    first.close()
    state = json.loads((store.checkpoints(made["key"]) / "state.json").read_text())
    assert 4 <= state["step"] < 10
    _, *steps, done = events(out, "in_steps")
    assert [step["step"] for step in steps] == list(range(state["step"] + 1, 11))
    assert done["row"]["metrics"]["sum"] == 1023
    assert store.checkpoints(made["key"]).exists(), "whoever writes the row drops them"


def test_another_folder_of_that_name_is_left_alone(tmp_path: Path) -> None:
    opened(tmp_path)
    *_, done = events(tmp_path, "in_steps", token="of another time")
    assert done["row"]["metrics"]["sum"] == 1023
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_node_that_still_writes_is_waited_for_and_then_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_node, "LOCK_TIMEOUT_SECONDS", 0.1)
    shared = opened(tmp_path).checkpoints(spec(tmp_path, "in_steps")["key"])
    shared.mkdir()
    with FileLock(shared / "node.lock"):
        _, note, first, *_rest, done = events(tmp_path, "in_steps")
    assert note["event"] == "note"
    assert "in use by another node" in note["message"]
    assert first["step"] == 1
    assert done["row"]["status"] == "ok"
    assert [path.name for path in shared.iterdir() if path.suffix != ".lock"] == []


def test_the_job_ends_with_the_iteration(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    work = ray_node.run_job_on_node(spec(tmp_path, "in_steps"), token="", folder=os.getcwd(), gpu=False)
    while next(work)["event"] != "step":
        pass
    (worker,) = set(psutil.Process().children()) - before
    place = next(Path(path).parent.parent for path in (f.path for f in worker.open_files()) if "unept-bench-" in path)
    assert place.exists()
    work.close()
    assert not worker.is_running()
    assert not place.exists()


def test_other_sources_a_full_disk_and_a_stop_leave_no_row(tmp_path: Path) -> None:
    assert events(tmp_path, "quick", sources="another")[-1] == {"event": "changed", "what": "the sources"}
    stuck = events(tmp_path, "disk_full", seed=1)[-1]
    assert (stuck["event"], stuck["errno"]) == ("stuck", 28)
    assert "no space left" in stuck["message"]
    stopped = events(tmp_path, "told_to_stop")[-1]
    assert stopped == {"event": "stopped", "message": "stopped by signal 15 (SIGTERM)"}


def test_without_a_gpu_of_its_own_a_job_sees_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for gpu, seen in ((False, ""), (True, "0,1")):  # Ray has given the task its GPU by the same variable
        made = spec(tmp_path, "gpu")
        *_, done = ray_node.run_job_on_node(made, token="", folder=os.getcwd(), gpu=gpu)
        assert done["row"]["training"]["gpu"] == seen


def test_pictures_come_back_whole(tmp_path: Path) -> None:
    done = events(tmp_path, "drawing")[-1]
    assert done["pictures"] == b"drawn by seed 0"
