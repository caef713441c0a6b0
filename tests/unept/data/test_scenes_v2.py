"""The second version of the generated scenes: exact bits, independent emblems, labels that only the emblem decides."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from scipy import ndimage

from unept.data import open_data
from unept.data import scenes_v2 as module
from unept.data.scenes import SceneConfig, Scenes
from unept.data.scenes_v2 import (
    BOARD_COLOURS,
    BOARD_HEIGHT,
    BOARD_WIDTH,
    CLASSES,
    GAP,
    LOOKALIKES,
    MARK,
    MARK_COLOURS,
    NO_CUE,
    PALETTE,
    SIZES,
    Scene,
    ScenesV2,
    cells,
    draw,
    unplaced_accuracy,
)

CONFIG = SceneConfig(scene_train=120, scene_val=40, scene_test=40)
PAIRS = [value for pair in LOOKALIKES for value in pair]


@pytest.fixture
def plain(monkeypatch):
    """Scenes without noise and cast: a board and a mark have exactly their colours."""
    monkeypatch.setattr(module, "NOISE", 0)
    monkeypatch.setattr(module, "CAST", 0.0)


def pixels_of(scene, colour):
    return (scene.image == np.array(colour, dtype=np.uint8)).all(-1)


def box_of(pixels):
    """Left, top, right and bottom of the pixels that are True."""
    rows, columns = np.nonzero(pixels)
    return columns.min(), rows.min(), columns.max(), rows.max()


def board_bits(scene, emblems):
    """The colour of the board in each cell: 0 for red, 1 for blue."""
    bits = []
    for left, top, right, bottom in cells(len(scene.label), emblems):
        part = np.s_[top : bottom + 1, left : right + 1]
        counts = [int(pixels_of(scene, colour)[part].sum()) for colour in BOARD_COLOURS]
        assert sorted(counts) == [0, (BOARD_WIDTH - 2) * (BOARD_HEIGHT - 2)]
        bits.append(int(counts[1] > 0))
    return bits


def marks_of(scene, emblems):
    """Cell, middle column and middle row of every mark; all of its pixels are of one class."""
    found = []
    dark, bright = (pixels_of(scene, colour) & np.isin(scene.label, PAIRS) for colour in MARK_COLOURS)
    regions, count = ndimage.label(dark | bright)
    for number in range(1, count + 1):
        left, top, right, bottom = box_of(regions == number)
        assert (right - left + 1, bottom - top + 1) == (MARK, MARK)
        part = box_of(bright & (regions == number))
        found.append(
            (points_at(part, (left, top, right, bottom), emblems), int(left) + MARK // 2, int(top) + MARK // 2)
        )
    return found


def points_at(part, whole, emblems):
    """The cell in whose direction the bright part of a mark lies."""
    on_right, below = part[0] > whole[0], part[1] > whole[1]
    assert part[2] == whole[2] or not on_right
    return {1: 0, 2: int(on_right)}.get(emblems, int(on_right) + 2 * int(below))


@pytest.mark.parametrize(
    ("size", "emblems", "expected"),
    [
        (64, 1, "aece1507a544f5b7"),
        (64, 2, "e6d808736feb5ef8"),
        (64, 3, "9db1a770154c4360"),
        (64, 4, "98fd6cc0ee4be6ef"),
        (96, 2, "5360423aa946f958"),
        (128, 4, "2734b7368808eb0a"),
    ],
)
def test_bits_are_those_of_every_machine(size, emblems, expected):
    config = dataclasses.replace(CONFIG, scene_size=size)
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        dataset = ScenesV2(config, split, emblems)
        for index in (0, 1, 17):
            sample = dataset[index]
            digest.update(sample.image.tobytes() + sample.label.tobytes() + dataset.cue_distance(index).tobytes())
    assert digest.hexdigest()[:16] == expected


def test_a_scene_does_not_depend_on_what_was_drawn_before():
    first, second = draw(64, 2, np.random.default_rng([5])), draw(64, 2, np.random.default_rng([5]))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_splits_have_no_scene_in_common():
    seen = {}
    for seed, split in itertools.product((0, 1), ("train", "val", "test")):
        dataset = ScenesV2(dataclasses.replace(CONFIG, scene_seed=seed), split)
        for index in range(len(dataset)):
            seen.setdefault(dataset[index].image.tobytes(), (seed, split, index))
    assert len(seen) == 2 * (120 + 40 + 40)


def test_lengths_shapes_names():
    for split, length in (("train", 120), ("val", 40), ("test", 40)):
        dataset = ScenesV2(CONFIG, split)
        assert len(dataset) == length
        assert len({dataset[index].name for index in range(length)}) == length
        with pytest.raises(IndexError, match=f"scene {length}"):
            dataset[length]
    sample = dataset[0]
    assert sample.image.shape == (64, 64, 3)
    assert sample.label.shape == dataset.cue_distance(0).shape == (64, 64)
    assert sample.image.dtype == sample.label.dtype == dataset.cue_distance(0).dtype == np.uint8
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == sample.label.max() + 1


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("emblems", [1, 2, 3, 4])
def test_the_board_in_the_cell_that_the_mark_names_decides_the_class(emblems):
    named = []
    for index in range(160):
        scene = draw(64, emblems, np.random.default_rng([1, index]))
        bits = board_bits(scene, emblems)
        for cell, x, y in marks_of(scene, emblems):
            assert (scene.label[y, x] - PAIRS[0]) % 2 == bits[cell]
            named.append(cell)
    assert len(named) > 60
    assert set(named) == set(range(emblems))


@pytest.mark.usefixtures("plain")
def test_every_object_has_a_mark_and_more_pixels_than_that():
    for index in range(40):
        scene = draw(64, 2, np.random.default_rng([8, index]))
        marks = marks_of(scene, 2)
        regions, _ = ndimage.label(np.isin(scene.label, PAIRS), structure=np.ones((3, 3)))
        in_objects = [int(regions[y, x]) for _, x, y in marks]
        assert {*np.unique(regions)} == {0, *in_objects}
        for number in in_objects:
            assert (regions == number).sum() >= 1.5 * MARK**2


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("size", "emblems"), [(64, 1), (64, 4), (96, 2), (128, 3)])
def test_the_distance_of_an_object_is_that_of_its_mark_from_its_board(size, emblems):
    for index in range(20):
        scene = draw(size, emblems, np.random.default_rng([2, index]))
        boards = []
        for left, top, right, bottom in cells(size, emblems):
            inner = np.zeros_like(scene.label, dtype=bool)
            inner[top : bottom + 1, left : right + 1] = True
            inner &= pixels_of(scene, BOARD_COLOURS[0]) | pixels_of(scene, BOARD_COLOURS[1])
            x0, y0, x1, y1 = box_of(inner)
            boards.append((x0 - 1, y0 - 1, x1 + 1, y1 + 1))
        for cell, x, y in marks_of(scene, emblems):
            rows, columns = np.mgrid[boards[cell][1] : boards[cell][3] + 1, boards[cell][0] : boards[cell][2] + 1]
            assert scene.distance[y, x] == np.maximum(np.abs(rows - y), np.abs(columns - x)).min()


def test_only_pixels_of_look_alikes_have_a_distance():
    for index in range(60):
        scene = draw(64, 1 + index % 4, np.random.default_rng([3, index]))
        np.testing.assert_array_equal(scene.distance != NO_CUE, np.isin(scene.label, PAIRS))


def test_no_object_touches_a_board_s_surroundings():
    for index in range(40):
        scene = draw(64, 4, np.random.default_rng([4, index]))
        assert scene.distance.min() > GAP


@pytest.mark.parametrize("size", SIZES)
def test_distances_are_graded_over_the_picture(size):
    dataset = ScenesV2(dataclasses.replace(CONFIG, scene_size=size), "train", 2)
    distances = np.concatenate([dataset.cue_distance(i).ravel() for i in range(60)])
    counts = np.bincount(distances[distances != NO_CUE] // 8, minlength=size // 8)
    assert (counts[2 : size * 5 // 64] > 0.03 * counts.sum() * 64 / size).all()
    assert counts[1] > 0


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("emblems", [1, 2])
def test_a_mirrored_scene_follows_the_same_rule(emblems):
    """Training mirrors half of the pictures: the mark must still point at the board that decides."""
    checked = 0
    for index in range(60):
        scene = draw(64, emblems, np.random.default_rng([9, index]))
        mirrored = Scene(*(array[:, ::-1] for array in scene))
        bits = board_bits(mirrored, emblems)
        for cell, x, y in marks_of(mirrored, emblems):
            assert (mirrored.label[y, x] - PAIRS[0]) % 2 == bits[cell]
            checked += 1
    assert checked > 60


@pytest.mark.usefixtures("plain")
def test_the_boards_are_independent_tosses_of_a_coin():
    bits = np.array([board_bits(draw(64, 4, np.random.default_rng([6, index])), 4) for index in range(200)])
    assert (np.abs(bits.mean(0) - 0.5) < 0.12).all()
    assert (np.abs(np.corrcoef(bits.T) - np.eye(4)) < 0.25).all()


def test_objects_show_nothing_of_their_second_class():
    """Mean colours of the two classes of a pair agree within their errors, as do their areas."""
    dataset = ScenesV2(SceneConfig(scene_train=400), "train")
    for first, second in LOOKALIKES:
        colours, areas = {first: [], second: []}, {first: [], second: []}
        for index in range(400):
            sample = dataset[index]
            for value in (first, second):
                seen = sample.label == value
                if seen.any():
                    colours[value].append(sample.image[seen].mean(0))
                    areas[value].append(seen.sum())
        means = [np.mean(colours[value], axis=0) for value in (first, second)]
        error = np.std(colours[first], axis=0) * np.sqrt(2 / len(colours[first]))
        assert (np.abs(means[0] - means[1]) < 4 * error).all()
        assert abs(np.mean(areas[first]) - np.mean(areas[second])) < 4 * np.std(areas[first]) * np.sqrt(2 / 200)


@pytest.mark.parametrize("emblems", [1, 2, 3, 4])
def test_who_knows_the_boards_without_their_places_is_right_so_often(emblems):
    """By enumeration of every toss and every cell that a mark can name."""
    right = 0.0
    for bits in itertools.product((0, 1), repeat=emblems):
        best = max(sum(bits), emblems - sum(bits))
        right += best / emblems
    assert unplaced_accuracy(emblems) == right / 2**emblems
    assert unplaced_accuracy(1) == 1
    assert unplaced_accuracy(2) == 0.75


@pytest.mark.parametrize(
    ("field", "value"), [("scene_size", 80), ("scene_noise", 0), ("scene_cue_distance", 20), ("scene_poles", 0)]
)
def test_what_the_second_version_cannot_follow_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"^{field} is {value}: ") as caught:
        ScenesV2(dataclasses.replace(CONFIG, **{field: value}), "val")
    assert "\n" not in str(caught.value)


def test_an_unknown_split_and_a_number_of_emblems_are_refused():
    with pytest.raises(ValueError, match="split 'dev' of scenes: expected one of train, val, test"):
        ScenesV2(CONFIG, "dev")
    for emblems in (0, 5):
        with pytest.raises(ValueError, match=f"emblems={emblems}: expected 1 to 4"):
            ScenesV2(CONFIG, "val", emblems)


def test_the_two_versions_are_other_pictures():
    first, second = open_data("scenes:v1", "val", CONFIG), open_data("scenes:v2", "val", CONFIG)
    assert isinstance(first, Scenes)
    assert isinstance(second, ScenesV2)
    assert (first[0].image != second[0].image).any()


def test_the_key_of_a_sample_tells_it_from_every_other():
    """Caches of drawn scenes and of their boundaries go by it."""
    configs = [dataclasses.replace(CONFIG, scene_seed=seed, scene_size=size) for seed in (0, 1) for size in (64, 96)]
    datasets = [ScenesV2(c, split, emblems) for c in configs for split in ("train", "val") for emblems in (1, 2)]
    keys = [dataset[index].key for dataset in datasets for index in (0, 1)]
    keys += [Scenes(CONFIG, split)[index].key for split in ("train", "val") for index in (0, 1)]
    assert len(set(keys)) == len(keys)
