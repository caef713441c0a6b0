"""Queue on a Ray cluster: each job is a Ray task with its processors and its GPU, and this process is the only writer.

A task runs its job as `bench.launchers.ray_node` says and streams events back. This process holds the job's claim
meanwhile, and writes its row, log and pictures. A task that is lost with its node or its Ray worker begins again
elsewhere, MAX_RESTARTS times; a run that fails by itself gets a row, as on one machine, and does not begin again. Ray
is imported only where it is used.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import environment
from bench.errors import message_line, one_line
from bench.launchers import ray_node as node
from bench.launchers.process import begin_log
from bench.launchers.queue import (
    GRACE_SECONDS,
    POLL_SECONDS,
    Job,
    JobQueue,
    Outcome,
    ProgressListener,
    SourcesChanged,
    StoreUnwritable,
    signals_raise,
)
from bench.launchers.worker import is_store_unwritable, make_row
from bench.results.row_files import ClaimBusy
from bench.results.store import Store, utc_now
from bench.results.user_modules import read_copy

MAX_RESTARTS = 3  # times that a lost job begins again
CONNECT_TIMEOUT_SECONDS = 10.0  # seconds for the cluster's head to answer
NODE_POLL_SECONDS = 2.0  # seconds between looks at the cluster's nodes
OBJECT_STORE_BYTES = (
    128 << 20
)  # bytes of the object store of a cluster started here: events, and each run's kept pictures
INSTALL_RAY = "pip install 'ray>=2.40,<3'"


def check_ray(address: str) -> None:
    """Check that Ray is installed and the address well-formed, before anything is written.

    Raises:
        ValueError: In one line.
    """
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"--engine ray: Ray is not installed; {INSTALL_RAY}")
    if address not in ("", "auto", "local") and not re.fullmatch(r"[^/]+:[0-9]{1,5}", address):
        raise ValueError(
            f"--address {address}: expected auto, local or HOST:PORT of the cluster's head, on a machine of the cluster"
        )


@contextlib.contextmanager
def ray_connection(address: str, *, threads: int = 1, gpu: bool = False) -> Iterator[None]:
    """Connect to a Ray cluster within the context.

    Args:
        address: HOST:PORT, `auto` for the cluster this machine is part of, or `local` for one of this machine alone,
            which ends with the context.
        threads: Processors that a run needs.
        gpu: True if a run needs a GPU.

    Raises:
        ValueError: Where there is no cluster, or none of its nodes has what a run needs.
        Interrupted: When told to stop.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {
        "num_cpus": environment.usable_cores(),
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    with signals_raise():  # Ray takes SIGTERM for itself
        try:
            _join(address, own if address == "local" else {})
            if not count_cluster_slots(threads, gpu=gpu):
                wanted = f"{threads} processors" + " and a GPU" * gpu
                raise ValueError(f"--threads {threads}: no node of the cluster has {wanted} for a run")
            yield
        finally:
            ray.shutdown()


def _join(address: str, options: dict[str, Any]) -> None:
    import ray

    try:
        if address not in ("auto", "local"):  # Ray itself would wait for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise ValueError(f"--address {address}: no Ray cluster could be joined ({message_line(error)})") from None


def count_cluster_slots(threads: int, *, gpu: bool) -> int:
    """Return the number of jobs that the nodes that are alive can run at once.

    Args:
        threads: Processors of a job.
        gpu: True if each job takes a GPU.
    """
    import ray

    return sum(_fits(node_info["Resources"], threads, gpu) for node_info in ray.nodes() if node_info["Alive"])


def _fits(resources: dict[str, float], threads: int, gpu: bool) -> int:
    processors = int(resources.get("CPU", 0)) // threads
    return min(processors, int(resources.get("GPU", 0))) if gpu else processors


def run_ray_jobs(
    store: Store, jobs: Sequence[Job], *, most: int, threads: int, gpu: bool, progress: ProgressListener
) -> list[Outcome]:
    """Run `jobs` on the connected cluster, as many at once as it can take.

    Args:
        store: The study's folder.
        jobs: What to do.
        most: Largest number at once; 0 for any number.
        threads: Processors of each job.
        gpu: True if each job takes a GPU.
        progress: Is told of every event.

    Returns:
        How each job ended, in the order in which they did.

    Raises:
        ValueError: Where a node cannot run them.
        Interrupted: When told to stop. The tasks are ended before any of these is raised.
        StoreUnwritable: When the folder or a node's disk cannot be written.
        SourcesChanged: When a node has other sources.
    """
    import ray

    if not gpu and ray.cluster_resources().get("GPU"):
        progress.note("the cluster has GPUs and this machine has none: runs use processors alone, as they would here")
    with signals_raise():
        queue_ = _RayQueue(store, jobs, most, threads, gpu, progress)
        try:
            return queue_.drain()
        finally:
            queue_.stop()


@dataclass(kw_only=True)
class _RayTask:
    """A job that a node has, or will have."""

    job: Job
    claim: contextlib.ExitStack
    events: Any = None  # what Ray gives: an iterator of references
    listener: threading.Thread | None = None
    began: float | None = None
    started: str = field(default_factory=utc_now)
    node: str = "a node"
    environment: dict[str, Any] = field(default_factory=dict)
    losses: int = 0
    settled: bool = False


class _RayQueue(JobQueue):
    def __init__(
        self, store: Store, jobs: Sequence[Job], most: int, threads: int, gpu: bool, progress: ProgressListener
    ) -> None:
        import ray

        super().__init__(store, jobs, 1, progress)
        self.most, self.threads, self.gpu = most, threads, gpu
        self.looked = float("-inf")
        self.tasks: list[_RayTask] = []
        self.events: queue.Queue[tuple[_RayTask, Any]] = queue.Queue()
        self.token = store.token()
        self.remote = ray.remote(node.run_job_on_node).options(
            num_cpus=threads, num_gpus=int(gpu), max_retries=0, num_returns="streaming"
        )

    def working(self) -> int:
        """Return the number of tasks."""
        return len(self.tasks)

    def step(self) -> bool:
        """Take a step as every queue, with as many jobs at once as the cluster can take by now."""
        if time.monotonic() - self.looked > NODE_POLL_SECONDS:
            slots = count_cluster_slots(self.threads, gpu=self.gpu)
            self.parallel = max(1, min(slots, self.most or slots))
            self.looked = time.monotonic()
        return super().step()

    def stop(self) -> None:
        """Cancel the tasks that have not ended, by force where they do not end soon, and release the claims."""
        import ray

        for force in (False, True):
            for task in self.tasks:
                if task.listener is not None and task.listener.is_alive():
                    with contextlib.suppress(ray.exceptions.RayError):
                        ray.cancel(task.events, force=force)
            deadline = time.monotonic() + GRACE_SECONDS
            for task in self.tasks:
                if task.listener is not None:
                    task.listener.join(max(0.0, deadline - time.monotonic()))
        for task in self.tasks:
            task.claim.close()
        self.tasks = []

    def start(self, job: Job) -> None:
        """Claim the job and submit it."""
        task = _RayTask(job=job, claim=contextlib.ExitStack())
        try:
            task.claim.enter_context(self.store.claim(job.kind, job.key))
        except ClaimBusy:
            self.claimed_elsewhere.append(job)
            return
        damage = self.store.clear_damaged(job.kind, job.key)
        if damage:
            self.progress.note(damage)
        if self.store.has(job.kind, job.key):
            task.claim.close()
            self.end(Outcome(job=job, status="elsewhere"))
            return
        self.tasks.append(task)
        self._submit(task)

    def _submit(self, task: _RayTask) -> None:
        begin_log(task.job.spec, self.store.log(task.job.key))
        spec = task.job.spec
        modules = {digest: read_copy(self.store.module(digest)) for digest in spec.get("modules", {})}
        task.events = self.remote.remote(spec, token=self.token, folder=str(Path.cwd()), gpu=self.gpu, modules=modules)
        task.listener = threading.Thread(target=self._listen, args=(task, task.events), daemon=True)
        task.listener.start()

    def _listen(self, task: _RayTask, events: Any) -> None:
        import ray

        try:
            for reference in events:
                self.events.put((task, ray.get(reference)))
        except Exception as error:  # of Ray, or what the task raised
            self.events.put((task, error))
        else:
            self.events.put((task, None))

    def handle_event(self) -> None:
        """Handle the next event of a task, or its end."""
        try:
            task, event = self.events.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        if isinstance(event, Exception):
            self._failed(task, event)
        elif event is None:
            if not task.settled:
                self._lost(task, "ended without a word")
        else:
            self._hear(task, event)

    def _hear(self, task: _RayTask, event: node.Event) -> None:
        name = event["event"]
        if name == "begun":
            task.node, task.environment = event["node"], event["environment"]
            if task.began is None:  # a lost one that begins again is on the screen already
                self.progress.started(task.job)
            task.began = time.monotonic()
        elif name == "step":
            self.progress.stepped(task.job, event["step"], event["total"], event["message"])
        elif name == "note":
            self.progress.note(event["message"])
        elif name == "done":
            self._keep(task, event["row"], event["log"], event["pictures"])
        elif name == "stopped":
            self._settle(task, "stopped", event["message"])
        elif name == "stuck":
            raise StoreUnwritable(event["errno"], event["message"], task.node)
        else:
            assert name == "changed", name
            what = event["what"]
            raise SourcesChanged(
                what,
                f"{task.node}: {what} there are not those of this command, or changed while the study ran; what was "
                "done is kept: give every node the same version of the program and the same data, and start it again",
            )

    def _keep(self, task: _RayTask, row: dict[str, Any], log: bytes = b"", pictures: bytes | None = None) -> None:
        """Write row, log and pictures of a job, under the claim that this process holds."""
        key = task.job.key
        try:
            self.store.write_beside(key, log=log, pictures=pictures)
            self.store.write(row)
        except OSError as error:
            if not is_store_unwritable(error, self.store.out):
                raise
            raise StoreUnwritable(error.errno, error.strerror, str(self.store.out)) from error
        self._settle(task, row["status"], row["message"], row["metrics"])

    def _settle(self, task: _RayTask, status: str, message: str, metrics: dict[str, Any] | None = None) -> None:
        task.settled = True
        task.claim.close()
        self.tasks.remove(task)
        seconds = 0.0 if task.began is None else time.monotonic() - task.began
        self.end(Outcome(job=task.job, status=status, message=message, metrics=metrics or {}, seconds=seconds))

    def _failed(self, task: _RayTask, error: Exception) -> None:
        import ray

        if task.settled:
            return
        if isinstance(error, ray.exceptions.RayTaskError):  # what `bench.launchers.ray_node` does not raise
            raise ValueError(
                f"{task.node} cannot carry out a run: {one_line(error.cause)}; "
                "unept-bench must be installed on every node, in this version"
            )
        memory = isinstance(error, ray.exceptions.OutOfMemoryError)
        self._lost(task, "was ended by Ray for memory" if memory else "was lost", memory=memory)

    def _lost(self, task: _RayTask, how: str, *, memory: bool = False) -> None:
        """Submit a job again, or give it a row where that has been done often enough."""
        task.losses += 1
        if task.losses <= MAX_RESTARTS:
            self.progress.note(f"{task.job.label} {how} with {task.node}; it begins again")
            self._submit(task)
            return
        result = {"status": "oom" if memory else "failed", "message": f"{how} {task.losses} times, last on {task.node}"}
        row = make_row(task.job.spec, result, started=task.started)
        self._keep(task, row | ({"environment": task.environment} if task.environment else {}))
