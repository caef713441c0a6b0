"""Comparisons with the control, on rows made by hand; the tests themselves against SciPy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from locations import ROOT
from scipy import stats
from synthetic import axes_of, measure_row, run_row

from bench.stats.welch_power import Design, achieved_power, detectable_difference, seeds_needed
from reports.analysis import comparisons, seed_power, verdict_sentences
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.control import control_variant
from reports.analysis.frames import refinement_frame
from reports.analysis.sample_comparison import compare_samples, holm_p_values, simultaneous_intervals
from reports.analysis.study_rows import Study, assemble_study
from reports.study.record import read_record

LOW = (0.400, 0.404, 0.396, 0.402, 0.398)
SAME = (0.401, 0.405, 0.395, 0.403, 0.398)
HIGH = (0.450, 0.454, 0.446, 0.452, 0.448)


def study(samples: dict[str, Any], **changes: Any) -> Study:
    runs = [run_row(variant, seed, value) for variant, found in samples.items() for seed, value in enumerate(found)]
    return assemble_study("ablate", runs=runs, planned=runs, **changes)


def sentences(found: Study) -> list[str]:
    return verdict_sentences.comparison_sentences(found, analysis_frames(found))


def refinement_sentences(found: Study) -> list[str]:
    return verdict_sentences.refinement_sentences(refinement_frame(found))


def test_the_control_is_the_declared_one_else_that_of_the_grid_else_the_first() -> None:
    grid = {f"N={points} L={levels}": LOW for levels, points in itertools.product((1, 3), (4, 16))}
    assert control_variant(study(grid)) == "N=16 L=3"
    assert control_variant(study(grid, control="N=4 L=1")) == "N=4 L=1"
    assert control_variant(study(grid, control="gone")) == "N=16 L=3"
    assert control_variant(study({"N=4": LOW, "N=16": LOW})) == "N=4"
    assert control_variant(study({"a": LOW, "b": LOW})) == "a"
    assert control_variant(study({"a": LOW})) == ""
    assert control_variant(study({})) == ""


def test_the_grids_control_is_known_by_its_axes_and_before_its_first_row() -> None:
    named = [run_row(name, 0, 0.4, axes=axes_of(f"N={n} L=3")) for name, n in (("few", 4), ("sixteen", 16))]
    assert control_variant(assemble_study("ablate", runs=named)) == "sixteen"
    planned = [{"variant": name, "seed": 0} for name in ("N=4 L=3", "L=3 N=16")]
    assert control_variant(assemble_study("ablate", runs=[run_row("N=4 L=3", 0, 0.4)], planned=planned)) == "L=3 N=16"


def test_compare_is_scipys() -> None:
    frame = comparisons.comparison_frame(study({"a": LOW, "b": HIGH, "c": SAME}))
    assert frame["variant"].tolist() == ["b", "c"]
    assert set(frame["control"]) == {"a"}
    for line, sample in zip(frame.to_dict("records"), (HIGH, SAME), strict=True):
        ours, theirs = [100 * value for value in sample], [100 * value for value in LOW]
        expected = stats.ttest_ind(ours, theirs, equal_var=False)
        interval = expected.confidence_interval(0.975)  # two comparisons, which hold at once with 95 %
        assert line["difference"] == pytest.approx(sum(ours) / 5 - sum(theirs) / 5)
        assert (line["low"], line["high"]) == pytest.approx((interval.low, interval.high))
        assert line["p"] == pytest.approx(expected.pvalue)
        assert line["p_permutation_smallest"] == pytest.approx(2 / 252)
        assert (line["n"], line["n_control"]) == (5, 5)
        design = Design(sd=stats.tstd(ours), sd_other=stats.tstd(theirs), n=5, n_other=5)
        assert line["detectable"] == pytest.approx(detectable_difference(design))
        assert line["detectable_in_family"] == pytest.approx(detectable_difference(design, alpha=0.025))
    first, second = frame.to_dict("records")
    assert first["p_holm"] == pytest.approx(2 * first["p"])
    assert second["p_holm"] == pytest.approx(second["p"])
    assert (first["verdict"], second["verdict"]) == ("higher", "no difference seen")
    assert first["p_permutation"] == pytest.approx(2 / 252)


def test_direction_is_variant_less_control() -> None:
    frame = comparisons.comparison_frame(study({"a": LOW, "b": HIGH}, control="b"))
    assert frame["verdict"].tolist() == ["lower"]
    assert frame["difference"].item() == pytest.approx(-5)


def test_holm_decides_not_the_bare_p() -> None:
    """A p between .05 / 4 and .05 is no difference in a family of four."""
    near = [value + 0.0055 for value in LOW]
    alone = comparisons.comparison_frame(study({"a": LOW, "b": near})).iloc[0]
    assert 0.0125 < alone["p"] < 0.05
    assert alone["verdict"] == "higher"
    among = comparisons.comparison_frame(study({"a": LOW, "b": near, "c": SAME, "d": SAME, "e": SAME})).iloc[0]
    assert among["p"] == pytest.approx(alone["p"])
    assert among["p_holm"] == pytest.approx(4 * alone["p"])
    assert among["verdict"] == "no difference seen"


def test_what_cannot_be_judged_is_no_member_of_the_family() -> None:
    samples = {"a": LOW, "b": HIGH, "one": (0.4,), "none": (None, None)}
    frame = comparisons.comparison_frame(study(samples)).set_index("variant")
    assert frame.loc["b", "p_holm"] == pytest.approx(frame.loc["b", "p"])
    assert frame["verdict"].tolist() == ["higher", "cannot be judged", "cannot be judged"]
    assert frame.loc["one", "difference"] == pytest.approx(0, abs=1e-9)
    assert pd.isna(frame.loc["one", "p_holm"])
    assert pd.isna(frame.loc["none", "difference"])
    assert (frame.loc["none", "n"], frame.loc["one", "n"]) == (0, 1)


def test_no_spread_on_both_sides_cannot_be_judged() -> None:
    line = comparisons.comparison_frame(study({"a": (0.3, 0.3, 0.3), "b": (0.4, 0.4, 0.4)})).iloc[0]
    assert line["verdict"] == "cannot be judged"
    assert line["difference"] == pytest.approx(10)
    assert pd.isna(line["p"])
    assert pd.isna(line["detectable"])


def test_other_metrics_and_absent_ones() -> None:
    some = study({"a": LOW, "b": HIGH})
    assert comparisons.comparison_frame(some, "pixel_accuracy")["difference"].item() == pytest.approx(5)
    assert comparisons.comparison_frame(some, "boundary_iou")["verdict"].tolist() == ["cannot be judged"]
    assert comparisons.comparison_frame(study({"a": LOW})).empty


def test_many_seeds_have_no_permutation_test_but_all_else() -> None:
    many = [0.4 + seed / 1000 for seed in range(40)]
    line = comparisons.comparison_frame(study({"a": many, "b": [value + 0.1 for value in many]})).iloc[0]
    assert pd.isna(line["p_permutation"])
    assert line["p_permutation_smallest"] > 0
    assert line["verdict"] == "higher"


def test_verdict_in_words() -> None:
    said = sentences(study({"a": LOW, "b": HIGH, "c": SAME, "d": [value - 0.03 for value in LOW]}))
    assert said[0] == (
        "Compared with a, mIoU is higher in b by 5.00 points (4.40 to 5.60), "
        "and lower in d by 3.00 points (2.40 to 3.60)."
    )
    assert said[1].startswith("No difference from a is seen in c (+0.04 points, -0.6")
    assert "; detectable at 80 % power: 0.7" in said[1]
    assert said[2] == (
        "Judged by Welch's t test at 0.05, Holm-adjusted over 3 comparisons, n = 5 each; "
        "the intervals hold all at once with 95 %."
    )
    assert len(said) == 3


def test_verdict_of_many_without_a_difference_is_one_short_sentence() -> None:
    shifted = {f"v{i}": [value + 0.0004 * i for value in LOW] for i in range(1, 4)}
    said = sentences(study({"a": LOW} | shifted))
    frame = comparisons.comparison_frame(study({"a": LOW} | shifted))
    assert said[0] == (
        "No difference from a is seen in v3; v2; v1: differences of +0.04 to +0.12 points, where these seeds would "
        f"show {frame['detectable'].min():.2f} to {frame['detectable_in_family'].max():.2f} with 80 % probability."
    )


def test_what_refinement_does_in_a_sentence() -> None:
    def run(variant: str, seed: int, change: float) -> dict[str, Any]:
        made = run_row(variant, seed, 0.5 + 0.1 * seed)
        return made | {"metrics": made["metrics"] | {"miou_refined": 0.5 + 0.1 * seed + change}}

    runs = [run("a", seed, -0.02 - 0.001 * seed) for seed in range(3)]
    runs += [run("b", seed, 0.03 + 0.001 * seed) for seed in range(3)]
    runs += [run("c", seed, 0.05 * (seed - 1)) for seed in range(3)]
    assert refinement_sentences(assemble_study("ablate", runs=runs)) == [
        "Boundary refinement at test changes mIoU by -2.10 to +3.10 points (paired): lower in 1 and higher in 1 of 3 "
        "variants, going by 95 % intervals."
    ]
    assert refinement_sentences(study({"a": LOW})) == []


def test_verdict_never_says_equal() -> None:
    for samples in ({"a": LOW, "b": LOW}, {"a": LOW, "b": SAME}, {"a": (0.4, 0.4), "b": (0.4, 0.4)}):
        assert "equal" not in " ".join(sentences(study(samples)))


def test_verdict_says_when_the_permutation_test_is_powerless() -> None:
    def powerless(seeds: int, others: int) -> bool:
        samples = {f"v{index}": [value + index / 10 for value in LOW[:seeds]] for index in range(others + 1)}
        frame = comparisons.comparison_frame(study(samples))
        said = [line for line in sentences(study(samples)) if "permutation" in line]
        assert set(frame["permutation_can_reach"]) == ({"no"} if said else {"yes"})
        return bool(said)

    assert not powerless(5, 6)
    assert powerless(5, 7)
    assert powerless(3, 1)
    assert not powerless(4, 1)
    said = sentences(study({f"v{index}": LOW for index in range(8)}))
    assert said[-1].endswith("its smallest p, 0.0079, times 7 comparisons is 0.056.")


def test_verdict_of_unlike_sizes_and_of_too_few_seeds() -> None:
    said = sentences(study({"a": LOW, "b": HIGH[:3], "c": (0.4,)}))
    assert "b by 5.00 points" in said[0]
    assert "n = 3 against 5)" in said[0]
    assert said[1] == "Not to be judged against a without two values a side that differ: c (n = 1 against 5)."
    assert "each" not in said[2]
    alone = sentences(study({"a": (0.4,), "b": (0.5,)}))
    assert alone == ["Not to be judged against a without two values a side that differ: b (n = 1 against 1)."]
    assert sentences(study({"a": LOW})) == ["There is no second variant to compare with."]
    assert len(sentences(study({"a": (None,), "b": (None,)}))) == 1


def test_a_long_list_is_cut() -> None:
    said = sentences(study({"a": LOW} | {f"v{index}": HIGH for index in range(9)}))
    assert "; and 3 more." in said[0]
    assert "v5" in said[0]
    assert "v6" not in said[0]


def test_power_of_a_study() -> None:
    frame = seed_power.power_frame(study({"a": LOW, "b": HIGH, "c": SAME, "d": (0.4,)}), 0.5)
    assert frame["variant"].tolist() == ["b", "c", "d"]
    line = frame.iloc[0]
    sds = (line["sd"], line["sd_control"])
    assert sds[1] == pytest.approx(stats.tstd([100 * value for value in LOW]))
    design = Design(sd=sds[0], sd_other=sds[1], n=5, n_other=5)
    assert line["seeds_needed"] == seeds_needed(0.5, sds)
    assert line["seeds_needed_in_family"] == seeds_needed(0.5, sds, alpha=0.025) > line["seeds_needed"]
    assert line["power"] == pytest.approx(achieved_power(0.5, design))
    assert line["power_in_family"] == pytest.approx(achieved_power(0.5, design, alpha=0.025))
    assert line["detectable"] == pytest.approx(detectable_difference(design))
    assert frame.iloc[2][["sd", "seeds_needed", "power"]].isna().all()
    assert seed_power.power_frame(study({"a": LOW}), 1).empty


def test_an_impossible_difference_is_refused() -> None:
    with pytest.raises(ValueError, match="difference 0: expected a number above 0"):
        seed_power.power_frame(study({"a": LOW}), 0)


def test_the_same_rows_in_any_order_give_the_same_tables() -> None:
    runs = [run_row(name, seed, value) for name, found in (("a", LOW), ("b", SAME)) for seed, value in enumerate(found)]
    forward, backward = (assemble_study("x", runs=listed, planned=runs) for listed in (runs, runs[::-1]))
    pd.testing.assert_frame_equal(
        comparisons.comparison_frame(forward), comparisons.comparison_frame(backward), check_exact=True
    )
    assert sentences(forward) == sentences(backward)


def test_verdict_and_interval_never_contradict() -> None:
    """Over families of all sizes: an interval holds 0 exactly where no difference is seen."""
    chance = np.random.default_rng(0)
    clipped = 0
    for _ in range(150):
        family = int(chance.integers(1, 6))
        shifts = chance.choice([0, 0.008, 0.015], family)
        samples = {"a": 0.4 + chance.normal(0, 0.005, 4)}
        samples |= {f"v{i}": 0.4 + shift + chance.normal(0, 0.005, 4) for i, shift in enumerate(shifts)}
        frame = comparisons.comparison_frame(study({name: values.tolist() for name, values in samples.items()}))
        holds_zero = (frame["low"] < 0) & (frame["high"] > 0)
        assert (holds_zero == (frame["verdict"] == "no difference seen")).all()
        assert ((frame["low"] <= frame["difference"]) & (frame["difference"] <= frame["high"])).all()
        clipped += int(((frame["low"] == 0) | (frame["high"] == 0)).sum())
    assert clipped > 0  # what Holm's steps show beyond Bonferroni's is met


def test_what_miou_cannot_differ_by_is_not_printed() -> None:
    """Two seeds of 40 and 60 %: Welch's test would need hundreds of points."""
    wild = study({"a": (0.4, 0.6), "b": (0.45, 0.62)})
    frame = comparisons.comparison_frame(wild)
    assert frame["detectable"].isna().all()
    assert frame["low"].notna().all()
    assert "detectable at 80 % power: none)" in sentences(wild)[0]


