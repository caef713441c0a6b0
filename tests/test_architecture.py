"""Which part may import which. The picture is in docs/architecture.md; an arrow goes down only."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from locations import ROOT

PACKAGES = ("unept", "bench", "reports", "experiments", "cli")  # from the bottom up
# Rooms of a package by floor, from the bottom up. A room imports from floors below its own, never from its own floor.
FLOORS: Mapping[str, Sequence[Sequence[str]]] = {
    "bench": (
        ("errors", "units", "child_process"),
        ("user_code",),
        ("config", "dataset_check", "stats", "timing"),
        ("results",),
        ("environment", "distributed"),
        ("launchers", "microbench"),
        ("evaluation",),
        ("training",),
        ("profiling",),
        ("attention_layer", "study"),
        ("doctor",),
    ),
    "reports": (("formats",), ("paper",), ("analysis",), ("plots",), ("study", "pages")),
    "experiments": (("attention",), ("tables",), ("commands",)),
}
HEAVY = {"torch", "torchvision", "timm", "mmcv", "mmengine"}
COMMON_WORDS = {"none", "batch"}  # names of mechanisms that are also ordinary words of the harness


def module_name(path: Path, root: Path = ROOT) -> str:
    """The dotted name of a source file."""
    name = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def sources(package: str) -> list[Path]:
    """Every source file of a package, or the one file of a module."""
    folder = ROOT / package
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


def imports(source: str) -> Iterator[str]:
    """The full name of each module or member that the source imports, at any depth of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow points"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def arrows(package: str) -> Iterator[tuple[str, str]]:
    """(importing module, imported name) for every import of the package's sources."""
    for path in sources(package):
        yield from ((module_name(path), name) for name in imports(path.read_text(encoding="utf-8")))


def floor_of(name: str, floors: Sequence[Sequence[str]]) -> int | None:
    """The floor of the room that a dotted name lies in; None for the package itself."""
    room = name.split(".")[1:2]
    return next((floor for floor, rooms in enumerate(floors) if room and room[0] in rooms), None)


def climbs(importer: str, imported: str, floors: Sequence[Sequence[str]]) -> bool:
    """Whether an import inside one package leaves its room without going down."""
    if importer.split(".")[:2] == imported.split(".")[:2]:
        return False
    start, end = floor_of(importer, floors), floor_of(imported, floors)
    return start is not None and end is not None and start <= end


