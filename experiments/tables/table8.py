"""Table 8: attention in UN-EPT's slots, and whole published networks: memory at the paper's size, and training.

A mechanism takes the place of the encoder's and of the decoder's self-attention; the decoder's cross-attention stays
deformable. So even with nothing in both slots the context reaches the queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.config.fields import did_you_mean
from bench.config.grid import Variant
from bench.config.settings import Settings
from bench.config.user_parameters import user_parameters
from experiments.tables import table6, table7
from reports.paper.memory_claims import ALL_LEVELS, BY_LEVEL, DECODER, ENCODER, MASKED_FORMS
from unept.config import paper_profile, released_profile
from unept.config_rules import check_slot

CONTROL = "deformable"
MASKED = "experiments.attention.masked_dense:MaskedSelf"  # named, not imported: it needs torch
SELF_SLOTS = ("encoder_self", "decoder_self")
MECHANISMS = {  # by the name of the row; the paper's, then the controls
    "Sparse Transformer": "sparse_transformer",
    "Longformer": "longformer",
    "Reformer": "reformer",
    "dense, fused": "dense_fused",
    "dense": "dense_math",
    "none": "none",
}
PUBLISHED_ARCHITECTURES = {"CCNet": "ccnet", "ANL": "anl", "SETR": "setr_mla"}


@dataclass(frozen=True, kw_only=True)
class MemoryRow:
    """A network whose training step is measured; `quoted` is its row of Table 8, "" for none."""

    name: str
    settings: Settings
    quoted: str = ""


def table8_networks(classes: int = 150) -> tuple[MemoryRow, ...]:
    """Return the rows of Table 8 with the published recipe, our two profiles, and the baselines, on the table's
    backbones.
    """
    paper, loss = paper_profile()
    released, released_loss = released_profile()
    ours = Settings(model=replace(paper, classes=classes), loss=loss)
    coded = Settings(model=replace(released, classes=classes), loss=released_loss)
    rows = [
        MemoryRow(name="Ours, ResNet50", settings=ours, quoted="Ours, ResNet50"),
        MemoryRow(name="Ours, DeiT", settings=_on(ours, "deit_base"), quoted="Ours, DeiT"),
        MemoryRow(name="Ours, ResNet50, as released", settings=coded),
        MemoryRow(name="Ours, DeiT, as released", settings=_on(coded, "deit_base")),
    ]
    for name, attention in MECHANISMS.items():
        row = f"{name}, ResNet50"
        quoted = row if name in ("Sparse Transformer", "Longformer", "Reformer") else ""
        rows.append(MemoryRow(name=row, settings=_with(ours, attention), quoted=quoted))
    published = {network.name: network for network in table7.table7_networks(classes)}
    for name, quoted in (
        ("CCNet, ResNet50", "CCNet, ResNet50"),
        ("ANL, ResNet50", "ANL, ResNet50"),
        ("SETR", "SETR, T-large"),
    ):
        rows.append(MemoryRow(name=name, settings=Settings(model=published[name].config), quoted=quoted))
    return tuple(rows)


def masked_networks(classes: int = 150) -> tuple[MemoryRow, ...]:
    """Return a sparse pattern (Longformer's window) computed as dense attention with a mask, in four forms.

    Memory depends on the pattern only through the size of the mask.
    """
    model, loss = paper_profile()
    ours = Settings(model=replace(model, classes=classes), loss=loss)
    slots = {ALL_LEVELS: SELF_SLOTS, BY_LEVEL: SELF_SLOTS, ENCODER: SELF_SLOTS[:1], DECODER: SELF_SLOTS[1:]}

    def row(form: str) -> MemoryRow:
        options = (("encoder_self.joint", form == ALL_LEVELS),) if SELF_SLOTS[0] in slots[form] else ()
        changes: dict[str, Any] = dict.fromkeys(slots[form], MASKED)
        return MemoryRow(
            name=form, settings=replace(ours, model=replace(ours.model, attention_options=options, **changes))
        )

    return tuple(row(form) for form in MASKED_FORMS)


def select_memory_rows(names: Sequence[str]) -> tuple[MemoryRow, ...]:
    """Return the rows of these names, or all.

    Raises:
        ValueError: A name is unknown.
    """
    known = {row.name: row for row in table8_networks()}
    for name in names:
        if name not in known:
            raise ValueError(f"--row {name}: expected one of {'; '.join(known)}{did_you_mean(name, known)}")
    return tuple(row for name, row in known.items() if not names or name in names)


def table8_variants(base: Settings) -> tuple[Variant, ...]:
    """Return the rows as a study trains them on top of `base`: one recipe, one learning rate."""
    whole = _whole(base)
    rows = {CONTROL: whole} | {name: _with(whole, attention) for name, attention in MECHANISMS.items()}
    networks = {variant.name: variant.settings for variant in table7.table7_variants(base)}
    rows |= {name: networks[name] for name in PUBLISHED_ARCHITECTURES}
    return tuple(_variant(name, settings) for name, settings in rows.items())


def own_attention_variant(base: Settings, name: str) -> Variant:
    """Return the row of a user's attention, `module:Class`, in the slots of the other mechanisms.

    Raises:
        ValueError: There is no such class, or it cannot be in a slot.
    """
    try:
        check_slot(SELF_SLOTS[0], name)
        user_parameters(SELF_SLOTS[0], name)
    except ValueError as error:
        raise ValueError(f"--row {name}: {error}") from error
    return _variant(name, _with(_whole(base), name))


def _whole(base: Settings) -> Settings:
    return table6.table6_cell(base, points=16, levels=3)


def _variant(name: str, settings: Settings) -> Variant:
    axes = ("architecture", "backbone", *SELF_SLOTS)
    return Variant(name=name, axes={axis: getattr(settings.model, axis) for axis in axes}, settings=settings)


def _with(settings: Settings, attention: str) -> Settings:
    """`attention` in both self-attention slots."""
    return replace(settings, model=replace(settings.model, encoder_self=attention, decoder_self=attention))


def _on(settings: Settings, backbone: str) -> Settings:
    return replace(settings, model=replace(settings.model, backbone=backbone))
