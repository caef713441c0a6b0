"""Section on the receptive field: the attention in each slot, and the share of tokens that a token depends on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.formats import numbers
from reports.formats.data_frames import make_frame
from reports.formats.markdown import escape_cell, markdown_table
from unept.config import SLOTS

UNEPT = "unept"  # the architecture that has slots
NONE = "none"
COLUMNS = ("variant", "slot", "attention", "share", "own_level", "other_levels")


def receptive_field_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per slot of each variant that has slots: measured fractions of tokens.

    `share`: the part of the other tokens that a token depends on after one layer. `own_level`, `other_levels`: the same
    after two layers, within the token's own level and over the other levels, averaged over levels.
    """
    lines: list[dict[str, object]] = []
    for variant in study.variants:
        model = _model(study, variant)
        if model.get("architecture") != UNEPT:
            continue
        for slot in SLOTS:
            measured = study_rows.value_at(study.measures.get(variant, {}), "metrics", "reach", slot)
            lines.append({"variant": variant, "slot": slot, "attention": str(model.get(slot)), **_shares(measured)})
    return make_frame(lines, COLUMNS, text=COLUMNS[:3])


def receptive_field_section(frame: pd.DataFrame) -> Iterator[str]:
    """Yield the table, and a note on variants without self-attention in both slots."""
    if frame.empty:
        return
    yield "## What a token sees, measured\n"
    yield (
        "Percent of tokens, by the gradients of some tokens' results at the initial weights and the training size. One "
        "layer: of the other tokens, those that it lets a token see. Own level, other levels: after two layers. The "
        "decoder's cross-attention, from its queries to the encoder's tokens, is not measured.\n"
    )
    columns = ["variant", "encoder self", "one layer", "own level", "other levels"]
    columns += ["decoder self", "one layer", "own level", "decoder cross"]
    yield markdown_table(
        columns, [_cells(variant, lines) for variant, lines in frame.groupby("variant", sort=False)], left=2
    )
    empty = [variant for variant, attentions in _attentions(frame).items() if attentions[:2] == [NONE, NONE]]
    if empty:
        crossing = ", ".join(dict.fromkeys(_attentions(frame)[variant][2] for variant in empty))
        yield (
            f"With {NONE} in both self-attention slots ({escape_cell(', '.join(empty))}) the decoder's cross-attention "
            f"({escape_cell(crossing)}) still carries context to every query.\n"
        )


def _attentions(frame: pd.DataFrame) -> dict[str, list[str]]:
    """Attentions of each variant's slots, in their order."""
    return {str(variant): list(lines["attention"]) for variant, lines in frame.groupby("variant", sort=False)}


def _cells(variant: object, lines: pd.DataFrame) -> list[str]:
    encoder, decoder, cross = (line for _, line in lines.iterrows())
    shares = [[numbers.format_number(100 * line[name], ".0f") for name in COLUMNS[3:]] for line in (encoder, decoder)]
    return [str(variant), encoder["attention"], *shares[0], decoder["attention"], *shares[1][:2], cross["attention"]]


def _model(study: Study, variant: str) -> Mapping[str, Any]:
    """The model's settings of a variant, from whatever row has them."""
    for row in (*study.runs_of(variant), study.measures.get(variant, {})):
        if isinstance(model := study_rows.value_at(row, "settings", "model"), Mapping):
            return model
    return {}


def _shares(measured: Any) -> dict[str, float]:
    if not isinstance(measured, Mapping):
        return {}
    pairs = {
        name: value
        for name in measured
        if name != "share" and (value := study_rows.number_at(measured, name)) is not None
    }
    own = [value for name, value in pairs.items() if _levels(name)[0] == _levels(name)[1]]
    others = [value for name, value in pairs.items() if _levels(name)[0] != _levels(name)[1]]
    shares = {"share": study_rows.number_at(measured, "share"), "own_level": _mean(own), "other_levels": _mean(others)}
    return {name: value for name, value in shares.items() if value is not None}


def _levels(name: str) -> Sequence[str]:
    """The two levels in `level 1 from 2`."""
    words_of_it = name.split() or [""]
    return words_of_it[min(1, len(words_of_it) - 1)], words_of_it[-1]


def _mean(shares: Sequence[float]) -> float | None:
    return fmean(shares) if shares else None
