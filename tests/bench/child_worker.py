"""A child of test_child_process: doubles a number, says so twice, or fails after its first result."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from bench.child_process import serve_child


def results(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"value": 2 * spec["number"], "whole": False, "variable": os.environ.get("CHILD_VARIABLE")}
    if spec.get("die"):
        print("last words", file=sys.stderr, flush=True)
        os._exit(9)
    if spec.get("reads"):
        yield {"read": sys.stdin.read()}
        return
    if spec.get("stay"):
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        yield {"value": 2 * spec["number"], "grandchild": grandchild.pid}
        time.sleep(600)
    yield {"value": 2 * spec["number"], "whole": True, "variable": os.environ.get("CHILD_VARIABLE")}


if __name__ == "__main__":
    sys.exit(serve_child(results, sys.argv[1:]))
