"""A user's own modules: the files that a `module:Class` is made of, and copies of them.

A module of the user's counts with what it imports from his folders, however far that leads: single files, and packages
with every source in them. Files of the standard library, of installed packages and of this program are not followed.
An installed module counts with the sources of its top package, and is never copied. Nothing is imported to find out.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.machinery
import os
import site
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from unept.utils.user_code import has_safe_path

SUFFIXES = (".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".inc")
OURS = frozenset({"bench", "cli", "experiments", "reports", "unept"})
_WITH_BINARIES = (*SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)
_IMPORTERS = ("import_module", "__import__")


@dataclass(frozen=True, kw_only=True)
class UserModule:
    """The files of a user's module, as they were when it was looked up.

    Attributes:
        top: the first part of its dotted name.
        files: the content of each file, by its path from the folder that it is imported from.
        folders: the folders that the files were found in; () for an installed module, which is not copied.
    """

    top: str
    files: Mapping[str, bytes]
    folders: tuple[str, ...]


def find_user_modules(modules: Iterable[str], folder: str) -> dict[str, UserModule]:
    """Return the files of modules, by the first part of their names; none for a module that is not found.

    Args:
        modules: dotted names.
        folder: where to look after the import path, as the models do unless Python has a safe path.
    """
    path = [*sys.path] if has_safe_path() else [*sys.path, folder]
    tops: dict[str, list[str]] = {}
    for module in sorted(set(modules)):
        tops.setdefault(module.partition(".")[0], []).append(module)
    by_top = {top: _Search(path).files_of(top, names) for top, names in tops.items()}
    return {top: module for top, module in by_top.items() if module.files}


def hashed_content(name: str, content: bytes) -> bytes:
    """Return what is hashed of a file: its content, or the digest of what is no source."""
    return content if name.endswith(SUFFIXES) else hashlib.sha256(content).hexdigest().encode()


def write_copy(files: Mapping[str, bytes], folder: Path) -> None:
    """Write the files of a module to a folder that appears whole or not at all. It must not be there yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
        for name, content in files.items():
            path = Path(made, "copy", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        Path(made, "copy").rename(folder)


def read_copy(folder: Path) -> dict[str, bytes]:
    """Return the files of a copy by their names; {} where there is none."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def source_tree(name: str, folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[tuple[str, Path]]:
    """Return `NAME/...` and the path of every file under a folder that has one of the suffixes."""
    return [
        (f"{name}/{path.relative_to(folder).as_posix()}", path)
        for path in folder.rglob("*")
        if path.name.endswith(suffixes) and path.is_file()
    ]


@dataclass
class _Search:
    """One walk along the imports, from one top-level name."""

    path: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def files_of(self, top: str, modules: list[str]) -> UserModule:
        """Follow the imports from `modules`, whose first part is `top`."""
        spec = _find(top, self.path)
        if spec is not None and (top in OURS or _is_installed(spec)):
            return UserModule(top=top, files=self._installed(top, spec), folders=())
        due = [*modules]
        while due:
            name = due.pop()
            if name not in self.seen:
                self.seen.add(name)
                due += self._add(name)
        return UserModule(top=top, files=dict(sorted(self.files.items())), folders=tuple(self.folders))

    @staticmethod
    def _installed(top: str, spec: importlib.machinery.ModuleSpec) -> dict[str, bytes]:
        locations = [Path(location) for location in spec.submodule_search_locations or ()]
        pairs = [pair for location in locations for pair in source_tree(top, location)]
        if not locations and spec.origin and spec.origin.endswith(SUFFIXES):
            pairs = [(Path(spec.origin).name, Path(spec.origin))]
        return {name: path.read_bytes() for name, path in sorted(pairs)}

    def _add(self, dotted: str) -> list[str]:
        """Add the files of a module; return the names that they import."""
        path, parts = self.path, dotted.split(".")
        if parts[0] in OURS or parts[0] in sys.builtin_module_names:
            return []
        for depth in range(1, len(parts) + 1):
            spec = _find(".".join(parts[:depth]), path)
            if spec is None or _is_installed(spec):
                return []
            if spec.origin is not None and spec.has_location:
                return self._add_found(parts[:depth], spec, Path(spec.origin))
            path = [*(spec.submodule_search_locations or ())]  # a namespace: its files are those that are named
        return []

    def _add_found(self, parts: list[str], spec: importlib.machinery.ModuleSpec, origin: Path) -> list[str]:
        """Add a single file, or a package with every source in it."""
        self.folders[str(origin.parents[len(parts) - (not spec.submodule_search_locations)])] = None
        above = "/".join(parts[:-1])
        pairs = [(f"{above}/{origin.name}".lstrip("/"), origin)]
        if spec.submodule_search_locations:
            pairs = source_tree("/".join(parts), origin.parent, _WITH_BINARIES)
        imported: list[str] = []
        for name, path in pairs:
            if name not in self.files and name.endswith(_WITH_BINARIES):
                self.files[name] = path.read_bytes()
                imported += _imports(name, self.files[name])
        return imported


@cache
def _installed_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [*(sysconfig.get_path(name) for name in names), *site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.realpath(folder) for folder in dict.fromkeys(folders))


def _is_installed(spec: importlib.machinery.ModuleSpec) -> bool:
    """Return True for a module of the standard library or of an installed distribution."""
    if spec.origin in ("built-in", "frozen"):
        return True
    locations = [*(spec.submodule_search_locations or ())]
    if spec.has_location and spec.origin:
        locations = [os.path.dirname(spec.origin)] if locations else [spec.origin]
    return all(_in_installed_folder(Path(location)) for location in locations)


@cache
def _in_installed_folder(path: Path) -> bool:
    """Return True for a file or package that a distribution brought: beside it lie such things as `*.dist-info`."""
    real = os.path.realpath(path)
    if any(real.startswith(f"{folder}{os.sep}") for folder in _installed_folders()):
        return True
    return any(path.absolute().parent.glob("*.dist-info"))


def _find(dotted: str, path: list[str]) -> importlib.machinery.ModuleSpec | None:
    """Return where a module is, by the path or, for a top-level one, by a hook as editable installs have."""
    with contextlib.suppress(Exception):  # of an entry of the path that cannot be read, or of somebody's hook
        spec = importlib.machinery.PathFinder.find_spec(dotted, path)
        hooks = [hook for hook in sys.meta_path if str(getattr(hook, "__module__", "")).startswith("__editable__")]
        for hook in () if spec or "." in dotted else hooks:
            spec = spec or hook.find_spec(dotted, None)
        return spec
    return None


def _imports(name: str, source: bytes) -> Iterator[str]:
    """Yield the dotted name of everything that a file may import, by statement or by a call with the name in it."""
    if not name.endswith(".py"):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):  # importing it will say so
        return
    package = name.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            yield from filter(None, (start, *(f"{start}.{alias.name}".lstrip(".") for alias in node.names)))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in _IMPORTERS and isinstance(node.args[0].value, str):
                yield node.args[0].value
