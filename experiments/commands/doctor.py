"""`unept-bench doctor`: what is installed."""

from __future__ import annotations

from dataclasses import dataclass

from experiments.commands.console import DONE, Invocation, print_lines
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    """No options."""


def doctor(options: DoctorOptions, call: Invocation) -> int:
    """Say which versions, processors, accelerators and attention backends there are.

    And which optional parts are missing, with the line that installs each.
    """
    from bench.doctor import diagnosis_lines

    print_lines(diagnosis_lines())
    return DONE


VERB = Verb(
    name="doctor",
    run=doctor,
    options=DoctorOptions,
    group="Data and machine",
    summary="Say what is installed and what is missing",
    example="doctor",
)
