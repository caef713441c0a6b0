"""What the report says of learning rates."""

from __future__ import annotations

from synthetic import run_row

from reports.analysis import lr_sweep
from reports.analysis.frames import accuracy_frame
from reports.analysis.study_rows import Study, assemble_study
from reports.study import result_sections


def candidates(**means: tuple[float | None, ...]) -> Study:
    runs = [
        run_row(f"{row} lr={rate}", seed, value, axes={"lr": rate})
        for row, values in means.items()
        for rate, value in zip((0.001, 0.002, 0.004), values, strict=True)
        for seed in range(2)
    ]
    return assemble_study("rates", runs=runs)


def test_the_best_rate_of_each_row_and_the_ends() -> None:
    found = list(
        lr_sweep.best_lr_sentences(
            candidates(a=(0.5, 0.6, 0.4), b=(0.6, 0.5, 0.4), c=(0.1, 0.2, 0.3), d=(0.2, 0.3, 0.1))
        )
    )
    assert found == [
        "Best on the validation split: 0.001 for b; 0.002 for a, d; 0.004 for c.",
        "The lowest rate that was tried is best for b: a better one may lie beyond.",
        "The highest rate that was tried is best for c: a better one may lie beyond.",
    ]


def test_a_rate_with_a_run_that_failed_is_out() -> None:
    (best, *_) = lr_sweep.best_lr_sentences(candidates(a=(0.5, 0.6, None)))
    assert best == "Best on the validation split: 0.002 for a."


def test_a_table_says_which_rate_each_row_had() -> None:
    given = {"ours": 0.001, "dense": 0.004, "none": 0.001}
    study = assemble_study("table 8", runs=[run_row(row, 0, 0.5, axes={"lr": rate}) for row, rate in given.items()])
    assert list(lr_sweep.best_lr_sentences(study)) == []
    text = "\n".join(result_sections.accuracy_section(study, accuracy_frame(study)))
    assert "Learning rates differ:\n\n- 0.001: ours, none\n- 0.004: dense\n" in text
    one = assemble_study("table 8", runs=[run_row(row, 0, 0.5, axes={"lr": 0.001}) for row in given])
    assert "Learning rates differ" not in "\n".join(result_sections.accuracy_section(one, accuracy_frame(one)))
