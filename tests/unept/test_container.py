"""Limits of containers: each version of control groups, nested ones, and what is read wrongly is no limit."""

from __future__ import annotations

from pathlib import Path

import pytest
from locations import ROOT

from bench import doctor, environment
from unept.utils import container
from unept.utils.container import MemoryLimit

GIB = 1 << 30
DOCKER = "/docker/0123abcd"
V1_NONE = 9223372036854771712


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups, of a process with 16 processors that belongs to none."""
    monkeypatch.setattr(container, "GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(container, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(container, "allowed_cores", lambda: 16)
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def write(groups: Path, own: str, files: dict[str, object]) -> None:
    (groups.parent / "own").write_text(own)
    for name, content in files.items():
        (groups / name).parent.mkdir(parents=True, exist_ok=True)
        (groups / name).write_text(f"{content}\n")


def test_without_control_groups_there_is_no_limit(groups: Path) -> None:
    assert container.usable_cores() == 16
    assert container.memory_limits() == []


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("0::/\n", {"memory.max": 3 * GIB, "memory.current": GIB}, [(3 * GIB, GIB)]),
        ("0::/\n", {"memory.max": "max", "memory.current": GIB}, []),
        ("0::/\n", {"memory.high": 2 * GIB, "memory.max": "max", "memory.current": GIB}, [(2 * GIB, GIB)]),
        (  # files that were read are dropped when memory is needed
            "0::/\n",
            {"memory.max": 3 * GIB, "memory.current": 2 * GIB, "memory.stat": f"anon {GIB}\ninactive_file {GIB}"},
            [(3 * GIB, GIB)],
        ),
        (  # a job in a slice: each group around it may limit it
            "0::/system.slice/job_7/step_0\n",
            {
                "system.slice/job_7/step_0/memory.max": "max",
                "system.slice/job_7/memory.max": 2 * GIB,
                "system.slice/job_7/memory.current": GIB // 2,
                "system.slice/memory.max": 9 * GIB,
                "system.slice/memory.current": 8 * GIB,
            },
            [(2 * GIB, GIB // 2), (9 * GIB, 8 * GIB)],
        ),
        (  # version 1; the container's group is mounted as the top one
            f"11:memory:{DOCKER}\n4:cpu,cpuacct:{DOCKER}\n",
            {
                "memory/memory.limit_in_bytes": GIB,
                "memory/memory.usage_in_bytes": GIB // 2,
                "memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {GIB // 4}",
            },
            [(GIB, GIB // 4)],
        ),
        (
            f"11:memory:{DOCKER}\n0::/\n",
            {"memory/memory.limit_in_bytes": V1_NONE, f"memory{DOCKER}/memory.limit_in_bytes": GIB},
            [(GIB, 0)],
        ),
        ("0::/\n", {"memory.max": "", "memory.current": "x"}, []),
        ("nonsense\n\n:::\n0::/../../up\n", {"memory.max": 7, "memory.current": 9}, [(7, 9)]),
    ],
)
def test_memory(groups: Path, own: str, files: dict[str, object], limits: list[tuple[int, int]]) -> None:
    write(groups, own, files)
    assert container.memory_limits() == limits


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/\n", {"cpu.max": "150000 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, 16),
        ("0::/\n", {"cpu.max": "6400000 100000"}, 16),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000", "cpu.max": "max"}, 3),
        (f"4:cpu,cpuacct:{DOCKER}\n", {"cpu/cpu.cfs_quota_us": 200000, "cpu/cpu.cfs_period_us": 100000}, 2),
        (
            f"4:cpu,cpuacct:{DOCKER}\n",
            {
                f"cpu,cpuacct{DOCKER}/cpu.cfs_quota_us": 500000,
                f"cpu,cpuacct{DOCKER}/cpu.cfs_period_us": 100000,
                "cpu/cpu.cfs_quota_us": -1,
                "cpu/cpu.cfs_period_us": 100000,
            },
            5,
        ),
        ("0::/\n", {"cpu.max": ""}, 16),
    ],
)
def test_processors(groups: Path, own: str, files: dict[str, object], cores: int) -> None:
    write(groups, own, files)
    assert container.usable_cores() == cores


def test_what_the_program_says_and_takes_of_a_container(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(groups, "0::/\n", {"cpu.max": "300000 100000", "memory.max": GIB // 2, "memory.current": GIB // 4})
    assert environment.available_memory_bytes() <= GIB // 4
    facts = environment.collect_environment(threads=1)
    assert (facts["cores"], facts["memory_gib"]) == (3, 0.5)
    assert any("3 usable, 0.5 GiB of memory" in line for line in doctor.diagnosis_lines())
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment.default_thread_variables()["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert environment.default_thread_variables() == {}
    monkeypatch.delenv("OMP_NUM_THREADS")
    (groups / "cpu.max").unlink()
    assert environment.default_thread_variables() == {}  # the libraries read the mask themselves


def test_a_limit_below_its_use_leaves_nothing() -> None:
    assert MemoryLimit(5, 9).free == 0


def test_the_machine_s_processors_are_counted_in_one_place() -> None:
    sources = [path for name in ("bench", "experiments", "reports", "unept") for path in (ROOT / name).rglob("*.py")]
    assert len(sources) > 100
    counting = [path.name for path in [*sources, ROOT / "cli.py"] if "cpu_count" in path.read_text(encoding="utf-8")]
    assert counting == ["container.py"]
