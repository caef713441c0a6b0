"""Boundary and direction truth: the published generator's output, brute force, and what must not change it."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from locations import GOLDEN
from scipy import ndimage

from unept import boundary
from unept.boundary import BAND, FAR, NONE, OFFSETS, distance_angle, flip_angle, targets, truth_maps
from unept.config import LossConfig, released_profile

GOLDEN_FILE = GOLDEN / "dt_offset.npz"
PAPER = LossConfig()
RELEASED = released_profile()[1]


def blobs(seed: int, shape: tuple[int, int] = (40, 52), classes: int = 5, ignored: float = 0.1) -> np.ndarray:
    """A label map of smooth regions with some of them, and some single pixels, set to 255."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), 6, mode="nearest") for _ in range(classes)]
    label = np.argmax(noise, 0).astype(np.uint8)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 4, mode="nearest")
    label[smooth > np.quantile(smooth, 1 - ignored)] = 255
    label[rng.random(shape) < 0.002] = 255
    return label


def brute_distance(label: np.ndarray) -> np.ndarray:
    """Distance to the nearest pixel of another label, over all pairs; 0 where ignored, FAR without a boundary."""
    height, width = label.shape
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width])
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    other = label.ravel()[:, None] != label.ravel()
    nearest = np.where(other, squared, np.inf).min(1)
    return np.where(label.ravel() == 255, 0, np.minimum(np.sqrt(nearest), FAR)).reshape(label.shape)


def brute_gradient(label: np.ndarray, y: int, x: int, mode: str) -> tuple[float, float]:
    """The 5 x 5 gradient at one pixel, straight from the definition, from the class's transform over the whole map."""
    field = np.pad(ndimage.distance_transform_edt(label == label[y, x]), 2, mode=mode)
    rise = run = 0.0
    for dy, dx in itertools.product(range(-2, 3), repeat=2):
        if dy or dx:
            value = field[y + 2 + dy, x + 2 + dx] / (dy * dy + dx * dx)
            rise, run = rise + dy * value, run + dx * value
    return rise, run


def test_the_published_generator_to_the_bit() -> None:
    golden = np.load(GOLDEN_FILE)
    distance, angle = truth_maps(golden["label_train"], RELEASED, classes=150)
    np.testing.assert_array_equal(distance, golden["depth"])
    np.testing.assert_array_equal(angle, golden["dir_deg"])
    edge, direction = targets(distance, angle, golden["label_train"], RELEASED)
    np.testing.assert_array_equal(edge, golden["boundary_official"])
    np.testing.assert_array_equal(direction, golden["bins"])
    assert distance.dtype == angle.dtype == np.uint8
    assert edge.dtype == direction.dtype == np.int64


def test_exact_truth_agrees_with_the_published_one_away_from_what_it_mends() -> None:
    """Same distances; same directions but for truncated codes, pixels at the border and pixels without a direction."""
    golden = np.load(GOLDEN_FILE)
    label = golden["label_train"]
    distance, angle = distance_angle(label, classes=150, min_pixels=100)
    np.testing.assert_array_equal(distance, golden["depth"])
    inner = np.zeros(label.shape, bool)
    inner[2:-2, 2:-2] = True
    inner &= (distance > 0) & (angle != NONE)
    off = (angle.astype(int) - golden["dir_deg"].astype(int) + 90) % 180 - 90
    assert set(np.unique(off[inner])) <= {0, 1}
    assert (off[inner] == 1).any(), "truncation is visible, or this compares the same thing twice"
    assert (off[~inner & (distance > 0)] != 0).any()


@pytest.mark.parametrize("seed", range(4))
def test_distance_equals_brute_force(seed: int) -> None:
    label = blobs(seed)
    np.testing.assert_array_equal(distance_angle(label)[0], brute_distance(label).astype(np.uint8))


