"""The generated scenes: same bits everywhere, exact labels, and a cue that is out of reach."""

import dataclasses
import hashlib

import numpy as np
import pytest

from unept.data import scenes as module
from unept.data.scenes import BOX, CLASSES, CUE_CLASSES, ELLIPSE, EMBLEM, PALETTE, POLE, SceneConfig, Scenes, draw

CONFIG = SceneConfig(scene_train=200, scene_val=20, scene_test=20)


@pytest.fixture(scope="module")
def samples():
    dataset = Scenes(CONFIG, "train")
    return [dataset[index] for index in range(len(dataset))]


def cue_of(image, label):
    """The emblem's colour, read from the picture: 0 for the first of `_EMBLEM_COLOURS`."""
    rows, columns = np.nonzero(label == EMBLEM)
    middle = image[rows.min() + 3 : rows.max() - 2, columns.min() + 3 : columns.max() - 2].reshape(-1, 3).mean(0)
    return int(np.argmin([np.abs(middle - colour).sum() for colour in module._EMBLEM_COLOURS]))


def test_bits_are_those_of_every_machine():
    digest = hashlib.sha256()
    for split in ("train", "val", "test"):
        for index in (0, 1, 17):
            sample = Scenes(CONFIG, split)[index]
            digest.update(sample.image.tobytes() + sample.label.tobytes())
    assert digest.hexdigest()[:16] == "ab9d8bffc6580930"


def test_a_scene_does_not_depend_on_what_was_drawn_before():
    first, second = Scenes(CONFIG, "train"), Scenes(CONFIG, "train")
    second[3]
    np.testing.assert_array_equal(first[7].image, second[7].image)


def test_seed_split_and_index_each_change_the_scene():
    base = Scenes(CONFIG, "train")[5]
    others = [
        Scenes(CONFIG, "train")[6],
        Scenes(CONFIG, "val")[5],
        Scenes(dataclasses.replace(CONFIG, scene_seed=1), "train")[5],
    ]
    for other in others:
        assert (base.image != other.image).any()
        assert (base.label != other.label).any()


def test_lengths_shapes_names():
    for split, length in (("train", 200), ("val", 20), ("test", 20)):
        dataset = Scenes(CONFIG, split)
        assert len(dataset) == length
        assert len({dataset[index].name for index in range(len(dataset))}) == length
        with pytest.raises(IndexError, match=f"scene {length}"):
            dataset[length]
    sample = dataset[0]
    assert sample.image.shape == (64, 64, 3)
    assert sample.label.shape == (64, 64)
    assert sample.image.dtype == sample.label.dtype == np.uint8
    assert len(CLASSES) == len(PALETTE) == len(set(PALETTE)) == 8


def test_the_emblem_decides_the_class_of_every_object(samples):
    seen = set()
    for sample in samples:
        cue = cue_of(sample.image, sample.label)
        found = set(np.unique(sample.label)) & set(CUE_CLASSES)
        assert found <= {BOX + cue, ELLIPSE + cue}
        seen |= {(cue, kind) for kind in found}
    assert seen == {(0, 2), (1, 3), (0, 4), (1, 5)}


def test_both_cues_are_equally_likely_and_every_corner_is_used(samples):
    cues = [cue_of(sample.image, sample.label) for sample in samples]
    assert 70 < sum(cues) < 130
    corners = set()
    for sample in samples:
        rows, columns = np.nonzero(sample.label == EMBLEM)
        assert len(rows) == CONFIG.scene_emblem * CONFIG.scene_emblem_height
        corners.add((bool(rows.mean() > 31.5), bool(columns.mean() > 31.5)))
    assert len(corners) == 4


@pytest.mark.parametrize("distance", [0, 12, 24])
def test_no_object_comes_nearer_to_the_emblem_than_the_cue_distance(distance):
    dataset = Scenes(dataclasses.replace(CONFIG, scene_cue_distance=distance), "train")
    nearest = 1000
    for index in range(len(dataset)):
        label = dataset[index].label
        rows, columns = np.nonzero(label == EMBLEM)
        y, x = np.nonzero(np.isin(label, CUE_CLASSES))
        if not len(y):
            continue
        gap_y = np.maximum(rows.min() - y, y - rows.max())
        gap_x = np.maximum(columns.min() - x, x - columns.max())
        nearest = min(nearest, int(np.maximum(gap_x, gap_y).min()))
    assert distance <= nearest <= distance + 4  # not nearer; and the distance is used


