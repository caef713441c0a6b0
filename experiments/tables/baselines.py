"""The rows that every comparison of attention needs beside it.

`none` leaves both self-attention slots empty: tokens pass unchanged. The decoder's deformable cross-attention stays, so
the queries of such a row still gather context from the pyramid once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.config.fields import config_fields, did_you_mean, field_value, one_of
from bench.config.grid import Variant
from bench.config.settings import Settings
from bench.study.request import VariantFactory

NONE = "none"
SELF_SLOTS = ("encoder_self", "decoder_self")

TIMED_BASELINES = ("deformable", "dense_fused")  # the paper's attention, and all pairs as fast as torch has them
TIMED_CROSS_BASELINES = ("deformable", "dense")  # there is no fused one for a memory


def without_self_attention(settings: Settings) -> Settings:
    """Return `settings` with the identity in both self-attention slots."""
    options = tuple(
        option for option in settings.model.attention_options if option[0].partition(".")[0] not in SELF_SLOTS
    )
    model = replace(settings.model, encoder_self=NONE, decoder_self=NONE, attention_options=options)
    return replace(settings, model=model)


def with_control(make: VariantFactory, control: str, axes: Sequence[str] = ()) -> VariantFactory:
    """Return `make` with the variant called `control` certain to be there.

    Args:
        make: Makes the variants on top of base settings.
        control: Name of a variant. "none" is added where it is missing: the base settings without self-attention.
            "" adds nothing.
        axes: Fields that describe the added variant.

    Raises:
        ValueError: At the first use, for any other name that no variant has.
    """

    def made(base: Settings) -> tuple[Variant, ...]:
        variants = make(base)
        names = [variant.name for variant in variants]
        if control in ("", *names):
            return variants
        if control != NONE:
            raise ValueError(f"--control {control}: expected {one_of([*names, NONE])}{did_you_mean(control, names)}")
        settings = without_self_attention(base)
        described = {
            name: field_value(settings, name) for name in dict.fromkeys((*axes, *SELF_SLOTS)) if name in config_fields()
        }
        return (*variants, Variant(name=NONE, axes=described, settings=settings))

    return made


def timed_baselines(slot: str) -> tuple[str, ...]:
    """Return the attentions that another one in `slot` is timed beside."""
    return TIMED_CROSS_BASELINES if slot == "decoder_cross" else TIMED_BASELINES
