"""Sections on the setup of a study: failures, differences from the paper, protocol, commands, environment."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from reports.analysis import protocol as setting
from reports.analysis.study_rows import Study
from reports.formats.markdown import code_block, markdown_table


def failures_section(failures: pd.DataFrame) -> Iterator[str]:
    """Yield the runs and measurements without a value, with the reason."""
    yield "## Failures and missing runs\n"
    if failures.empty:
        yield "None: every run has a value.\n"
        return
    yield markdown_table(list(failures.columns), failures.astype(str).to_numpy().tolist(), left=4)


def differences_section(study: Study) -> Iterator[str]:
    """Yield the differences from the paper's setting."""
    yield "## What differs from the paper's setting\n"
    lines = setting.protocol_differences(study)
    yield (
        markdown_table(["what", "paper", "here"], [list(line) for line in lines], left=3)
        if lines
        else "Nothing that rows record.\n"
    )


def protocol_section(study: Study) -> Iterator[str]:
    """Yield every setting that decides the numbers, and the commands."""
    yield "## Protocol\n"
    yield "Where variants differ, their values stand side by side, in the order of the tables above.\n"
    yield markdown_table(["what", "value"], [list(pair) for pair in setting.protocol_table(study)], left=2)
    if study.commands:
        yield "## Command\n"
        yield code_block("\n".join(study.commands))


def environment_section(study: Study) -> Iterator[str]:
    """Yield the machines and versions that made the rows."""
    facts = setting.environment_table(study)
    if facts:
        yield "## Environment\n"
        yield markdown_table(["what", "value"], [list(pair) for pair in facts], left=2)
