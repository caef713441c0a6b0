"""What changes the digest of code, and what does not."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from canonical_vectors import VECTORS, digest_of

from bench.results.canonical_code import SourceFile, role_digests
from bench.results.canonical_cpp import tokens
from bench.results.roles import role_of

ROOT = Path(__file__).resolve().parents[3]
FILES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for top in ("unept", "bench", "cuda")
    for path in sorted((ROOT / top).rglob("*"))
    if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh")
}


def digests(files: dict[str, str], roles: dict[str, str] | None = None) -> dict[str, str]:
    """The digests of files, by the repository's table of roles or by `roles`."""
    return role_digests(
        SourceFile(path=path, role=roles.get(path, "") if roles else role_of(path), content=text.encode())
        for path, text in files.items()
    )


@pytest.fixture(scope="module")
def today() -> dict[str, str]:
    return digests(FILES)


@pytest.mark.parametrize("name", VECTORS)
def test_digests_are_those_stored_on_every_python(name: str) -> None:
    files, stored = VECTORS[name]
    assert digest_of(files) == stored


def test_hashing_imports_nothing_heavy() -> None:
    code = "import sys, bench.results.source_hash as s; s.source_hash('run'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# --- the same code, written down otherwise ----------------------------------------------------------------------------

FUNCTION = "def f(x, scale=2):\n    total = x * scale\n    return total\n"
SAME = {
    "comment": (FUNCTION, "# why\n" + FUNCTION.replace("scale\n", "scale  # because\n")),
    "docstring": (FUNCTION, FUNCTION.replace("    total =", '    """Of x."""\n    total =')),
    "module docstring": (FUNCTION, '"""About."""\n' + FUNCTION),
    "formatting": (FUNCTION, "\n\ndef f( x,scale = 2 ):\n  total=(x*\n   scale)\n\n  return (total)\n"),
    "line ends": (FUNCTION, FUNCTION.replace("\n", "\r\n")),
    "renamed local": (FUNCTION, FUNCTION.replace("total", "product")),
    "annotations": (FUNCTION, FUNCTION.replace("(x, scale=2)", "(x: int, scale: float = 2) -> float")),
    "annotated local": (FUNCTION, FUNCTION.replace("total =", "total: float =")),
    "declared local": (FUNCTION, FUNCTION.replace("    total =", "    total: float\n    total =")),
    "pass": (FUNCTION, FUNCTION.replace("    return", "    pass\n    return")),
    "annotated constant": ("N = 3\n", "N: Final = 3\n"),
    "spelling of constants": ("N = [1000, 16, 'a' 'b', 0.0001]\n", 'N = [1_000, 0x10, "ab", 1e-4]\n'),
    "quotes in an f-string": ("def f(x): return f'{x}'", 'def f(x): return f"{x}"'),
    "order of definitions": ("A = 1\ndef f(): return A", "def f(): return A\nA = 1"),
    "__all__": ("A = 1\n", "__all__ = ['A']\nA = 1\n"),
    "unused import": ("A = 1\n", "import os\nA = 1\n"),
    "future import": ("A = 1\n", "from __future__ import annotations\nA = 1\n"),
    "type checking": ("A = 1\n", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from x import y\nA = 1\n"),
    "lambda": ("A = sorted(B, key=lambda row: row[0])", "A = sorted(B, key=lambda line: line[0])"),
    "comprehension": ("A = [x for x in B if x]", "A = [y for y in B if y]"),
    "generator in class": ("class A:\n    b = [x for x in c]", "class A:\n    b = [y for y in c]"),
    "exception": ("def f():\n try: g()\n except E as e: h(e)", "def f():\n try: g()\n except E as error: h(error)"),
    "nested function": (
        "def f(x):\n    def inner(y): return x + y\n    return inner",
        "def f(x):\n    def added(y): return x + y\n    return added",
    ),
    "nonlocal": (
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n    return g",
        "def f():\n    m = 0\n    def h():\n        nonlocal m\n        m += 1\n    return h",
    ),
    "star arguments": ("def f(*a, **b): return g(*a, **b)", "def f(*rest, **named): return g(*rest, **named)"),
    "positional only": ("def f(a, /): return a", "def f(b, /): return b"),
    "loop and with": (
        "def f(s):\n for i in s:\n  with i as j: g(j)",
        "def f(s):\n for one in s:\n  with one as two: g(two)",
    ),
    "walrus": ("def f(s): return [y for x in s if (y := x)]", "def f(s): return [b for a in s if (b := a)]"),
    "match": (
        "def f(s):\n match s:\n  case [a, *b]: return a, b",
        "def f(s):\n match s:\n  case [first, *rest]: return first, rest",
    ),
    "import of a name": (
        "from torch import nn\ndef f(): return nn.Linear",
        "import torch\ndef f(): return torch.nn.Linear",
    ),
    "import as": ("import numpy as np\nA = np.pi\n", "import numpy\nA = numpy.pi\n"),
    "import of a function": ("from math import pi\nA = pi\n", "import math as m\nA = m.pi\n"),
    "import inside": ("import math\ndef f(): return math.pi", "def f():\n    from math import pi\n    return pi"),
    "decorated": ("@property\ndef f(self): return 1", "@property\ndef f(self) -> int: return 1"),
}


@pytest.mark.parametrize("name", SAME)
def test_writing_it_otherwise_changes_nothing(name: str) -> None:
    one, other = SAME[name]
    assert one != other
    assert digest_of({"m.py": one}) == digest_of({"m.py": other})


BASE = (
    "import math\nfrom dataclasses import dataclass\n\nN = 3\n\n\n@cache\ndef f(a, b=2, *, c=0.5):\n"
    "    x = a - b * N\n    y = [i for i in range(c) if i > 1]\n    g(x, y, key=c)\n"
    "    return self.width + math.cos(x) if x < y else -x\n\n\n"
    "@dataclass\nclass C(Base):\n    size: int = 4\n    name: str = 'a'\n\n"
    "    def m(self, p, q):\n        return q.get('k', p)\n"
)
OTHER = {
    "constant": ("N = 3", "N = 4"),
    "kind of number": ("N = 3", "N = 3.0"),
    "default": ("b=2", "b=3"),
    "keyword default": ("c=0.5", "c=0.25"),
    "operator": ("a - b", "a + b"),
    "precedence": ("a - b * N", "(a - b) * N"),
    "order of operands": ("a - b", "b - a"),
    "comparison": ("i > 1", "i >= 1"),
    "direction": ("x < y", "x > y"),
    "sign": ("else -x", "else x"),
    "argument order": ("g(x, y,", "g(y, x,"),
    "keyword": ("key=c", "keys=c"),
    "attribute": ("self.width", "self.height"),
    "parameter's name": ("def f(a,", "def f(d,"),
    "parameter order": ("def m(self, p, q)", "def m(self, q, p)"),
    "keyword only": ("b=2, *, c", "b=2, c"),
    "decorator": ("@cache", "@lru_cache"),
    "no decorator": ("@cache\n", ""),
    "function that is called": ("math.cos", "math.sin"),
    "module": ("import math", "import cmath as math"),
    "base class": ("C(Base)", "C(Other)"),
    "field": ("size: int", "width: int"),
    "field's annotation": ("size: int = 4", "size: float = 4"),
    "field's default": ("= 'a'", "= 'b'"),
    "order of fields": ("    size: int = 4\n    name: str = 'a'", "    name: str = 'a'\n    size: int = 4"),
    "text": ("'k'", "'l'"),
    "method's name": ("def m", "def n"),
    "definition's name": ("def f", "def h"),
    "which local": ("return q.get('k', p)", "return p.get('k', q)"),
    "local for global": ("b * N", "b * c"),
    "dropped statement": ("    g(x, y, key=c)\n", ""),
    "order of statements": (
        "    x = a - b * N\n    y = [i for i in range(c) if i > 1]\n",
        "    y = [i for i in range(c) if i > 1]\n    x = a - b * N\n",
    ),
    "statement of the module": ("N = 3\n", "N = 3\nsetup(N)\n"),
    "second binding": ("N = 3\n", "N = 3\nN = 3\n"),
}


@pytest.mark.parametrize("name", OTHER)
def test_what_computes_something_else_has_another_digest(name: str) -> None:
    old, new = OTHER[name]
    text = f"{BASE}\n"
    assert text.count(old) == 1
    assert digest_of({"m.py": text.replace(old, new)}) != digest_of({"m.py": text})


def test_a_rename_that_captures_another_name_is_seen() -> None:
    code = "def f(x):\n    y = 1\n    return [x for x in y] + x\n"
    assert digest_of({"m.py": code}) != digest_of({"m.py": code.replace("[x for x in y] + x", "[x for x in y] + y")})
    assert digest_of({"m.py": "def f(x): return x + y"}) != digest_of({"m.py": "def f(x): return x + x"})
    nested = "def f(x):\n    def g({}):\n        return x\n    return g\n"
    assert digest_of({"m.py": nested.format("y")}) != digest_of({"m.py": nested.format("x")})


def test_names_stay_where_code_looks_at_them() -> None:
    code = "def f(s):\n    total = s\n    return {}\n"
    for look in ("locals()", "vars()", "eval(s)"):
        text = code.format(look)
        assert digest_of({"m.py": text}) != digest_of({"m.py": text.replace("total", "sum_")}), look
    mode = code.format("s.eval(), 'eval()?'")
    assert digest_of({"m.py": mode}) == digest_of({"m.py": mode.replace("total", "sum_")})


def test_annotations_stay_where_a_decorator_reads_them() -> None:
    code = "@custom_op('ours::add')\ndef add(x: Tensor, n: {}) -> Tensor: return x + n"
    assert digest_of({"m.py": code.format("int")}) != digest_of({"m.py": code.format("float")})


def test_an_import_that_may_fail_counts() -> None:
    code = "try:\n    import {}\n    HAVE = True\nexcept ImportError:\n    HAVE = False\n"
    assert digest_of({"m.py": code.format("ray")}) != digest_of({"m.py": code.format("dask")})


# --- definitions in files ---------------------------------------------------------------------------------------------


def test_a_definition_may_move_within_its_role() -> None:
    before = {"pkg/__init__.py": "", "pkg/a.py": "K = 2\ndef f(x): return x * K\n", "pkg/b.py": "def g(): return 1\n"}
    after = {
        "pkg/__init__.py": "from pkg.sub.d import g\n",
        "pkg/sub/__init__.py": '"""Moved."""\n',
        "pkg/sub/c.py": "from pkg.sub import d as other\n\n\ndef f(x):\n    return x * other.K\n",
        "pkg/sub/d.py": "def g():\n    return 1\n\n\nK = 2\n",
    }
    assert digest_of(before) == digest_of(after)
    after["pkg/sub/d.py"] = after["pkg/sub/d.py"].replace("K = 2", "K = 3")
    assert digest_of(before) != digest_of(after)


def test_a_use_is_the_same_through_any_import() -> None:
    tree = {"pkg/__init__.py": "from pkg.a import f as shown\n", "pkg/a.py": "def f(): return 1\n"}
    uses = (
        "from pkg.a import f\ndef u(): return f()\n",
        "from pkg.a import f as other\ndef u(): return other()\n",
        "import pkg.a\ndef u(): return pkg.a.f()\n",
        "from pkg import a\ndef u(): return a.f()\n",
        "from . import a\ndef u(): return a.f()\n",
        "from .a import f\ndef u(): return f()\n",
        "from pkg import shown\ndef u(): return shown()\n",
        "import pkg as p\ndef u(): return p.shown()\n",
        "def u():\n    from pkg.a import f\n    return f()\n",
    )
    found = {digest_of(tree | {"pkg/u.py": use}) for use in uses}
    inside = {"pkg/__init__.py": tree["pkg/__init__.py"], "pkg/a.py": tree["pkg/a.py"] + "def u(): return f()\n"}
    assert found == {digest_of(inside)}


def test_two_definitions_of_one_name_are_told_apart() -> None:
    tree = {
        "pkg/__init__.py": "",
        "pkg/a.py": "K = 1\ndef f(): return K\n",
        "pkg/b.py": "K = 2\ndef f(): return K\n",
        "pkg/u.py": "from pkg.a import f\ndef u(): return f()\n",
    }
    other = tree | {"pkg/u.py": tree["pkg/u.py"].replace("pkg.a", "pkg.b")}
    assert digest_of(tree) != digest_of(other), "they differ only in what they use"
    elsewhere = {path: "ours" if path == "pkg/u.py" else "" for path in tree}
    apart = {**elsewhere, "pkg/a.py": "one", "pkg/b.py": "two"}
    assert digests(tree, apart)["ours"] != digests(other, apart)["ours"], "by their roles"


def test_an_edit_changes_the_digest_of_its_role_alone() -> None:
    roles = {"pkg/a.py": "one", "pkg/b.py": "two", "pkg/__init__.py": ""}
    tree = {"pkg/__init__.py": "", "pkg/a.py": "def f(): return 1\n", "pkg/b.py": "from pkg.a import f\nX = f()\n"}
    before, after = digests(tree, roles), digests(tree | {"pkg/a.py": "def f(): return 2\n"}, roles)
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]


