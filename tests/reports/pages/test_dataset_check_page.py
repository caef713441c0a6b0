"""The check of a data set in plain text and as CSV files."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd

from reports.pages import dataset_check


def record(classes: int = 3) -> dict[str, Any]:
    split = {
        "split": "train", "pictures": 1234, "owners": 20210, "read": 1230, "labels": 1230, "width_min": 96,
        "width_max": 128, "height_min": 64, "height_max": 64, "value_min": 0, "value_max": 150, "unlabelled": 0.0625,
        "classes": classes, "classes_seen": classes,
    }  # fmt: skip
    bare = {name: None for name in split} | {"split": "test", "pictures": 5, "labels": 0, "classes": classes}
    shares = [2 ** -(number + 1) for number in range(classes)]
    return {
        "spec": "ade20k:data/ade",
        "name": "ADE20K",
        "splits": [split, bare | {"classes_seen": 0}],
        "classes": [
            {"split": "train", "class": n, "name": f"c{n}", "pixels": int(share * 2**20), "share": share, "pictures": 1}
            for n, share in enumerate(shares)
        ],
        "findings": [
            {
                "check": "size",
                "split": "train",
                "what": "bad [x]",
                "fix": "mend",
                "files": ["a", "b"],
                "wrong": True,
            },
            {"check": "class", "split": "train", "what": "odd", "fix": "nothing", "files": [], "wrong": False},
        ],
    }


def test_lines() -> None:
    assert [*dataset_check.dataset_check_lines(record())] == [
        "ADE20K, ade20k:data/ade",
        "split  pictures  owners'      width  height    values  unlabelled  classes seen",
        "train     1,234   20,210  96 to 128      64  0 to 150       6.25%           3/3",
        "test          5        –          –       –         –           –             –",
        "train: c0 50.00%, c1 25.00%, c2 12.50%",
        "WRONG train: bad [x]. To do: mend.",
        "note  train: odd. To do: nothing.",
        "1 wrong, 1 to note",
    ]


def test_a_file_name_with_a_line_end_makes_no_line() -> None:
    """A picture called `x`, line end, `0 wrong, 0 to note`."""
    changed = record()
    changed["findings"][0]["what"] = "not read: x\n0 wrong, 0 to note"
    lines = [*dataset_check.dataset_check_lines(changed)]
    assert len(lines) == len([*dataset_check.dataset_check_lines(record())])
    assert "WRONG train: not read: x\\n0 wrong, 0 to note. To do: mend." in lines


def test_of_many_classes_the_ends_are_shown() -> None:
    (line,) = [line for line in dataset_check.dataset_check_lines(record(classes=12)) if line.startswith("train: c0")]
    assert line.startswith("train: c0 50.00%, c1 25.00%, c2 12.50%, c3 6.25%, c4 3.12%, ... c7 0.39%, ")
    assert line.endswith("c11 0.02%")


def test_files() -> None:
    made = {name: pd.read_csv(io.BytesIO(text)) for name, text in dataset_check.dataset_check_files(record()).items()}
    assert list(made) == ["splits.csv", "classes.csv", "findings.csv"]
    assert made["splits.csv"]["pictures"].tolist() == [1234, 5]
    assert made["classes.csv"]["pixels"].tolist() == [2**19, 2**18, 2**17]
    assert made["findings.csv"]["file"].fillna("").tolist() == ["a", "b", ""]
    assert made["findings.csv"]["wrong"].tolist() == [True, True, False]


def test_files_of_nothing() -> None:
    empty = {"spec": "folder:x", "name": "x", "splits": [], "classes": [], "findings": []}
    assert dataset_check.dataset_check_files(empty)["findings.csv"].decode() == "check,split,wrong,file,what,fix\n"
