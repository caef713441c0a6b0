"""Scores that were probed during training, as a table."""

from __future__ import annotations

import pandas as pd

from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame


def probe_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per probe of each run: variant, seed, and the probe's own columns.

    Scores are fractions. What is malformed is left out; empty where no run was probed.
    """
    lines: list[dict[str, object]] = []
    names: dict[str, None] = {"step": None}
    for run in study.runs:
        titles = study_rows.value_at(run, "training", "probe_columns")
        probe = study_rows.value_at(run, "training", "probe")
        if not isinstance(titles, list) or "step" not in titles or not isinstance(probe, list):
            continue
        names |= dict.fromkeys(map(str, titles))
        for entry in probe:
            if isinstance(entry, list) and len(entry) == len(titles):
                scores = {str(name): study_rows.finite_number(value) for name, value in zip(titles, entry, strict=True)}
                if scores["step"] is not None:
                    lines.append({"variant": run["variant"], "seed": study_rows.seed_of(run), **scores})
    return make_frame(lines, ["variant", "seed", *names], whole=("seed", "step"))