def test_equal_definitions_are_counted() -> None:
    one = {"pkg/__init__.py": "", "pkg/a.py": "def f(): return 1\n"}
    assert digest_of(one) != digest_of(one | {"pkg/b.py": "def f(): return 1\n"})


def test_what_is_no_python_counts_with_its_bytes() -> None:
    assert digest_of({"m.py": "class A: 1 1"}) != digest_of({"m.py": "class A: 1  1"})
    assert digest_of({"m.py": "a\0"}) != digest_of({"m.py": "b\0"})


# --- the repository ---------------------------------------------------------------------------------------------------


class _OtherLocals(ast.NodeTransformer):
    """Renames the locals of functions that have no function, class or import inside, going by stores alone."""

    def __init__(self) -> None:
        self.renamed = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        inside = [inner for statement in node.body for inner in ast.walk(statement)]
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Import, ast.ImportFrom)
        if any(isinstance(inner, (*scopes, ast.Global, ast.Nonlocal, ast.comprehension)) for inner in inside):
            return node
        names = [inner for inner in inside if isinstance(inner, ast.Name)]
        parameters = {inner.arg for inner in ast.walk(node.args) if isinstance(inner, ast.arg)}
        stored = {name.id for name in names if isinstance(name.ctx, ast.Store)} - parameters
        for name in names:
            if name.id in stored:
                name.id = f"renamed_{name.id}"
        self.renamed += len(stored)
        return node


