"""Each variant against one control: what the seeds show, what they cannot show, and how many would be needed.

The comparisons of a study are one family: Welch's test decides, its p adjusted by Holm. Beside it stands the exact
unpaired permutation p with the least value it can take. Accuracies are in percent points, and differences are
`variant - control`. A difference that was not seen is never called equality: the least one that these sizes would have
shown stands beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.config.fields import AXIS_LABELS
from bench.stats import seed_statistics
from bench.stats.seed_statistics import PermutationResult, WelchResult
from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

ALPHA = 0.05
POWER = 0.8
LEARNED_ACCURACY = 0.75  # of the look-alike pixels: midway between guessing and perfect
GRID_CONTROL: Mapping[str, object] = {"points": 16, "levels": 3}
PROBE_COLUMNS = (("step", 0), ("lookalike_accuracy", 2))  # the columns of a probe that are read, and their usual places
MAX_NAMED = 6  # variants in one sentence; the table has them all

HIGHER, LOWER, NO_DIFFERENCE_SEEN, CANNOT_BE_JUDGED = "higher", "lower", "no difference seen", "cannot be judged"
COMPARED_COLUMNS = (
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "p_permutation",
    "p_permutation_smallest",
    "detectable",
    "detectable_in_family",
)


@dataclass(frozen=True, kw_only=True)
class SampleComparison:
    """Comparison of two samples.

    Attributes:
        n: Values in the first sample.
        n_other: Values in the second one.
        difference: Mean of the first less mean of the second; None without a value in each.
        welch: Welch's test; None without two values in each and some variation.
        permutation: Exact permutation test; None also where there are too many splits to enumerate.
        sd: Pooled standard deviation.
    """

    n: int
    n_other: int
    difference: float | None = None
    welch: WelchResult | None = None
    permutation: PermutationResult | None = None  # None too where there are too many splits to walk
    sd: float | None = None  # pooled

    def detectable(self, alpha: float = ALPHA) -> float | None:
        """Return the true difference that the smaller sample size shows with 80 % probability at `alpha`; None without
        a test.
        """
        if self.welch is None or self.sd is None:
            return None
        return seed_statistics.detectable_difference(self.sd, min(self.n, self.n_other), POWER, alpha)


def compare_samples(first: Sequence[float], second: Sequence[float]) -> SampleComparison:
    """Return `first - second` with the tests that the sample sizes allow."""
    a, b = seed_statistics.summarize_sample(first), seed_statistics.summarize_sample(second)
    if a.mean is None or b.mean is None:
        return SampleComparison(n=a.n, n_other=b.n)
    difference = a.mean - b.mean
    spread = min(first) < max(first) or min(second) < max(second)
    if min(a.n, b.n) < 2 or not spread:
        return SampleComparison(n=a.n, n_other=b.n, difference=difference)
    return SampleComparison(
        n=a.n,
        n_other=b.n,
        difference=difference,
        welch=seed_statistics.welch_test(first, second),
        permutation=seed_statistics.permutation_test(first, second)
        if seed_statistics.is_enumerable(a.n, b.n)
        else None,
        sd=seed_statistics.pooled_sd(a, b),
    )


def holm_p_values(contrasts: Sequence[SampleComparison]) -> list[float | None]:
    """Return Holm's adjusted p of each comparison of one family.

    A comparison without a test has None and does not count as a member of the family.
    """
    tested = [item.welch.p for item in contrasts if item.welch is not None]
    ps = iter(seed_statistics.holm_adjust(tested))
    return [None if item.welch is None else next(ps) for item in contrasts]


def control_variant(study: Study) -> str:
    """Return the variant that all others are compared with; "" where there are fewer than two.

    It is the declared one, else 16 points on 3 levels in a grid of those two, else the first.
    """
    if len(study.variants) < 2:
        return ""
    if study.control in study.variants:
        return study.control
    if set(study_rows.study_axes(study)) == set(GRID_CONTROL):
        wanted = {f"{AXIS_LABELS[name]}={value}" for name, value in GRID_CONTROL.items()}
        for variant in study.variants:
            if _axes_of(study, variant) == GRID_CONTROL or set(variant.split()) == wanted:
                return variant
    return study.variants[0]


def comparison_frame(study: Study, metric: str = "miou") -> pd.DataFrame:
    """Return a frame with a line per variant but the control, compared with it.

    Args:
        study: Rows of the study.
        metric: Name of a metric of a run, a fraction.

    Returns:
        Differences in percent points. `detectable` is for one test at 5 %; `detectable_in_family` for Holm's
        strictest step, 5 % over the size of the family. `permutation_can_reach` says whether the permutation p
        could pass that step.
    """
    control = control_variant(study)
    others = [variant for variant in study.variants if variant != control] if control else []
    contrasts = [
        compare_samples(_points(study, variant, metric), _points(study, control, metric)) for variant in others
    ]
    family = sum(item.welch is not None for item in contrasts)
    lines = []
    for variant, item, holm in zip(others, contrasts, holm_p_values(contrasts), strict=True):
        line: dict[str, object] = {"variant": variant, "control": control, "n": item.n, "n_control": item.n_other}
        line |= {"difference": item.difference, "p_holm": holm, "verdict": judge_difference(item.difference, holm)}
        if item.welch is not None:
            smallest = seed_statistics.smallest_permutation_p(item.n, item.n_other)
            line |= {"low": item.welch.low, "high": item.welch.high, "p": item.welch.p}
            line |= {
                "p_permutation": item.permutation and item.permutation.p,
                "p_permutation_smallest": smallest,
                "permutation_can_reach": "yes" if smallest * family <= ALPHA else "no",
                "detectable": item.detectable(),
                "detectable_in_family": item.detectable(ALPHA / family),
            }
        lines.append(line)
    text = ("variant", "control", "permutation_can_reach", "verdict")
    columns = ["variant", "control", "n", "n_control", *COMPARED_COLUMNS, "permutation_can_reach", "verdict"]
    return make_frame(lines, columns, whole=("n", "n_control"), text=text)


def judge_difference(difference: float | None, p: float | None) -> str:
    """Return the verdict on a difference by its adjusted p: higher, lower, no difference seen, or cannot be judged."""
    if difference is None or p is None:
        return CANNOT_BE_JUDGED
    if p > ALPHA:
        return NO_DIFFERENCE_SEEN
    return HIGHER if difference > 0 else LOWER


def comparison_sentences(study: Study, compared: pd.DataFrame, learned: pd.DataFrame) -> list[str]:
    """Return the comparisons of a study in a few plain sentences without markup.

    Args:
        study: Rows of the study.
        compared: Its `comparison_frame` of mIoU.
        learned: Its `learned_cue_frame`.
    """
    control = control_variant(study)
    if not control:
        return ["There is no second variant to compare with."]
    sentences = [
        *outcome_sentences(compared, control),
        *_method_sentences(compared),
        *split_seeds(learned),
    ]
    return sentences or [f"There is nothing to compare with {control}."]


def refinement_sentences(refined: pd.DataFrame) -> list[str]:
    """Return one sentence on how boundary refinement at test changes mIoU; [] where no run was refined.

    `refined` is the study's `refinement_frame`.
    """
    compared = refined.dropna(subset=["miou_change"])
    if compared.empty:
        return []
    changes = compared["miou_change"]
    span = " to ".join(dict.fromkeys(f"{value:+.2f}" for value in (changes.min(), changes.max())))
    lower, higher = (compared["miou_high"] < 0).fillna(False).sum(), (compared["miou_low"] > 0).fillna(False).sum()
    return [
        f"Boundary refinement at test changes mIoU by {span} points (paired): lower in {lower} and higher in {higher} "
        f"of {_variants(len(compared))}, going by 95 % intervals."
    ]


def learned_cue_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant: how many of its scored seeds learned the distant cue, and at which step.

    `jump_steps` lists `seed: step` of those that did. The step is the first probe from which on every probe is
    above the threshold, known to within `probe_gap` steps. The frame is empty where no run was scored on look-alike
    classes.
    """
    lines = []
    for variant in study.variants:
        scored = [(run, score) for run in study.runs_of(variant) if (score := _lookalike(run)) is not None]
        made = [run for run, score in scored if score >= LEARNED_ACCURACY]
        gaps = [gap for run, _ in scored if (gap := _gap(_probes(run))) is not None]
        jumps = ((study_rows.seed_of(run), _jump(_probes(run))) for run in made)
        line: dict[str, object] = {"variant": variant, "seeds": len(scored), "learned": len(made)}
        line |= {"jump_steps": ", ".join(f"{seed}: {'-' if step is None else step}" for seed, step in jumps) or None}
        lines.append(line | {"probe_gap": max(gaps, default=None)})
    if not any(line["seeds"] for line in lines):
        lines = []
    whole = ("seeds", "learned", "probe_gap")
    return make_frame(
        lines, ["variant", *whole[:2], "jump_steps", "probe_gap"], whole=whole, text=("variant", "jump_steps")
    )


