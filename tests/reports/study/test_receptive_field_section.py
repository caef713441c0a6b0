"""What the report says of the slots and of what a token sees."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from synthetic import SETTINGS, measure_row, run_row

from reports.analysis.study_rows import Study, assemble_study
from reports.study import receptive_field

ENCODER = {"share": 0.25, "level 1 from 1": 1.0, "level 1 from 2": 0.5, "level 2 from 1": 0.0, "level 2 from 2": 0.5}
DECODER = {"share": 0.125, "level 1 from 1": 0.75}


def settings(**model: Any) -> dict[str, Any]:
    slots = {"architecture": "unept", "decoder_cross": "deformable"}
    return SETTINGS | {"model": SETTINGS["model"] | slots | model}


def study() -> Study:
    given = {
        "Longformer": settings(encoder_self="longformer", decoder_self="deformable"),
        "none": settings(encoder_self="none", decoder_self="none"),
        "CCNet": settings(architecture="ccnet", encoder_self="deformable", decoder_self="deformable"),
        "unmeasured": settings(encoder_self="reformer", decoder_self="none"),
    }
    runs = [run_row(variant, 0, 0.5, settings=value) for variant, value in given.items()]
    measures = [measure_row(variant, settings=value) for variant, value in given.items() if variant != "unmeasured"]
    for row in measures:
        row["metrics"]["reach"] = {"encoder_self": ENCODER, "decoder_self": DECODER}
    return assemble_study("table 8", runs=runs, measures=measures)


def test_shares_of_each_slot() -> None:
    found = receptive_field.receptive_field_frame(study()).set_index(["variant", "slot"])
    line = found.loc[("Longformer", "encoder_self")]
    assert line["attention"] == "longformer"
    assert [line[name] for name in ("share", "own_level", "other_levels")] == pytest.approx([0.25, 0.75, 0.25])
    line = found.loc[("Longformer", "decoder_self")]
    assert [line["share"], line["own_level"]] == pytest.approx([0.125, 0.75])
    assert pd.isna(line["other_levels"])
    assert found.loc[("unmeasured", "encoder_self")][["share", "own_level", "other_levels"]].isna().all()


def test_rivals_have_no_slots() -> None:
    assert set(receptive_field.receptive_field_frame(study())["variant"]) == {"Longformer", "none", "unmeasured"}


def test_the_section() -> None:
    text = "\n".join(receptive_field.receptive_field_section(receptive_field.receptive_field_frame(study())))
    assert "| Longformer | longformer | 25 | 75 | 25 | deformable | 12 | 75 | deformable |" in text
    assert "With none in both self-attention slots (none) the decoder's cross-attention (deformable) still" in text
    networks = assemble_study("table 7", runs=[run_row("CCNet", 0, 0.5, settings=settings(architecture="ccnet"))])
    assert "".join(receptive_field.receptive_field_section(receptive_field.receptive_field_frame(networks))) == ""
