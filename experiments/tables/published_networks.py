"""The networks of Table 7, or a user's own, counted and timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import unept
from bench.config.settings import Settings
from bench.profiling.complexity import MakeNetwork, complexity_record, network_from_spec
from bench.profiling.image_size import ImageSize
from experiments.tables.table7 import check_network_names, table7_networks


@dataclass(frozen=True, kw_only=True)
class CountedNetwork:
    """Network to count.

    Attributes:
        name: Shown in the report.
        make: Builds the network.
        size: Height and width of its image, pixels.
        quoted: Its row of the paper's Table 7; "" for none.
        settings: Settings of its training step; None for a user's model, whose loss is not known here.
    """

    name: str
    make: MakeNetwork
    size: ImageSize
    quoted: str = ""
    settings: Settings | None = None


def select_networks(
    size: ImageSize, *, models: Sequence[str] = (), names: Sequence[str] = ()
) -> tuple[CountedNetwork, ...]:
    """Return the user's `models`, else those of the paper's networks that `names` lists, else all of them.

    Raises:
        ValueError: A name is unknown.
    """
    if models:
        return tuple(
            CountedNetwork(name=spec, make=network_from_spec(spec, size), size=size) for spec in dict.fromkeys(models)
        )
    check_network_names(names)
    return tuple(
        CountedNetwork(
            name=network.name,
            make=partial(unept.build, network.config),
            size=network.size or size,
            quoted=network.quoted,
            settings=Settings(model=network.config),
        )
        for network in table7_networks()
        if not names or network.name in names
    )


def count_networks(networks: Sequence[CountedNetwork]) -> list[dict[str, Any]]:
    """Return a record for each network.

    Raises:
        ValueError: A network cannot be counted; the message names it.
    """
    return [complexity_record(one.name, one.make, one.size, quoted=one.quoted) for one in networks]


def add_network_times(
    networks: Sequence[CountedNetwork],
    records: Sequence[dict[str, Any]],
    size: ImageSize,
    *,
    batch: int,
    rounds: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Add `times` to the records of the networks counted at this size, and return the protocol of the times."""
    from bench.profiling.network_timing import time_networks, timing_protocol

    subjects = {one.name: (one.make, one.settings) for one in networks if one.size == size}
    measured = time_networks(subjects, size, batch=batch, rounds=rounds, say=say)
    for line in records:
        if line["name"] in measured:
            line["times"] = measured[line["name"]]
    return timing_protocol(size, batch, rounds)
