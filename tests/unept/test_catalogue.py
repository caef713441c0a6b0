"""Names and parameters that are declared without torch are those of the classes, and the rules are the classes' own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unept import attention, backbones, catalogue, published
from unept.attention.parameters import own_parameters
from unept.attention_rules import RULES
from unept.catalogue import CROSS_ATTENTIONS, SELF_ATTENTIONS
from unept.config import SLOTS, ModelConfig
from unept.config_rules import check_levels, check_model_config, check_network, check_values
from unept.published.backbones import RESNETS

IMPOSSIBLE = (
    *(("longformer", {"window": 1}), ("longformer", {"global_tokens": -1}), ("longformer", {"dilation": (1, 2)})),
    *(("longformer", {"joint": True, "order": "window2d"}), ("longformer", {"dilation": (0,)})),
    *(("reformer", {"chunk": 0}), ("reformer", {"buckets": 3}), ("reformer", {"after": -1})),
    *(("sparse_transformer", {"block": 0}), ("sparse_transformer", {"summary": 200})),
)


@pytest.mark.parametrize(
    ("declared", "classes"), [(SELF_ATTENTIONS, attention.SELF), (CROSS_ATTENTIONS, attention.CROSS)]
)
def test_attentions_and_their_parameters_are_those_of_the_classes(declared, classes) -> None:
    assert list(declared) == list(classes)
    for name, kind in classes.items():
        assert list(declared[name].items()) == list(own_parameters(kind).items()), name


def test_networks_and_backbones_are_those_that_can_be_built() -> None:
    assert ("unept", *published.PUBLISHED) == catalogue.ARCHITECTURES
    assert set(catalogue.PUBLISHED_BACKBONES) == {*RESNETS, "hrnet_w48", "vit_large", *catalogue.BACKBONES}
    for name in catalogue.BACKBONES:
        assert len(backbones.make_backbone(name, 32).channels) == catalogue.BACKBONE_LEVELS
    with pytest.raises(ValueError, match="levels=4, but tiny_conv has 3 levels"):
        check_model_config(ModelConfig(backbone="tiny_conv", levels=4))
    check_levels(ModelConfig(levels=4), 4)
    with pytest.raises(ValueError, match="nearest: ccnet"):
        check_network(ModelConfig(architecture="ccnt"))


@pytest.mark.parametrize(("name", "options"), IMPOSSIBLE)
def test_a_value_is_refused_in_the_words_of_its_class(name: str, options: dict) -> None:
    settings = dict.fromkeys(catalogue.KEYWORDS, 8) | {
        "width": 64,
        "dropout": 0.0,
        "offset_init": "released",
        "layer": 0,
    }
    with pytest.raises(ValueError, match=name) as by_class:
        attention.make_attention("encoder_self", name, settings, options)
    with pytest.raises(ValueError, match=name) as before:
        check_values("encoder_self", name, options, 8)
    assert str(before.value) == str(by_class.value)
    words = tuple((f"decoder_self.{key}", value) for key, value in options.items())
    with pytest.raises(ValueError, match=name):
        check_model_config(replace(ModelConfig(), decoder_self=name, attention_options=words))


def test_each_attention_with_parameters_has_its_rule_and_its_defaults_are_possible() -> None:
    assert set(RULES) == {name for name, parameters in SELF_ATTENTIONS.items() if parameters}
    for slot in SLOTS:
        for name in catalogue.attention_names(slot):
            check_values(slot, name, {}, 8)