def test_the_two_classes_of_a_pair_look_alike(samples):
    """Mean colour of a class over many scenes: the pair differs by less than its objects do among themselves."""
    for first in (BOX, ELLIPSE):
        means = [
            np.array([s.image[s.label == c].mean(0) for s in samples if (s.label == c).any()])
            for c in (first, first + 1)
        ]
        assert np.abs(means[0].mean(0) - means[1].mean(0)).max() < 0.5 * min(m.std(0).min() for m in means)


def test_all_classes_occur_at_several_scales(samples):
    counts = np.bincount(np.concatenate([s.label.ravel() for s in samples]), minlength=len(CLASSES))
    assert counts.shape == (8,)
    shares = counts / counts.sum()
    assert (shares[[0, 1]] > 0.25).all()
    assert (shares[[2, 3, 4, 5]] > 0.015).all()
    assert shares[POLE] > 0.005
    areas = [int((s.label == c).sum()) for s in samples for c in CUE_CLASSES if (s.label == c).any()]
    assert np.percentile(areas, 95) > 10 * np.percentile(areas, 5)


def test_labels_are_exact_where_nothing_blurs_the_picture():
    """Without noise, every uniform patch of the picture carries one label."""
    config = dataclasses.replace(CONFIG, scene_noise=0)
    for index in range(10):
        sample = Scenes(config, "train")[index]
        colours = (sample.image.astype(int) * [65536, 256, 1]).sum(-1)
        for colour in np.unique(colours):
            assert len(np.unique(sample.label[colours == colour])) == 1


def test_poles_are_as_thin_as_asked():
    config = dataclasses.replace(CONFIG, scene_poles=1, scene_pole_width=2)
    seen = 0
    for index in range(30):
        label = draw(config, np.random.default_rng(index))[1]
        columns = np.flatnonzero((label == POLE).any(0))
        assert len(columns) <= 2
        seen += len(columns) == 2
    assert seen > 5


def test_difficulty_is_a_parameter():
    """Each knob moves what it names."""
    plain = dataclasses.replace(CONFIG, scene_detail=0.0, scene_noise=0, scene_poles=0)
    wavy = dataclasses.replace(plain, scene_detail=3.0)
    edges = [
        sum(int((np.diff(Scenes(c, "val")[i].label.astype(int), axis=1) != 0).sum()) for i in range(20))
        for c in (plain, wavy)
    ]
    assert edges[1] > 1.2 * edges[0]
    small = dataclasses.replace(plain, scene_object_min=4, scene_object_max=6)
    areas = [sum(int(np.isin(Scenes(c, "val")[i].label, CUE_CLASSES).sum()) for i in range(20)) for c in (plain, small)]
    assert areas[1] < 0.3 * areas[0]
    none = dataclasses.replace(plain, scene_objects_min=0, scene_objects_max=0)
    assert not np.isin(Scenes(none, "val")[0].label, CUE_CLASSES).any()


@pytest.mark.parametrize("size", [64, 96, 160])
def test_other_sizes(size):
    config = SceneConfig(scene_size=size, scene_emblem=8, scene_emblem_height=10, scene_cue_distance=size // 3)
    sample = Scenes(config, "test")[0]
    assert sample.image.shape == (size, size, 3)
    assert (sample.label == EMBLEM).sum() == 80


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scene_train", 0),
        ("scene_seed", -1),
        ("scene_objects_min", 7),
        ("scene_object_min", 40),
        ("scene_cast", 0.9),
        ("scene_size", 40),
        ("scene_noise", -1),
        ("scene_noise", 256),
        ("scene_detail", 65.0),
        ("scene_pole_width", 65),
        ("scene_emblem_height", 63),
    ],
)
def test_what_cannot_be_drawn_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}: expected") as caught:
        SceneConfig(**{field: value})
    assert "\n" not in str(caught.value)


def test_a_cue_distance_without_room_is_refused():
    with pytest.raises(ValueError, match="scene_size is 64: expected at least 78"):
        SceneConfig(scene_cue_distance=40)


def test_a_full_height_emblem():
    config = SceneConfig(scene_emblem_height=62)
    label = Scenes(config, "test")[0].label
    assert (label == EMBLEM).sum() == 12 * 62


def test_unknown_split():
    with pytest.raises(ValueError, match="split 'training' of scenes"):
        Scenes(CONFIG, "training")
