from __future__ import annotations

from pathlib import Path

import pytest

from bench.results import source_hash as sources
from bench.results.source_hash import hash_files, slots_of, source_hash, user_files


def tree(folder: Path, files: dict[str, str]) -> list[tuple[str, Path]]:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return [(name, folder / name) for name in files]


def test_the_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    base = hash_files(tree(tmp_path / "a", {"x.py": "1", "y.py": "2"}))
    assert hash_files(reversed(tree(tmp_path / "b", {"x.py": "1", "y.py": "2"}))) == base, (
        "order and place do not count"
    )
    for number, other in enumerate(
        ({"x.py": "1", "y.py": "3"}, {"x.py": "2", "y.py": "1"}, {"x.py": "1", "z.py": "2"})
    ):
        assert hash_files(tree(tmp_path / str(number), other)) != base
    assert hash_files(tree(tmp_path / "more", {"x.py": "1", "y.py": "2", "z.py": ""})) != base


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the repository, with fresh hashes."""
    tree(
        tmp_path,
        {
            "unept/model.py": "model",
            "unept/ops/kernel.cpp": "kernel",
            "unept/__pycache__/model.pyc": "x",
            "unept/README.md": "x",
            "cuda/kernel.cu": "kernel",
            "bench/training/loop.py": "recipe",
            "bench/evaluation/metrics.py": "metrics",
            "bench/launchers/progress.py": "progress",
            "bench/measures/memory.py": "memory",
            "docs/data.md": "docs",
        },
    )
    monkeypatch.setattr(sources, "_package_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "bench" / "sources.py"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fresh(kind: str = "run", slots: tuple[str, ...] = ()) -> str:
    sources._hash.cache_clear()
    return source_hash(kind, slots)


@pytest.fixture(autouse=True)
def forget() -> None:
    sources._hash.cache_clear()


@pytest.mark.parametrize(
    ("name", "runs", "measures"),
    [
        ("unept/model.py", True, True),
        ("unept/ops/kernel.cpp", True, True),
        ("cuda/kernel.cu", True, True),
        ("bench/training/loop.py", True, True),
        ("bench/evaluation/metrics.py", True, True),
        ("bench/measures/memory.py", False, True),
        ("bench/launchers/progress.py", False, False),
        ("docs/data.md", False, False),
        ("unept/README.md", False, False),
        ("unept/__pycache__/model.pyc", False, False),
    ],
)
def test_what_an_edit_makes_due(copies: Path, name: str, runs: bool, measures: bool) -> None:
    before = fresh("run"), fresh("measure")
    (copies / name).write_text("edited")
    assert (fresh("run") != before[0], fresh("measure") != before[1]) == (runs, measures)


def test_an_edit_of_ones_own_attention_counts_where_it_is_used(copies: Path) -> None:
    tree(copies, {"mine.py": "class A: 1", "package/__init__.py": "", "package/inner.py": "1", "package/other.py": "1"})
    own, packaged, ours = ("mine:A",), ("package.inner:B",), ("deformable",)
    before = fresh("run", own), fresh("run", packaged), fresh("run", ours)
    assert len(set(before)) == 3
    (copies / "mine.py").write_text("class A: 2")
    assert fresh("run", own) != before[0]
    assert fresh("run", packaged) == before[1]
    assert fresh("run", ours) == before[2]
    (copies / "package/other.py").write_text("2")
    assert fresh("run", packaged) != before[1]


def test_a_module_that_is_not_found_or_has_no_source_is_no_error(tmp_path: Path) -> None:
    assert user_files("no_such_module_here", str(tmp_path)) == []
    assert user_files("sys", str(tmp_path)) == []


def test_user_modules_are_found_in_any_slot() -> None:
    settings = {"model": {"points": 4, "encoder_self": "mine:A", "decoder_self": "dense", "decoder_cross": "yours:B"}}
    assert slots_of(settings) == ("mine:A", "yours:B")


def test_the_real_sources_are_found() -> None:
    assert source_hash("run") == source_hash("run")
    assert source_hash("run") != source_hash("measure")
    names = {name for name, _ in sources._tree("unept", sources._package_folder("unept"))}
    assert {"unept/config.py", "unept/attention/deformable.py"} <= names