def test_the_whole_repository_may_be_rewritten(today: dict[str, str]) -> None:
    """No comments, no formatting of ours, other names of locals, files of other names: the same digests."""
    renamer = _OtherLocals()
    rewritten = {}
    for path, text in FILES.items():
        if path.endswith(".py"):
            rewritten[path] = ast.unparse(renamer.visit(ast.parse(text)))
        else:
            lines = re.sub(r"(?m)^[ \t]+", "\t ", text).splitlines()
            rewritten[path] = "/* new */\n" + "".join(
                f"{line}\n" if line[-1:] == "\\" else f"{line} // x\n" for line in lines
            )
    assert renamer.renamed > 500
    assert digests(rewritten) == today


def _mutants(text: str) -> Iterator[str]:
    """The file with one thing changed, for some things evenly apart: constants, operators, attributes, arguments."""
    tree = ast.parse(text)
    skipped = {id(inner) for node in ast.walk(tree) for part in _without_effect(node) for inner in ast.walk(part)}
    kinds = (ast.Constant, ast.BinOp, ast.Compare, ast.Attribute, ast.Call)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds) and id(node) not in skipped]
    for node in nodes[:: max(1, len(nodes) // 3)]:
        if isinstance(node, ast.Constant):
            before, node.value = node.value, "changed"
            yield ast.unparse(tree)
            node.value = before
        elif isinstance(node, ast.BinOp):
            node.op, before = (ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()), node.op
            yield ast.unparse(tree)
            node.op = before
        elif isinstance(node, ast.Compare):
            node.ops[0], before = (ast.Lt() if isinstance(node.ops[0], ast.Gt) else ast.Gt()), node.ops[0]
            yield ast.unparse(tree)
            node.ops[0] = before
        elif isinstance(node, ast.Attribute):
            node.attr += "_"
            yield ast.unparse(tree)
            node.attr = node.attr[:-1]
        else:
            node.args.append(ast.Constant(1))
            yield ast.unparse(tree)
            node.args.pop()


def _without_effect(node: ast.AST) -> list[ast.AST]:
    """Parts of a node that decide nothing: docstrings, annotations outside classes, what only type checkers see."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = [arg.annotation for arg in ast.walk(node.args) if isinstance(arg, ast.arg) and arg.annotation]
        return [*arguments, *([node.returns] if node.returns else []), *_annotations(node.body)]
    if isinstance(node, ast.Module):
        return _annotations(node.body)
    if isinstance(node, ast.If | ast.For | ast.While | ast.With):
        return [*_annotations(node.body), *([node] if "TYPE_CHECKING" in ast.unparse(node).split(":")[0] else [])]
    if isinstance(node, ast.Assign | ast.AnnAssign) and "__all__" in ast.unparse(node):
        return [node]
    return [node] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else []


def _annotations(body: list[ast.stmt]) -> list[ast.AST]:
    return [statement.annotation for statement in body if isinstance(statement, ast.AnnAssign)]


def test_a_small_change_anywhere_is_seen() -> None:
    tried = 0
    for path, text in FILES.items():
        if not path.endswith(".py") or not role_of(path):
            continue
        before = digests({path: text})
        for mutant in _mutants(text):
            tried += 1
            assert digests({path: mutant}) != before, (path, mutant)
    assert tried > 200


# --- C++ and CUDA -----------------------------------------------------------------------------------------------------

KERNEL = VECTORS["kernel"][0]


def kernel(old: str, new: str) -> dict[str, str]:
    """The kernel of the vectors with a text replaced."""
    assert KERNEL["cuda/kernel.cu"].count(old) == 1, old
    return KERNEL | {"cuda/kernel.cu": KERNEL["cuda/kernel.cu"].replace(old, new)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("// the arithmetic", ""),
        ("/* several\n   lines */\n", ""),
        ("/* inside */ ", ""),
        ("x[n]->y >= 2", "x [ n ]\n  ->y>=2"),
        ("__global__ void", "__global__\n// a kernel\nvoid"),
        ("#define VALUE (3)", "#  define   VALUE   (3) // three"),
        ("#if defined(A) && \\\n    B", "#if defined(A) && B"),
        ("(a + /* inside */ 1)", "(a + \\\n 1)"),
        ("#include <vector>", "# include <vector>"),
    ],
)
def test_white_space_and_comments_of_kernels_do_not_count(old: str, new: str) -> None:
    assert digest_of(kernel(old, new)) == digest_of(KERNEL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("// b", "//  b"),
        ("/* c */", ""),
        ('R"(x ")"', 'R"(x  ")"'),
        ("1'000'000", "1'000'001"),
        ("1.5e-3f", "1.5e-4f"),
        ("n <<= 1", "n >>= 1"),
        ("n - -1", "n --1"),
        ("n > 0", "n < 0"),
        ("->y", "->z"),
        ("<<<1, 2>>>", "<<<2, 1>>>"),
        ("#define VALUE (3)", "#define VALUE(3)"),
        ("#define SQUARE(x)", "#define SQUARE (x)"),
        ("#endif\n", "#else\n#endif\n"),
        ("int n)", "intn)"),
        ("const T*", "T*"),
        ("<vector>", "<array>"),
        ("int n", "int m"),
        ("#if defined(A) && \\\n", "#if defined(A) &&\n"),
    ],
)
def test_changes_of_kernels_are_seen(old: str, new: str) -> None:
    assert digest_of(kernel(old, new)) != digest_of(KERNEL)


def test_a_header_is_told_by_its_content() -> None:
    renamed = {
        "cuda/main.cu": KERNEL["cuda/kernel.cu"].replace("point.h", "sampling.h"),
        "cuda/sampling.h": KERNEL["cuda/point.h"],
    }
    assert digest_of(renamed) == digest_of(KERNEL)
    two = KERNEL | {"cuda/other.h": "inline float floor_of(float v) { return v; }\n"}
    assert digest_of(two) != digest_of(two | kernel('"point.h"', '"other.h"'))


def test_a_changed_number_in_each_kernel_source_is_seen() -> None:
    sources = {path: text for path, text in FILES.items() if role_of(path) == "operator" and not path.endswith(".py")}
    assert len(sources) > 10
    before = digests(sources)
    for path, text in sources.items():
        numbers = [word for word in tokens(text) if re.fullmatch(r"\d+", word)] or ["#pragma once"]
        changed = re.sub(rf"(?<![\w.]){numbers[0]}(?![\w.])", "77", text)
        assert changed != text
        assert digests(sources | {path: changed}) != before, path


def test_an_unfinished_comment_or_text_is_no_error() -> None:
    for text in ('"', "'", "/*", 'R"(', "#", "#define", "\\", "é §"):
        assert tokens(text)
