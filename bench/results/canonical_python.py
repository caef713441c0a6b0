"""Python code in a canonical form: what it computes stays, how it is written down does not.

Left out are comments, docstrings, positions, formatting, imports, `__all__`, `if TYPE_CHECKING`, and the annotations of
functions. Local names become numbers. An imported name becomes what it names: a definition of ours becomes a
`Reference`, whatever module it is in; anything else its full dotted name. Kept are the names that others can use:
definitions, attributes, fields, and parameters that a caller may pass by keyword.

The form is written by this module alone, node by node, so that it is equal on Python 3.10 to 3.13; `ast.dump` is not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.results.canonical_names import (
    COMPREHENSIONS,
    FUNCTIONS,
    NAMING,
    Module,
    Part,
    Program,
    Reference,
    Scope,
    bind,
    imported,
)

_LEFT_OUT = {"ctx", "type_comment", "kind", "type_params", "type_ignores"}
_STATEMENTS = {"body", "orelse", "finalbody"}
_INERT = {  # decorators that do not read the annotations of what they decorate
    *("property", "setter", "staticmethod", "classmethod", "abstractmethod", "overload", "override", "final"),
    *("cache", "lru_cache", "cached_property", "contextmanager", "wraps", "no_grad", "inference_mode"),
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """A piece of a module: one definition, or, with an empty name, its other statements in their order."""

    name: str
    parts: tuple[Part, ...]


def items_of(program: Program, name: str) -> list[Item] | None:
    """Return the definitions of the module called `name` and its other statements; None if it is no Python."""
    module = program.module(name)
    if module is None:
        return None
    try:
        return [*_items(module, program)]
    except RecursionError:
        return None


def _items(module: Module, program: Program) -> Iterator[Item]:
    others = Writer(module, program)
    for statement in module.tree.body:
        name = _defined(statement)
        if name and name != "__all__" and module.scope.bound[name] == 1:
            writer = Writer(module, program)
            writer.statements([statement], module.scope)
            yield Item(name=name, parts=tuple(writer.parts))
        else:
            others.statements([statement], module.scope)
    if others.parts:
        yield Item(name="", parts=tuple(others.parts))


def _defined(statement: ast.stmt) -> str:
    """The one name that a top-level statement defines; "" if it does something else."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return statement.name
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target: ast.expr = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign) and statement.value:
        target = statement.target
    else:
        return ""
    return target.id if isinstance(target, ast.Name) else ""


