"""Pictures of predictions: files that other programs read, and figures that say what they show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from reports.pages import predictions
from reports.pages.predictions import comparison_figure, direction_figure, prediction_files, refinement_figure
from reports.plots import style

CLASSES = ("sky", "_ground", "pole")
PALETTE = ((135, 180, 220), (120, 100, 80), (0, 0, 0))
WHEEL = tuple(
    (down, right, (30 * number, 200, 250 - 30 * number))
    for number, (down, right) in enumerate(((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)))
)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def case(height: int = 40, width: int = 60) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    plain = np.zeros((height, width), np.uint8)
    plain[height // 2 :] = 1
    refined = plain.copy()
    refined[height // 2 : height // 2 + 3, : width // 2] = 2
    return {
        "image": chance.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "plain": plain,
        "refined": refined,
        "boundary": chance.random((height, width)).astype(np.float32),
        "direction": chance.integers(0, 8, (height, width), dtype=np.uint8),
    }


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return prediction_files(**case(), classes=CLASSES, palette=PALETTE, wheel=WHEEL)


def test_the_files_of_a_picture(made: dict[str, bytes]) -> None:
    given = case()
    assert [*made] == ["label.png", "mask.png", "overlay.png", "boundary.png", "direction.png", "refinement.png"]
    label = opened(made["label.png"])
    assert label.mode == "P"
    assert (np.array(label) == given["refined"]).all()
    mask = np.array(opened(made["mask.png"]))
    assert (mask == np.array(PALETTE, np.uint8)[given["refined"]]).all()
    assert (np.array(label.convert("RGB")) == mask).all()
    overlay = np.array(opened(made["overlay.png"])).astype(int)
    assert np.abs(overlay - (0.45 * given["image"] + 0.55 * mask)).max() <= 0.5 + 1e-9
    boundary = np.array(opened(made["boundary.png"]))
    assert boundary.shape == (40, 60)
    assert np.abs(boundary / 255 - given["boundary"]).max() <= 0.5 / 255 + 1e-6


def test_without_heads_there_are_three_files() -> None:
    given = case() | {"refined": None, "boundary": None, "direction": None}
    made = prediction_files(**given, classes=CLASSES, palette=PALETTE, wheel=WHEEL)  # type: ignore[arg-type]
    assert [*made] == ["label.png", "mask.png", "overlay.png"]
    assert (np.array(opened(made["label.png"])) == given["plain"]).all()


@pytest.mark.parametrize("size", [(1, 700), (900, 2)])
def test_figures_of_any_size(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "DPI", 60)
    given = case(*size)
    assert opened(refinement_figure(given["image"], given["plain"], given["refined"], CLASSES, PALETTE)).width > 400
    assert opened(direction_figure(given["direction"], given["boundary"], WHEEL)).width > 200
    side = comparison_figure(
        given["image"], {"a": given["plain"], "b": given["refined"]}, classes=CLASSES, palette=PALETTE
    )
    assert opened(side).width > 400


def has(picture: Image.Image, colour: tuple[int, int, int]) -> bool:
    return bool((np.array(picture.convert("RGB")) == colour).all(-1).any())


def test_what_the_figures_show(made: dict[str, bytes]) -> None:
    given = case()
    refinement = opened(made["refinement.png"])
    assert all(has(refinement, colour) for colour in (*PALETTE, predictions.RED))
    same = opened(refinement_figure(given["image"], given["plain"], given["plain"], CLASSES, PALETTE))
    assert not has(same, predictions.RED)
    assert not has(same, PALETTE[2]) or PALETTE[2] == (0, 0, 0)  # letters are black
    direction = opened(made["direction.png"])
    assert all(has(direction, colour) for _, _, colour in WHEEL)
    nowhere = opened(direction_figure(given["direction"], np.zeros((40, 60), np.float32), WHEEL))
    assert all(has(nowhere, colour) for _, _, colour in WHEEL), "the wheel itself"


def test_the_same_input_gives_the_same_bytes(made: dict[str, bytes]) -> None:
    assert prediction_files(**case(), classes=CLASSES, palette=PALETTE, wheel=WHEEL) == made


def test_the_legend_names_what_is_there_most_pixels_first() -> None:
    labels = np.array([[0, 0, 0, 2]], np.uint8)
    named = [patch.get_label() for patch in predictions.class_legend(labels, classes=CLASSES, palette=PALETTE)]
    assert named == ["sky 75.0 %", "pole 25.0 %"]
    both = [
        patch.get_label() for patch in predictions.class_legend(labels, labels + 0, classes=CLASSES, palette=PALETTE)
    ]
    assert both == named
    ground = predictions.class_legend(np.ones((2, 2), np.uint8), classes=CLASSES, palette=PALETTE)
    assert [patch.get_label() for patch in ground] == [" _ground 100.0 %"]
    many = np.arange(30, dtype=np.uint8)[None]
    found = predictions.class_legend(many, classes=[f"k{i}" for i in range(30)], palette=[(i, i, i) for i in range(30)])
    assert len(found) == predictions.MAX_CLASSES + 1
    assert found[-1].get_label() == "and 10 more"


def test_the_close_up_is_where_most_has_changed() -> None:
    changed = np.zeros((50, 100), np.bool_)
    changed[31:34, 70:75] = True
    changed[2, 2] = True
    rows, columns = predictions.most_changed_window(changed)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (10, 20)
    assert changed[rows, columns].sum() == 15
    rows, columns = predictions.most_changed_window(np.zeros((1, 1), np.bool_))
    assert (rows, columns) == (slice(0, 1), slice(0, 1))