def within(name: str, prefixes: set[str]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def words(source: str) -> set[str]:
    """The words of every string that is not a docstring, and every name that is used."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            used |= set(node.value.replace(",", " ").replace("=", " ").split())
        elif isinstance(node, ast.Name):
            used.add(node.id)
    return used


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_downward_only(package: str) -> None:
    assert sources(package)
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    assert [f"{importer} imports {name}" for importer, name in arrows(package) if within(name, above)] == []


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_downward_only(package: str) -> None:
    inside = [(importer, name) for importer, name in arrows(package) if within(name, {package})]
    assert inside
    assert [f"{importer} imports {name}" for importer, name in inside if climbs(importer, name, FLOORS[package])] == []


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_has_a_floor_and_stands_in_the_picture(package: str) -> None:
    rooms = {module_name(path).split(".")[1] for path in sources(package) if module_name(path) != package}
    listed = [room for floor in FLOORS[package] for room in floor]
    assert len(listed) == len(set(listed))
    picture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
    assert rooms - set(listed) - LOOSE.get(package, set()) == set()
    assert set(listed) - rooms == set()
    assert [room for room in listed if room not in picture] == []


def room_of(name: str) -> str:
    """The room that a dotted name lies in; "" for the package itself."""
    return [*name.split("."), ""][1]


def picture_lines(package: str) -> list[str]:
    """The lines of the picture in docs/architecture.md that stand below a package's name."""
    picture = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("```")[1]
    lines = picture.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{package}/"))
    ends = (number for number, line in enumerate(lines) if number > start and re.match(r"[a-z]", line))
    return lines[start + 1 : next(ends, len(lines))]


@pytest.mark.parametrize("package", FLOORS)
def test_arrows_go_down_in_the_picture(package: str) -> None:
    """A room imports from rooms whose line lies below its own."""
    lines = picture_lines(package)
    rooms = [room for floor in FLOORS[package] for room in floor]
    line_of = {
        room: next(number for number, line in enumerate(lines) if re.search(rf"\b{room}\b", line)) for room in rooms
    }
    inside = [(importer, name) for importer, name in arrows(package) if within(name, {package})]
    between = [(importer, name, *(room_of(part) for part in (importer, name))) for importer, name in inside]
    between = [arrow for arrow in between if arrow[2] != arrow[3] and {*arrow[2:]} <= {*line_of}]
    assert between
    assert [
        f"{importer} imports {name}" for importer, name, *ends in between if line_of[ends[0]] >= line_of[ends[1]]
    ] == []


@pytest.mark.parametrize("package", ["unept", *FLOORS])
def test_every_folder_of_the_picture_is_there(package: str) -> None:
    named = {name for line in picture_lines(package) for name in re.findall(r"\b(\w+)/", line)}
    folders = {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").is_file()}
    first = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split(f"\n{package}/")[1].splitlines()[0]
    named |= set(re.findall(r"\b(\w+)/", first))
    assert named - {"multi_process", "flops", "memory"} == folders


# Modules on top of a package that import any of its rooms.
LOOSE = {"experiments": {"scene_sanity_check", "docs", "compare_commits", "compare_studies", "recipe_sweep", "records"}}


def graph(package: str) -> dict[str, set[str]]:
    """Imports between modules of one package that run while a module is loaded, without `if TYPE_CHECKING` blocks."""
    modules = {module_name(path): path for path in sources(package)}
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = imports(ast.unparse(ast.Module(body=body, type_ignores=[])))
        targets = {name if name in modules else name.rpartition(".")[0] for name in names}
        edges[module] = {name for name in targets if name in modules and name != module}
    return edges


def cycle(edges: Mapping[str, set[str]]) -> list[str]:
    """One cycle of a directed graph; empty where there is none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(edges.get(node, ())):
            if circle := walk(following, [*path, node]):
                return circle
        done.add(node)
        return []

    return next((circle for node in sorted(edges) if (circle := walk(node, []))), [])


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    assert cycle(graph(package)) == []


def public_names(path: Path) -> set[str]:
    """Names without an underscore that a package's `__init__` defines; an import that it does not use is ruff's."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


INITS = [path for package in PACKAGES for path in sources(package) if path.name == "__init__.py"]


@pytest.mark.parametrize("path", INITS, ids=[module_name(path) for path in INITS])
def test_public_names_are_listed_and_sorted(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    listed = list(getattr(module, "__all__", []))
    assert listed == sorted(listed, key=sorting_key)
    assert public_names(path) - set(listed) == set()
    assert [name for name in listed if not hasattr(module, name)] == []


def sorting_key(name: str) -> tuple[int, str]:
    """The order of ruff's RUF022: constants, classes, others."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_reports_run_without_torch() -> None:
    """Every module of `reports`, and all that these import."""
    modules = [module_name(path) for path in sources("reports")]
    code = f"import sys, {', '.join(modules)}; sys.exit(', '.join(sorted({HEAVY!r} & set(sys.modules))) or None)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_only_data_and_counters_import_mmcv() -> None:
    wrong = [
        f"{importer}: {name}"
        for importer, name in arrows("unept")
        if not importer.startswith("unept.data") and within(name, {"mmcv", "mmengine"})
    ]
    assert wrong == []


def test_bench_names_no_attention_mechanism() -> None:
    from unept.attention import CROSS, SELF

    mechanisms = {*SELF, *CROSS, *(kind.__name__ for kind in (*SELF.values(), *CROSS.values()))} - COMMON_WORDS
    assert {"deformable", "dense"} <= mechanisms
    wrong = [
        f"{module_name(path)}: {name}"
        for path in sources("bench")
        for name in words(path.read_text(encoding="utf-8")) & mechanisms
    ]
    wrong += [
        f"{importer}: {name}"
        for importer, name in arrows("bench")
        if name.startswith("unept.attention.") and name.count(".") > 2
    ]
    assert wrong == []


def test_cuda_is_no_package() -> None:
    """`cuda` is NVIDIA's import name: a package of that name in the working directory would shadow it."""
    assert sources("cuda") == []


def test_the_rules_can_fail() -> None:
    lazy = "def f():\n    from bench.launchers.local import run\n    import torch.nn as nn\n"
    assert list(imports(lazy)) == ["bench.launchers.local.run", "torch.nn"]
    floors = FLOORS["bench"]
    assert climbs("bench.config.grid", "bench.study.study.Study", floors)
    assert climbs("bench.attention_layer.costs", "bench.study.study", floors)
    assert not climbs("bench.study.study", "bench.config.grid.Variant", floors)
    assert not climbs("bench.study.study", "bench.study.shard", floors)
    assert within("torch.nn", HEAVY)
    assert not within("bench.storehouse", {"bench.store"})
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert "dense" in words("'''dense in prose'''\nslot = 'encoder_self=deformable,dense'\n")
    assert "dense" not in words("'''dense in prose'''\n")
    assert sorted(["b", "Ab", "B_C"], key=sorting_key) == ["B_C", "Ab", "b"]
