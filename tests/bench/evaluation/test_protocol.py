"""How a picture is evaluated: the paper's protocol by data set, what replaces it, and the same labels by bands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.config.presets import preset
from bench.evaluation import protocol
from bench.evaluation.options import OWN_IMAGE_SIZE, ProtocolOverrides, parse_base, parse_mode, parse_scales
from bench.evaluation.protocol import (
    EvaluationProtocol,
    argmax_labels,
    protocol_of_settings,
    published_protocol,
    single_scale_protocol,
)

SIX = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


class Maps(NamedTuple):
    logits: Tensor
    refined: Tensor | None


class Colours(nn.Module):
    """Channels as logits of three classes, and mirrored ones as refined."""

    def forward(self, image_B3HW: Tensor) -> Maps:
        return Maps(image_B3HW, -image_B3HW)


def test_the_papers_protocol() -> None:
    found = published_protocol("ade20k:PATH", 480)
    assert found == EvaluationProtocol(mode="slide", window=480, stride=160, scales=SIX, flip=True, base=(2048, 512))
    assert (published_protocol("cityscapes:PATH", 768).window, published_protocol("cityscapes:PATH", 768).stride) == (
        768,
        256,
    )


def test_data_without_a_published_size_take_that_of_training() -> None:
    for data in ("scenes", "folder:PATH"):
        assert published_protocol(data, 64, [96, 64]).base == (96, 64)
        for nothing in (None, "x", [64], [0, 5], [True, 5], [5.0, 5]):
            assert published_protocol(data, 64, nothing).base is None
    assert single_scale_protocol(2).stride == 1


def test_that_of_a_run() -> None:
    settings = preset("small")
    assert protocol_of_settings(settings) == EvaluationProtocol(window=160, stride=80, base=(240, 180))
    quick = protocol_of_settings(preset("paper"), quick=True)
    assert (quick.scales, quick.flip) == ((1.0,), False)


def test_of_equal_probabilities_the_first_class_is_the_label() -> None:
    ties = torch.tensor([0.2, 0.4, 0.4, 0.4])[:, None, None].expand(4, 33, 65).contiguous()
    ties[2, 5, 7] = ties[0, 6, 8] = float("nan")  # and what is no number is the largest
    expected = ties.argmax(0).to(torch.uint8).numpy()
    assert (argmax_labels(ties) == expected).all()
    assert expected[0, 0] == 1


@pytest.mark.parametrize("how", [EvaluationProtocol(window=16, stride=5), EvaluationProtocol(mode="whole")])
def test_large_pictures_have_the_same_labels(how: EvaluationProtocol, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 33, 3), dtype=np.uint8)
    whole = how.predict_labels(Colours(), image, 3)
    assert whole.refined is not None
    asked = []
    monkeypatch.setattr(protocol, "MAX_PROBABILITY_BYTES", 100)
    monkeypatch.setattr(protocol, "predict_labels", lambda *a, **k: asked.append(1) or torch_labels(*a, **k))
    again = how.predict_labels(Colours(), image, 3)
    assert again.refined is not None
    assert (again.plain == whole.plain).all()
    assert (again.refined == whole.refined).all()
    assert len(asked) == (how.mode == "slide")
    assert again.plain.dtype == np.uint8


def torch_labels(*args: object, **options: object) -> object:
    from unept.inference import predict_labels

    return predict_labels(*args, **options)  # type: ignore[arg-type]


def test_what_is_asked_for_replaces_the_default_and_the_stride_follows_the_window() -> None:
    default = published_protocol("ade20k:PATH", 480)
    assert ProtocolOverrides().over(default) == default
    assert ProtocolOverrides(window=90).over(default).stride == 30
    assert ProtocolOverrides(window=90, stride=9).over(default).stride == 9
    assert ProtocolOverrides(flip=False, base=OWN_IMAGE_SIZE).over(default).base is None
    assert ProtocolOverrides(flip=False).over(default).flip is False
    assert ProtocolOverrides(mode="whole", scales=(1.0,)).over(default).describe() == (
        "whole, scale 1, flipped too, base 2048x512"
    )
    assert ProtocolOverrides(base=OWN_IMAGE_SIZE).over(default).describe().endswith("1.5 1.75, flipped too, own size")
    with pytest.raises(ValueError, match="--stride 91: expected at most the window, 90"):
        ProtocolOverrides(window=90, stride=91).over(default)
    with pytest.raises(ValueError, match="--window 0: expected at least 1"):
        ProtocolOverrides(window=0).over(default)


def typed(*, mode: str = "", scales: str = "", base: str = "") -> ProtocolOverrides:
    return ProtocolOverrides(mode=parse_mode(mode), scales=parse_scales(scales), base=parse_base(base))


def test_words_of_the_command_line() -> None:
    assert typed() == ProtocolOverrides()
    assert typed(scales="0.5,1", base="2048x512", mode="whole") == ProtocolOverrides(
        scales=(0.5, 1.0), base=(2048, 512), mode="whole"
    )
    assert typed(base="own").base == OWN_IMAGE_SIZE


@pytest.mark.parametrize("text", ["0", "-1", "x", "1,,2", "nan", "inf", "17"])
def test_scales_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=rf"--scales {text}: expected ratios"):
        typed(scales=text)


@pytest.mark.parametrize("text", ["512", "512x2048", "0x0", "x", "ax5", "5x-5"])
def test_bases_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=rf"--base {text}: expected LONGxSHORT"):
        typed(base=text)
    with pytest.raises(ValueError, match=r"--mode window: expected whole or slide"):
        typed(mode="window")
