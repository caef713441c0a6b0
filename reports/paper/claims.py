"""Claims of the paper's Tables 5 to 8, as differences between two printed figures.

A claim says that one row is above or below another in one column. The figures stand in reports/paper/figures.py alone;
the sense of a claim comes from the text, and where the text and the figures contradict each other, `supported` is
False. Two statements of section 4.4 are no such difference and so no claim here: that 16 points are "sufficient", and
that the number of points has no "large impact" on three levels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from reports.paper import figures
from reports.paper.figures import PrintedFigure


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Claim that row `better` is above (`sign` 1) or below (`sign` -1) row `worse` in a column of a table."""

    table: int
    text: str
    better: str
    worse: str
    column: str
    sign: int = 1

    @property
    def quoted(self) -> float | None:
        """Printed figure of `better` less that of `worse`, to the printed decimals; None where a cell is empty."""
        better, worse = (
            _exact(figures.printed_figure(self.table, row, self.column)) for row in (self.better, self.worse)
        )
        return None if better is None or worse is None else float(better - worse)

    @property
    def unit(self) -> str:
        """Unit of the difference: that of the figures, and points where those are percentages."""
        unit = figures.printed_figure(self.table, self.better, self.column).unit
        return "points" if unit == "%" else unit

    @property
    def supported(self) -> bool | None:
        """True if the paper's own figures have the claimed sign; None where one is not printed."""
        return None if self.quoted is None else self.quoted * self.sign > 0


def _exact(figure: PrintedFigure) -> Decimal | None:
    return None if figure.value is None else Decimal(str(figure.value))


def _components() -> Iterator[Claim]:
    """Table 5: each row against the one before it."""
    rows = figures.TABLES[5].rows
    for column in ("mIoU", "pixAcc"):
        for worse, better in itertools.pairwise(rows):
            text = f"adding {better.removeprefix('+ ')} raises {column}"
            yield Claim(table=5, text=text, better=better, worse=worse, column=column)


def _points_and_levels() -> Iterator[Claim]:
    """Table 6: 4, 16 and 64 points on one level and on three, and three levels against one at each number of points."""
    for column in ("mIoU", "pAcc"):
        for levels, more, less in ((1, 16, 4), (1, 64, 16), (3, 16, 4), (3, 16, 64)):
            text = f"{more} points rather than {less} raise {column} at L={levels}"
            better, worse = (f"N={points} L={levels}" for points in (more, less))
            yield Claim(table=6, text=text, better=better, worse=worse, column=column)
        for points in (4, 16, 64):
            text = f"three levels rather than one raise {column} at N={points}"
            yield Claim(table=6, text=text, better=f"N={points} L=3", worse=f"N={points} L=1", column=column)


def _methods() -> Iterator[Claim]:
    """Table 7: operations ("the lowest") and mIoU against each method, parameters against SETR ("a larger network")."""
    *published, ours = figures.TABLES[7].rows
    for network in published:
        yield Claim(table=7, text=f"higher mIoU than {network}", better=ours, worse=network, column="mIoU")
    for network in published:
        text = f"fewer operations than {network}"
        yield Claim(table=7, text=text, better=ours, worse=network, column="GFLOPs", sign=-1)
    yield Claim(table=7, text="fewer parameters than SETR", better=ours, worse="SETR", column="#Params.", sign=-1)


def _memory() -> Iterator[Claim]:
    """Yield the claims of Table 8 on memory and mIoU: ours on ResNet-50 against others on it, DeiT against SETR."""
    *published, on_resnet, on_deit = figures.TABLES[8].rows
    for column, sign, word in (("Mem Cost", -1, "less memory"), ("mIoU", 1, "higher mIoU")):
        for network in published:
            ours = on_resnet if network.endswith("ResNet50") else on_deit
            yield Claim(table=8, text=f"{word} than {network}", better=ours, worse=network, column=column, sign=sign)


CLAIMS: tuple[Claim, ...] = (*_components(), *_points_and_levels(), *_methods(), *_memory())


STAND_INS = {  # rows of a table, by the variants that take their place in a study on another backbone
    "Ours, ResNet50": "deformable",
    **{f"{name}, ResNet50": name for name in ("Sparse Transformer", "Longformer", "Reformer", "CCNet", "ANL")},
}


def claims_of_table(table: int) -> tuple[Claim, ...]:
    """Return the claims of one table, in the order in which reports list them."""
    return tuple(claim for claim in CLAIMS if claim.table == table)
