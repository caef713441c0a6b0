"""Inference: equal to the protocol written out plainly, each window once, in memory that the height does not decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import mmcv
import numpy as np
import pytest
import torch
from mmcv.image.geometric import rescale_size
from torch import Tensor, nn
from torch.nn import functional as F

import unept
from unept import inference
from unept.data import pipeline
from unept.inference import MEAN, STD, Prediction, predict, predict_labels, prepare, window_starts
from unept.utils.finite import NonFiniteError

ADE_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


class Output(NamedTuple):
    logits: Tensor
    refined: Tensor | None


class Model:
    """Logits that depend on a pixel's surroundings and on its place in the window; notes what it was given."""

    def __init__(self, classes: int = 3, refines: bool = False) -> None:
        generator = torch.Generator().manual_seed(0)
        self.kernel = torch.randn(classes, 3, 5, 5, generator=generator) / 3
        self.refines = refines
        self.batches: list[Tensor] = []

    def __call__(self, image_B3HW: Tensor) -> Output:
        self.batches.append(image_B3HW.clone())
        place = torch.linspace(0, 1, image_B3HW.shape[3])
        logits = F.conv2d(image_B3HW, self.kernel, padding=2) + place
        return Output(logits, logits.roll(1, 1) * 2 if self.refines else None)

    @property
    def windows(self) -> list[Tensor]:
        return [window for batch in self.batches for window in batch]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 4 + 2, width // 4 + 2, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def plain(
    model: Callable[[Tensor], Output],
    image: np.ndarray,
    *,
    mode: str = "slide",
    window: int = 480,
    stride: int = 160,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    base: tuple[int, int] | None = None,
) -> list[Tensor]:
    """The protocol for whole maps, one window at a time: probabilities of each map the model gives."""
    height, width = image.shape[:2]
    total: list[Tensor] = []
    for ratio in scales:
        for flipped in (False, True) if flip else (False,):
            if base is None:
                size = int(width * ratio + 0.5), int(height * ratio + 0.5)
            else:
                size = rescale_size((width, height), (int(base[0] * ratio), int(base[1] * ratio)))
            pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
            scaled = F.interpolate(pixels, size=size[::-1], mode="bilinear", align_corners=False).round()
            scaled = (scaled - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
            scaled = scaled.flip(3) if flipped else scaled
            h, w = scaled.shape[2:]
            tall, wide = (h, w) if mode == "whole" else (window, window)
            padded = F.pad(scaled, (0, max(wide - w, 0), 0, max(tall - h, 0)))
            sums, count = [0.0, 0.0], torch.zeros(1, 1, *padded.shape[2:])
            rows = max(h - tall + stride - 1, 0) // stride + 1
            columns = max(w - wide + stride - 1, 0) // stride + 1
            for row in range(rows):
                for column in range(columns):
                    y = max(min(row * stride, h - tall), 0)
                    x = max(min(column * stride, w - wide), 0)
                    maps = [each for each in model(padded[:, :, y : y + tall, x : x + wide]) if each is not None]
                    around = (x, padded.shape[3] - x - wide, y, padded.shape[2] - y - tall)
                    sums = [old + F.pad(new, around) for old, new in zip(sums, maps, strict=False)]
                    count[:, :, y : y + tall, x : x + wide] += 1
            maps = [(each / count)[:, :, :h, :w] for each in sums if isinstance(each, Tensor)]
            maps = [F.interpolate(each, size=(height, width), mode="bilinear", align_corners=False) for each in maps]
            maps = [each.softmax(1).flip(3) if flipped else each.softmax(1) for each in maps]
            total = [old + new for old, new in zip(total or [torch.zeros(())] * len(maps), maps, strict=True)]
    passes = len(scales) * (2 if flip else 1)
    return [each[0] / passes for each in total]


def assert_equal(prediction: Prediction, expected: list[Tensor]) -> None:
    assert (prediction.refined is None) == (len(expected) == 1)
    for mine, theirs in zip(prediction, expected, strict=False):
        assert mine is not None
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=0)


