"""Statements on Table 8's memory column that a predicted training step can support or contradict.

A printed figure holds more than tensors, and its meter is not named; so a statement compares it with live tensors in
one of a few ways that allow for that (`MemoryStatement.kind`). Nothing here says what the authors ran.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from reports.paper import figures

MEMORY_TABLE, MEMORY_COLUMN = 8, "Mem Cost"
SPARSE_ROWS = ("Sparse Transformer, ResNet50", "Longformer, ResNet50", "Reformer, ResNet50")
OUR_ROWS = ("Ours, ResNet50", "Ours, DeiT")
FAR_FACTOR = 2.0  # what is called far more or far less, at least
ALL_LEVELS = "a mask over all levels, both slots"
BY_LEVEL = "a mask level by level, both slots"
ENCODER = "a mask level by level, encoder only"
DECODER = "a mask, decoder only"
MASKED_FORMS = (ALL_LEVELS, BY_LEVEL, ENCODER, DECODER)  # a sparse pattern as dense attention with a mask, on ResNet-50

SLOTS_UNKNOWN = "neither the text nor the released code says in which slots it stood, nor with which parameters"
KNOWN_GAPS: Mapping[str, str] = {
    "Ours, ResNet50": "on top of tensors come context, work spaces (the released configuration lets cuDNN try "
    "algorithms), the buckets of distributed training and the allocator's slack; which meter was read is not said",
    "Ours, DeiT": "the same, and buckets as large as its gradients; they do not make up for the order of the two rows",
    "Sparse Transformer, ResNet50": SLOTS_UNKNOWN,
    "Longformer, ResNet50": SLOTS_UNKNOWN,
    "Reformer, ResNet50": SLOTS_UNKNOWN,
    "CCNet, ResNet50": "the public model zoo's figure for this network is a gigabyte lower",
    "ANL, ResNet50": "the public model zoo's figure for this network is above CCNet's: no one protocol gives both "
    "figures of the paper",
    "SETR, T-large": "the public toolbox's figures for its three variants are lower by a third and more",
}


@dataclass(frozen=True, kw_only=True)
class MemoryStatement:
    """Statement about the printed figure of `row`, judged by the live tensors of the predicted row `by`, in GiB.

    `holds`: printed is no less. `far below`, `far above`: the tensors are, by the factor FAR_FACTOR. `explains`:
    printed is above the tensors, by no more than in our own rows. `more`: `by` has more tensors than `than`, as is
    printed.
    """

    text: str
    row: str
    by: str
    kind: Literal["holds", "far below", "far above", "explains", "more"]
    than: str = ""

    @property
    def printed(self) -> float:
        """Quoted figure, GB."""
        value = figures.printed_figure(MEMORY_TABLE, self.row, MEMORY_COLUMN).value
        assert value is not None, self.row
        return value

    def judge(self, predicted: Mapping[str, float]) -> bool | None:
        """Return True or False if the prediction supports or contradicts the statement; None if undecided or a row is
        missing.
        """
        if not {self.by, *filter(None, [self.than])} <= predicted.keys():
            return None
        here, printed = predicted[self.by], self.printed
        if self.kind == "holds":
            return printed >= here
        if self.kind == "more":
            return here > predicted[self.than]
        if self.kind == "far below":
            return True if here * FAR_FACTOR <= printed else False if here >= printed else None
        if self.kind == "far above":
            return True if here >= FAR_FACTOR * printed else False if here <= printed else None
        most = largest_slack(predicted)
        return None if most is None else 0 <= printed - here <= most


def largest_slack(predicted: Mapping[str, float]) -> float | None:
    """Return the largest excess of our own rows' printed figures over their live tensors; None without both rows."""
    if not predicted.keys() >= {*OUR_ROWS}:
        return None
    printed = {row: figures.printed_figure(MEMORY_TABLE, row, MEMORY_COLUMN).value or 0.0 for row in OUR_ROWS}
    return max(printed[row] - predicted[row] for row in OUR_ROWS)


def _statements() -> Iterator[MemoryStatement]:
    for row in figures.TABLES[MEMORY_TABLE].rows:
        yield MemoryStatement(text=f"{row}: no less than its live tensors", row=row, by=row, kind="holds")
    less, more = OUR_ROWS
    yield MemoryStatement(text=f"{more}: more than {less}", row=more, by=more, than=less, kind="more")
    for row in SPARSE_ROWS:
        yield MemoryStatement(text=f"{row}: its true sparse form has far less", row=row, by=row, kind="far below")
    for row in SPARSE_ROWS:
        yield MemoryStatement(text=f"{row}: {ALL_LEVELS}, has far more", row=row, by=ALL_LEVELS, kind="far above")
    for row in SPARSE_ROWS:
        for form in (BY_LEVEL, ENCODER, DECODER):
            yield MemoryStatement(text=f"{row}: {form}, would explain it", row=row, by=form, kind="explains")


MEMORY_STATEMENTS: tuple[MemoryStatement, ...] = tuple(_statements())
