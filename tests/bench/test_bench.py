import importlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from locations import ROOT

import bench


def test_every_public_name_is_offered_and_sorted() -> None:
    assert sorted(bench.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name)) == bench.__all__
    assert set(bench.__all__) == set(bench._HOMES)
    assert set(bench.__all__) <= set(dir(bench))
    for name, home in bench._HOMES.items():
        assert getattr(bench, name) is getattr(importlib.import_module(home), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'bench' has no attribute 'run_everything'"):
        _ = bench.run_everything


def test_configuration_store_and_statistics_come_without_torch() -> None:
    code = """
import sys, bench
assert not [name for name in sys.modules if name.startswith("bench.")]
bench.expand_axes, bench.preset("quick"), bench.Store, bench.welch_test, bench.plan_seeds, bench.settings_to_dict
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_the_example_in_the_docstring_runs_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench.__doc__ is not None
    code = "\n".join(line for line in bench.__doc__.splitlines() if line.startswith("    ") or not line)
    names: dict[str, Any] = {}
    exec(textwrap.dedent(code), names)
    ran = [(row["kind"], row["variant"], row["status"]) for row in names["rows"]]
    variants = ("encoder_self=deformable", "encoder_self=none")
    assert ran == [(kind, variant, "ok") for kind in ("run", "measure") for variant in variants]
    assert set(names["scores"]) == set(variants)
    capsys.readouterr()
    assert [row["key"] for row in bench.run_study(names["study"])] == [row["key"] for row in names["rows"]]
    assert "2 of 2 runs are there already" in capsys.readouterr().out
