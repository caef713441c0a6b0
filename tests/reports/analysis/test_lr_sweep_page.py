"""What the report says of learning rates."""

from __future__ import annotations

from synthetic import SETTINGS, cells, page, run_row, section

from reports.analysis import lr_sweep, protocol
from reports.analysis.frames import accuracy_frame
from reports.analysis.study_rows import Study, assemble_study
from reports.study import report, result_sections, terminal


def candidates(first_seed: int = 1000, **means: tuple[float | None, ...]) -> Study:
    runs = [
        run_row(f"{row} lr={rate}", first_seed + seed, value, axes={"lr": rate})
        for row, values in means.items()
        for rate, value in zip((0.001, 0.002, 0.004), values, strict=True)
        for seed in range(2)
    ]
    return assemble_study("rates", runs=runs)


def test_the_best_rate_of_each_row_and_the_ends() -> None:
    study = candidates(a=(0.5, 0.6, 0.4), b=(0.6, 0.5, 0.4), c=(0.1, 0.2, 0.3), d=(0.2, 0.3, 0.1))
    *found, how = lr_sweep.best_lr_sentences(study)
    assert found == [
        "Best on the split val: 0.001 for b; 0.002 for a, d; 0.004 for c; interior for 2 of 4 rows.",
        "The lowest rate that was tried is best for b: a better one may lie beyond.",
        "The highest rate that was tried is best for c: a better one may lie beyond.",
    ]
    assert how.startswith(
        "Chosen on seeds of their own: 1000 and 1001 at every rate, 1002 and 1003 too at the best two"
    )
    table = cells(section(page(study), "Choice of learning rates, measured (scenes, split val, 64 px, 500 steps)"))
    tried = "0.001: 10.00 (2 of 2); 0.002: 20.00 (2 of 2); 0.004: 30.00 (2 of 2)"
    assert ["c", "0.004", "highest tried", tried] in table
    assert ["a", "0.002", "interior"] in [line[:3] for line in table]


def test_a_rate_with_a_run_that_failed_is_out() -> None:
    study = candidates(a=(0.5, 0.6, None), b=(None, None, None))
    best, none, _ = lr_sweep.best_lr_sentences(study)
    assert best == "Best on the split val: 0.002 for a; interior for 1 of 1 row."
    assert none == "No rate ended well for b."
    frame = lr_sweep.rate_frame(study)
    assert frame["outcome"].tolist() == ["", "chosen", "failed", *["failed"] * 3]
    assert "0.004: failed" in page(study)


def test_the_report_of_a_choice_compares_no_rows() -> None:
    study = candidates(a=(0.5, 0.6, 0.4), b=(0.6, 0.5, 0.4))
    assert "Compared with" not in page(study)
    files = report.study_report_files(study)
    assert "rates.csv" in files
    assert not {"axes.csv", "comparisons.csv"} & {*files}
    lines = [*terminal.study_lines(study)]
    assert lines[0].startswith("measured on: data scenes, ")
    assert lines[0].endswith(", scored on the split val")
    assert any(line.startswith("Best on the split val: ") for line in lines)
    assert not any("Welch" in line for line in lines)


def test_a_choice_of_an_earlier_release_is_read_and_its_seeds_are_said() -> None:
    study = candidates(0, a=(0.5, 0.6, 0.4))
    best, how = lr_sweep.best_lr_sentences(study)
    assert best.startswith("Best on the split val: 0.002 for a")
    assert how == "These rates were tried on seeds 0, 1, which the study at the chosen rates has too."


def test_rates_of_rows_without_an_axis_of_them_are_those_of_their_settings() -> None:
    slow = {**SETTINGS, "train": {**SETTINGS["train"], "lr": 5e-4}}
    study = assemble_study("ablate", runs=[run_row("N=4", 0, 0.5, settings=slow), run_row("N=16", 0, 0.5)])
    assert lr_sweep.variants_by_lr(study) == {5e-4: ["N=4"], 1e-3: ["N=16"]}


def test_the_header_names_the_split_that_was_scored_and_the_one_that_rates_were_chosen_on() -> None:
    scored = {**SETTINGS, "evaluation": {"split": "test"}}
    study = assemble_study("table 8", runs=[run_row("dense", 0, 0.5, settings=scored)], rate_split="val")
    said = "scored on the split test, learning rates chosen on the split val"
    assert protocol.protocol_headline(study).endswith(f", {said}")
    assert f", {said}.\n" in page(study)
    assert "## Accuracy, measured (scenes, split test, 64 px, 500 steps)\n" in page(study)


def test_a_table_says_which_rate_each_row_had() -> None:
    given = {"ours": 0.001, "dense": 0.004, "none": 0.001}
    study = assemble_study("table 8", runs=[run_row(row, 0, 0.5, axes={"lr": rate}) for row, rate in given.items()])
    assert list(lr_sweep.best_lr_sentences(study)) == []
    text = "\n".join(result_sections.accuracy_section(study, accuracy_frame(study)))
    assert "Learning rates differ:\n\n- 0.001: ours, none\n- 0.004: dense\n" in text
    one = assemble_study("table 8", runs=[run_row(row, 0, 0.5, axes={"lr": 0.001}) for row in given])
    assert "Learning rates differ" not in "\n".join(result_sections.accuracy_section(one, accuracy_frame(one)))
