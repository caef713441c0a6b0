"""The training pipeline against hand-made cases, and batches that do not depend on what came before."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from unept import boundary
from unept.config import LossConfig, released_profile
from unept.data import pipeline as pipeline_module
from unept.data.lru_cache import LRUCache
from unept.data.pipeline import MEAN, STD, Batches, Maps, TrainPipeline, crop, distort, flip, resize
from unept.data.sample import Sample
from unept.data.scenes import SceneConfig, Scenes

SCENES = Scenes(SceneConfig(scene_train=10, scene_val=1, scene_test=1), "train")


@dataclass(frozen=True, kw_only=True)
class Augment:
    scale_min: float = 1.0
    scale_max: float = 1.0
    base_long: int = 64
    base_short: int = 64
    flip: float = 0.0
    photometric: bool = False
    category_max: float = 1.0


def picture(height=40, width=60, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    label = (np.arange(height)[:, None] // 7 + np.arange(width)[None] // 9).astype(np.uint8) % 5
    return Sample(image=image, label=label, name=f"picture {seed}")


def maps_of(sample):
    return Maps(sample.image[..., ::-1].copy(), sample.label, sample.label + 10, sample.label + 20)


class FakeRng:
    """A generator that deals what it is given."""

    def __init__(self, *values):
        self.values = list(values)

    def integers(self, *_, **__):
        return self.values.pop(0)

    uniform = random = integers


# --- resize ---


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((512, 683), (2048, 512), (512, 683)),
        ((512, 683), (1024, 256), (256, 342)),  # 341.5 rounds up
        ((683, 512), (2048, 512), (683, 512)),  # portrait alike
        ((100, 1000), (2048, 512), (205, 2048)),  # the long side binds: 2.048; 204.8 rounds up
        ((375, 500), (520, 520), (390, 520)),
        ((64, 64), (64, 64), (64, 64)),
        ((1, 300), (30, 30), (1, 30)),  # never empty
    ],
)
def test_resize_rule(shape, target, expected):
    maps = maps_of(picture(*shape))
    made = resize(maps, target)
    assert made.image.shape == (*expected, 3)
    assert {plane.shape for plane in made[1:]} == {expected}


def test_resize_takes_nearest_values_of_the_maps_and_keeps_them_together():
    maps = maps_of(picture())
    made = resize(maps, (90, 60))
    assert set(np.unique(made.label)) <= set(np.unique(maps.label))
    np.testing.assert_array_equal(made.distance, made.label + 10)  # neither interpolated nor rescaled
    np.testing.assert_array_equal(made.angle, made.label + 20)
    doubled = resize(maps, (120, 80))
    np.testing.assert_array_equal(doubled.label, maps.label.repeat(2, 0).repeat(2, 1))


def test_resize_of_the_image_is_bilinear():
    ramp = np.tile(np.arange(0, 200, 4, dtype=np.uint8)[None, :, None], (20, 1, 3))
    made = resize(Maps(ramp, np.zeros((20, 50), np.uint8), None, None), (100, 40))
    inner = made.image[10, 2:-2, 0].astype(int)
    assert set(np.diff(inner)) == {2}
    assert made.distance is made.angle is None


# --- crop ---


def test_crop_cuts_the_same_window_from_all_maps():
    maps = maps_of(picture())
    maps = maps._replace(image=maps.label[..., None].repeat(3, -1))
    made = crop(maps, 24, 1.0, np.random.default_rng(1))
    assert made.label.shape == (24, 24)
    np.testing.assert_array_equal(made.image[..., 0], made.label)
    np.testing.assert_array_equal(made.distance, made.label + 10)
    np.testing.assert_array_equal(made.angle, made.label + 20)


def test_crop_reaches_every_window_and_no_more():
    label = np.arange(5 * 6, dtype=np.uint8).reshape(5, 6)
    maps = Maps(label[..., None].repeat(3, -1), label, None, None)
    corners = {int(crop(maps, 4, 1.0, np.random.default_rng(seed)).label[0, 0]) for seed in range(200)}
    assert corners == {0, 1, 2, 6, 7, 8}


def test_small_pictures_are_not_cropped():
    maps = maps_of(picture(20, 24))
    assert crop(maps, 24, 0.75, np.random.default_rng(0)).label.shape == (20, 24)
    wide = crop(maps_of(picture(20, 60)), 24, 0.75, np.random.default_rng(0))
    assert wide.label.shape == (20, 24)


def stripe(width=1000, other=12):
    """A picture of one class but for a stripe in the middle that few windows of 16 pixels show."""
    label = np.zeros((16, width), np.uint8)
    label[:, width // 2 : width // 2 + other] = 1
    return Maps(label[..., None].repeat(3, -1), label, None, None)


def test_crop_is_redrawn_while_one_class_covers_too_much():
    maps = stripe(100)
    draws = lambda limit: [  # noqa: E731
        crop(maps, 16, limit, np.random.default_rng(seed)).label for seed in range(200)
    ]
    mixed = lambda label: max((label == 0).mean(), (label == 1).mean()) < 0.75  # noqa: E731
    first = sum(mixed(label) for label in draws(1.0))
    redrawn = sum(mixed(label) for label in draws(0.75))
    assert first < 80
    assert redrawn > 160


def test_crop_gives_up_after_ten_redraws():
    rng = FakeRng(*[0, 3] * 11, "not drawn")
    made = crop(stripe(), 16, 0.75, rng)
    assert rng.values == ["not drawn"]
    assert not made.label.any()


def test_crop_stops_at_the_first_good_window():
    rng = FakeRng(0, 3, 0, 491, "not drawn")  # the second window shows 7 columns of the stripe
    assert crop(stripe(), 16, 0.75, rng).label.mean() == 7 / 16
    assert rng.values == ["not drawn"]


@pytest.mark.parametrize(("share", "redraws"), [(0.74, 0), (0.75, 10), (0.76, 10)])
def test_category_limit_is_strict_and_ignored_pixels_do_not_count(share, redraws):
    """One row of 100 labelled pixels under rows of ignored ones: the limit is a share of the labelled pixels."""
    label = np.full((100, 101), 255, np.uint8)
    label[0] = 1
    label[0, : round(share * 100)] = 0
    label[:, 100] = 255
    rng = FakeRng(*[0, 0] * 11)
    crop(Maps(np.zeros((100, 101, 3), np.uint8), label, None, None), 100, 0.75, rng)
    assert len(rng.values) == 2 * (10 - redraws)


def test_a_window_of_one_class_and_ignore_is_redrawn():
    label = np.full((16, 17), 255, np.uint8)
    label[:4] = 0
    rng = FakeRng(*[0, 0] * 11)
    crop(Maps(np.zeros((16, 17, 3), np.uint8), label, None, None), 16, 1 - 1e-9, rng)
    assert not rng.values


# --- flip ---


def test_flip_mirrors_everything_and_turns_the_angles():
    maps = Maps(np.arange(24, dtype=np.uint8).reshape(2, 4, 3), *(np.arange(8, dtype=np.uint8).reshape(2, 4),) * 3)
    for how in ("mirrored", "kept"):
        config = LossConfig(direction_flip=how)
        made = flip(maps, config)
        np.testing.assert_array_equal(made.image, maps.image[:, ::-1])
        np.testing.assert_array_equal(made.label, maps.label[:, ::-1])
        np.testing.assert_array_equal(made.distance, maps.distance[:, ::-1])
        np.testing.assert_array_equal(made.angle, boundary.flip_angle(maps.angle, config))
    np.testing.assert_array_equal(made.angle, maps.angle[:, ::-1])  # kept


def test_flipping_gives_the_truth_of_the_flipped_picture():
    """Both ways to the truth of a mirrored crop agree, pixel by pixel."""
    sample = SCENES[3]
    mirrored = Sample(image=sample.image[:, ::-1].copy(), label=sample.label[:, ::-1].copy(), name="mirrored")
    flipped = TrainPipeline(Augment(flip=1.0), LossConfig(), 64)(sample, np.random.default_rng(0))
    plain = TrainPipeline(Augment(flip=0.0), LossConfig(), 64)(mirrored, np.random.default_rng(0))
    for one, other in zip(flipped, plain, strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(np.unique(plain.direction)) >= set(range(8))


# --- photometric ---


def test_brightness_is_clipped_not_wrapped():
    image = np.array([[[0, 128, 250]]], np.uint8)
    made = distort(image, FakeRng(1, 20.9, 0, 0, 0, 0))
    np.testing.assert_array_equal(made, [[[20, 148, 255]]])
    made = distort(image, FakeRng(1, -20.0, 0, 0, 0, 0))
    np.testing.assert_array_equal(made, [[[0, 108, 230]]])


def test_contrast_before_or_after_the_colour_steps():
    image = np.array([[[10, 100, 200]]], np.uint8)
    before = distort(image, FakeRng(0, 1, 1, 1.5, 0, 0))
    after = distort(image, FakeRng(0, 0, 0, 0, 1, 1.5))
    np.testing.assert_array_equal(before, [[[15, 150, 255]]])
    np.testing.assert_array_equal(after, before)
    first = distort(image, FakeRng(0, 1, 1, 1.5, 1, 0.5, 0))
    last = distort(image, FakeRng(0, 0, 1, 0.5, 0, 1, 1.5))
    assert (first != last).any()  # 8-bit clipping between the steps


def test_saturation_and_hue():
    red = np.array([[[0, 0, 200]]], np.uint8)  # BGR
    pale = distort(red, FakeRng(0, 0, 1, 0.5, 0, 0))
    assert pale[0, 0, 2] == 200
    assert 98 <= pale[0, 0, 0] <= 102
    shifted = distort(red, FakeRng(0, 0, 0, 1, -18, 0))  # wraps to magenta's side
    assert shifted[0, 0, 0] > 100
    assert shifted[0, 0, 1] == 0
    assert distort(red, FakeRng(0, 0, 0, 1, 17, 0))[0, 0, 1] > 100


class Recorder:
    """A generator that notes what is asked of it."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.asked = []

    def integers(self, *arguments):
        drawn = self.rng.integers(*arguments)
        self.asked.append(("coin", int(drawn)) if arguments == (2,) else ("integers", *arguments))
        return drawn

    def uniform(self, *arguments):
        self.asked.append(("uniform", *arguments))
        return self.rng.uniform(*arguments)


