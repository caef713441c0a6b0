"""Names in Python code: which scope binds them, and what an imported one stands for.

Nothing is imported to find that out: the files of our packages are parsed, each when it is first needed.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NAMING = (ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping)  # nodes that bind a name kept as a text
_NAMES_SEEN = re.compile(rb"\b(?:locals|vars|dir|eval|exec)\b")


class Reference(NamedTuple):
    """A use of a top-level name of one of our modules."""

    module: str
    name: str


Part = str | Reference


@dataclass(kw_only=True)
class Scope:
    """The names of a module, class or function: those it binds, and those that only stand for an import."""

    kind: Literal["module", "class", "function"]
    parent: Scope | None
    bound: Counter[str] = field(default_factory=Counter)
    aliases: dict[str, str] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)


class Module:
    """One parsed module.

    Args:
        name: dotted name, by which others import it.
        package: whether it is the `__init__` of a package.
        source: the file's content.

    Raises:
        SyntaxError, ValueError: for what is no Python.
    """

    def __init__(self, name: str, source: bytes, *, package: bool) -> None:
        self.name = name
        self.package = package
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the hashed code
            self.tree = ast.parse(source)
        self.names_matter = bool(_NAMES_SEEN.search(source)) and any(map(_sees_names, ast.walk(self.tree)))
        self.scope = bind(self.tree.body, Scope(kind="module", parent=None), self)

    def absolute(self, node: ast.ImportFrom) -> str:
        """Return the full dotted name of the module that `from ... import` names."""
        if not node.level:
            return node.module or ""
        above = self.name.split(".")
        above = above[: len(above) - node.level + self.package]
        return ".".join([*above, *filter(None, [node.module])])


class Program:
    """The modules that count as ours, each parsed when it is first needed.

    Args:
        sources: the files' contents by dotted module name.
        packages: the names in `sources` that are packages.
    """

    def __init__(self, sources: Mapping[str, bytes], packages: frozenset[str]) -> None:
        self.sources = sources
        self.packages = packages
        self._parsed: dict[str, Module | None] = {}

    def module(self, name: str) -> Module | None:
        """Return the module called `name`; None if it is not ours or is no Python."""
        if name not in self._parsed:
            try:
                source = self.sources[name]
                self._parsed[name] = Module(name, source, package=name in self.packages)
            except (KeyError, SyntaxError, ValueError, RecursionError, MemoryError):
                self._parsed[name] = None
        return self._parsed[name]

    def resolve(self, dotted: str, seen: frozenset[Reference] = frozenset()) -> tuple[Part, list[str]]:
        """Return what a dotted name stands for, and the attributes that are taken of it.

        Args:
            dotted: a full name, such as `unept.ops.msda` or `torch.nn.Linear`.
            seen: imports followed so far.

        Returns:
            A Reference for a name of ours, found through any number of imports; for others their own dotted name.
        """
        name, *rest = dotted.split(".")
        if name not in self.sources:
            return f"(X {dotted})", []
        while rest:
            step = Reference(name, rest[0])
            module = self.module(name)
            if module and rest[0] in module.scope.aliases and step not in seen:
                target = module.scope.aliases[rest[0]]
                return self.resolve(".".join([target, *rest[1:]]), seen | {step})
            inner = f"{name}.{rest[0]}"
            if inner not in self.sources or (module and rest[0] in module.scope.bound):
                return step, rest[1:]
            name, rest = inner, rest[1:]
        return f"(M {name.rpartition('.')[2]})", []


def _sees_names(node: ast.AST) -> bool:
    """Whether a node may look at local names, which are then part of what the code does."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return False
    return node.func.id in ("eval", "exec") or (node.func.id in ("locals", "vars", "dir") and not node.args)


def bind(body: list[ast.stmt] | list[ast.expr], scope: Scope, module: Module) -> Scope:
    """Fill `scope` with the names that `body` binds, and return it."""
    binder = _Binder(scope, module)
    for node in body:
        binder.visit(node)
    for name, targets in binder.imports.items():
        if len(targets) > 1 or name in scope.bound or scope.kind == "class":
            scope.bound[name] += len(targets)
        else:
            scope.aliases[name] = next(iter(targets))
    return scope


class _Binder(ast.NodeVisitor):
    """Collects what one scope binds; nested scopes are not entered."""

    def __init__(self, scope: Scope, module: Module) -> None:
        self.scope = scope
        self.module = module
        self.imports: dict[str, set[str]] = {}
        self.elsewhere: set[str] = set()

    def _bind(self, name: str | None) -> None:
        if name and name not in self.elsewhere:
            self.scope.bound[name] += 1

    def visit(self, node: ast.AST) -> None:
        """Bind what the node binds."""
        if isinstance(node, ast.Name):
            self._bind(None if isinstance(node.ctx, ast.Load) else node.id)
        elif isinstance(node, (*FUNCTIONS, ast.Lambda)):
            self._bind(getattr(node, "name", None))
            self._visit_all(getattr(node, "decorator_list", []))
            self._visit_all([*node.args.defaults, *filter(None, node.args.kw_defaults)])
        elif isinstance(node, ast.ClassDef):
            self._bind(node.name)
            self._visit_all([*node.decorator_list, *node.bases, *node.keywords])
        elif isinstance(node, COMPREHENSIONS):
            for inner in ast.walk(node):
                if isinstance(inner, ast.NamedExpr):
                    self._bind(inner.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name, target in imported(node, self.module):
                self.imports.setdefault(name, set()).add(target)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self._forget(node)
        else:
            if isinstance(node, NAMING):
                self._bind(getattr(node, "name", None) or getattr(node, "rest", None))
            self._visit_all(ast.iter_child_nodes(node))

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _forget(self, node: ast.Global | ast.Nonlocal) -> None:
        self.elsewhere |= {*node.names}
        if isinstance(node, ast.Global):
            self.scope.globals |= {*node.names}
        for name in node.names:
            self.scope.bound.pop(name, None)


def imported(node: ast.Import | ast.ImportFrom, module: Module) -> Iterator[tuple[str, str]]:
    """Yield each name that an import binds, with the full dotted name of what it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            top = alias.name.partition(".")[0]
            yield (alias.asname, alias.name) if alias.asname else (top, top)
    elif node.module != "__future__":
        above = module.absolute(node)
        for alias in node.names:
            if alias.name != "*":
                yield alias.asname or alias.name, f"{above}.{alias.name}"
