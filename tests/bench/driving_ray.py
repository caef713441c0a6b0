"""A small study on a Ray cluster of two nodes of one machine, of which one is killed: `driving.py` with another engine.

Usage: driving_ray.py OUT TASK POINTS SEEDS KILL, where KILL is `no`, or the step of a run on the second node at which
that node dies.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from driving import Silent, jobs, opened
from ray.cluster_utils import Cluster

from bench.launchers import ray_cluster as cluster
from bench.launchers.queue import Interrupted

SMALL: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


class Killing(Silent):
    """Ends the second node, at once and without a word, when both nodes are in the middle of a run."""

    def __init__(self, ray_cluster: Cluster, node: Any, step: int) -> None:
        super().__init__()
        self.cluster, self.node, self.step = ray_cluster, node, step
        self.at: dict[str, int] = {}
        self.killer: threading.Thread | None = None

    def stepped(self, job: Any, step: int, total: int, message: str) -> None:
        super().stepped(job, step, total, message)
        self.at[job.label] = step
        under_way = [seen for seen in self.at.values() if self.step <= seen < total]
        if self.killer is None and len(under_way) == 2:
            self.killer = threading.Thread(target=self.cluster.remove_node, args=(self.node, False))
            self.killer.start()


def drive(out: Path, task: str, points: tuple[int, ...], seeds: int, kill: str) -> int:
    store = opened(out)
    todo = jobs(out, task, points=points, seeds=seeds)
    names = ("key", "variant", "axes", "seed")
    store.register("test", {"runs": [{name: job.spec[name] for name in names} for job in todo], "measures": []})
    both = Cluster(initialize_head=True, head_node_args=SMALL)
    second = both.add_node(**SMALL)
    listener = Silent() if kill == "no" else Killing(both, second, int(kill))
    try:
        with cluster.ray_connection(both.address):
            print(
                "slots",
                cluster.count_cluster_slots(1, gpu=False),
                cluster.count_cluster_slots(2, gpu=False),
                cluster.count_cluster_slots(1, gpu=True),
            )
            began = time.monotonic()
            cluster.run_ray_jobs(store, todo, most=0, threads=1, gpu=False, progress=listener)
            print(f"took {time.monotonic() - began:.1f} s")
    except Interrupted:
        return 130
    finally:
        both.shutdown()
    print(json.dumps({"notes": listener.notes, "steps": listener.steps}))
    store.write_tables()
    return 0


if __name__ == "__main__":
    out, task, points, seeds, kill = sys.argv[1:]
    sys.exit(drive(Path(out), task, tuple(map(int, points.split(","))), int(seeds), kill))
