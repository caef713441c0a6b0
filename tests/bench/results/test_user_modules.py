"""Which files a user's module is made of."""

from __future__ import annotations

import importlib.machinery
import sys
from pathlib import Path

import pytest

from bench.results.source_hash import user_digest
from bench.results.user_modules import UserModule, find_user_modules, read_copy, write_copy

FILES = {
    "mine.py": "import json, torch\nfrom near import NEAR\nimport pack.inner\n\ndef later():\n    import lazy\n",
    "near.py": "from far import FAR as NEAR\nimport importlib\nimportlib.import_module('by_call')\n",
    "far.py": "FAR = 1\n",
    "lazy.py": "import mine  # a ring\n",
    "by_call.py": "",
    "unused.py": "",
    "notes.txt": "",
    "pack/__init__.py": "",
    "pack/inner.py": "from . import sibling\n",
    "pack/sibling.py": "",
    "pack/kernel.cu": "int kernel;\n",
    "pack/weights.bin": "",
    "space/one.py": "from space import two\n",
    "space/two.py": "",
    "space/three.py": "",
    "json.py": "",
    "sys.py": "",
    "broken.py": "def (",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(folder: Path, *modules: str) -> dict[str, list[str]]:
    """The files of modules, by the first part of their names."""
    return {top: list(module.files) for top, module in find_user_modules(modules, str(folder)).items()}


def test_a_module_is_made_of_what_it_imports_from_its_folder(folder: Path) -> None:
    package = ["pack/__init__.py", "pack/inner.py", "pack/kernel.cu", "pack/sibling.py"]
    assert names(folder, "mine") == {"mine": ["by_call.py", "far.py", "lazy.py", "mine.py", "near.py", *package]}
    assert names(folder, "pack.inner", "far") == {"far": ["far.py"], "pack": package}
    assert names(folder, "space.one") == {"space": ["space/one.py", "space/two.py"]}
    assert names(folder, "broken") == {"broken": ["broken.py"]}
    assert find_user_modules(["mine"], str(folder))["mine"].folders == (str(folder),)


def test_what_comes_first_on_the_path_is_what_python_would_import(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    assert "json.py" in names(folder, "mine")["mine"]
    assert names(folder, "sys") == {}


def test_helpers_in_another_folder_of_the_path_count(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    (folder / "far.py").rename(other / "far.py")
    monkeypatch.setattr(sys, "path", [*sys.path, str(other)])
    found = find_user_modules(["near"], str(folder))["near"]
    assert list(found.files) == ["by_call.py", "far.py", "near.py"]
    assert found.folders == (str(folder), str(other)) or found.folders == (str(other), str(folder))


def test_installed_modules_count_by_themselves_and_are_not_copied(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pack-1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    for top, files in (("filelock", "filelock/__init__.py"), ("near", "near.py")):
        (module,) = find_user_modules([top], "/nowhere").values()
        assert module.folders == ()
        assert files in module.files
    assert list(module.files) == ["near.py"]


def test_a_compiled_module_counts_by_its_bytes(folder: Path) -> None:
    name = f"near{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    (folder / "near.py").unlink()
    (folder / name).write_bytes(b"\xff one")
    first = find_user_modules(["mine"], str(folder))["mine"]
    assert first.files[name] == b"\xff one"
    (folder / name).write_bytes(b"\xff two")
    assert user_digest(first) != user_digest(find_user_modules(["mine"], str(folder))["mine"])


def test_the_digest_is_of_what_the_code_computes(folder: Path) -> None:
    def digest() -> str:
        return user_digest(find_user_modules(["mine"], str(folder))["mine"])

    before = digest()
    (folder / "far.py").write_text("# a comment\nFAR  =  1\n")
    (folder / "unused.py").write_text("edited = 1")
    assert digest() == before
    (folder / "far.py").write_text("FAR = 2\n")
    assert digest() != before


def test_a_copy_is_whole_and_has_the_digest_of_the_original(folder: Path, tmp_path: Path) -> None:
    module = find_user_modules(["mine"], str(folder))["mine"]
    write_copy(module.files, tmp_path / "modules" / "copy")
    assert [path.name for path in (tmp_path / "modules").iterdir()] == ["copy"]
    assert read_copy(tmp_path / "modules" / "copy") == module.files
    assert find_user_modules(["mine"], str(tmp_path / "modules" / "copy"))["mine"].files == module.files
    again = UserModule(top="mine", files=read_copy(tmp_path / "modules" / "copy"), folders=())
    assert user_digest(again) == user_digest(module)