def test_ranges_order_and_coins_of_the_distortion():
    """Brightness; contrast; saturation; hue; contrast: each behind a coin, one more for contrast's place."""
    brightness, hue, gain = ("uniform", -32, 32), ("integers", -18, 18), ("uniform", 0.5, 1.5)
    seen = set()
    for seed in range(200):
        recorder = Recorder(seed)
        distort(np.full((1, 1, 3), (10, 90, 200), np.uint8), recorder)
        left = list(recorder.asked)

        def part(draw, left=left):
            coin = left.pop(0)[1]
            assert not coin or left.pop(0) == draw
            return coin

        bright, first = part(brightness), left.pop(0)[1]
        before = part(gain) if first else 0
        seen.add((first, bright, before, part(gain), part(hue), 0 if first else part(gain)))
        assert left == []
    assert len(seen) == 2 * 2**4


def test_each_part_comes_in_about_half_of_the_draws():
    grey = np.full((1, 1, 3), 100, np.uint8)  # saturation and hue leave grey alone
    changed = np.mean([(distort(grey, np.random.default_rng(seed)) != 100).any() for seed in range(400)])
    assert 0.65 < changed < 0.85  # brightness or contrast: 3/4
    before = grey.copy()
    distort(grey, np.random.default_rng(1))
    np.testing.assert_array_equal(grey, before)