@pytest.mark.parametrize(("released", "mode"), [(False, "edge"), (True, "constant")])
def test_angle_equals_brute_force(released: bool, mode: str) -> None:
    label = blobs(7, (30, 33))
    angle = distance_angle(label, released=released)[1]
    checked = 0
    for y, x in np.argwhere(label != 255):
        rise, run = brute_gradient(label, y, x, mode)
        if np.hypot(rise, run) < 1e-9:
            assert angle[y, x] == NONE or released
            continue
        degrees = np.degrees(np.arctan2(rise, run)) + 180
        code = degrees / 2 % 180
        away = abs((angle[y, x] + (0.5 if released else 0.0) - code + 90) % 180 - 90)
        assert away <= 0.5 + 1e-4
        checked += 1
    assert checked > 600


@pytest.mark.parametrize("seed", range(3))
def test_a_class_needs_only_its_own_box(seed: int) -> None:
    """The transform over a class's box and one pixel around it is that over the whole map, to the bit."""
    label = blobs(seed, (64, 64), classes=8)
    whole = sum(ndimage.distance_transform_edt(label == index) for index in range(8))
    np.testing.assert_array_equal(distance_angle(label)[0], np.minimum(whole, FAR).astype(np.uint8))


def test_a_box_without_its_margin_would_be_wrong() -> None:
    label = np.zeros((20, 20), np.uint8)
    label[5:15, 5:15] = 1
    label[9, 9] = 0  # something of another class inside, so that the bare box has a background at all
    bare = ndimage.distance_transform_edt(label[5:15, 5:15] == 1)
    assert not np.array_equal(bare.astype(np.uint8), distance_angle(label)[0][5:15, 5:15])


def test_the_border_is_no_boundary() -> None:
    label = np.zeros((30, 40), np.uint8)
    label[:, 20:] = 1
    distance, angle = distance_angle(label)
    np.testing.assert_array_equal(distance, np.tile(np.r_[20:0:-1, 1:21], (30, 1)))
    edge, direction = targets(distance, angle, label, PAPER)
    np.testing.assert_array_equal(edge, np.tile(np.abs(np.arange(40) - 19.5) <= BAND, (30, 1)))
    assert (direction[edge == 1] != NONE).all()
    assert set(np.unique(direction[:, :20])) == {0}  # left, away from the boundary, also in the first and last rows
    assert set(np.unique(direction[:, 20:])) <= {4, NONE}


def test_distances_are_clipped() -> None:
    label = np.zeros((1, 400), np.uint8)
    label[0, 0] = 1
    distance = distance_angle(label)[0]
    assert distance.max() == FAR
    assert distance[0, 250] == 250


@pytest.mark.parametrize("seed", range(3))
def test_ignored_pixels(seed: int) -> None:
    label = blobs(seed)
    ignored = label == 255
    assert ignored.any()
    distance, angle = distance_angle(label)
    edge, direction = targets(distance, angle, label, PAPER)
    assert (edge[ignored] == NONE).all()
    assert (direction[ignored] == NONE).all()
    assert set(np.unique(edge[~ignored])) == {0, 1}
    np.testing.assert_array_equal(edge[~ignored], brute_distance(label)[~ignored] < BAND + 1)
    edge, direction = targets(distance, distance_angle(label, released=True)[1], label, RELEASED)
    assert (edge[ignored] == 1).all()  # as released: unlabelled pixels are boundary
    assert (direction[ignored] == 4).all()
    assert (direction != NONE).all()


def test_what_the_ignored_class_is_called_changes_nothing() -> None:
    label = blobs(1)
    renamed = np.where(label == 255, 9, label).astype(np.uint8)
    for ours, theirs in zip(distance_angle(label), distance_angle(renamed, ignore=9), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(distance_angle(label), distance_angle(renamed, classes=9), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_padding() -> None:
    """Padded with 255 after the maps were made: no object, no boundary against the picture."""
    label = blobs(2)
    padding = ((0, 10), (0, 4))
    maps = [np.pad(each, padding, constant_values=255) for each in (*distance_angle(label), label)]
    edge, direction = targets(*maps, PAPER)
    assert (edge[40:] == NONE).all()
    assert (direction[:, 52:] == NONE).all()
    for padded, alone in zip((edge, direction), targets(*distance_angle(label), label, PAPER), strict=True):
        np.testing.assert_array_equal(padded[:40, :52], alone)
    edge, direction = targets(*maps, RELEASED)
    assert (edge[40:] == 0).all()
    assert (direction[40:] == 0).all()


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (2, 2), (40, 31)])
@pytest.mark.parametrize("value", [0, 4, 255])
def test_one_value_has_no_boundary(shape: tuple[int, int], value: int, released: bool) -> None:
    label = np.full(shape, value, np.uint8)
    distance, angle = distance_angle(label, released=released)
    assert (distance == (0 if value == 255 else FAR)).all()
    assert released or (angle == NONE).all()
    edge, direction = targets(distance, angle, label, PAPER)
    assert (edge == (NONE if value == 255 else 0)).all()
    assert released or (direction == NONE).all()


