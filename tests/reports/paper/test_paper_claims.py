"""The claims are differences of printed figures; a few worked out by hand."""

from __future__ import annotations

import dataclasses

import pytest

from reports.paper import figures
from reports.paper.claims import CLAIMS, Claim, claims_of_table


def found(table: int, better: str, worse: str, column: str = "mIoU") -> Claim:
    (claim,) = (c for c in claims_of_table(table) if (c.better, c.worse, c.column) == (better, worse, column))
    return claim


def test_the_steps_of_table_5_by_hand() -> None:
    assert [c.quoted for c in claims_of_table(5) if c.column == "mIoU"] == [2.7, 1.1, 4.4]
    assert [c.quoted for c in claims_of_table(5) if c.column == "pixAcc"] == [0.8, 0.6, 1.9]
    assert found(5, "+ spatial path", "+ pyramid features").text == "adding spatial path raises mIoU"


def test_the_effects_of_table_6_by_hand() -> None:
    assert found(6, "N=16 L=1", "N=4 L=1").quoted == 5.0
    assert found(6, "N=64 L=1", "N=16 L=1").quoted == 0.4
    assert found(6, "N=16 L=3", "N=4 L=3").quoted == 2.0
    assert found(6, "N=16 L=3", "N=64 L=3").quoted == 0.5
    assert [found(6, f"N={n} L=3", f"N={n} L=1").quoted for n in (4, 16, 64)] == [6.6, 3.6, 2.7]
    assert len(claims_of_table(6)) == 14


def test_lower_is_better_for_memory_operations_and_parameters() -> None:
    lower = {claim.column for claim in CLAIMS if claim.sign < 0}
    assert lower == {"Mem Cost", "GFLOPs", "#Params."}
    assert all(claim.sign < 0 for claim in CLAIMS if claim.column in lower)
    assert found(8, "Ours, ResNet50", "CCNet, ResNet50", "Mem Cost").quoted == -2.8
    assert found(7, "Ours", "SETR", "#Params.").quoted == -307
    assert found(7, "Ours", "PSANet", "GFLOPs").quoted == -140.4


def test_units() -> None:
    assert {claim.unit for claim in CLAIMS if claim.column in ("mIoU", "pAcc", "pixAcc")} == {"points"}
    assert found(8, "Ours, ResNet50", "ANL, ResNet50", "Mem Cost").unit == "GB"
    assert found(7, "Ours", "SETR", "#Params.").unit == "million"


def test_where_text_and_figures_part() -> None:
    assert [(c.table, c.column, c.worse) for c in CLAIMS if c.supported is False] == [
        (6, "pAcc", "N=64 L=1"),
        (8, "Mem Cost", "ANL, ResNet50"),
    ]
    assert [(c.table, c.column, c.worse) for c in CLAIMS if c.supported is None] == [(7, "GFLOPs", "SETR")]


def test_a_printed_difference_of_nothing_bears_out_no_claim() -> None:
    nothing = Claim(table=7, text="", better="UperNet", worse="OCRNet", column="mIoU")
    assert nothing.quoted == 0
    assert nothing.supported is False


def test_every_claim_names_printed_cells_and_none_is_made_twice() -> None:
    assert {claim.table for claim in CLAIMS} == set(figures.TABLES)
    places = [(c.table, c.column, frozenset((c.better, c.worse))) for c in CLAIMS]
    assert len(set(places)) == len(places)
    assert len({(c.table, c.text) for c in CLAIMS}) == len(CLAIMS)
    for claim in CLAIMS:
        assert not any(figure.printed in claim.text.split() for figure in figures.TABLES[claim.table].figures)


def test_table_8_compares_like_backbones() -> None:
    for claim in claims_of_table(8):
        assert claim.better == ("Ours, DeiT" if claim.worse.startswith("SETR") else "Ours, ResNet50")
    assert len(claims_of_table(8)) == 12
    assert len(claims_of_table(7)) == 17


def test_a_changed_figure_changes_its_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    table = figures.TABLES[5]
    changed = [
        dataclasses.replace(f, printed="43.3") if (f.row, f.column) == ("baseline", "mIoU") else f
        for f in table.figures
    ]
    tables = {**figures.TABLES, 5: dataclasses.replace(table, figures=tuple(changed))}
    monkeypatch.setattr(figures, "TABLES", tables)
    assert [c.quoted for c in claims_of_table(5) if c.column == "mIoU"] == [1.7, 1.1, 4.4]
