from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from driving import SETTINGS, Silent, jobs, opened, spec
from locations import TESTS

from bench import environment
from bench.launchers import local
from bench.launchers.local import run_local_jobs
from bench.launchers.process import start_worker
from bench.launchers.queue import Interrupted, Job, SourcesChanged, StoreUnwritable
from bench.results.rows import row_key
from bench.results.source_hash import source_hash
from bench.results.store import Store

DRIVER = TESTS / "bench" / "driving.py"
POINTS = "4,16,64"


def start(out: Path, task: str, *, points: str = POINTS, seeds: int = 4) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(DRIVER), str(out), task, points, str(seeds)], start_new_session=True)


def finish(out: Path, task: str, *, points: str = POINTS, seeds: int = 4) -> bytes:
    """Run to the end and return results.csv."""
    assert start(out, task, points=points, seeds=seeds).wait(60) == 0
    return (out / "results.csv").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(DRIVER.parent), str(DRIVER.parent.parent.parent)]))
        return finish(tmp_path_factory.mktemp("undisturbed"), "in_steps")


def ended_within(processes: list[psutil.Process], seconds: float) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    path.touch()
    monkeypatch.setenv("FAKE_LEDGER", str(path))
    return path


def test_every_end_of_a_task_is_a_row(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run_local_jobs(store, jobs(tmp_path, "by_seed", seeds=11), parallel=2, progress=Silent())
    rows = {row["seed"]: (row["status"], row["message"]) for row in store.read("run").rows}
    log = store.log(jobs(tmp_path, "by_seed", seeds=9)[8].key)
    assert rows == {
        0: ("ok", ""),
        1: ("failed", "RuntimeError: two lines"),
        2: ("diverged", "NonFiniteError: loss is nan"),
        3: ("oom", "MemoryError: 3 TiB"),
        4: ("oom", "OutOfMemoryError: CUDA: tried 3 TiB"),
        5: ("oom", "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: 3 TiB"),
        6: ("unsupported", "NotImplementedError: no such kernel"),
        7: ("failed", rows[7][1]),
        8: ("failed", "SystemExit: 3"),
        9: ("oom", "worker killed by signal 6 (SIGABRT) after an allocation failed"),
        10: ("failed", rows[10][1]),
    }
    assert rows[7][1].startswith("worker killed by signal 9 (SIGKILL) without a result")
    assert rows[10][1].startswith("worker killed by signal 11 (SIGSEGV) without a result")
    assert "a task may print" in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_variant_that_raises_makes_nan_or_exceeds_memory_harms_no_other(tmp_path: Path) -> None:
    points = (2, 4, 8, 16, 32, 64, 128)
    store, todo = opened(tmp_path), jobs(tmp_path, "unwell", points=points)
    store.register("test", {"runs": [{"key": job.key} for job in todo], "measures": []})
    run_local_jobs(store, todo, parallel=2, progress=Silent())
    rows = {row["axes"]["points"]: row for row in store.read("run", "test").rows}
    statuses = {number: row["status"] for number, row in rows.items()}
    assert statuses == {2: "ok", 4: "failed", 8: "ok", 16: "oom", 32: "oom", 64: "oom", 128: "ok"}
    messages = {number: row["message"] for number, row in rows.items()}
    assert messages[4] == "ZeroDivisionError: division by zero"
    assert [messages[number] for number in (2, 8, 16, 32, 128)] == ["", "", "MemoryError", "MemoryError", ""]
    assert "can't allocate memory" in messages[64]
    assert all("\n" not in message for message in messages.values())
    assert rows[8]["metrics"] == {"miou": None, "pixel_accuracy": None}
    assert all(rows[number]["metrics"]["miou"] > 0 for number in (2, 128))
    store.write_tables()
    lines = {line.split(",")[0]: line for line in (tmp_path / "results.csv").read_text().splitlines()}
    assert lines["N=8"].startswith("N=8,0,ok,,,")
    assert lines["N=16"].startswith("N=16,0,oom,,,")


def test_a_machine_that_refuses_threads_is_no_failure_of_the_run(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(OSError, match=r".") as refused:
        run_local_jobs(store, jobs(tmp_path, "no_further_thread"), parallel=1, progress=Silent())
    assert refused.value.errno == errno.EAGAIN
    assert store.read("run").rows == (), "the run is still due"


def test_steps_are_heard_and_a_row_ends_the_job(tmp_path: Path) -> None:
    store, silent = opened(tmp_path), Silent()
    (outcome,) = run_local_jobs(store, jobs(tmp_path, "in_steps"), parallel=1, progress=silent)
    assert [step for _, step, _, _ in silent.steps] == list(range(1, 11))
    assert outcome.status == "ok"
    assert outcome.metrics["sum"] == 1023
    row = store.row("run", outcome.job.key)
    assert row is not None
    assert row["metrics"]["iou"]["box"] is None
    assert row["environment"]["threads"] == 1
    assert "mallopt" in row["environment"]["malloc"] or row["environment"]["malloc"] == "system default"
    assert not store.checkpoints(outcome.job.key).exists()


def test_a_task_may_name_its_status(tmp_path: Path) -> None:
    (outcome,) = run_local_jobs(opened(tmp_path), jobs(tmp_path, "own_status"), parallel=1, progress=Silent())
    assert (outcome.status, outcome.message) == ("skipped", "a smaller one ran out of memory")


def test_threads_are_pinned(tmp_path: Path) -> None:
    store = opened(tmp_path)
    made = spec(tmp_path, "threads", threads=3)
    run_local_jobs(store, [Job(spec=made, label="x")], parallel=1, progress=Silent())
    row = store.row("run", made["key"])
    assert row is not None
    assert row["training"] == {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "3", "PYTHONHASHSEED": "0"}


def test_each_run_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run_local_jobs(store, jobs(tmp_path, "gpu", seeds=8), parallel=3, progress=Silent(), gpus=("2", "GPU-5a", "0"))
    facts = [row["training"] for row in store.read("run").rows]
    assert {fact["gpu"] for fact in facts} == {"2", "GPU-5a", "0"}
    together = [
        (a["gpu"], b["gpu"]) for a in facts for b in facts if a is not b and a["began"] < b["began"] < a["ended"]
    ]
    assert together
    assert all(a != b for a, b in together)


def test_a_gpu_is_shared_only_where_there_are_more_runs_than_gpus(tmp_path: Path) -> None:
    store = opened(tmp_path)
    run_local_jobs(store, jobs(tmp_path, "gpu", seeds=4), parallel=4, progress=Silent(), gpus=("0", "1"))
    assert sorted(row["training"]["gpu"] for row in store.read("run").rows) == ["0", "0", "1", "1"]


def test_without_gpus_a_worker_sees_what_the_program_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    store = opened(tmp_path)
    run_local_jobs(store, jobs(tmp_path, "gpu"), parallel=1, progress=Silent())
    assert [row["training"]["gpu"] for row in store.read("run").rows] == ["7"]


def test_a_second_time_does_nothing(tmp_path: Path, ledger: Path) -> None:
    store = opened(tmp_path)
    for _ in range(2):
        outcomes = run_local_jobs(store, jobs(tmp_path, "quick", seeds=3), parallel=2, progress=Silent())
    assert [outcome.status for outcome in outcomes] == ["elsewhere"] * 3
    assert len(ledger.read_text().splitlines()) == 3


def processes(ledger: Path) -> list[str]:
    """The process of each task, in order."""
    return [line.split()[2] for line in ledger.read_text().splitlines()]


def test_runs_follow_each_other_in_one_process_and_each_has_its_own_log(tmp_path: Path, ledger: Path) -> None:
    store, todo = opened(tmp_path), jobs(tmp_path, "quick", seeds=4)
    outcomes = run_local_jobs(store, todo, parallel=1, progress=Silent())
    assert [outcome.status for outcome in outcomes] == ["ok"] * 4
    assert len(processes(ledger)) == 4
    assert len(set(processes(ledger))) == 1
    for job in todo:
        assert store.log(job.key).read_text().count(f'"key": "{job.key}"') == 1


def test_after_a_run_that_is_not_ok_the_next_gets_a_new_process(tmp_path: Path, ledger: Path) -> None:
    store, todo = opened(tmp_path), jobs(tmp_path, "by_seed", seeds=4)
    run_local_jobs(store, todo, parallel=1, progress=Silent())
    well, raised, diverged, oom = processes(ledger)
    assert well == raised
    assert len({raised, diverged, oom}) == 3
    assert all(store.log(job.key).read_text().count("a task may print") == 1 for job in todo)


def test_a_users_module_and_other_threads_get_their_own_process(tmp_path: Path, ledger: Path) -> None:
    slot = {"points": 4, "encoder_self": "nowhere:Mine"}
    users = spec(tmp_path, "quick", settings=SETTINGS | {"model": slot}, sources=source_hash("run", ["nowhere:Mine"]))
    todo = [users | {"key": f"{seed:016x}", "seed": seed} for seed in (0, 1)]
    todo += [spec(tmp_path, "quick", threads=threads) for threads in (1, 2)]
    run_local_jobs(opened(tmp_path), [Job(spec=made, label="x") for made in todo], parallel=1, progress=Silent())
    assert len(set(processes(ledger))) == len(processes(ledger)) == 4


def test_whatever_a_users_code_does_its_run_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "study"
    out.mkdir()
    monkeypatch.chdir(tmp_path)
    slot = {"points": 4, "encoder_self": "nowhere:Mine"}
    sources = source_hash("run", ["nowhere:Mine"])
    todo = [
        spec(out, "user_code", seed=seed, settings=SETTINGS | {"model": slot}, sources=sources) for seed in range(10)
    ]
    store, began = opened(out), time.monotonic()
    run_local_jobs(store, [Job(spec=made, label="x") for made in todo], parallel=2, progress=Silent())
    assert time.monotonic() - began < 120
    rows = {row["seed"]: row for row in store.read("run").rows}
    ends = {seed: (row["status"], row["message"]) for seed, row in rows.items()}
    well, silent = ("ok", ""), "without a result; see logs/"
    empty = "a run's standard input is empty: is there an input() or a breakpoint() in your code?"
    assert ends[1] == ("failed", f"EOFError: EOF when reading a line; {empty}")
    assert ends[2] == ("failed", f"BdbQuit; {empty}")
    assert ends[3] == ("failed", "SystemExit: 0")
    assert ends[4][0] == "failed"
    assert f"worker ended with exit status 0 {silent}" in ends[4][1]
    assert ends[9] == ("failed", "OSError: [Errno 9] Bad file descriptor")
    assert {seed: end for seed, end in ends.items() if end == well}.keys() == {0, 5, 6, 7, 8}
    assert {row["metrics"]["read"] for row in rows.values() if row["status"] == "ok"} == {""}


def test_a_silent_run_of_a_users_code_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.launchers.local.SILENT_SECONDS", 0.4)
    slot = {"points": 4, "encoder_self": "nowhere:Mine"}
    sources = source_hash("run", ["nowhere:Mine"])
    (tmp_path / "study").mkdir()
    own = spec(tmp_path / "study", "pausing", settings=SETTINGS | {"model": slot}, sources=sources, label="own")
    silent = Silent()
    ours = spec(tmp_path / "study", "pausing", label="ours")
    store = opened(tmp_path / "study")
    run_local_jobs(store, [Job(spec=made, label=made["label"]) for made in (own, ours)], parallel=2, progress=silent)
    assert silent.notes[0] == "own: nothing was heard of it for 0 s; it goes on for at most 1800 s"
    assert all(note.startswith("own: ") for note in silent.notes)


def test_a_run_of_a_users_code_whose_first_step_has_no_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.launchers.local.FIRST_STEP_ALLOWANCE", 0.02)
    slot = {"points": 4, "encoder_self": "nowhere:Mine"}
    sources = source_hash("run", ["nowhere:Mine"])
    (tmp_path / "study").mkdir()
    own = spec(tmp_path / "study", "pausing", settings=SETTINGS | {"model": slot}, sources=sources, label="own")
    store = opened(tmp_path / "study")
    run_local_jobs(store, [Job(spec=own, label="own")], parallel=1, progress=Silent())
    (row,) = store.read("run").rows
    said = "no step ended within 1.2 s (UNEPT_BENCH_USER_CODE_SECONDS sets a longer time)"
    assert (row["status"], row["message"]) == ("failed", said)


def test_sources_edited_between_two_runs_stop_the_queue(tmp_path: Path, ledger: Path) -> None:
    """The second run would have been done by the first one's process."""
    first, second = jobs(tmp_path, "quick", seeds=2)
    edited = Job(spec=second.spec | {"sources": "another"}, label="edited")
    store = opened(tmp_path)
    with pytest.raises(SourcesChanged):
        run_local_jobs(store, [first, edited], parallel=1, progress=Silent())
    assert len(store.read("run").rows) == len(processes(ledger)) == 1


def test_the_same_key_twice_is_one_run(tmp_path: Path, ledger: Path) -> None:
    run_local_jobs(opened(tmp_path), jobs(tmp_path, "quick") * 2, parallel=2, progress=Silent())
    assert len(ledger.read_text().splitlines()) == 1


def test_a_damaged_row_is_made_again(tmp_path: Path) -> None:
    store, silent = opened(tmp_path), Silent()
    (job,) = jobs(tmp_path, "quick")
    store.path("run", job.key).write_text("{")
    run_local_jobs(store, [job], parallel=1, progress=silent)
    assert store.has("run", job.key)
    assert "set aside" in silent.notes[0]


def test_left_over_files_in_the_place_of_a_claim_do_no_harm(tmp_path: Path, ledger: Path) -> None:
    store, todo = opened(tmp_path), jobs(tmp_path, "quick", seeds=3)
    for job, content in zip(todo, (b"", b"\xff\0 of another program", b"x" * 5000), strict=True):
        store.path("run", job.key).with_suffix(".lock").write_bytes(content)
    (tmp_path / "study.lock").write_bytes(b"12345")
    assert {outcome.status for outcome in run_local_jobs(store, todo, parallel=2, progress=Silent())} == {"ok"}
    store.write_tables()
    assert len(ledger.read_text().splitlines()) == len(store.read("run").rows) == 3


def test_edited_sources_stop_the_queue(tmp_path: Path) -> None:
    store = opened(tmp_path)
    made = spec(tmp_path, "quick", sources="another")
    with pytest.raises(SourcesChanged):
        run_local_jobs(store, [Job(spec=made, label="x")], parallel=1, progress=Silent())
    assert store.read("run").rows == ()


def test_a_full_disk_stops_the_queue_and_keeps_the_rest(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(StoreUnwritable, match="no space left"):
        run_local_jobs(store, jobs(tmp_path, "disk_full", seeds=3), parallel=1, progress=Silent())
    assert [row["seed"] for row in store.read("run").rows] == [0]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("cannot mount a small disk here")
    try:
        store = opened(disk / "study")
        with pytest.raises(StoreUnwritable, match=r"(?i)no space left"):
            run_local_jobs(store, jobs(disk / "study", "large_row", seeds=9), parallel=1, progress=Silent())
        found = store.read("run")
        assert 1 <= len(found.rows) < 9
        assert found.problems == ()
        subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
        run_local_jobs(store, jobs(disk / "study", "large_row", seeds=9), parallel=1, progress=Silent())
        assert len(store.read("run").rows) == 9
    finally:
        subprocess.run(["umount", disk], check=True)


def kill_and_resume(place: Path, kills: int, undisturbed: bytes, ledger: Path) -> None:
    """SIGKILL to the program, or to its whole group, at random instants, until every study of them has ended well.

    Every other kill waits until a worker has begun. A study that ends between two kills is checked and another one
    begun, so that every kill meets a program at work.
    """
    rng = random.Random(3)
    killed = number = 0
    while killed < kills:
        out, before = place / str(number), ledger.stat().st_size
        process = start(out, "in_steps")
        while killed % 4 >= 2 and process.poll() is None and ledger.stat().st_size == before:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        if process.poll() is None:
            workers = psutil.Process(process.pid).children(recursive=True)
            if killed % 2:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            killed += process.wait() == -signal.SIGKILL
            assert ended_within(workers, 10), "workers outlive the program"
        if process.returncode == 0:
            unharmed(out, undisturbed)
            number += 1
    assert finish(place / str(number), "in_steps") == undisturbed
    unharmed(place / str(number), undisturbed)
    begun, whole = len(ledger.read_text().splitlines()), 12 * (number + 1)
    assert begun - whole >= kills // 4, "too few kills met a run on its way"


def unharmed(out: Path, undisturbed: bytes) -> None:
    assert (out / "results.csv").read_bytes() == undisturbed
    assert len(Store(out).read("run", "test").rows) == 12
    assert not list((out / "checkpoints").iterdir())
    assert not [path for place in ("runs", "") for path in (out / place).glob("*damaged*")]


def test_killed_at_thirty_random_instants_it_ends_with_the_same_bits(
    tmp_path: Path, undisturbed: bytes, ledger: Path
) -> None:
    kill_and_resume(tmp_path, 30, undisturbed, ledger)


@pytest.mark.slow
def test_killed_at_a_hundred_random_instants_it_ends_with_the_same_bits(
    tmp_path: Path, undisturbed: bytes, ledger: Path
) -> None:
    kill_and_resume(tmp_path, 100, undisturbed, ledger)


def test_two_programs_in_one_folder_do_each_run_once(tmp_path: Path, ledger: Path) -> None:
    both = [start(tmp_path / "out", "quick", seeds=4) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    keys = [line.split()[1] for line in ledger.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 12
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 13


def test_a_run_that_another_program_dies_on_is_taken_over(tmp_path: Path, ledger: Path) -> None:
    out = tmp_path / "out"
    other = start(out, "slow", points="4", seeds=1)
    while not ledger.read_text():
        time.sleep(0.02)
    waiting = start(out, "quick", points="4", seeds=1)  # the same key: a task is no part of it
    time.sleep(1)
    assert waiting.poll() is None
    os.killpg(other.pid, signal.SIGKILL)
    other.wait()
    assert waiting.wait(20) == 0
    assert len(Store(out).read("run").rows) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_ends_its_workers_and_writes_nothing_false(
    tmp_path: Path, ledger: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = start(out, "slow", points="4,16", seeds=1)
    while len(ledger.read_text().splitlines()) < 2:
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)  # as a terminal does for Ctrl-C: to everyone
    assert process.wait(20) == 130
    assert ended_within(workers, 5)
    assert Store(out).read("run").rows == ()


def test_a_worker_told_to_stop_leaves_no_row(tmp_path: Path, ledger: Path) -> None:
    out = tmp_path / "out"
    process = start(out, "slow", points="4", seeds=1)
    while not ledger.read_text():
        time.sleep(0.02)
    os.kill(int(ledger.read_text().split()[2]), signal.SIGTERM)
    assert process.wait(20) == 0
    assert Store(out).read("run").rows == ()


# --- measures ---------------------------------------------------------------------------------------------------------


def measures(out: Path, task: str, count: int, **changes: Any) -> list[Job]:
    """Measures of some variants."""
    made = []
    for points in range(1, count + 1):
        one = spec(out, task, points=points) | {"kind": "measure", "machine": "m", "sources": source_hash("measure")}
        one |= changes
        made.append(Job(spec=one | {"key": row_key("measure", one)}, label=f"measures of N={points}"))
    return made


def started_workers(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """A list that takes every worker process from its start on."""
    started: list[subprocess.Popen[bytes]] = []

    def counted(*given: Any, **named: Any) -> subprocess.Popen[bytes]:
        started.append(start_worker(*given, **named))
        return started[-1]

    monkeypatch.setattr(local, "start_worker", counted)
    return started


@pytest.mark.parametrize("count", [1, 2, 5])
def test_measures_have_a_process_each_and_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Path, count: int
) -> None:
    """Though several processes import at a time, one measures; what was started for nothing is ended."""
    started = started_workers(monkeypatch)
    monkeypatch.setattr(environment, "usable_cores", lambda: 3)
    store = opened(tmp_path)
    run_local_jobs(store, measures(tmp_path, "alone", count), parallel=1, progress=Silent())
    rows = store.read("measure").rows
    assert sorted(row["settings"]["model"]["points"] for row in rows) == list(range(1, count + 1))
    assert {row["status"] for row in rows} == {"ok"}, [row["message"] for row in rows]
    assert len({row["metrics"]["process"] for row in rows}) == count == len(started)
    assert all(process.poll() is not None for process in started)


def test_processes_of_another_environment_are_not_taken(tmp_path: Path, ledger: Path) -> None:
    store = opened(tmp_path)
    todo = [*measures(tmp_path, "alone", 2), *measures(tmp_path, "alone", 4, threads=2)[2:]]
    run_local_jobs(store, [todo[index] for index in (0, 2, 1, 3)], parallel=1, progress=Silent())
    rows = store.read("measure").rows
    assert sorted((row["threads"], row["metrics"]["threads"]) for row in rows) == [(1, "1")] * 2 + [(2, "2")] * 2


def test_a_measure_whose_process_cannot_import_is_a_row(tmp_path: Path) -> None:
    store = opened(tmp_path)
    todo = measures(tmp_path, "alone", 3)
    broken = [Job(spec=job.spec | {"task": "no_such_module:task"}, label=job.label) for job in todo[:1]]
    run_local_jobs(store, [*broken, *todo[1:]], parallel=1, progress=Silent())
    rows = {row["settings"]["model"]["points"]: row for row in store.read("measure").rows}
    assert [rows[points]["status"] for points in (1, 2, 3)] == ["failed", "ok", "ok"]
    assert "No module named 'no_such_module'" in store.log(todo[0].key).read_text()


def test_an_interrupt_ends_the_processes_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = started_workers(monkeypatch)
    monkeypatch.setattr(environment, "usable_cores", lambda: 3)

    class Stopping(Silent):
        def started(self, job: Job) -> None:  # noqa: ARG002 - a listener's form
            raise Interrupted

    with pytest.raises(Interrupted):
        run_local_jobs(opened(tmp_path), measures(tmp_path, "alone", 3), parallel=1, progress=Stopping())
    assert len(started) == 3
    assert all(process.poll() is not None for process in started)