def test_empty_and_two_pixel_maps() -> None:
    assert distance_angle(np.zeros((0, 5), np.uint8))[0].shape == (0, 5)
    distance, angle = distance_angle(np.array([[0, 1]], np.uint8))
    np.testing.assert_array_equal(distance, [[1, 1]])
    np.testing.assert_array_equal(targets(distance, angle, np.array([[0, 1]]), PAPER)[1], [[0, 4]])


def test_small_classes() -> None:
    """The published generator skips classes under 100 pixels: distance 0, angle 90. Truth made on the crop does not."""
    label = np.zeros((40, 40), np.uint8)
    label[5:14, 5:16] = 1  # 99 pixels
    label[20:30, 20:30] = 2  # 100
    kept, skipped = truth_maps(label, PAPER, classes=3), truth_maps(label, RELEASED, classes=3)
    assert (kept[0][label == 1] > 0).all()
    assert (skipped[0][label == 1] == 0).all()
    assert (skipped[1][label == 1] == 90).all()
    np.testing.assert_array_equal(kept[0][label != 1], skipped[0][label != 1])
    stored = dataclasses.replace(PAPER, distance="stored")
    edge, direction = targets(*skipped, label, stored)
    assert (edge[label == 1] == 1).all()  # too small to have an inside
    assert (direction[label == 1] == NONE).all()


def test_a_thin_pole_has_no_inward_direction() -> None:
    label = np.zeros((20, 21), np.uint8)
    label[:, 10] = 1
    edge, direction = targets(*distance_angle(label), label, PAPER)
    assert (edge[:, 10] == 1).all()
    assert (direction[:, 10] == NONE).all()
    assert (direction[:, 9] == 0).all()
    assert (direction[:, 11] == 4).all()


@pytest.mark.parametrize("seed", range(6))
def test_flip_equals_truth_of_the_flipped_label(seed: int) -> None:
    label = blobs(seed)
    distance, angle = distance_angle(label)
    flipped = distance_angle(label[:, ::-1].copy())
    np.testing.assert_array_equal(distance[:, ::-1], flipped[0])
    np.testing.assert_array_equal(flip_angle(angle, PAPER), flipped[1])
    np.testing.assert_array_equal(flip_angle(flip_angle(angle, PAPER), PAPER), angle)
    assert (angle[:, ::-1] != flipped[1]).any(), "moving the pixels alone must be wrong"


def test_directions_follow_all_symmetries_of_the_square() -> None:
    label = blobs(11)
    _, direction = targets(*distance_angle(label), label, PAPER)
    turns = {
        "left to right": (lambda a: a[:, ::-1], lambda dy, dx: (dy, -dx)),
        "upside down": (lambda a: a[::-1], lambda dy, dx: (-dy, dx)),
        "transposed": (lambda a: a.T, lambda dy, dx: (dx, dy)),
    }
    for name, (turn, point) in turns.items():
        table = np.arange(256)
        table[:8] = [OFFSETS.index(point(*offset)) for offset in OFFSETS]
        turned = np.ascontiguousarray(turn(label))
        np.testing.assert_array_equal(
            table[turn(direction)], targets(*distance_angle(turned), turned, PAPER)[1], err_msg=name
        )


