"""The child process in which a user's attention is tried before it trains, by the brief checks of its results.

Spec: `settings` of the variant and the `slot`. Result: `lines`, and `at`, the check that was begun last, "" at the end.
So the parent knows where an attention ended its process or did not come to an end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from bench.child_process import serve_child

MAX_SIDE = 16  # tokens of a map's side


def main(arguments: list[str]) -> int:
    """Try the attention of the spec and write what is found; return the exit status."""
    return serve_child(trial_results, arguments)


def trial_results(spec: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the result before and after each check."""
    yield {"lines": [], "at": "import"}
    from bench.attention_layer import AttentionUnderTest, brief_checks, run_check
    from bench.attention_layer.result import CheckLine
    from bench.config.settings import settings_from_dict

    model = settings_from_dict(spec["settings"]).model
    subject = AttentionUnderTest(slot=spec["slot"], model=model)
    side = max(1, min(MAX_SIDE, model.size // 8))
    lines: list[CheckLine] = []
    for check in brief_checks(subject, ((side, side),) * subject.levels):
        yield {"lines": [*map(asdict, lines)], "at": check.name}
        lines += run_check(check, [line.name for line in lines if line.status == "FAIL"])
    yield {"lines": [*map(asdict, lines)], "at": ""}


if __name__ == "__main__":
    status = main(sys.argv[1:])
    os._exit(status)  # no thread of the user's keeps the process