def power_frame(study: Study, difference: float) -> pd.DataFrame:
    """Return a frame with a line per variant but the control: the power of its seeds for a given difference.

    Args:
        study: Rows of the study.
        difference: Difference of mIoU to show, in percent points, above 0.

    Returns:
        `sd_pooled` is that of variant and control together. `seeds_needed` (per variant, for a probability of 80 %) and
        `power` are for one test at 5 %; the columns `_in_family` for 5 % over the number of comparisons.

    Raises:
        ValueError: The difference is not above 0.
    """
    seed_statistics.achieved_power(
        difference, 1, 2
    )  # refuses an impossible difference even where nothing can be judged
    control = control_variant(study)
    others = [variant for variant in study.variants if variant != control] if control else []
    samples = {variant: _points(study, variant, "miou") for variant in study.variants}
    contrasts = {variant: compare_samples(samples[variant], samples[control]) for variant in others}
    strictest = ALPHA / max(1, sum(item.welch is not None for item in contrasts.values()))
    lines = []
    for variant, item in contrasts.items():
        line: dict[str, object] = {"variant": variant, "control": control, "n": item.n, "n_control": item.n_other}
        line |= {
            "sd": seed_statistics.summarize_sample(samples[variant]).sd,
            "sd_control": seed_statistics.summarize_sample(samples[control]).sd,
        }
        if item.welch is not None and item.sd is not None:
            n, sd = min(item.n, item.n_other), item.sd
            line["sd_pooled"] = sd
            for alpha, suffix in ((ALPHA, ""), (strictest, "_in_family")):
                line[f"seeds_needed{suffix}"] = seed_statistics.seeds_needed(difference, sd, POWER, alpha)
                line[f"power{suffix}"] = seed_statistics.achieved_power(difference, sd, n, alpha)
                line[f"detectable{suffix}"] = seed_statistics.detectable_difference(sd, n, POWER, alpha)
        lines.append(line)
    estimates = [f"{name}{suffix}" for suffix in ("", "_in_family") for name in ("seeds_needed", "power", "detectable")]
    columns = ["variant", "control", "n", "n_control", "sd", "sd_control", "sd_pooled", *estimates]
    whole = ("n", "n_control", "seeds_needed", "seeds_needed_in_family")
    return make_frame(lines, columns, whole=whole, text=("variant", "control"))