# --- the whole ---


def test_normalised_padded_and_in_rgb_order():
    sample = picture(40, 60)
    item = TrainPipeline(Augment(base_long=60, base_short=40), LossConfig(), 64)(sample, np.random.default_rng(0))
    assert item.image.dtype == np.float32
    assert item.image.shape == (3, 64, 64)
    expected = ((sample.image - MEAN) / STD).transpose(2, 0, 1)
    np.testing.assert_allclose(item.image[:, :40, :60], expected, atol=1e-5)
    assert not item.image[:, 40:].any()
    assert not item.image[:, :, 60:].any()
    for plane in item[1:]:
        assert plane.dtype == np.int64
        assert plane.shape == (64, 64)
        assert (plane[40:] == 255).all()
        assert (plane[:, 60:] == 255).all()
    np.testing.assert_array_equal(item.label[:40, :60], sample.label)


def test_normalisation_of_three_columns():
    """A picture three pixels wide: the mean is per channel, not per column."""
    sample = picture(4, 3)
    item = TrainPipeline(Augment(base_long=4, base_short=3), LossConfig(), 8)(sample, np.random.default_rng(0))
    np.testing.assert_allclose(item.image[:, :4, :3], ((sample.image - MEAN) / STD).transpose(2, 0, 1), atol=1e-5)


