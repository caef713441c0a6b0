"""The hash of the sources: which edit makes which rows due, and the table of roles behind it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.results import source_hash as module
from bench.results.canonical_names import Program, Reference
from bench.results.canonical_python import items_of
from bench.results.roles import MEASURE, NO_NUMBER, ROLES, UNASSIGNED, role_of
from bench.results.source_hash import slots_of, source_hash, source_roles, user_modules
from bench.results.user_modules import SUFFIXES

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for top in ("unept", "cuda")
    for path in sorted((ROOT / top).rglob("*"))
    if path.suffix in SUFFIXES
]


def tree(folder: Path, files: dict[str, str]) -> None:
    """Write the files."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for the repository."""
    tree(
        tmp_path,
        {
            "unept/model.py": "MODEL = 1\n",
            "unept/losses/total_loss.py": "from unept.model import MODEL\nLOSS = MODEL\n",
            "unept/ops/kernel.cpp": "int kernel = 1;\n",
            "unept/new.py": "NEW = 1\n",
            "unept/utils/atomic_files.py": "FILES = 1\n",
            "unept/__pycache__/model.pyc": "x",
            "unept/README.md": "x",
            "cuda/kernel.cu": "int kernel = 1;\n",
            "bench/training/loop.py": "RECIPE = 1\n",
            "bench/evaluation/metrics.py": "METRICS = 1\n",
            "bench/launchers/progress.py": "PROGRESS = 1\n",
            "bench/profiling/variant.py": "MEASURE = 1\n",
            "bench/profiling/complexity.py": "COUNT = 1\n",
            "docs/data.md": "docs",
        },
    )
    monkeypatch.setattr(module, "_package_folder", lambda name: tmp_path / name)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "bench" / "results" / "source_hash.py"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    module._files.cache_clear()
    module._user_modules.cache_clear()


def fresh(kind: str = "run", slots: tuple[str, ...] = ()) -> dict[str, str]:
    """The digests of the files as they are now."""
    return source_roles(kind, slots, again=True)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("unept/model.py", "model"),
        ("unept/losses/total_loss.py", "losses"),
        ("unept/ops/kernel.cpp", "operator"),
        ("cuda/kernel.cu", "operator"),
        ("unept/new.py", UNASSIGNED),
        ("bench/training/loop.py", "recipe"),
        ("bench/evaluation/metrics.py", "metrics"),
        ("bench/profiling/variant.py", MEASURE),
        ("bench/profiling/complexity.py", ""),
        ("bench/launchers/progress.py", ""),
        ("unept/utils/atomic_files.py", ""),
        ("docs/data.md", ""),
        ("unept/README.md", ""),
        ("unept/__pycache__/model.pyc", ""),
    ],
)
def test_an_edit_makes_due_what_its_role_decides(copies: Path, name: str, role: str) -> None:
    runs, measures, hashes = fresh("run"), fresh("measure"), (source_hash("run"), source_hash("measure"))
    assert runs == {name: digest for name, digest in measures.items() if name != MEASURE}
    (copies / name).write_text("EDITED = 2\n")
    after = fresh("measure")
    assert {name for name in after if after[name] != measures[name]} == ({role} if role else set())
    assert (source_hash("run") != hashes[0]) == (role not in ("", MEASURE))
    assert (source_hash("measure") != hashes[1]) == bool(role)


def test_comments_and_moves_make_nothing_due(copies: Path) -> None:
    before = fresh("measure")
    (copies / "unept/model.py").write_text('"""The model."""\n\nMODEL = 1  # one\n')
    (copies / "cuda/kernel.cu").write_text("// the kernel\nint kernel\n  = 1;\n")
    (copies / "unept/losses/total_loss.py").unlink()
    tree(copies, {"unept/losses/sum.py": "import unept.model as m\nLOSS = m.MODEL\n", "unept/losses/__init__.py": ""})
    assert fresh("measure") == before


def test_kernels_count_alike_in_a_checkout_and_once_installed(copies: Path) -> None:
    before = fresh()
    (copies / "unept/ops/kernels").mkdir()
    (copies / "cuda/kernel.cu").rename(copies / "unept/ops/kernels/kernel.cu")
    assert fresh() == before
    tree(copies, {"unept/ops/kernels/probes.cpp": "int probe;\n"})
    assert fresh() == before


