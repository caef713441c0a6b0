"""Seeds that learned the distant cue: counted, grouped, and timed, on rows made by hand and on the shipped ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from locations import ROOT
from synthetic import run_row

from reports.analysis import comparisons, frames, learned_cue
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.cue_groups import cue_threshold, has_two_groups, learned_accuracy
from reports.analysis.learned_cue import grouped_variants
from reports.analysis.probe_curves import probe_frame
from reports.analysis.study_rows import Study, assemble_study
from reports.analysis.time_to_learn import time_sentences, time_to_learn_frame
from reports.analysis.verdict_sentences import comparison_sentences
from reports.formats.data_frames import frame_from_csv, frame_to_csv
from reports.study.record import read_record

RECORDS = ROOT / "reports/records"


def cue(variant: str, seed: int, score: float | None, probe: Any = None, **training: Any) -> dict[str, Any]:
    row = run_row(variant, seed, 0.4 + 0.01 * seed)
    row["metrics"]["lookalike_accuracy"] = score
    row["training"] |= {"probe": probe, "probe_columns": ["step", "miou", "lookalike_accuracy"]} | training
    return row


def sentences_of(study: Study) -> list[str]:
    return comparison_sentences(study, analysis_frames(study))


def cue_study(samples: dict[str, list[tuple[float, int | None]]], steps: int = 500) -> Study:
    """Runs by variant: final look-alike accuracy, and the step of the jump, None for never."""
    runs = []
    for name, values in samples.items():
        for seed, (score, jump) in enumerate(values):
            probe = [
                [step, 0.3, 0.9 if jump is not None and step >= jump else 0.5] for step in range(50, steps + 1, 50)
            ]
            runs.append(cue(name, seed, score, probe))
    return assemble_study("ablate", runs=runs, control="control")


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
    runs = [run_row(name, seed, 0.4) for name in ("a", "b") for seed in range(3)]
    study = assemble_study("ablate", runs=runs)
    assert learned_cue.learned_cue_frame(study).empty
    assert learned_cue.learned_cue_frame(assemble_study("ablate", runs=[])).empty
    assert "lookalike_low" not in frames.accuracy_frame(study)


def test_two_groups_of_seeds_are_warned_of() -> None:
    runs = [
        cue(name, seed, score)
        for name, found in (("a", (0.9, 0.5)), ("b", (0.9, 0.9)))
        for seed, score in enumerate(found)
    ]
    said = sentences_of(assemble_study("ablate", runs=runs))
    assert said[-1].endswith("a mean describes no seed: a (1 of 2).")
    assert not any("groups" in line for line in sentences_of(assemble_study("ablate", runs=runs[2:])))


def test_groups_past_the_threshold_are_seen() -> None:
    """Two seeds at .755 and .763 beside three that have it: past .75 all, and two groups."""
    sparse = [0.755, 0.763, 0.988, 0.997, 1.0]
    least = learned_accuracy()
    assert has_two_groups(sparse, least)
    assert cue_threshold(sparse, least) == 0.988
    assert has_two_groups([0.5, 0.9], least)
    assert has_two_groups([0.7, 0.8], least)  # no gap, and one of two has learned
    assert has_two_groups([0.4, 0.4, 0.6], least)  # none has learned, and yet they are apart
    for one in ([0.82, 0.83, 0.85, 0.88, 0.89], [0.5, 0.51], [1.0], []):
        assert not has_two_groups(one, least)
        assert cue_threshold(one, least) == 0.75


def test_who_knows_the_cues_without_their_places_has_not_learned() -> None:
    assert [learned_accuracy(unplaced) for unplaced in (None, 1.0, 0.75, 0.6875)] == [0.75, 0.75, 0.875, 0.84375]
    pooled = cue_study({"pooled": [(0.8, 100)] * 3, "placed": [(0.99, 100)] * 3})
    assert learned_cue.learned_cue_frame(pooled)["learned"].tolist() == [3, 3]
    for run in pooled.runs:
        run["metrics"]["references"] = {"unplaced_accuracy": 0.75}  # type: ignore[index]
    frame = learned_cue.learned_cue_frame(pooled)
    assert frame["learned"].tolist() == [0, 3]
    assert frame["jump_steps"].isna().tolist() == [True, False]


def test_two_groups_have_no_t_interval_and_no_detectable_difference() -> None:
    study = cue_study({"control": [(1.0, 100)] * 4, "apart": [(1.0, 100)] * 3 + [(0.76, 100)], "one": [(0.9, 50)] * 4})
    assert grouped_variants(study) == {"apart"}
    accuracy = frames.accuracy_frame(study).set_index("variant")
    assert accuracy["miou_low"].isna().tolist() == [False, True, False]
    assert accuracy.loc["apart", ["lookalike_low", "lookalike_high"]].tolist() == [76, 100]
    compared = comparisons.comparison_frame(study).set_index("variant")
    assert compared["low"].isna().tolist() == compared["detectable"].isna().tolist() == [True, False]
    assert compared["groups"].tolist() == ["two", "one"]
    assert compared["p_holm"].notna().all()
    assert "apart (+0.00 points; means of two groups of seeds)" in " ".join(sentences_of(study))


def test_the_report_in_two_parts() -> None:
    study = cue_study(
        {"control": [(1.0, 100)] * 5, "b": [(1.0, 200), (0.5, None), (0.9, 300), (0.5, None), (0.5, None)]}
    )
    line = learned_cue.learned_cue_frame(study).iloc[1]
    assert (line["seeds"], line["learned"], line["groups"]) == (5, 2, "two")
    assert (line["probability_low"], line["probability_high"]) == pytest.approx((0.094, 0.791), abs=0.001)
    assert line["learned_miou_mean"] == pytest.approx(41)  # of seeds 0 and 2
    assert line["learned_miou_sd"] == pytest.approx(2**0.5)
    assert line["jump_steps"] == "0: 200, 2: 300"


def test_time_to_learn_is_a_ratio_and_censored_at_the_end() -> None:
    jumps = (100, 200, 150, 250, 150)
    study = cue_study(
        {
            "control": [(1.0, step) for step in jumps],
            "half": [(1.0, step // 100 * 50) for step in jumps],
            "never": [(0.5, None)] * 5,
            "alone": [(1.0, 100)],
        }
    )
    half, never, alone = time_to_learn_frame(study).to_dict("records")
    assert half["steps_control"] == pytest.approx((100 * 200 * 150 * 250 * 150) ** 0.2)
    assert half["low"] < half["ratio"] < half["high"]
    assert (never["steps"], never["learned"], never["verdict"]) == (pytest.approx(500), 0, "later")
    assert never["ratio"] == pytest.approx(500 / half["steps_control"])
    assert pd.isna(never["low"])  # no seed learned: the ratio has no interval
    assert alone["verdict"] == "cannot be judged"
    (said,) = time_sentences(time_to_learn_frame(study))
    assert f"later in never (x {never['ratio']:.2f})" in said


def test_a_seed_that_learned_after_its_last_probe_counts_with_the_last_step() -> None:
    study = cue_study({"control": [(1.0, 100), (1.0, 200)], "late": [(1.0, None), (1.0, 100)]})
    assert time_to_learn_frame(study)["steps"].item() == pytest.approx((500 * 100) ** 0.5)
    assert time_to_learn_frame(study)["learned"].item() == 2


def test_runs_without_probes_have_no_times() -> None:
    runs = [cue(name, seed, 0.9) for name in ("a", "b") for seed in range(3)]
    assert time_to_learn_frame(assemble_study("ablate", runs=runs)).empty
    assert list(time_sentences(time_to_learn_frame(assemble_study("ablate", runs=runs)))) == []


@pytest.mark.parametrize(
    ("record", "variant", "ratio", "p_holm", "verdict"),
    [
        ("table-8", "dense, fused", 0.24, 0.003, "sooner"),
        ("quick-grid-1000-steps", "N=64 L=3", 1.86, 0.035, "later"),
        ("table-8", "CCNet", 2.18, 0.039, "later"),
    ],
)
def test_the_shipped_times(record: str, variant: str, ratio: float, p_holm: float, verdict: str) -> None:
    """Where a test of mIoU sees nothing, as of N=64 L=3 and CCNet, the time to learn tells them apart."""
    study = read_record(RECORDS / record)
    line = time_to_learn_frame(study).set_index("variant").loc[variant]
    assert line["ratio"] == pytest.approx(ratio, abs=0.005)
    assert line["p_holm"] == pytest.approx(p_holm, abs=0.0006)
    assert line["verdict"] == verdict


def test_the_shipped_groups() -> None:
    assert grouped_variants(read_record(RECORDS / "table-8")) == {"Sparse Transformer", "CCNet"}
    assert grouped_variants(read_record(RECORDS / "quick-grid")) == {
        *("N=4 L=1", "N=4 L=3", "N=16 L=1", "N=64 L=1", "N=64 L=3")
    }
    assert grouped_variants(read_record(RECORDS / "table-7")) == {"CCNet"}


def test_probe_curves_are_a_table() -> None:
    runs = [cue("a", 0, 0.9, [[100, 0.3, 0.5], [200, 0.4, None]]), cue("a", 1, 0.9, "rubbish"), run_row("b", 0, 0.4)]
    frame = probe_frame(assemble_study("ablate", runs=runs))
    assert frame.to_numpy(na_value=None).tolist() == [["a", 0, 100, 0.3, 0.5], ["a", 0, 200, 0.4, None]]
    assert list(frame.columns) == ["variant", "seed", "step", "miou", "lookalike_accuracy"]
    assert probe_frame(assemble_study("ablate", runs=[run_row("b", 0, 0.4)])).empty


def test_sentences_of_csv_files_are_those_of_the_frames(tmp_path: Path) -> None:
    study = cue_study({"control": [(1.0, 100)] * 5, "b": [(1.0, 300), (0.5, None), (1.0, 350), (1.0, 250), (1.0, 300)]})
    times = time_to_learn_frame(study)
    (tmp_path / "times.csv").write_text(frame_to_csv(times))
    assert list(time_sentences(frame_from_csv(tmp_path / "times.csv"))) == list(time_sentences(times)) != []
