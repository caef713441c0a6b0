"""Digests of code by the part it plays: equal for code that does the same, wherever and however it is written down.

A role (`operator`, `losses`, ...) is a set of files. Its digest is taken over the canonical forms of their contents
(`canonical_python`, `canonical_cpp`), sorted, so that neither a file's name nor which file of the role holds a
definition makes a difference. A use of our own name says the name and its role; where a role defines a name more than
once, also what the definition is.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bench.results import canonical_cpp
from bench.results.canonical_names import Part, Program, Reference
from bench.results.canonical_python import Item, items_of

USER = "user"
_ROUNDS = 2  # how far definitions that have one name are told apart by what they use


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file to hash.

    Attributes:
        path: its name relative to the folder that packages are imported from, with forward slashes.
        role: the part it plays; "" for a file that is only looked up when others import from it.
        content: its bytes.
    """

    path: str
    role: str
    content: bytes

    @property
    def module(self) -> str:
        """The dotted name by which Python imports the file; "" for another language."""
        stem, _, suffix = self.path.rpartition(".")
        return stem.removesuffix("/__init__").replace("/", ".") if suffix == "py" else ""

    @property
    def is_package(self) -> bool:
        """Whether the file makes its folder a package."""
        return self.path.endswith("/__init__.py")


def role_digests(files: Iterable[SourceFile]) -> dict[str, str]:
    """Return 16 hexadecimal digits for each role of the files.

    Args:
        files: every file of our packages, in any order; those of a user have a role that starts with `user`.

    Returns:
        The digests by role, sorted. A file that cannot be parsed counts with its bytes.
    """
    return _Digests([*files]).by_role()


class _Digests:
    """What one call of `role_digests` knows."""

    def __init__(self, files: list[SourceFile]) -> None:
        self.files = files
        self.roles = {file.module: file.role for file in files if file.module}
        self.program = Program(
            {file.module: file.content for file in files if file.module},
            frozenset(file.module for file in files if file.is_package),
        )
        hashed = [file for file in files if file.role]
        self.items = {file.module: items_of(self.program, file.module) for file in hashed if file.module}
        self.cpp = {file.path: file for file in hashed if not file.module}
        self.known: dict[tuple[str, str], Item] = {}
        self.defined: Counter[tuple[str, str]] = Counter()  # how often a role defines a name
        for module, items in self.items.items():
            for item in items or ():
                self.known[module, item.name] = item
                self.defined[self.roles[module], item.name] += 1
        self._contents: dict[tuple[Reference, int], str] = {}
        self._tokens: dict[str, list[str]] = {}

    def by_role(self) -> dict[str, str]:
        """The digest of each role."""
        pieces: defaultdict[str, list[str]] = defaultdict(list)
        for file in self.files:
            if file.role:
                pieces[file.role] += self._pieces(file)
        return {role: _digest("".join(sorted(some)))[:16] for role, some in sorted(pieces.items())}

    def _pieces(self, file: SourceFile) -> list[str]:
        if not file.module:
            return [self._cpp_digest(file, frozenset())]
        items = self.items[file.module]
        if items is None:
            return [hashlib.sha256(b"bytes\0" + file.content).hexdigest()]
        return [self._item_digest(item, file.module, _ROUNDS) for item in items]

    # --- Python -------------------------------------------------------------------------------------------------------

    def _item_digest(self, item: Item, module: str, rounds: int) -> str:
        role = self.roles[module]
        return _digest("python\0" + "".join(self._text(part, role, rounds) for part in item.parts))

    def _text(self, part: Part, role: str, rounds: int) -> str:
        if isinstance(part, str):
            return part
        target = self.roles.get(part.module, "")
        if role.startswith(USER) and target != role:
            return f"(O {part.name})"  # what our code is does not count twice
        same = self.defined[target, part.name] if target else 0
        return f"(R {target} {part.name} {self._content(part, rounds - 1) if same > 1 and rounds else ''})"

    def _content(self, reference: Reference, rounds: int) -> str:
        """The digest of a definition; "" for a name that no definition of its module has alone."""
        if (reference, rounds) not in self._contents:
            item = self.known.get(reference) or self.known.get((reference.module, ""))
            self._contents[reference, rounds] = self._item_digest(item, reference.module, rounds) if item else ""
        return self._contents[reference, rounds]

    # --- C++ ----------------------------------------------------------------------------------------------------------

    def _cpp_digest(self, file: SourceFile, inside: frozenset[str]) -> str:
        """The digest of a file's tokens; a file of ours that it includes is told by its content, not its name."""
        if file.path not in self._tokens:
            self._tokens[file.path] = canonical_cpp.tokens(file.content.decode("utf-8", "surrogateescape"))
        texts = []
        for token in self._tokens[file.path]:
            included = self._included(token, file) if token.startswith('"') else None
            if included and included.path not in inside:
                token = f"\0{self._cpp_digest(included, inside | {file.path})}"
            texts.append(f"{len(token)}:{token}")
        return _digest("cpp\0" + " ".join(texts))

    def _included(self, token: str, file: SourceFile) -> SourceFile | None:
        folder, _, _ = file.path.rpartition("/")
        return self.cpp.get(f"{folder}/{token[1:-1]}" if folder else token[1:-1])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
