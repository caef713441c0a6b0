"""What a command says of a study at its end: plain text in columns."""

from __future__ import annotations

import re
from typing import Any

from scipy import stats
from synthetic import measure_row, run_row

from bench.stats import welch_power
from reports.analysis import verdict_sentences
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.study_rows import Study, assemble_study
from reports.study import terminal

VALUES = {"none": (0.40, 0.41, 0.43), "a much longer | *name*": (0.50, 0.52, 0.53), "lost": ()}


def study(**changes: Any) -> Study:
    runs = [run_row(name, seed, value) for name, found in VALUES.items() for seed, value in enumerate(found)]
    runs.append(run_row("lost", 0, None))
    return assemble_study("ablate", runs=runs, planned=runs, measures=[measure_row("none")], **changes)


def test_columns_are_aligned_and_the_verdict_follows() -> None:
    setting, *made = terminal.study_lines(study())
    assert setting.startswith("measured on: data scenes, ")
    assert setting.endswith(", scored on the split val")
    table, verdict = made[:4], made[4:]
    assert [re.split(r" {2,}", line) for line in table] == [
        ["variant", "n", "mIoU, %", "GMACs", "at 480 px", "memory, GiB", "at 480 px"],
        ["none", "3", "41.33 ± 1.53", "0.0512", "1.94", "0.0248", "1.25"],
        ["a much longer | *name*", "3", "51.67 ± 1.53", "–", "–", "–", "–"],
        ["lost", "0", "–", "–", "–", "–", "–"],
    ]
    assert len({len(line) for line in table}) == 1
    assert len({line.index(word) for line, word in zip(table[1:3], ("41.33", "51.67"), strict=True)}) == 1
    assert verdict == verdict_sentences.comparison_sentences(study(), analysis_frames(study()))
    assert "a much longer | *name* by 10.33 points" in verdict[0]


def test_a_row_of_an_older_version_has_dashes_for_what_it_does_not_hold() -> None:
    old = {"gmacs": 0.0512, "peak_rss_gib": 0.71}
    found = assemble_study("ablate", runs=[run_row("none", 0, 0.4)], measures=[measure_row("none", metrics=old)])
    _, head, line, *_ = terminal.study_lines(found)
    assert head.split("  ")[-1] == "at the target size"
    assert line.split()[-4:] == ["0.0512", "–", "–", "–"]


def test_a_cell_with_more_elements_than_products_is_marked() -> None:
    counts = measure_row("none")["metrics"] | {"elementwise_gops": 0.06}
    found = assemble_study("ablate", runs=[run_row("none", 0, 0.4)], measures=[measure_row("none", metrics=counts)])
    _, _, line, note, *_ = terminal.study_lines(found)
    assert "  0.0512†  " in line
    assert note == "† at least as many element-wise operations as counted ones"


def test_nothing_is_marked_up_or_left_at_the_ends() -> None:
    for line in (*terminal.study_lines(study()), *terminal.power_lines(study(), 1.0)):
        assert line == line.rstrip()
        assert "\\" not in line
        assert "\n" not in line


def test_a_study_without_runs_is_a_table_of_dashes() -> None:
    empty = assemble_study("ablate", runs=[], planned=[{"variant": "a", "seed": 0}])
    assert [line.split() for line in terminal.study_lines(empty)][1:] == [["a", "0", *"–––––"]]


def test_power_of_each_variant_against_the_control() -> None:
    made = list(terminal.power_lines(study(), 2.0))
    assert made[0] == "Differences of 2 points of mIoU from none, Welch's test at 0.05, 80 % probability."
    assert len(made) == 4
    first, second = made[2:]
    sd = stats.tstd([40, 41, 43])  # the same on both sides
    needed = welch_power.seeds_needed(2.0, (sd, sd), 0.8, 0.05)
    assert first.startswith(
        f"a much longer | *name*: sd {sd:.2f} against {sd:.2f}; {needed} ({needed}) seeds needed; 3 seeds show"
    )
    assert f"could show {welch_power.detectable_difference(welch_power.equal_design(sd, 3)):.2f} (" in first
    assert second == "lost: cannot be said without two values a side that differ, of one group of seeds"


def test_power_in_brackets_is_at_the_strictest_step() -> None:
    runs = [run_row(name, seed, 0.4 + seed / 50) for name in "abcd" for seed in range(3)]
    line = list(terminal.power_lines(assemble_study("ablate", runs=runs), 2.0))[2]
    found = re.search(r"(\d+) \((\d+)\) seeds needed", line)
    assert found
    one, strictest = map(int, found.groups())
    assert strictest == welch_power.seeds_needed(2.0, (2.0, 2.0), 0.8, 0.05 / 3)
    assert strictest > one


def test_power_without_a_second_variant() -> None:
    alone = assemble_study("ablate", runs=[run_row("a", seed, 0.4 + seed / 100) for seed in range(2)])
    assert list(terminal.power_lines(alone, 1.0)) == ["There is no second variant to compare with."]
