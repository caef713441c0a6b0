"""Code and the digests it must have, on every version of Python: each vector is a role of some files.

`python tests/bench/results/canonical_vectors.py` says which vector has another digest than the stored one. It needs the
standard library alone, so that it runs on interpreters that have nothing else.
"""

from __future__ import annotations

import sys

from bench.results.canonical_code import SourceFile, role_digests

CONSTANTS = '''
"""A docstring."""
A, B = 1_000, 0x10
WORD: str = "ä\\n" 'b' "c"
BYTES = b"\\x00\\xff"
NUMBERS = [1, -1, 1.0, 1e-4, 1e400, 2j, True, False, None, ..., 10**3, 123456789012345678901234567890]
'''

TEXTS = '''
def show(x, width, *, name="n"):
    """Show."""
    empty = f""
    plain = f"abc" "def"
    nested = f"{x!r:>{width}}" f" and {x:}" f"{x:.{width}f}|{{}}"
    debug = f"{x=} {x = !s}"
    return empty + plain + nested + debug + f"a{'b'}c{name}" "tail"
'''

SCOPES = """
import os.path as p
from math import pi as circle, sqrt

COUNT = 0


def outer(first, /, second, *rest, third=circle, **others):
    global COUNT
    COUNT += 1
    total: float = 0.0
    unused: int

    def inner(value, scale=2):
        nonlocal total
        total += value * scale + first
        return total

    class Local:
        field = second

        def method(self):
            return [self.field for second in rest if second]

    squares = {key: sqrt(value) for key, value in others.items() if (last := value) > 0}
    pairs = [(a, b) for a in range(3) for b in range(a)]
    call = lambda a, b=second, *, c: a + b * c
    try:
        found = inner(1)
    except (ValueError, KeyError) as error:
        raise RuntimeError(f"{error}") from error
    finally:
        del pairs
    with open(p.join("a", "b")) as file, open("c"):
        data = file.read()
    for index, item in enumerate(rest):
        if index:
            continue
        else:
            break
    else:
        data = None
    while data:
        data = data[1:-1:2]
    return squares, call, found, last, Local, third, (yield item)
"""

MATCHES = """
def which(subject):
    match subject:
        case {"a": 1, **rest}:
            return rest
        case [1, 2.5, *others] | (3, *others):
            return others
        case Point(x=0, y=above) if above:
            return above
        case None | True | "text" as literal:
            return literal
        case _:
            pass
    return None
"""

CLASSES = '''
from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Config"]


@dataclass(frozen=True, kw_only=True)
class Config(metaclass=type):
    """Fields."""

    size: int = 480  # pixels
    names: Sequence[str] = field(default_factory=list)
    known: ClassVar[dict[str, int]] = {}
    bare: float

    @property
    def area(self) -> int:
        return self.size**2

    @custom("unept::op", mutates_args=())
    def op(x: Tensor, n: int) -> Tensor:
        return x @ x << n if not x else ~x // n


async def run(*, jobs: int = 1):
    async with lock() as held:
        async for job in queue(held):
            await job
    return [x async for x in queue(jobs) if dataclasses.is_dataclass(x)]
'''

STATEMENTS = """
try:
    import tomllib as toml
except ImportError:
    toml = None
if toml is None:
    VALUE = 1
else:
    VALUE = 2
VALUES = {}
VALUES["x"] = VALUE
VALUES |= {"y": lambda: VALUE, **{}}
for name in VALUES:
    assert name, "no name"
print(*VALUES, sep=", ")
a = b = c = (1,)
a[0], *c = b[1, 2:3, ...], *c
"""

USES_A = """
from pkg import inner
from pkg.inner import helper as h

def f(x):
    return h(x) + inner.CONST + pkg_b(x)
"""

USES_B = """
import pkg.inner as i

def g(x):
    import torch.nn.functional as F
    return F.relu(i.helper(x)) + vars()['x']
"""

PACKAGE = {"pkg/__init__.py": "", "pkg/a.py": USES_A, "pkg/b.py": USES_B}
INNER = "CONST = 3\n\n\ndef helper(x):\n    return x * CONST\n"

KERNEL = r"""
#pragma once
#include <vector>
#include "point.h"   // the arithmetic
#define SQUARE(x) ((x) * (x))
#define VALUE (3)
#define LONG(a) \
    (a + /* inside */ 1)
/* several
   lines */
template <typename T> __global__ void run(const T* __restrict__ x, int n) {
    const char* text = "a // b /* c */ \" d";
    char quote = '\''; auto raw = R"(x ")" ; long big = 1'000'000; float f = 1.5e-3f;
    if (n > 0 && x[n]->y >= 2) { n <<= 1; }
    run<<<1, 2>>>(x, n - -1);
#if defined(A) && \
    B
    f = 0x1p-3;
#endif
}
"""
POINT = "inline float floor_of(float v) { return v - 0.5f; }\n"

VECTORS: dict[str, tuple[dict[str, str], str]] = {
    "constants": ({"m.py": CONSTANTS}, "897a65b2f35d6ccc"),
    "texts": ({"m.py": TEXTS}, "753735fa897630cb"),
    "scopes": ({"m.py": SCOPES}, "6eaafe27e2b5e034"),
    "matches": ({"m.py": MATCHES}, "6bee8d4ab68621ab"),
    "classes": ({"m.py": CLASSES}, "34dd3506ad7906a0"),
    "statements": ({"m.py": STATEMENTS}, "822d8a6916e850a6"),
    "imports": (PACKAGE | {"pkg/inner.py": INNER}, "6aec1f9844c6f395"),
    "kernel": ({"cuda/kernel.cu": KERNEL, "cuda/point.h": POINT}, "f56604f4fefc5e91"),
    "no Python": ({"m.py": "def broken(:\n"}, "2e855b0491186d4e"),
}


def digest_of(files: dict[str, str]) -> str:
    """The digest of the role that the files make."""
    some = [SourceFile(path=path, role="model", content=text.encode()) for path, text in files.items()]
    return role_digests(some)["model"]


def main() -> int:
    """Compare every vector with what is stored."""
    wrong = {name: digest_of(files) for name, (files, stored) in VECTORS.items() if digest_of(files) != stored}
    print(sys.version.split()[0], f"{len(VECTORS) - len(wrong)} of {len(VECTORS)} vectors as stored", wrong or "")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
