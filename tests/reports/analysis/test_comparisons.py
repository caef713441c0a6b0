"""Comparisons with the control, on rows made by hand; the tests themselves against SciPy."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import pytest
from scipy import stats
from synthetic import axes_of, run_row

from bench.stats.seed_statistics import achieved_power, detectable_difference, seeds_needed
from reports.analysis import comparisons, learned_cue, seed_power, verdict_sentences
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.control import control_variant
from reports.analysis.frames import refinement_frame
from reports.analysis.study_rows import Study, assemble_study

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


def cue(variant: str, seed: int, score: float | None, probe: Any = None, **training: Any) -> dict[str, Any]:
    row = run_row(variant, seed, 0.4)
    row["metrics"]["lookalike_accuracy"] = score
    row["training"] |= {"probe": probe, "probe_columns": ["step", "miou", "lookalike_accuracy"]} | training
    return row


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
        interval = expected.confidence_interval(0.95)
        assert line["difference"] == pytest.approx(sum(ours) / 5 - sum(theirs) / 5)
        assert (line["low"], line["high"]) == pytest.approx((interval.low, interval.high))
        assert line["p"] == pytest.approx(expected.pvalue)
        assert line["p_permutation_smallest"] == pytest.approx(2 / 252)
        assert (line["n"], line["n_control"]) == (5, 5)
        sd = ((stats.tvar(ours) + stats.tvar(theirs)) / 2) ** 0.5
        assert line["detectable"] == pytest.approx(detectable_difference(sd, 5))
        assert line["detectable_in_family"] == pytest.approx(detectable_difference(sd, 5, alpha=0.025))
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
        "Compared with a, mIoU is higher in b by 5.00 points (4.54 to 5.46), "
        "and lower in d by 3.00 points (2.54 to 3.46)."
    )
    assert said[1].startswith("No difference from a is seen in c (+0.04 points, -0.4")
    assert "; detectable at 80 % power: 0.7" in said[1]
    assert said[2] == (
        "Judged by Welch's t test at 0.05, Holm-adjusted over 3 comparisons, n = 5 each; "
        "the 95 % intervals are not adjusted."
    )
    assert len(said) == 3


def test_verdict_of_many_without_a_difference_is_one_short_sentence() -> None:
    shifted = {f"v{i}": [value + 0.0004 * i for value in LOW] for i in range(1, 4)}
    said = sentences(study({"a": LOW} | shifted))
    frame = comparisons.comparison_frame(study({"a": LOW} | shifted))
    assert said[0] == (
        "No difference from a is seen in v1; v2; v3: differences of +0.04 to +0.12 points, where these seeds would "
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


def test_learned_counts_seeds_and_finds_the_jump() -> None:
    probes = [[100, 0.3, 0.5], [200, 0.4, 0.8], [300, 0.4, 0.6], [400, 0.4, 0.75], [500, 0.4, 0.9]]
    runs = [
        cue("a", 0, 0.95, probes),
        cue("a", 1, 0.55, probes[:1]),
        cue("a", 2, 0.75, [[100, 0.3, None], [300, 0.4, 0.8]]),
        cue("a", 3, 0.80, "rubbish"),
        cue("a", 4, None, probes),
        run_row("a", 5, None),
        cue("b", 0, 0.5),
    ]
    first, second = learned_cue.learned_cue_frame(assemble_study("ablate", runs=runs)).to_dict("records")
    assert (first["seeds"], first["learned"], first["probe_gap"]) == (4, 3, 300)
    assert first["jump_steps"] == "0: 400, 2: 300, 3: -"
    assert (second["seeds"], second["learned"]) == (1, 0)
    assert pd.isna(second["jump_steps"])
    assert pd.isna(second["probe_gap"])


def test_a_jump_that_did_not_last_is_none() -> None:
    run = cue("a", 0, 0.8, [[100, 0.3, 0.9], [200, 0.3, 0.7]])
    assert learned_cue.learned_cue_frame(assemble_study("ablate", runs=[run]))["jump_steps"].tolist() == ["0: -"]


def test_probe_columns_are_read_by_name() -> None:
    run = cue("a", 0, 0.8, [[0.9, 50]], probe_columns=["lookalike_accuracy", "step"])
    assert learned_cue.learned_cue_frame(assemble_study("ablate", runs=[run]))["jump_steps"].tolist() == ["0: 50"]


def test_rows_without_look_alikes_have_no_table_of_them() -> None:
    assert learned_cue.learned_cue_frame(study({"a": LOW, "b": HIGH})).empty
    assert learned_cue.learned_cue_frame(study({})).empty


def test_two_groups_of_seeds_are_warned_of() -> None:
    runs = [
        cue(name, seed, score)
        for name, found in (("a", (0.9, 0.5)), ("b", (0.9, 0.9)))
        for seed, score in enumerate(found)
    ]
    said = sentences(assemble_study("ablate", runs=runs))
    assert said[-1].endswith("a mean describes no seed: a (1 of 2).")
    assert not any("groups" in line for line in sentences(assemble_study("ablate", runs=runs[2:])))


def test_power_of_a_study() -> None:
    frame = seed_power.power_frame(study({"a": LOW, "b": HIGH, "c": SAME, "d": (0.4,)}), 0.5)
    assert frame["variant"].tolist() == ["b", "c", "d"]
    line = frame.iloc[0]
    sd = line["sd_pooled"]
    assert sd == pytest.approx(stats.tstd([100 * value for value in LOW]))
    assert line["sd"] == pytest.approx(line["sd_control"])
    assert line["seeds_needed"] == seeds_needed(0.5, sd)
    assert line["seeds_needed_in_family"] == seeds_needed(0.5, sd, alpha=0.025) > line["seeds_needed"]
    assert line["power"] == pytest.approx(achieved_power(0.5, sd, 5))
    assert line["power_in_family"] == pytest.approx(achieved_power(0.5, sd, 5, alpha=0.025))
    assert line["detectable"] == pytest.approx(detectable_difference(sd, 5))
    assert frame.iloc[2][["sd", "sd_pooled", "seeds_needed", "power"]].isna().all()
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