PROTOCOLS = {
    "one window": {"window": 64, "stride": 32},
    "windows": {"window": 32, "stride": 16},
    "odd windows": {"window": 25, "stride": 11},
    "no overlap": {"window": 20, "stride": 20},
    "scales and flip": {"window": 32, "stride": 16, "scales": (0.5, 1.0, 1.75), "flip": True},
    "base": {"window": 32, "stride": 16, "scales": (0.5, 1.25), "base": (120, 40), "flip": True},
    "whole": {"mode": "whole"},
    "whole, scales and flip": {"mode": "whole", "scales": (0.6, 1.3), "flip": True, "base": (90, 64)},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", [(50, 67), (70, 31)])
@pytest.mark.parametrize("batch", [1, 5])
def test_equals_the_plain_formula(
    protocol: str, shape: tuple[int, int], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "BAND_PIXELS", 400)  # several bands
    image = picture(*shape)
    model = Model(refines=batch == 5)
    expected = plain(model, image, **PROTOCOLS[protocol])
    calls, model.batches = len(model.batches), []
    prediction = predict(model, image, batch=batch, **PROTOCOLS[protocol])
    assert_equal(prediction, expected)
    assert len(model.windows) == calls
    assert max(len(each) for each in model.batches) <= batch
    assert prediction.probabilities.dtype == torch.float32
    torch.testing.assert_close(prediction.probabilities.sum(0), torch.ones(shape))


@pytest.mark.parametrize(("shape", "window", "stride"), [((36, 59), 32, 27), ((85, 59), 30, 13), ((43, 57), 31, 14)])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_pass_larger_than_the_picture_skips_rows_and_no_window(
    shape: tuple[int, int], window: int, stride: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A band may end on the row before the next windows begin, and the next band begin below that."""
    monkeypatch.setattr(inference, "BAND_PIXELS", 100)
    protocol: dict[str, Any] = {"window": window, "stride": stride, "scales": (1.25, 1.75), "base": (120, 90)}
    expected = plain(Model(), picture(*shape), **protocol)
    assert_equal(predict(Model(), picture(*shape), batch=batch, **protocol), expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("refines", [False, True])
def test_labels_are_the_arg_max(protocol: str, refines: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "BAND_PIXELS", 400)
    image, model = picture(50, 67), Model(refines=refines)
    prediction = predict(model, image, batch=2, **PROTOCOLS[protocol])
    calls, model.batches = len(model.windows), []
    labels = predict_labels(model, image, batch=2, **PROTOCOLS[protocol])
    assert len(model.windows) == calls
    assert torch.equal(labels.labels, prediction.probabilities.argmax(0))
    if prediction.refined is None:
        assert labels.refined is None
    else:
        assert labels.refined is not None
        assert torch.equal(labels.refined, prediction.refined.argmax(0))


class Counter:
    """Only counts windows."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, image_B3HW: Tensor) -> Output:
        self.calls += [(image_B3HW.shape[2], image_B3HW.shape[3])] * len(image_B3HW)
        return Output(torch.zeros(len(image_B3HW), 2, *image_B3HW.shape[2:]), None)


@pytest.mark.parametrize(
    ("shape", "base", "counts"),
    [((512, 683), (2048, 512), (1, 2, 6, 8, 15, 24)), ((375, 500), (520, 520), None)],
)
def test_window_counts_of_the_papers_protocols(
    shape: tuple[int, int], base: tuple[int, int], counts: tuple[int, ...] | None
) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    alone = []
    for ratio in ADE_SCALES:
        model = Counter()
        predict(model, image, scales=(ratio,), base=base)
        alone.append(len(model.calls))
        assert set(model.calls) == {(480, 480)}
    assert counts is None or tuple(alone) == counts
    model = Counter()
    predict(model, image, scales=ADE_SCALES, base=base, flip=True, batch=4)
    assert len(model.calls) == 2 * sum(alone)
    assert sum(alone) == (56 if counts else 28)


def test_whole_mode_counts_and_sizes() -> None:
    model = Counter()
    predict(model, np.zeros((40, 60, 3), np.uint8), mode="whole", scales=(0.5, 1.0, 1.5), flip=True)
    assert model.calls == [(20, 30)] * 2 + [(40, 60)] * 2 + [(60, 90)] * 2


@pytest.mark.parametrize(("window", "stride"), [(480, 160), (64, 64), (37, 11), (5, 1)])
def test_windows_cover_every_side(window: int, stride: int) -> None:
    for side in range(1, 1200, 7):
        starts = window_starts(side, window, stride)
        assert starts[0] == 0
        assert starts == sorted(set(starts))
        assert all(second - first <= stride for first, second in itertools.pairwise(starts))
        assert starts[-1] == max(side - window, 0)
        assert len(starts) == max(math.ceil((side - window) / stride), 0) + 1


def test_short_sides_are_filled_with_zeros_after_normalisation() -> None:
    model = Model()
    image = picture(20, 50)
    predict(model, image, window=32, stride=16)
    for window in model.windows:
        assert (window[:, 20:] == 0).all()
        assert (window[:, :20].abs().sum(0) > 0).all()


def test_a_flipped_pass_sees_the_mirror_image() -> None:
    model = Model()
    predict(model, picture(16, 24), mode="whole", flip=True)
    first, second = model.windows
    assert torch.equal(first.flip(2), second)


@pytest.mark.parametrize(("height", "width"), [(512, 683), (683, 512), (375, 500), (7, 300), (64, 64)])
@pytest.mark.parametrize("base", [(2048, 512), (520, 520), (64, 64)])
def test_sizes_are_mmcvs(height: int, width: int, base: tuple[int, int]) -> None:
    for ratio in ADE_SCALES:
        wide, high = rescale_size((width, height), (int(base[0] * ratio), int(base[1] * ratio)))
        assert inference.scaled(height, width, ratio, base) == (max(high, 1), max(wide, 1))


@pytest.mark.parametrize("size", [(50, 67), (33, 90), (120, 140), (25, 20)])
def test_resizing_and_normalising_are_mmcvs_to_one_grey_level(size: tuple[int, int]) -> None:
    image = picture(50, 67)
    ours = prepare(torch.from_numpy(image).permute(2, 0, 1), size)
    resized = mmcv.imresize(image, size[::-1], interpolation="bilinear")
    theirs = mmcv.imnormalize(resized, np.array(MEAN), np.array(STD), to_rgb=False).transpose(2, 0, 1)
    levels = np.abs(ours.numpy() - theirs) * np.array(STD).reshape(3, 1, 1)
    assert levels.max() <= 1 + 1e-3
    assert (levels > 0.5).mean() < 0.15


def test_constants_are_imagenets_in_every_place() -> None:
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB, in grey levels
    assert (mean, std) == (MEAN, STD)
    assert (tuple(pipeline.MEAN), tuple(pipeline.STD)) == (mean, std)
    grey = torch.full((3, 1, 1), 150, dtype=torch.uint8)
    expected = (150 - torch.tensor(mean)) / torch.tensor(std)
    torch.testing.assert_close(prepare(grey, (1, 1)).flatten(), expected)


def test_a_model_of_another_type_gets_images_of_its_own() -> None:
    config = unept.ModelConfig(
        backbone="tiny_conv", classes=4, size=32, width=32, heads=2, ffn=32, points=4, head_width=16
    )
    model, image = unept.build(config).eval(), picture(40, 50)
    arguments = {"window": 32, "stride": 16, "scales": (0.5, 1.0), "flip": True}
    expected = predict(model, image, **arguments)
    for dtype, far in ((torch.float64, 1e-5), (torch.bfloat16, 0.05)):
        found = predict(model.to(dtype), image, **arguments)
        assert found.probabilities.dtype == torch.float32
        assert (found.probabilities - expected.probabilities).abs().mean() < far


def test_the_default_type_changes_nothing() -> None:
    model, image = Model(refines=True), picture(30, 40)
    expected = predict(model, image, window=16, stride=8, scales=(0.5, 1.5), flip=True)
    torch.set_default_dtype(torch.float64)
    try:
        model.batches.clear()
        assert prepare(torch.zeros(3, 2, 2, dtype=torch.uint8), (3, 4)).dtype == torch.float32
        found = predict(lambda x: model(x), image, window=16, stride=8, scales=(0.5, 1.5), flip=True)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {each.dtype for each in model.batches} == {torch.float32}
    assert_equal(found, [each for each in expected if each is not None])


def test_memory_does_not_grow_with_the_height(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most rows of logits held at once, for a picture and for one ten times as high."""
    monkeypatch.setattr(inference, "BAND_PIXELS", 40 * 16)
    held: list[int] = []
    add = inference._Canvas.add

    def watched(self: inference._Canvas, *arguments: object) -> None:
        add(self, *arguments)  # type: ignore[arg-type]
        assert self._sums_GKnw is not None
        assert self._sums_GKnw._base is None or self._sums_GKnw._base.numel() == self._sums_GKnw.numel()
        held.append(self._sums_GKnw.shape[2])

    monkeypatch.setattr(inference._Canvas, "add", watched)
    most = []
    for height in (100, 1000):
        held.clear()
        predict_labels(Model(), picture(height, 40), window=32, stride=16)
        most.append(max(held))
    assert most[1] <= most[0] <= 32 + 16 + 16 + 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["logits", "boundary", "direction", "refined"])
@pytest.mark.parametrize("function", [predict, predict_labels])
def test_one_value_that_is_not_finite_is_refused_where_it_is(
    function: Callable[..., Any], name: str, value: float
) -> None:
    seen = 0

    def model(image: Tensor) -> unept.model.Output:
        nonlocal seen
        maps = {key: torch.zeros(1, 2, *image.shape[2:]) for key in unept.model.Output._fields}
        if (seen := seen + 1) == 8:  # 3 x 1 windows at scale 1, as many mirrored, and the second at scale 0.9
            maps[name][0, 1, 3, 5] = value
        return unept.model.Output(**maps)

    title = "class" if name == "logits" else name
    message = rf"^scale 0.9, window at row 4, column 0: 1 of 512 {title} logits are not finite$"
    with pytest.raises(NonFiniteError, match=message):
        function(model, picture(24, 16), window=16, stride=4, scales=(1.0, 0.9), flip=True)


@pytest.mark.parametrize("function", [predict, predict_labels])
def test_finite_logits_whose_sum_is_infinite_are_refused(function: Callable[..., Any]) -> None:
    def model(image: Tensor) -> Output:
        return Output(torch.full((1, 2, *image.shape[2:]), 3e38), None)

    message = r"^scale 1, averaged over windows: \d+ of \d+ class probabilities are not finite$"
    with pytest.raises(NonFiniteError, match=message):
        function(model, picture(24, 16), window=16, stride=4)
    assert function(model, picture(16, 16), window=16, stride=4)[0].numel(), "one window alone has no sum"


def test_a_resized_picture_beyond_any_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^scale 1 makes the picture 1000000000x888888889: at most 2147483648"):
        predict(Model(), picture(80, 90), base=(10**9, 10**9))


def test_no_graph_is_kept_and_the_picture_is_left_alone() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 2, 1)

        def forward(self, image: Tensor) -> Output:
            assert not torch.is_grad_enabled()
            return Output(self.convolution(image), None)

    image = picture(20, 20)
    image.flags.writeable = False
    prediction = predict(Module(), image, window=16, stride=8, flip=True)
    assert not prediction.probabilities.requires_grad
    assert torch.is_grad_enabled()


WRONG = {
    "picture": ({"image_HW3": np.zeros((4, 4), np.uint8)}, r"expected uint8 \(H, W, 3\)"),
    "float picture": ({"image_HW3": np.zeros((4, 4, 3))}, r"expected uint8 \(H, W, 3\)"),
    "empty picture": ({"image_HW3": np.zeros((0, 4, 3), np.uint8)}, r"expected uint8 \(H, W, 3\)"),
    "mode": ({"mode": "window"}, "'whole' or 'slide'"),
    "stride": ({"stride": 0}, "stride 0"),
    "gaps": ({"stride": 33}, "1 to the window's side, 32"),
    "scales": ({"scales": ()}, "positive ratios"),
    "scale": ({"scales": (1.0, 0.0)}, "positive ratios"),
    "nan": ({"scales": (math.nan,)}, "positive ratios"),
    "base": ({"base": (0, 4)}, "base"),
    "batch": ({"batch": 0}, "batch 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("function", [predict, predict_labels])
def test_wrong_arguments(wrong: str, function: Callable[..., object]) -> None:
    change, message = WRONG[wrong]
    arguments = {"image_HW3": picture(8, 8), "window": 32, "stride": 16, **change}
    model = Model()
    with pytest.raises(ValueError, match=message):
        function(model, **arguments)
    assert not model.batches


def test_a_model_in_training_mode_is_noticed() -> None:
    with pytest.raises(AssertionError, match="eval"):
        predict(lambda image: Output(image[:, :2, ::8, ::8], None), picture(32, 32), mode="whole")


def test_a_picture_of_one_pixel() -> None:
    prediction = predict(Model(), picture(1, 1), window=8, stride=4, scales=(0.5, 2.0), flip=True)
    assert prediction.probabilities.shape == (3, 1, 1)


def test_a_real_model() -> None:
    """Refined maps come along, and how many windows are evaluated together changes nothing."""
    config = unept.ModelConfig(
        backbone="tiny_conv", classes=4, size=32, width=32, heads=2, ffn=32, points=4, head_width=16, refine_test=True
    )
    torch.manual_seed(0)
    model = unept.build(config).eval()
    image = picture(40, 50)
    one, three = (predict(model, image, window=32, stride=16, flip=True, batch=batch) for batch in (1, 3))
    assert one.refined is not None
    assert three.refined is not None
    torch.testing.assert_close(one.probabilities, three.probabilities, atol=1e-5, rtol=0)
    torch.testing.assert_close(one.refined, three.refined, atol=1e-5, rtol=0)
    assert one.probabilities.shape == (4, 40, 50)
    assert (one.refined != one.probabilities).any()


@pytest.mark.parametrize(
    "arguments",
    [
        {"window": 16, "stride": 5, "scales": (0.5, 1.0, 1.75), "flip": True, "base": (60, 24)},
        {"mode": "whole", "scales": (0.5, 1.0), "flip": True},
        {"window": 64, "stride": 64},
    ],
)
def test_windows_are_counted_without_evaluating_them(arguments: dict) -> None:
    model = Model()
    predict(model, picture(40, 23), **arguments)
    assert inference.count_windows(40, 23, **arguments) == len(model.windows)


def test_the_papers_picture_has_112_windows() -> None:
    """Of 512 x 683 pixels: 1 + 2 + 6 + 8 + 15 + 24, and mirrored."""
    assert inference.count_windows(512, 683, scales=ADE_SCALES, flip=True, base=(2048, 512)) == 112
