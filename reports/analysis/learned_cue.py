"""Seeds that learned the distant cue of the generated scenes: how many, and when."""

from __future__ import annotations

import itertools

import pandas as pd

from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

LEARNED_ACCURACY = 0.75  # of the look-alike pixels: midway between guessing and perfect
PROBE_COLUMNS = (("step", 0), ("lookalike_accuracy", 2))  # the columns of a probe that are read, and their usual places


def learning_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per run that was scored on look-alike classes.

    `jump_step` is the first probe from which on every probe is past the threshold, missing where the last one is not;
    it is known to within `probe_gap` steps. `lookalike_accuracy` is the final one, a fraction.
    """
    lines: list[dict[str, object]] = [
        {
            "variant": variant,
            "seed": study_rows.seed_of(run),
            "lookalike_accuracy": score,
            "jump_step": _jump(run),
            "probe_gap": _gap(run),
        }
        for variant in study.variants
        for run in study.runs_of(variant)
        if (score := _lookalike(run)) is not None
    ]
    whole = ("seed", "jump_step", "probe_gap")
    return make_frame(lines, ["variant", "seed", "lookalike_accuracy", "jump_step", "probe_gap"], whole=whole)


def learned_cue_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant: how many of its scored seeds learned the distant cue, and at which step.

    `jump_steps` lists `seed: step` of those that did, and `probe_gap` is the largest of their runs. The frame is empty
    where no run was scored on look-alike classes.
    """
    learning = learning_frame(study)
    lines = []
    for variant in study.variants if len(learning) else ():
        scored = learning[learning["variant"] == variant]
        learned = scored[scored["lookalike_accuracy"] >= LEARNED_ACCURACY]
        jumps = [
            f"{seed}: {'-' if pd.isna(step) else step}"
            for seed, step in zip(learned["seed"], learned["jump_step"], strict=True)
        ]
        gaps = scored["probe_gap"].dropna()
        line: dict[str, object] = {"variant": variant, "seeds": len(scored), "learned": len(learned)}
        lines.append(line | {"jump_steps": ", ".join(jumps) or None, "probe_gap": gaps.max() if len(gaps) else None})
    whole = ("seeds", "learned", "probe_gap")
    return make_frame(
        lines, ["variant", *whole[:2], "jump_steps", "probe_gap"], whole=whole, text=("variant", "jump_steps")
    )


def _lookalike(run: study_rows.Row) -> float | None:
    return study_rows.number_at(run, "metrics", "lookalike_accuracy") if study_rows.has_succeeded(run) else None


def _probes(run: study_rows.Row) -> list[tuple[int, float]]:
    """Return the (step, look-alike accuracy) probed during training, by step; what is malformed is left out."""
    probe = study_rows.value_at(run, "training", "probe")
    names = study_rows.value_at(run, "training", "probe_columns")
    places = [
        names.index(name) if isinstance(names, list) and name in names else index for name, index in PROBE_COLUMNS
    ]
    scores = []
    for entry in probe if isinstance(probe, list) else []:
        if isinstance(entry, list) and len(entry) > max(places):
            step, score = (study_rows.finite_number(entry[index]) for index in places)
            if step is not None and score is not None:
                scores.append((int(step), score))
    return sorted(scores)


def _jump(run: study_rows.Row) -> int | None:
    """Return the first step from which on every probe is past the threshold; None where the last one is not.

    A run of a record has the step itself, and no probes.
    """
    recorded = study_rows.number_at(run, "training", "jump_step")
    if recorded is not None:
        return int(recorded)
    probes = _probes(run)
    past = list(itertools.takewhile(lambda probe: probe[1] >= LEARNED_ACCURACY, reversed(probes)))
    return past[-1][0] if past else None


def _gap(run: study_rows.Row) -> int | None:
    """Return the most steps that passed without a probe, from the start of training to the last one."""
    recorded = study_rows.number_at(run, "training", "probe_gap")
    if recorded is not None:
        return int(recorded)
    steps = [0, *(step for step, _ in _probes(run))]
    return max((after - before for before, after in itertools.pairwise(steps)), default=None)