def outcome_sentences(compared: pd.DataFrame, control: str) -> Iterator[str]:
    """Yield sentences: variants that differ from the control, that do not, and that cannot be judged.

    Args:
        compared: a table of `compare`, or its CSV file read again.
        control: the variant that all others are compared with.
    """
    one_size = len(_sizes(compared)) == 1
    by = {name: compared[compared["verdict"] == name] for name in (HIGHER, LOWER, NO_DIFFERENCE_SEEN, CANNOT_BE_JUDGED)}
    differ = [
        f"{name} in {_named(by[name], lambda line: _differs(line, one_size))}"
        for name in (HIGHER, LOWER)
        if len(by[name])
    ]
    if differ:
        yield f"Compared with {control}, mIoU is {', and '.join(differ)}."
    if len(by[NO_DIFFERENCE_SEEN]):
        yield f"No difference from {control} is seen in {_all_unseen(by[NO_DIFFERENCE_SEEN], one_size)}."
    if len(by[CANNOT_BE_JUDGED]):
        sides = _named(
            by[CANNOT_BE_JUDGED], lambda line: f"{line['variant']} (n = {line['n']} against {line['n_control']})"
        )
        yield f"Not to be judged against {control} without two values a side that differ: {sides}."


def _differs(line: pd.Series, one_size: bool) -> str:
    ends = sorted(abs(line[end]) for end in ("low", "high"))
    size = "" if one_size else f"; n = {line['n']} against {line['n_control']}"
    return f"{line['variant']} by {abs(line['difference']):.2f} points ({ends[0]:.2f} to {ends[1]:.2f}{size})"


def _all_unseen(lines: pd.DataFrame, one_size: bool) -> str:
    """One or two variants with their figures, more by name with the range of the figures."""
    if len(lines) < 3:
        return _named(lines, lambda line: _unseen(line, one_size))
    least, most = lines["difference"].min(), lines["difference"].max()
    shown, strictest = lines["detectable"].min(), lines["detectable_in_family"].max()
    return (
        f"{_named(lines, lambda line: str(line['variant']))}: differences of {least:+.2f} to {most:+.2f} points, where "
        f"these seeds would show {shown:.2f} to {strictest:.2f} with {100 * POWER:g} % probability"
    )


