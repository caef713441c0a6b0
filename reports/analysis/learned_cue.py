"""Seeds that learned the distant cue of the generated scenes: how many, when, and how well.

Learning is a jump, and a mean over seeds that jumped and seeds that did not describes none of them. So the report is in
two parts: the probability of learning, and the score of the seeds that learned."""

from __future__ import annotations

import itertools

import pandas as pd

from bench.stats.proportion import jeffreys_interval
from bench.stats.seed_statistics import summarize_sample
from reports.analysis import study_rows
from reports.analysis.cue_groups import accuracy_to_learn, cue_threshold, has_two_groups, learned_accuracy
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

PROBE_COLUMNS = (("step", 0), ("lookalike_accuracy", 2))  # the columns of a probe that are read, and their usual places


def learning_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per run that was scored on look-alike classes.

    Returns:
        `lookalike_accuracy` is the final one, a fraction; `learned` is "yes" from the variant's `cue_threshold` on.
        `jump_step` is the first probe from which on every probe is past the scenes' `learned_accuracy`, missing where
        the last one is not; it is known to within `probe_gap` steps.
    """
    lines = []
    for variant in study.variants:
        threshold = cue_threshold(lookalike_scores(study, variant), least_accuracy(study, variant))
        for run in study.runs_of(variant):
            score = _lookalike(run)
            if score is not None:
                line: dict[str, object] = {"variant": variant, "seed": study_rows.seed_of(run)}
                line |= {"lookalike_accuracy": score, "learned": "yes" if score >= threshold else "no"}
                lines.append(line | {"jump_step": _jump(run), "probe_gap": _gap(run)})
    columns = ["variant", "seed", "lookalike_accuracy", "learned", "jump_step", "probe_gap"]
    return make_frame(lines, columns, whole=("seed", "jump_step", "probe_gap"), text=("variant", "learned"))


def grouped_variants(study: Study) -> frozenset[str]:
    """Return the variants whose seeds fall in two groups or more."""
    return frozenset(
        variant
        for variant in study.variants
        if has_two_groups(lookalike_scores(study, variant), least_accuracy(study, variant))
    )


def least_accuracy(study: Study, variant: str) -> float:
    """Return the `learned_accuracy` of the scenes that a variant's runs were scored on."""
    return max((accuracy_to_learn(run) for run in study.runs_of(variant)), default=learned_accuracy())


def lookalike_scores(study: Study, variant: str) -> list[float]:
    """Return the final look-alike accuracy of a variant's seeds that have one, fractions."""
    return [score for run in study.runs_of(variant) if (score := _lookalike(run)) is not None]


def learned_cue_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant: how many of its scored seeds learned the distant cue, when, and what the
    seeds that did score.

    Returns:
        `probability_low` and `_high` are the Jeffreys interval of the probability of learning. `learned_miou` is the
        mean of the seeds that learned, in percent points, with its standard deviation and 95 % t-interval. `groups` is
        "two" where seeds fall in two groups or more, else "one". `jump_steps` lists `seed: step` of those that learned,
        and `probe_gap` is the largest of all runs. Empty where no run was scored on look-alike classes.
    """
    learning = learning_frame(study)
    by_variant = dict(tuple(learning.groupby("variant", sort=False)))
    lines = [
        _learned_line(study, variant, by_variant.get(variant, learning[:0]))
        for variant in (study.variants if len(learning) else ())
    ]
    scores = [f"learned_miou_{part}" for part in ("mean", "sd", "low", "high")]
    numbers = ("probability_low", "probability_high", *scores)
    columns = ["variant", "seeds", "learned", "groups", *numbers, "jump_steps", "probe_gap"]
    whole = ("seeds", "learned", "probe_gap")
    return make_frame(lines, columns, whole=whole, text=("variant", "groups", "jump_steps"))


def _learned_line(study: Study, variant: str, scored: pd.DataFrame) -> dict[str, object]:
    scores = scored["lookalike_accuracy"].tolist()
    learned = scored[scored["learned"] == "yes"]
    jumps = [
        f"{seed}: {'-' if pd.isna(step) else step}"
        for seed, step in zip(learned["seed"], learned["jump_step"], strict=True)
    ]
    gaps = scored["probe_gap"].dropna()
    line: dict[str, object] = {"variant": variant, "seeds": len(scores), "learned": len(learned)}
    if not scores:
        return line
    low, high = jeffreys_interval(len(learned), len(scores))
    seeds = set(learned["seed"])
    runs = [run for run in study.runs_of(variant) if study_rows.seed_of(run) in seeds]
    summary = summarize_sample([100 * value for value in study_rows.metric_values(runs, "miou")])
    return line | {
        "groups": "two" if has_two_groups(scores, least_accuracy(study, variant)) else "one",
        "probability_low": low,
        "probability_high": high,
        "learned_miou_mean": summary.mean,
        "learned_miou_sd": summary.sd,
        "learned_miou_low": summary.low,
        "learned_miou_high": summary.high,
        "jump_steps": ", ".join(jumps) or None,
        "probe_gap": gaps.max() if len(gaps) else None,
    }


def _lookalike(run: study_rows.Row) -> float | None:
    return study_rows.number_at(run, "metrics", "lookalike_accuracy") if study_rows.has_succeeded(run) else None


def probes_of(run: study_rows.Row) -> list[tuple[int, float]]:
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
    probes, least = probes_of(run), accuracy_to_learn(run)
    past = list(itertools.takewhile(lambda probe: probe[1] >= least, reversed(probes)))
    return past[-1][0] if past else None


def _gap(run: study_rows.Row) -> int | None:
    """Return the most steps that passed without a probe, from the start of training to the last one."""
    recorded = study_rows.number_at(run, "training", "probe_gap")
    if recorded is not None:
        return int(recorded)
    steps = [0, *(step for step, _ in probes_of(run))]
    return max((after - before for before, after in itertools.pairwise(steps)), default=None)