def test_truth_made_after_the_crop_is_that_of_the_crop():
    sample = picture(100, 100)
    pipeline = TrainPipeline(Augment(base_long=100, base_short=100), LossConfig(distance="crop"), 32, classes=5)
    item = pipeline(sample, np.random.default_rng(5))
    distance, angle = boundary.truth_maps(item.label.astype(np.uint8), pipeline.loss, classes=5)
    edge, way = boundary.targets(distance, angle, item.label, pipeline.loss)
    np.testing.assert_array_equal(item.boundary, edge)
    np.testing.assert_array_equal(item.direction, way)


@pytest.mark.parametrize("how", ["crop", "stored"])
def test_labels_beyond_the_classes_are_not_objects(how):
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 7
    sample = Sample(image=np.zeros((40, 40, 3), np.uint8), label=label, name="two")
    pipeline = TrainPipeline(Augment(base_long=40, base_short=40), LossConfig(distance=how), 40, classes=7)
    item = pipeline(sample, np.random.default_rng(0))
    assert (item.direction[:, :20] == 0).sum() > 100
    assert (item.direction[:, 20:] == 255).all()


def test_half_of_the_pictures_are_mirrored():
    sample = picture(32, 32)
    for chance, low, high in ((0.5, 70, 130), (0.1, 5, 40), (0.0, 0, 0), (1.0, 200, 200)):
        pipeline = TrainPipeline(
            Augment(base_long=32, base_short=32, flip=chance), LossConfig(), 32, boundary_truth=False
        )
        items = (pipeline(sample, np.random.default_rng(seed)) for seed in range(200))
        mirrored = sum(np.array_equal(item.label, sample.label[:, ::-1]) for item in items)
        assert low <= mirrored <= high


def test_padding_is_no_boundary():
    """A picture of one class, smaller than the crop: nothing in it is a boundary, in either profile."""
    sample = Sample(image=np.zeros((20, 30, 3), np.uint8), label=np.ones((20, 30), np.uint8), name="plain")
    for distance in ("crop", "stored"):
        item = TrainPipeline(Augment(base_long=30, base_short=20), LossConfig(distance=distance), 40)(
            sample, np.random.default_rng(0)
        )
        assert not item.boundary[:20, :30].any()


def halves():
    label = np.zeros((40, 40), np.uint8)
    label[:, 20:] = 1
    return Sample(image=np.zeros((40, 40, 3), np.uint8), label=label, name="halves")


