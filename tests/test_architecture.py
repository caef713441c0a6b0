"""Which part may import which. The picture is in docs/architecture.md; arrows go down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from locations import ROOT

PARTS = ("unept", "bench", "experiments", "reports")
MAY_IMPORT = {
    "unept": {"unept"},
    "bench": {"bench", "unept"},
    "experiments": {"experiments", "reports", "bench", "unept"},
    "reports": {"reports", "bench", "unept.config"},
}
HEAVY = {"torch", "torchvision", "timm", "mmcv", "mmengine"}
COMMON_WORDS = {"none", "batch"}  # names of mechanisms that are also ordinary words of the harness


def sources(part: str) -> list[Path]:
    return sorted((ROOT / part).rglob("*.py"))


def imports(source: str) -> Iterator[str]:
    """The full name of each module or member that the source imports, at any depth of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(name: str) -> bool:
    return name.split(".")[0] in (*PARTS, "cli")


def within(name: str, allowed: set[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)


def words(source: str) -> set[str]:
    """The words of every string that is not a docstring, and every name that is used."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= set(node.value.replace(",", " ").replace("=", " ").split())
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found


@pytest.mark.parametrize("part", PARTS)
def test_arrows_go_down(part: str) -> None:
    files = sources(part)
    assert files
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path.read_text(encoding="utf-8"))
        if ours(name) and not within(name, MAY_IMPORT[part])
    ]
    assert wrong == []


def test_nothing_imports_the_command_line() -> None:
    assert all("cli" not in allowed for allowed in MAY_IMPORT.values())


def test_reports_run_without_torch() -> None:
    """Every module of reports, with all that it imports from bench, is imported in a process of its own."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in sources("reports")]
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"sys.exit(', '.join(sorted({HEAVY!r} & set(sys.modules))) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("part", ["reports"])
def test_rooms_import_downward_only(part: str) -> None:
    """The first-level folders of a package stand in one order: each imports only folders before it."""
    order = {"reports": ("formats", "paper", "analysis", "plots", "study", "pages")}[part]
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(part)
        if len(path.relative_to(ROOT / part).parts) > 1
        for name in imports(path.read_text(encoding="utf-8"))
        if name.startswith(f"{part}.")
        and order.index(name.split(".")[1]) > order.index(path.relative_to(ROOT / part).parts[0])
    ]
    assert wrong == []
    apart = [
        name
        for path in sources("reports/pages")
        for name in imports(path.read_text(encoding="utf-8"))
        if within(name, {"reports.study"})
    ]
    assert apart == [], "a page of its own needs nothing of a study's report"


def test_only_data_and_counters_import_mmcv() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources("unept")
        if "data" not in path.relative_to(ROOT).parts
        for name in imports(path.read_text(encoding="utf-8"))
        if within(name, {"mmcv", "mmengine"})
    ]
    assert wrong == []


def test_bench_names_no_attention_mechanism() -> None:
    from unept.attention import CROSS, SELF

    mechanisms = {*SELF, *CROSS, *(kind.__name__ for kind in (*SELF.values(), *CROSS.values()))} - COMMON_WORDS
    assert {"deformable", "dense"} <= mechanisms
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("bench")
        for name in words(path.read_text(encoding="utf-8")) & mechanisms
    ]
    wrong += [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("bench")
        for name in imports(path.read_text(encoding="utf-8"))
        if name.startswith("unept.attention.") and name.count(".") > 2
    ]
    assert wrong == []


def test_cuda_is_no_package() -> None:
    """`cuda` is NVIDIA's import name: a package of that name in the working directory would shadow it."""
    assert sources("cuda") == []


def test_the_rules_can_fail() -> None:
    lazy = "def f():\n    from bench.launchers.local import run\n    import torch.nn as nn\n"
    assert list(imports(lazy)) == ["bench.launchers.local.run", "torch.nn"]
    assert ours("bench.launchers.local.run")
    assert not within("bench.launchers.local.run", MAY_IMPORT["unept"])
    assert not within("unept.model", MAY_IMPORT["reports"])
    assert within("bench.results.store.Store", MAY_IMPORT["reports"])
    assert within("torch.nn", HEAVY)
    assert "dense" in words("'''dense in prose'''\nslot = 'encoder_self=deformable,dense'\n")
    assert "dense" not in words("'''dense in prose'''\n")