def test_kept_angles_only_move() -> None:
    angle = distance_angle(blobs(3), released=True)[1]
    np.testing.assert_array_equal(flip_angle(angle, RELEASED), angle[:, ::-1])


def test_mirroring_truncated_codes_is_right_to_one_code() -> None:
    label = blobs(4)
    angle = distance_angle(label, released=True)[1]
    flipped = distance_angle(label[:, ::-1].copy(), released=True)[1]
    valid = label[:, ::-1] != 255
    off = (flip_angle(angle, PAPER).astype(int) - flipped.astype(int) + 90) % 180 - 90
    smooth = (flipped != 90) & (flipped != 0) & (flipped != 180)  # beside rounding's choice between 0 and 180
    assert set(np.unique(off[valid & smooth])) <= {0, 1}


def test_mirrored_bins() -> None:
    codes = np.arange(181, dtype=np.uint8)[None]
    bins = boundary._BINS[codes]
    expected = np.array([4, 3, 2, 1, 0, 7, 6, 5])[bins]
    centre = (2 * codes.astype(int) - 180) % 45 != 22  # a code just inside a bin's end lands just outside its mirror's
    np.testing.assert_array_equal(boundary._BINS[flip_angle(codes, PAPER)][:, ::-1][centre], expected[centre])
    np.testing.assert_array_equal(flip_angle(np.full((1, 2), NONE, np.uint8), PAPER), [[NONE, NONE]])


def test_bins_are_centred_on_their_offsets() -> None:
    """Every angle's bin is that of the nearest offset; codes are even degrees, so none is tied."""
    degrees = 2.0 * np.arange(181) - 180
    centres = np.array([np.degrees(np.arctan2(dy, dx)) for dy, dx in OFFSETS])
    away = abs((degrees[:, None] - centres + 180) % 360 - 180)
    np.testing.assert_array_equal(boundary._BINS[:181], away.argmin(1))
    np.testing.assert_array_equal(boundary._BINS_RELEASED[:181], away.argmin(1))
    assert set(boundary._BINS[181:]) == {NONE}
    assert set(boundary._BINS_RELEASED[181:]) == {0}


def test_maps_made_once_follow_a_resized_label() -> None:
    """Resizing by whole pixels: the band grows with the picture where stored, and stays where made anew."""
    label = blobs(5, ignored=0)
    double = label.repeat(2, 0).repeat(2, 1)
    distance, angle = (each.repeat(2, 0).repeat(2, 1) for each in distance_angle(label))
    edge, direction = targets(distance, angle, double, PAPER)
    small = targets(*distance_angle(label), label, PAPER)
    np.testing.assert_array_equal(edge, small[0].repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(direction, small[1].repeat(2, 0).repeat(2, 1))
    anew, _ = targets(*distance_angle(double), double, PAPER)
    assert anew.mean() < edge.mean()
    assert ((anew == 1) <= (edge == 1)).all()


@pytest.mark.parametrize("radius", [4.0, 9.3, 17.0])
def test_directions_point_inward(radius: float) -> None:
    y, x = np.mgrid[:48, :48] - 24.2
    label = (np.hypot(y, x) < radius).astype(np.uint8)
    field = np.where(label == 1, *(ndimage.distance_transform_edt(label == index) for index in (1, 0)))
    edge, direction = targets(*distance_angle(label), label, PAPER)
    inner = 0
    for row, column in np.argwhere((edge == 1) & (direction != NONE)):
        dy, dx = OFFSETS[direction[row, column]]
        if field[row, column] <= 2 and 0 < row < 47 and 0 < column < 47:
            assert label[row + dy, column + dx] == label[row, column]
            assert field[row + dy, column + dx] >= field[row, column]
            inner += 1
    assert inner > 20


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 1), np.uint8), np.zeros(4, np.uint8)])
def test_a_label_map_that_is_none(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W\)"):
        distance_angle(wrong)


def test_the_input_is_left_alone() -> None:
    label = blobs(6)
    label.flags.writeable = False
    maps = distance_angle(label)
    for each in maps:
        each.flags.writeable = False
    targets(*maps, label, PAPER)
    flip_angle(maps[1], PAPER)