def test_an_edit_of_ones_own_attention_counts_where_it_is_used(copies: Path) -> None:
    tree(
        copies,
        {"mine.py": "A = 1", "package/__init__.py": "", "package/inner.py": "B = 1", "package/other.py": "C = 1"},
    )
    own, packaged, ours = ("mine:A",), ("package.inner:B",), ("deformable",)
    before = fresh("run", own), fresh("run", packaged), fresh("run", ours)
    assert [set(roles) - set(before[2]) for roles in before] == [{"user:mine"}, {"user:package"}, set()]
    (copies / "mine.py").write_text("A = 2")
    assert fresh("run", own)["user:mine"] != before[0]["user:mine"]
    assert fresh("run", packaged) == before[1]
    assert fresh("run", ours) == before[2]
    (copies / "package/other.py").write_text("C = 2")
    assert fresh("run", packaged) != before[1]
    assert fresh("run", (*own, *packaged)).keys() == before[0].keys() | before[1].keys()


def test_ones_own_attention_does_not_change_with_what_it_uses_of_ours(copies: Path) -> None:
    tree(copies, {"mine.py": "from unept.model import MODEL\nA = MODEL\n"})
    before = fresh("run", ("mine:A",))
    (copies / "unept/model.py").write_text("MODEL = 2\n")
    tree(copies, {"unept/context.py": "MODEL = 3\n"})
    after = fresh("run", ("mine:A",))
    assert after["user:mine"] == before["user:mine"]
    assert after["model"] != before["model"]


def test_a_module_that_is_not_found_or_has_no_source_is_no_error() -> None:
    assert user_modules(["no_such_module_here:A", "sys:A"]) == {}
    assert source_hash("run", ["no_such_module_here:A"]) == source_hash("run")


def test_user_modules_are_found_in_any_slot() -> None:
    settings = {"model": {"points": 4, "encoder_self": "mine:A", "decoder_self": "dense", "decoder_cross": "yours:B"}}
    assert slots_of(settings) == ("mine:A", "yours:B")


def test_every_source_has_a_role_or_decides_no_number() -> None:
    assert len(SOURCES) > 100
    assert [name for name in SOURCES if role_of(name) == UNASSIGNED] == []
    assert [name for name in NO_NUMBER if name not in SOURCES] == []


def test_what_a_role_uses_of_ours_has_a_role_or_decides_no_number() -> None:
    """Code that moves out of a role's files would else be hashed no longer."""
    outside = {
        "bench.config.option_fields": "how options are described",
        "bench.config.presets": "its values are settings, and part of a key",
        "bench.config.settings": "likewise",
        "bench.environment": "the machine, which is part of a measure's key, and the resident set as the system has it",
        "bench.errors": "messages",
        "bench.results.shapes": "whether a file is read at all",
        "bench.training.options": "bench.training.execution spells out what a study's runs take of it",
        "bench.units": "what a unit is",
        "unept.utils.atomic_files": "how a file is written",
        "unept.utils.cache_folder": "where built libraries and made maps are kept",
        "unept.utils.container": "how many threads read files",
        "unept.utils.file_locks": "who may write a file",
        "unept.utils.messages": "messages",
        "unept.utils.user_code": "what a user's code leaves as it was",
        "unept.utils.paths": "where a user's path leads",
        "unept.utils.torchvision_shim": "what is imported",
    }
    files = {file.module: file for file in module._files() if file.module}
    packages = frozenset(name for name, file in files.items() if file.is_package)
    program = Program({name: file.content for name, file in files.items()}, packages)
    used = {
        part.module
        for name, file in files.items()
        if file.role
        for item in items_of(program, name) or ()
        for part in item.parts
        if isinstance(part, Reference)
    }
    assert "unept.attention.deformable" in used
    assert {name for name in used if not files[name].role} - outside.keys() == set()


def test_every_entry_of_the_table_is_there_and_stands_once() -> None:
    entries = [entry for some in ROLES.values() for entry in some]
    assert sorted(set(entries)) == sorted(entries)
    missing = [
        entry for entry in entries if not (ROOT / entry).exists() or (ROOT / entry).is_dir() != entry.endswith("/")
    ]
    assert missing == []


def test_the_longer_entry_decides() -> None:
    assert role_of("unept/published/anl.py") == "model"
    assert role_of("unept/published/loss.py") == "losses"
    assert role_of("unept/data/contact_sheet.py") == ""
    assert role_of("bench/results/store.py") == ""


def test_the_real_sources_are_hashed_soon() -> None:
    module._files.cache_clear()
    module._digests.cache_clear()
    began = time.process_time()
    roles = source_roles("measure")
    first = time.process_time() - began
    assert set(roles) == set(ROLES)
    began = time.process_time()
    assert source_roles("measure", again=True) == roles
    again = time.process_time() - began
    assert first < 3, "seconds of a processor; half of one on the machine where it was written"
    assert again < first / 4, "a file that is as before is not parsed again"