def simultaneous_coverage(families: int, seed: int, size: int = 5) -> tuple[float, float]:
    """Families whose intervals hold every true difference, and that err in any verdict, with unequal spreads."""
    chance = np.random.default_rng(seed)
    spreads, shifts = (0.3, 0.3, 0.6, 1.2, 0.3, 2.4)[: size + 1], (0, 0, 1, 0, 0.5, 0)[: size + 1]
    covered = erred = 0
    for _ in range(families):
        samples = [(50 + shift + chance.normal(0, sd, 5)).tolist() for sd, shift in zip(spreads, shifts, strict=True)]
        contrasts = [compare_samples(sample, samples[0]) for sample in samples[1:]]
        ends, ps = simultaneous_intervals(contrasts), holm_p_values(contrasts)
        truths = [shift - shifts[0] for shift in shifts[1:]]
        covered += all(low <= truth <= high for (low, high), truth in zip(ends, truths, strict=True))
        erred += any(p <= 0.05 and truth == 0 for p, truth in zip(ps, truths, strict=True))
    return covered / families, erred / families


def test_intervals_hold_all_at_once() -> None:
    coverage, error = simultaneous_coverage(600, seed=1)
    assert 0.93 <= coverage <= 0.99
    assert error <= 0.07
    alone, single = simultaneous_coverage(600, seed=2, size=1)
    assert 0.93 <= alone <= 0.98
    assert 0.02 <= single <= 0.07


