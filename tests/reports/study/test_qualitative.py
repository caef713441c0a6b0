"""Pictures: which are chosen, what each panel shows, and that no file can stop a report."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from synthetic import run_row

from reports.analysis.study_rows import Study, assemble_study
from reports.plots import label_images
from reports.plots.label_images import BOTH, PREDICTED_ONLY, RED, TRUE_ONLY
from reports.study import qualitative
from reports.study.qualitative import choose_pictures, draw_pictures, load_pictures

Arrays = dict[str, npt.NDArray[Any]]
SIDE = 10


def arrays(
    wrong: dict[int, int], *, refined: bool = False, ignored: int = 0, shape: tuple[int, int] = (SIDE, SIDE)
) -> Arrays:
    """Pictures by number, each of two classes, with so many wrong pixels at the end of `shape`'s pixels."""
    made: Arrays = {
        "index": np.array(list(wrong), np.int64),
        "classes": np.array(["_sky", "$\\ground$"]),
        "palette": np.array([[10, 20, 30], [200, 100, 50]], np.uint8),
    }
    for i, count in enumerate(wrong.values()):
        truth = np.zeros(shape, np.uint8)
        truth[shape[0] // 2 :] = 1
        prediction = truth.copy()
        prediction.reshape(-1)[truth.size - count :] = 0
        truth.reshape(-1)[:ignored] = 255
        made |= {f"truth_{i}": truth, f"prediction_{i}": prediction}
        made[f"image_{i}"] = np.full((*shape, 3), 40 * i, np.uint8)
        if refined:
            made[f"refined_{i}"] = truth % 255
    return made


def study(variants: dict[str, int]) -> Study:
    runs = [run_row(name, seed, 0.4) for name, seeds in variants.items() for seed in range(seeds)]
    return assemble_study("ablate", runs=runs, planned=runs)


def key(found: Study, variant: str, seed: int) -> str:
    return str(found.runs_of(variant)[seed]["key"])


def keep(out: Path, name: str, found: Arrays) -> Path:
    (out / "pictures").mkdir(exist_ok=True)
    path = out / "pictures" / f"{name}.npz"
    np.savez_compressed(path, **found)  # type: ignore[arg-type]
    return path


# --- choosing ---------------------------------------------------------------------------------------------------------


def places(*found: Arrays) -> list[tuple[str, int]]:
    chosen = choose_pictures({str(i): one for i, one in enumerate(found)})
    return [(picture.rank, picture.number) for picture in chosen]


def test_best_median_and_worst() -> None:
    assert places(arrays({7: 5, 3: 0, 9: 20, 1: 10, 4: 15})) == [("best", 3), ("median", 1), ("worst", 9)]


def test_ties_go_to_the_lower_number() -> None:
    assert places(arrays({9: 5, 2: 5, 5: 5})) == [("best", 2), ("median", 5), ("worst", 9)]
    assert places(arrays({4: 0, 3: 1, 2: 1, 1: 2})) == [("best", 4), ("median", 2), ("worst", 1)]


def test_few_pictures() -> None:
    assert places(arrays({4: 1, 8: 0})) == [("best", 8), ("worst", 4)]
    assert places(arrays({4: 1})) == [("best", 4)]
    assert places() == []


def test_score_is_the_mean_over_variants() -> None:
    chosen = choose_pictures({"a": arrays({1: 10, 2: 20, 3: 0}), "b": arrays({1: 30, 2: 0, 3: 10})})
    assert [picture.number for picture in chosen] == [3, 2, 1]
    assert [picture.score for picture in chosen] == pytest.approx([0.95, 0.9, 0.8])


def test_ignored_pixels_do_not_count() -> None:
    assert choose_pictures({"a": arrays({1: 10}, ignored=20)})[0].score == pytest.approx(70 / 80)
    assert choose_pictures({"a": arrays({1: 10}, ignored=SIDE * SIDE)}) == []


def test_only_pictures_of_every_variant_are_chosen() -> None:
    assert places(arrays({1: 0, 2: 5}), arrays({2: 5, 3: 9})) == [("best", 2)]


# --- drawing ----------------------------------------------------------------------------------------------------------


def colours(png: bytes) -> set[tuple[int, int, int]]:
    with Image.open(io.BytesIO(png)) as picture:
        found = picture.convert("RGB").getcolors(2**24)
    return {colour for _, colour in found or []}  # type: ignore[misc]


def test_drawing_shows_classes_and_marks() -> None:
    drawn = draw_pictures(
        {"none": arrays({1: 5, 2: 0, 3: 9}, ignored=7), "dense": arrays({1: 8, 2: 0, 3: 9}, refined=True)}, "none"
    )
    assert drawn
    assert {(10, 20, 30), (200, 100, 50), RED, TRUE_ONLY, PREDICTED_ONLY, BOTH} <= colours(drawn.png)
    assert (
        "from 3 kept pictures, by pixel accuracy averaged over 2 variants: best: picture 2 (100.0 %)" in drawn.caption
    )
    assert "not drawn" not in drawn.caption


def test_nothing_to_draw() -> None:
    assert draw_pictures({}, "") is None


def test_control_comes_first_and_few_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr(qualitative, "_band", lambda *arguments: seen.append(list(arguments[2])))
    drawn = draw_pictures({f"v{i}": arrays({1: i}) for i in range(8)}, "v7")
    assert seen == [["v7", "v0", "v1", "v2", "v3", "v4"]]
    assert drawn
    assert drawn.caption.endswith(" 2 more variants not drawn: the first 6 are.")


def test_same_arrays_same_bytes() -> None:
    first, second = (draw_pictures({"a": arrays({1: 5, 2: 3}, refined=True)}, "") for _ in range(2))
    assert first == second
    assert first != draw_pictures({"a": arrays({1: 5, 2: 4}, refined=True)}, "")


@pytest.mark.parametrize("shape", [(1, 1), (4, 40), (40, 4), (300, 500)])
def test_any_shape_is_drawn(shape: tuple[int, int]) -> None:
    drawn = draw_pictures({"a": arrays({1: 0}, refined=True, shape=shape)}, "a")
    assert drawn
    with Image.open(io.BytesIO(drawn.png)) as picture:
        assert max(picture.size) < 2200


def test_many_classes_and_labels_outside_of_them() -> None:
    found = arrays({1: 0, 2: 3})
    found["classes"] = np.array([f"class {i}" for i in range(150)])
    found["palette"] = np.zeros((150, 3), np.uint8)
    found["prediction_0"][:] = 200
    found["prediction_1"] = np.arange(100, dtype=np.uint8).reshape(SIDE, SIDE)
    assert draw_pictures({"a": found}, "a")


def test_small_pictures_are_repeated_and_large_ones_thinned() -> None:
    small = label_images.resize_nearest(np.arange(4).reshape(2, 2))
    assert small.shape == (240, 240)
    assert small[0, 119] == 0
    assert small[0, 120] == 1
    large = label_images.resize_nearest(np.arange(600 * 500).reshape(600, 500))
    assert max(large.shape) <= 240
    assert set(large.ravel()) <= set(range(600 * 500))


def test_edges_lie_on_both_sides_and_not_at_ignored_pixels() -> None:
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    assert label_images.label_edges(labels, np.ones((2, 4), bool)).tolist() == [[False, True, True, False]] * 2
    scored = np.array([[True] * 4, [True, True, False, True]])
    assert label_images.label_edges(labels, scored).tolist() == [[False, True, True, False], [False] * 4]


def test_boundaries_that_coincide_and_that_do_not() -> None:
    truth, near, far = (np.repeat(np.arange(40) >= step, 4).reshape(40, 4).astype(np.uint8) for step in (10, 11, 30))
    grey = np.full((40, 4, 3), 90, np.uint8)
    same, close, apart = (label_images.boundary_overlay(truth, prediction, grey) for prediction in (truth, near, far))
    rows = [tuple(line[0]) for line in same]
    assert [i for i, colour in enumerate(rows) if colour == BOTH] == [9, 10]
    assert {tuple(line[0]) for line in close} == {rows[0], BOTH}
    assert [i for i, line in enumerate(apart) if tuple(line[0]) == TRUE_ONLY] == [9, 10]
    assert [i for i, line in enumerate(apart) if tuple(line[0]) == PREDICTED_ONLY] == [29, 30]


# --- files ------------------------------------------------------------------------------------------------------------


def test_lowest_seed_with_a_file_is_read(tmp_path: Path) -> None:
    found = study({"none": 2, "dense": 2, "reformer": 1})
    keep(tmp_path, key(found, "none", 0), arrays({1: 3}))
    keep(tmp_path, key(found, "none", 1), arrays({1: 4}))
    keep(tmp_path, key(found, "dense", 1), arrays({1: 5}, refined=True))
    loaded = load_pictures([tmp_path], found)
    assert list(loaded.arrays) == ["none", "dense"]
    assert [int((one["prediction_0"] != one["truth_0"]).sum()) for one in loaded.arrays.values()] == [3, 5]
    assert "refined_0" in loaded.arrays["dense"]
    assert loaded.problems == []


def test_failed_runs_have_no_pictures(tmp_path: Path) -> None:
    run = run_row("none", 0, None)
    keep(tmp_path, run["key"], arrays({1: 0}))
    assert load_pictures([tmp_path], assemble_study("ablate", runs=[run])) == ({}, [])


def test_no_folder(tmp_path: Path) -> None:
    assert load_pictures([tmp_path / "gone"], study({"none": 1})) == ({}, [])


def without(name: str) -> Arrays:
    return {other: value for other, value in arrays({1: 0, 2: 0}).items() if other != name}


FOREIGN: dict[str, Arrays] = {
    "index": without("index"),
    "floats": without("index") | {"index": np.zeros(2)},
    "classes": without("classes"),
    "objects": without("classes") | {"classes": np.array(["sky", None])},
    "palette": without("palette") | {"palette": np.zeros((5, 3), np.uint8)},
    "image": without("image_1"),
    "no pixels": without("image_1") | {"image_1": np.zeros((0, 4, 3), np.uint8)},
    "truth": without("truth_1") | {"truth_1": np.zeros((3, 3), np.uint8)},
    "prediction": without("prediction_1"),
    "wide labels": without("prediction_1") | {"prediction_1": np.zeros((SIDE, SIDE), np.int64)},
    "refined": arrays({1: 0, 2: 0}) | {"refined_1": np.zeros(3, np.uint8)},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_file_that_lacks_something_is_left_out_and_said(tmp_path: Path, name: str) -> None:
    found = study({"none": 2})
    keep(tmp_path, key(found, "none", 0), FOREIGN[name])
    keep(tmp_path, key(found, "none", 1), arrays({1: 0, 2: 1}))
    loaded = load_pictures([tmp_path], found)
    assert list(loaded.arrays) == ["none"]
    assert len(loaded.problems) == 1
    assert loaded.problems[0].startswith(f"left out: {key(found, 'none', 0)}.npz, pictures of none, seed 0: ")
    assert "\n" not in loaded.problems[0]


def test_a_run_that_was_told_to_keep_no_picture_is_no_problem(tmp_path: Path) -> None:
    found = study({"none": 2})
    keep(tmp_path, key(found, "none", 0), without("index") | {"index": np.zeros(0, np.int64)})
    assert load_pictures([tmp_path], found) == ({}, [])
    keep(tmp_path, key(found, "none", 1), arrays({1: 0, 2: 1}))
    assert load_pictures([tmp_path], found).problems == []
    assert list(load_pictures([tmp_path], found).arrays) == ["none"]


def test_other_pictures_are_not_compared(tmp_path: Path) -> None:
    found = study({"none": 1, "dense": 1, "reformer": 1})
    keep(tmp_path, key(found, "none", 0), arrays({1: 0}))
    keep(tmp_path, key(found, "dense", 0), arrays({2: 0}))
    keep(tmp_path, key(found, "reformer", 0), arrays({1: 0}) | {"image_0": np.ones((SIDE, SIDE, 3), np.uint8)})
    loaded = load_pictures([tmp_path], found)
    assert list(loaded.arrays) == ["none"]
    assert ["other pictures than" in problem for problem in loaded.problems] == [True, True]


def test_damaged_files_never_stop_a_report(tmp_path: Path) -> None:
    found = study({"none": 1})
    path = keep(tmp_path, key(found, "none", 0), arrays({1: 3, 2: 5}, refined=True))
    whole = path.read_bytes()
    damaged = [b"", b"PK", b"not an archive", whole[: len(whole) // 2], whole[:-30]]
    for place in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[place] ^= 0xFF
        damaged.append(bytes(flipped))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        loaded = load_pictures([tmp_path], found)
        assert len(loaded.problems) + len(loaded.arrays) == 1
        refused += len(loaded.problems)
    assert refused > len(damaged) // 2


def test_an_array_alone_is_no_archive(tmp_path: Path) -> None:
    found = study({"none": 1})
    (tmp_path / "pictures").mkdir()
    with (tmp_path / "pictures" / f"{key(found, 'none', 0)}.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    assert "no archive of arrays" in load_pictures([tmp_path], found).problems[0]


def test_drawing_of_what_was_kept(tmp_path: Path) -> None:
    found = study({"none": 1})
    keep(tmp_path, key(found, "none", 0), arrays({1: 3}))
    kept, direct = (
        draw_pictures(load_pictures([tmp_path], found).arrays, "none"),
        draw_pictures({"none": arrays({1: 3})}, "none"),
    )
    assert kept
    assert direct
    assert hashlib.sha256(kept.png).digest() == hashlib.sha256(direct.png).digest()