@pytest.mark.parametrize(("how", "columns"), [("crop", 10), ("stored", 20)])
def test_stored_distances_scale_with_the_picture(how, columns):
    """At twice the size the band is 5 pixels of the crop a side, or 5 of the stored picture's, doubled."""
    pipeline = TrainPipeline(Augment(base_long=80, base_short=80), LossConfig(distance=how), 80)
    item = pipeline(halves(), np.random.default_rng(0))
    np.testing.assert_array_equal(item.boundary.sum(1), np.full(80, columns))
    middle = item.boundary[40].nonzero()[0]
    assert (middle.min(), middle.max()) == (40 - columns // 2, 39 + columns // 2)


def test_stored_truth_is_made_once_a_picture_within_a_bound(monkeypatch):
    calls = []
    real = boundary.truth_maps
    monkeypatch.setattr(boundary, "truth_maps", lambda label, *a, **k: calls.append(1) or real(label, *a, **k))
    kept = LRUCache(2 * 2 * 64 * 64)
    pipeline = TrainPipeline(Augment(), LossConfig(distance="stored"), 64, kept=kept)
    for index in (0, 1, 0, 1, 1, 0):
        pipeline(SCENES[index], np.random.default_rng(0))
    assert len(calls) == 2
    pipeline(SCENES[2], np.random.default_rng(0))  # drops the one used least recently: 1
    pipeline(SCENES[0], np.random.default_rng(0))
    assert len(calls) == 3
    pipeline(SCENES[1], np.random.default_rng(0))
    assert len(calls) == 4
    assert (len(kept), kept.held) == (2, 2 * 2 * 64 * 64)


def test_what_is_kept_changes_no_bit(monkeypatch):
    """A warm memory gives what a cold one does, also where a picture's crop or another loss asks for other maps."""
    kept = LRUCache(1 << 20)
    for loss in (LossConfig(), LossConfig(distance="stored")):
        for change in (Augment(), Augment(base_long=48, base_short=48), Augment(base_long=90, base_short=90)):
            cold = TrainPipeline(change, loss, 64, kept=LRUCache(0))(SCENES[3], np.random.default_rng(1))
            for _ in range(2):
                warm = TrainPipeline(change, loss, 64, kept=kept)(SCENES[3], np.random.default_rng(1))
                for one, other in zip(warm, cold, strict=True):
                    np.testing.assert_array_equal(one, other)
    assert len(kept) == 2  # the whole picture's for either loss; of crops and other sizes nothing


def test_no_truth_is_made_for_a_model_without_boundary_heads(monkeypatch):
    monkeypatch.setattr(boundary, "truth_maps", None)
    item = TrainPipeline(Augment(), LossConfig(), 64, boundary_truth=False)(SCENES[0], np.random.default_rng(0))
    assert (item.boundary == 255).all()
    assert (item.direction == 255).all()


def test_scale_is_drawn_between_its_limits():
    pipeline = TrainPipeline(Augment(scale_min=0.5, scale_max=2.0, base_long=200, base_short=100), LossConfig(), 64)
    targets = [pipeline._target(np.random.default_rng(seed)) for seed in range(300)]
    long_sides = [long for long, _ in targets]
    assert 100 <= min(long_sides) < 110
    assert 390 < max(long_sides) <= 400
    assert all(abs(long - 2 * short) <= 1 for long, short in targets)


def test_sample_and_pipeline_are_left_as_they_were():
    sample = picture(100, 100)
    image, label = sample.image.copy(), sample.label.copy()
    augment = Augment(scale_max=1.0, base_long=100, base_short=100, flip=1.0, photometric=True)
    pipeline = TrainPipeline(augment, LossConfig(), 32)
    first = pipeline(sample, np.random.default_rng(3))
    pipeline(sample, np.random.default_rng(4))
    again = pipeline(sample, np.random.default_rng(3))
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.label, label)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


# --- batches ---

FULL = Augment(scale_min=0.75, scale_max=1.5, flip=0.5, photometric=True, category_max=0.75)