def _unseen(line: pd.Series, one_size: bool) -> str:
    size = "" if one_size else f"; n = {line['n']} against {line['n_control']}"
    least, strict = (f"{line[name]:.2f}" for name in ("detectable", "detectable_in_family"))
    shown = least if least == strict else f"{least} to {strict}"
    return (
        f"{line['variant']} ({line['difference']:+.2f} points, {line['low']:.2f} to {line['high']:.2f}{size}; "
        f"detectable at {100 * POWER:g} % power: {shown})"
    )


def split_seeds(learned_seeds: pd.DataFrame) -> Iterator[str]:
    """Yield one sentence that names the variants of which only some seeds learned the cue, if there are any.

    Args:
        learned_seeds: a table of `learned`, or its CSV file read again.
    """
    split = learned_seeds[(learned_seeds["learned"] > 0) & (learned_seeds["learned"] < learned_seeds["seeds"])]
    if len(split):
        names = _named(split, lambda line: f"{line['variant']} ({line['learned']} of {line['seeds']})")
        yield (
            "Seeds fall in two groups, those that learned the far cue and those that did not, so that a mean "
            f"describes no seed: {names}."
        )


def _sizes(compared: pd.DataFrame) -> set[int]:
    """Return the numbers of seeds of the variants that were tested, and of the control."""
    tested = compared[compared["verdict"] != CANNOT_BE_JUDGED]
    return {int(n) for column in ("n", "n_control") for n in tested[column]}


def _method_sentences(compared: pd.DataFrame) -> Iterator[str]:
    """Yield how the variants were judged, and that a permutation test could not have decided, where that is so."""
    sizes, tested = _sizes(compared), int((compared["verdict"] != CANNOT_BE_JUDGED).sum())
    if tested:
        size = f", n = {min(sizes)} each" if len(sizes) == 1 else ""
        yield (
            f"Judged by Welch's t test at {ALPHA:g}, Holm-adjusted over {_comparisons(tested)}{size}; "
            "the 95 % intervals are not adjusted."
        )
    smallest = compared["p_permutation_smallest"].dropna()
    family = len(smallest)
    if family and smallest.min() * family > ALPHA:
        yield (
            f"The exact permutation test could never reach {ALPHA:g} here: its smallest p, {smallest.min():.2g}, "
            f"times {_comparisons(family)} is {smallest.min() * family:.2g}."
        )


def _named(lines: pd.DataFrame, words: Callable[[pd.Series], str]) -> str:
    """The lines in words, one after another; the later ones of many only by their number."""
    said = [words(line) for _, line in lines.head(MAX_NAMED).iterrows()]
    more = len(lines) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _variants(count: int) -> str:
    return f"{count} variant" if count == 1 else f"{count} variants"


def _comparisons(count: int) -> str:
    return f"{count} comparison" if count == 1 else f"{count} comparisons"


def _points(study: Study, variant: str, metric: str) -> list[float]:
    return [100 * value for value in study_rows.metric_values(study.runs_of(variant), metric)]


def _axes_of(study: Study, variant: str) -> dict[str, object]:
    """The variant's place in the grid by its rows; empty where it has none yet."""
    rows = [*study.runs_of(variant), *filter(None, [study.measures.get(variant)])]
    return next((dict(row["axes"]) for row in rows if row.get("axes")), {})


def _lookalike(run: study_rows.Row) -> float | None:
    return study_rows.number_at(run, "metrics", "lookalike_accuracy") if study_rows.has_succeeded(run) else None


def _probes(run: study_rows.Row) -> list[tuple[int, float]]:
    """The (step, look-alike accuracy) probed during training, by step; what is malformed is left out."""
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


def _jump(probes: Sequence[tuple[int, float]]) -> int | None:
    """The first step from which on every probe is past the threshold; None where the last one is not."""
    past = list(itertools.takewhile(lambda probe: probe[1] >= LEARNED_ACCURACY, reversed(probes)))
    return past[-1][0] if past else None


def _gap(probes: Sequence[tuple[int, float]]) -> int | None:
    """The most steps that passed without a look, from the start of training to the last probe."""
    steps = [0, *(step for step, _ in probes)]
    return max((after - before for before, after in itertools.pairwise(steps)), default=None)