@pytest.mark.slow
def test_intervals_hold_all_at_once_in_many_families() -> None:
    """One control and Bonferroni's level: a little more than 95 %."""
    coverage, error = simultaneous_coverage(6000, seed=3)
    assert 0.945 <= coverage <= 0.975
    assert 0.02 <= error <= 0.05
    alone, single = simultaneous_coverage(6000, seed=4, size=1)
    assert 0.94 <= alone <= 0.96
    assert 0.04 <= single <= 0.06


def test_the_same_within_a_margin() -> None:
    samples = {"a": LOW, "b": SAME, "c": HIGH}
    frame = comparisons.comparison_frame(study(samples)).set_index("variant")
    assert frame["p_same"].isna().all()
    least = frame.loc["b", "same_within"]
    welch = stats.ttest_ind([100 * value for value in SAME], [100 * value for value in LOW], equal_var=False)
    assert least == pytest.approx(max(map(abs, welch.confidence_interval(0.9))))
    assert frame["verdict"].tolist() == ["no difference seen", "higher"]
    wide = comparisons.comparison_frame(study(samples, margin=1.01 * least)).set_index("variant")
    assert wide["verdict"].tolist() == ["same within the margin", "higher"]
    assert wide.loc["b", "p_same"] <= 0.05 < wide.loc["c", "p_same"]
    narrow = comparisons.comparison_frame(study(samples, margin=0.99 * least))
    assert narrow["verdict"].tolist() == ["no difference seen", "higher"]


def test_what_is_the_same_is_told_with_its_operations() -> None:
    runs = [run_row(name, seed, value) for name, found in (("a", LOW), ("b", SAME)) for seed, value in enumerate(found)]
    costs = [measure_row(name, metrics={"gmacs": gmacs}) for name, gmacs in (("a", 0.03), ("b", 0.02))]
    said = sentences(assemble_study("ablate", runs=runs, measures=costs, control="a", margin=1))
    assert said[0].startswith("The same as a within the margin, by two one-sided tests: b (within 0.")
    assert said[0].endswith(" points, 33 % fewer operations).")
    assert not any("No difference" in line for line in said)


def test_the_shipped_grid_at_a_margin() -> None:
    """One level costs a third less than three and is the same within .31 points, at 1000 steps and 16 points."""
    shipped = read_record(ROOT / "reports/records/quick-grid-1000-steps")
    line = comparisons.comparison_frame(replace(shipped, margin=0.31)).set_index("variant").loc["N=16 L=1"]
    assert line["verdict"] == "same within the margin"
    assert line["same_within"] == pytest.approx(0.31, abs=0.005)
    assert line["operations_change"] == pytest.approx(-33, abs=0.5)