class Writer:
    """Writes statements of one module as parts; local names are numbered in the order in which they come."""

    def __init__(self, module: Module, program: Program) -> None:
        self.module = module
        self.program = program
        self.parts: list[Part] = []
        self._numbers: dict[tuple[int, str], int] = {}
        self._scopes: list[Scope] = []  # kept, so that an id is of one scope
        self._guarded = False

    # --- statements ---------------------------------------------------------------------------------------------------

    def statements(self, body: list[ast.stmt], scope: Scope) -> None:
        """Write what the statements do; those that do nothing leave no trace."""
        for node in body:
            if isinstance(node, ast.Pass | ast.Global | ast.Nonlocal) or _is_constant(node) or _is_all(node):
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node, scope)
            elif isinstance(node, ast.If) and _is_type_checking(node.test):
                self.statements(node.orelse, scope)
            elif isinstance(node, ast.AnnAssign) and scope.kind != "class":
                if node.value:
                    self.write(ast.Assign(targets=[node.target], value=node.value), scope)
            else:
                self.write(node, scope)

    def _import(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        """Write an import that is more than a name: one whose name is bound otherwise too, or that may fail."""
        for name, target in imported(node, self.module):
            known = name in scope.aliases
            if self._guarded or not known:
                self._open("import")
                self._dotted(target)
                if not known:
                    self._name(name, scope)
                self._close()
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            self._atom(f"import * of {self.module.absolute(node)}")

    def _try(self, node: ast.Try, scope: Scope) -> None:
        self._open(type(node).__name__)
        before, self._guarded = self._guarded, True
        self._list(node.body, scope, statements=True)
        self._guarded = before
        for part in (node.handlers, node.orelse, node.finalbody):
            self._list(part, scope, statements=part is not node.handlers)
        self._close()

    # --- nodes --------------------------------------------------------------------------------------------------------

    def write(self, node: object, scope: Scope) -> None:
        """Write a node, a list of nodes or a plain value."""
        if isinstance(node, list):
            self._list(node, scope)
        elif isinstance(node, ast.Name):
            self._name(node.id, scope)
        elif isinstance(node, ast.Attribute):
            self._attribute(node, scope)
        elif isinstance(node, ast.Constant):
            self._constant(node.value)
        elif isinstance(node, ast.JoinedStr):
            self._joined(node, scope)
        elif isinstance(node, (*FUNCTIONS, ast.Lambda)):
            self._function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._class(node, scope)
        elif isinstance(node, COMPREHENSIONS):
            self._comprehension(node, scope)
        elif type(node).__name__ in ("Try", "TryStar"):
            self._try(node, scope)  # type: ignore[arg-type]
        elif isinstance(node, ast.AST):
            self._generic(node, scope)
        else:
            self._atom(repr(node) if not isinstance(node, str) else node)

    def _generic(self, node: ast.AST, scope: Scope) -> None:
        binds = isinstance(node, NAMING)
        self._open(type(node).__name__)
        for name, value in ast.iter_fields(node):
            if value is None or value == [] or name in _LEFT_OUT:
                continue
            self.parts.append(f" {name}=")
            if binds and isinstance(value, str):
                self._name(value, scope)
            elif isinstance(value, list):
                self._list(value, scope, statements=name in _STATEMENTS)
            else:
                self.write(value, scope)
        self._close()

    def _list(self, nodes: Sequence[object], scope: Scope, *, statements: bool = False) -> None:
        self.parts.append("[")
        if statements:
            self.statements(nodes, scope)  # type: ignore[arg-type]
        else:
            for node in nodes:
                self.write(node, scope)
        self.parts.append("]")

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, scope: Scope) -> None:
        self._open(type(node).__name__)
        if not isinstance(node, ast.Lambda):
            self._name(node.name, scope) if scope.kind == "function" else self._atom(node.name)
            self._list(node.decorator_list, scope)
            if any(_called(decorator) not in _INERT for decorator in node.decorator_list):
                self._annotations(node, scope)
        inner = self._scope(scope)
        arguments = node.args
        self._parameters(arguments, inner, named=not isinstance(node, ast.Lambda))
        self._list(arguments.defaults, scope)
        self._list(arguments.kw_defaults, scope)
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        bind(body, inner, self.module)
        self._list(body, inner, statements=not isinstance(node, ast.Lambda))
        self._close()

    def _annotations(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> None:
        """Write the annotations of a function whose decorator may read them, as one that makes an operator does."""
        arguments = node.args
        some = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        some += filter(None, (arguments.vararg, arguments.kwarg))
        self._list([parameter.annotation for parameter in some], scope)
        self.write(node.returns, scope)

    def _parameters(self, arguments: ast.arguments, inner: Scope, *, named: bool) -> None:
        """Write parameters: by number, and by name where a caller may use it. That of a lambda is used by place."""
        groups = (("/", arguments.posonlyargs, False), ("", arguments.args, named), ("=", arguments.kwonlyargs, True))
        for sign, some, has_name in groups:
            for parameter in some:
                inner.bound[parameter.arg] += 1
                self.parts.append(f"({sign}")
                if has_name:
                    self._atom(parameter.arg)
                self._name(parameter.arg, inner)
                self._close()
        for sign, one in (("*", arguments.vararg), ("**", arguments.kwarg)):
            if one:
                inner.bound[one.arg] += 1
                self.parts.append(f"({sign}")
                self._name(one.arg, inner)
                self._close()

    def _class(self, node: ast.ClassDef, scope: Scope) -> None:
        self._open("ClassDef")
        self._atom(node.name)
        if scope.kind == "function":
            self._name(node.name, scope)
        for part in (node.decorator_list, node.bases, node.keywords):
            self._list(part, scope)
        inner = Scope(kind="class", parent=scope)
        self._scopes.append(inner)
        self._list(node.body, bind(node.body, inner, self.module), statements=True)
        self._close()

    def _comprehension(self, node: ast.expr, scope: Scope) -> None:
        inner = self._scope(scope)
        for generator in node.generators:  # type: ignore[attr-defined]
            inner.bound.update(n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name) and _stores(n))
        self._open(type(node).__name__)
        for number, generator in enumerate(node.generators):  # type: ignore[attr-defined]
            self.write(generator.iter, inner if number else scope)
            self.write(generator.target, inner)
            self._list(generator.ifs, inner)
            self._atom(str(generator.is_async))
        for name in ("elt", "key", "value"):
            if hasattr(node, name):
                self.write(getattr(node, name), inner)
        self._close()

    # --- names and constants ------------------------------------------------------------------------------------------

    def _scope(self, parent: Scope) -> Scope:
        self._scopes.append(Scope(kind="function", parent=parent))
        return self._scopes[-1]

    def _owner(self, name: str, scope: Scope) -> Scope | None:
        """The scope that `name` belongs to when it is used in `scope`; None for a builtin."""
        here: Scope | None = scope
        while here:
            if name in here.globals:
                return self.module.scope
            if (name in here.bound or name in here.aliases) and (here.kind != "class" or here is scope):
                return here
            here = here.parent
        return None

    def _name(self, name: str, scope: Scope) -> None:
        owner = self._owner(name, scope)
        if owner is None:
            self._atom(name)
        elif name in owner.aliases:
            self._dotted(owner.aliases[name])
        elif owner.kind == "module":
            self.parts.append(Reference(self.module.name, name))
        elif owner.kind == "class":
            self.parts.append("(C ")
            self._atom(name)
            self._close()
        else:
            number = self._numbers.setdefault((id(owner), name), len(self._numbers))
            self.parts.append(f"(L {number} {name})" if self.module.names_matter else f"(L {number})")

    def _attribute(self, node: ast.Attribute, scope: Scope) -> None:
        names: list[str] = []
        value: ast.expr = node
        while isinstance(value, ast.Attribute):
            names.insert(0, value.attr)
            value = value.value
        if isinstance(value, ast.Name):
            owner = self._owner(value.id, scope)
            if owner and value.id in owner.aliases:
                self._dotted(".".join([owner.aliases[value.id], *names]))
                return
        self.parts.append("(." * len(names))
        self.write(value, scope)
        self._taken(names)

    def _dotted(self, dotted: str) -> None:
        target, names = self.program.resolve(dotted)
        self.parts.append("(." * len(names))
        self.parts.append(target)
        self._taken(names)

    def _taken(self, names: list[str]) -> None:
        for name in names:
            self._atom(name)
            self._close()

    def _constant(self, value: object) -> None:
        if isinstance(value, str):
            self.parts.append("s")
            self._atom(value)
        elif isinstance(value, bytes):
            self.parts.append(f"b{value.hex()};")
        elif isinstance(value, int) and not isinstance(value, bool):
            self.parts.append(f"i{value:x};")
        else:  # float, complex, True, False, None and ...
            self.parts.append(f"c{value!r};")

    def _joined(self, node: ast.JoinedStr, scope: Scope) -> None:
        """Write an f-string: texts that follow each other as one, empty ones not at all, in every version of Python."""
        pieces: list[str | ast.FormattedValue] = []
        for value in node.values:
            text = value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
            if text is None:
                assert isinstance(value, ast.FormattedValue), ast.dump(value)
                pieces.append(value)
            elif text and pieces and isinstance(pieces[-1], str):
                pieces[-1] += text
            elif text:
                pieces.append(text)
        if all(isinstance(piece, str) for piece in pieces):
            self._constant("".join(map(str, pieces)))
            return
        self._open("JoinedStr")
        for piece in pieces:
            if isinstance(piece, str):
                self._constant(piece)
                continue
            self._open("value")
            self.write(piece.value, scope)
            self._atom(str(piece.conversion))
            if isinstance(piece.format_spec, ast.JoinedStr):
                self._joined(piece.format_spec, scope)
            self._close()
        self._close()

    def _open(self, kind: str) -> None:
        self.parts.append(f"({kind}")

    def _close(self) -> None:
        self.parts.append(")")

    def _atom(self, text: str) -> None:
        """Write a text with its length, so that no text can be mistaken for what stands around it."""
        self.parts.append(f" {len(text)}:{text}")


def _stores(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def _is_constant(node: ast.stmt) -> bool:
    """Whether a statement is a docstring, or another value that nobody takes."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_all(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return all(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _called(decorator: ast.expr) -> str:
    """The last part of a decorator's name; "" where it has none."""
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return str(getattr(function, "attr", "") or getattr(function, "id", ""))
