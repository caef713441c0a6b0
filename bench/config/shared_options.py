"""Options that several verbs have, described once; each takes the heading of `--help` that its verb lists it under."""

from __future__ import annotations

from typing import Any

from bench.config.option_fields import option
from unept.config import BACKENDS

DATA_HELP = "scenes, scenes:v2, or folder:, ade20k:, cityscapes: or pascal_context: and a path."


def data_option(group: str) -> Any:
    """Return the field of `--data` where a preset has data of its own."""
    return option("", help=DATA_HELP, metavar="DATA", group=group, default_text="the preset's", completes="data")


def backend_option(group: str) -> Any:
    """Return the field of `--backend`, the attention kernel."""
    return option(
        "auto",
        help="Attention kernel: reference (plain PyTorch), native (compiled), cuda, mmcv or auto.",
        metavar="NAME",
        group=group,
        choices=BACKENDS,
        completes="choices",
    )


def device_option(group: str) -> Any:
    """Return the field of `--device`, the device of the computation."""
    return option("auto", help="auto, cpu, cuda, cuda:1 ...", metavar="NAME", group=group, completes="devices")


def process_threads_option(group: str) -> Any:
    """Return the field of `--threads` for processes that share this machine; 0 stands for a share."""
    return option(
        0,
        help="Threads of each process.",
        metavar="N",
        group=group,
        default_text="its share of the processors",
        least=0,
    )


def own_modules_option() -> Any:
    """Return the field of `--own-modules`, which allows code that a checkpoint names."""
    return option(False, help="Import the attention that a checkpoint names as module:Class.")


def fields_option(help: str, group: str) -> Any:
    """Return the field of `--set`, any field of the settings as FIELD=VALUE."""
    return option((), name="set", help=help, metavar="FIELD=VALUE ...", group=group, completes="fields")
