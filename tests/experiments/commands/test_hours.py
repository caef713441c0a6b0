"""`unept-bench hours` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import (
    assert_unwritable_folder_is_refused,
    assert_usage_error,
    ledger,
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hours", "--tflops", "0"], "--tflops 0.0: expected more than 0"),
        (["hours", "--utilisation", "50"], "--utilisation 50.0: expected more than 0 and at most 1"),
        (["hours", "--seeds", "0"], "--seeds 0: expected at least 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in assert_usage_error(capsys, *words)
    assert list(place.iterdir()) == []
    assert ledger() == []


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_unwritable_folder_is_refused(capsys, tmp_path, "hours")