def batches(seed=0, batch=4, dataset=SCENES):
    return Batches(dataset, TrainPipeline(FULL, LossConfig(), 64, classes=8), batch, seed)


def test_shapes_and_types_of_a_batch():
    made = batches().batch_at(0)
    assert list(made) == ["image", "label", "boundary", "direction"]
    assert made["image"].shape == (4, 3, 64, 64)
    assert made["image"].dtype == torch.float32
    for name in ("label", "boundary", "direction"):
        assert made[name].shape == (4, 64, 64)
        assert made[name].dtype == torch.int64


def test_a_batch_is_a_function_of_seed_and_step():
    walked = batches()
    row = [walked.batch_at(step) for step in range(6)]
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    jumped = batches()
    for step in (5, 2, 5):
        for name, tensor in jumped.batch_at(step).items():
            assert torch.equal(tensor, row[step][name])
    assert not torch.equal(batches(seed=1).batch_at(2)["image"], row[2]["image"])


def test_an_epoch_shows_every_sample_once_in_a_new_order():
    made = batches(batch=3)
    orders = [[made.index_at(epoch * 10 + place) for place in range(10)] for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list(range(10))
    assert len({tuple(order) for order in orders}) == 4
    assert tuple(orders[0]) != tuple(range(10))
    other = Batches(SCENES, made.pipeline, 3, seed=1)
    assert [other.index_at(place) for place in range(10)] != orders[0]


def test_the_same_picture_is_augmented_anew_each_time():
    one = Scenes(SceneConfig(scene_train=1, scene_val=1, scene_test=1), "train")
    images = batches(dataset=one, batch=4).batch_at(0)["image"]
    assert not torch.equal(images[0], images[1])


def test_nothing_to_train_on():
    with pytest.raises(ValueError, match="batch is 0"):
        batches(batch=0)

    class Empty:
        name = "empty"

        def __len__(self):
            return 0

    with pytest.raises(ValueError, match="no samples"):
        Batches(Empty(), None, 1, 0)


@pytest.mark.parametrize("loss", [LossConfig(), LossConfig(distance="stored"), released_profile()[1]])
@pytest.mark.parametrize("truth", [True, False])
def test_a_picture_that_is_kept_finished_has_the_same_bits(loss, truth):
    """For both mirrorings, the first time and again; a copy without a key is made anew."""
    how = Augment(flip=0.5)
    keeping = TrainPipeline(how, loss, 64, boundary_truth=truth)
    anew = TrainPipeline(how, loss, 64, boundary_truth=truth, kept=LRUCache(0))
    flips = set()
    for index in (0, 5):
        for seed in range(8):
            one, other = (np.random.default_rng(seed) for _ in range(2))
            kept, made = keeping(SCENES[index], one), anew(SCENES[index], other)
            for name in made._fields:
                a, b = getattr(kept, name), getattr(made, name)
                assert (a.dtype, a.shape, a.flags.c_contiguous) == (b.dtype, b.shape, True)
                np.testing.assert_array_equal(a, b)
            assert one.bit_generator.state == other.bit_generator.state
            flips.add(kept.image.tobytes())
    assert len(flips) == 4


@pytest.mark.parametrize(
    "change",
    [{"photometric": True}, {"base_long": 48, "base_short": 48}, {"scale_max": 1.5}],
)
def test_pictures_that_chance_changes_otherwise_are_not_kept_finished(change, monkeypatch):
    how = Augment(
        **{"photometric": False, "scale_min": 1.0, "scale_max": 1.0, "base_long": 64, "base_short": 64} | change
    )
    monkeypatch.setattr(pipeline_module, "_item", None)
    monkeypatch.setattr(pipeline_module, "_finished", LRUCache(0))
    for seed in range(3):
        TrainPipeline(how, LossConfig(), 64)(SCENES[0], np.random.default_rng(seed + 1))
