"""Checkpoints of the released code turned into ours, with a report of what was compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.evaluation.options import check_new_checkpoint
from bench.evaluation.protocol import BASE_OF_CLASSES
from unept.backbones import VisionTransformer
from unept.checkpoints import model_file
from unept.checkpoints.released_file import ReleasedFile, read_released
from unept.checkpoints.released_model import Parity, compare, known_total, load_released
from unept.config import released_profile
from unept.data.sample import default_palette
from unept.model import UNEPT, build
from unept.utils.finite import non_finite_names, one_and_more

MAX_NAMED_TENSORS = 5  # tensors named of each kind that does not fit
SIZES = ("levels", "points", "heads", "width", "ffn", "encoder_layers", "decoder_layers", "spatial_widths")


class _Described(NamedTuple):
    classes: Sequence[str]
    palette: Sequence[tuple[int, int, int]]
    lines: list[str]


def convert_checkpoint(path: Path, out: Path, *, heads: int = 8, say: Callable[[str], None] = print) -> None:
    """Write the released code's checkpoint as ours, and report how the two compare.

    Compared are every tensor's name and shape, the number of parameters, and the output of both files for one image,
    which must be equal to the bit.

    Args:
        path: Checkpoint of the released code.
        out: The file to write.
        heads: Number of attention heads (cannot be read from the checkpoint).
        say: Called with each line of the report.

    Raises:
        ValueError: A tensor does not fit, the file is unreadable, or `out` exists; no file is written.
    """
    check_new_checkpoint(out)
    released = read_released(path)
    try:
        parity = compare(released.state_dict, heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    for line in _parity_lines(parity):
        say(line)
    if not parity.whole:
        raise ValueError(
            f"{path}: not a checkpoint of the released models: {len(parity.missing)} tensors missing, "
            f"{len(parity.extra)} unknown, {len(parity.shapes)} of another shape"
        )
    spoilt = non_finite_names(released.state_dict)
    if spoilt:
        raise ValueError(f"{path}: its weights are not finite: {one_and_more(spoilt)}")
    model = load_released(released.state_dict, heads)
    config = model.config
    say(f"{config.backbone}, {config.classes} classes, crops of {config.size} pixels; {_total(model)}")
    say(f"{config.heads} heads of {config.points} points: in no tensor's shape; the released models have 8 of 16")
    described = _described(released, config.classes)
    for line in described.lines:
        say(line)
    facts = {"source": path.name, "profile": "released", "step": released.iteration}
    base = BASE_OF_CLASSES.get(config.classes)
    model_file.save_model(
        out,
        model,
        config,
        classes=described.classes,
        palette=described.palette,
        facts=facts | ({"base": [*base]} if base else {}),
        backbone_heads=None if _is_plain(model) else _backbone_heads(model),
    )
    _check_output(out, released.state_dict, heads)
    say(f"same picture through both files: logits, boundary and direction equal to the bit; written: {out}")


def _parity_lines(parity: Parity) -> list[str]:
    lines = [
        f"tensors: {parity.matched} matched, {len(parity.missing)} missing, {len(parity.extra)} unknown, "
        f"{len(parity.shapes)} of another shape"
    ]
    shapes = [f"{name} {there} (expected {here})" for name, there, here in parity.shapes]
    for what, names in (("missing", parity.missing), ("unknown", parity.extra), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - MAX_NAMED_TENSORS} more" if len(names) > MAX_NAMED_TENSORS else ""
            lines.append(f"  {what}: {', '.join(names[:MAX_NAMED_TENSORS])}{more}")
    return lines


def _total(model: UNEPT) -> str:
    """Return the number of parameters beside the released model's of these classes and this crop, if the widths are its
    own.
    """
    total, config = sum(parameter.numel() for parameter in model.parameters()), model.config
    published, _ = released_profile()
    if not _is_plain(model) or any(getattr(config, name) != getattr(published, name) for name in SIZES):
        return f"{total:,} parameters (widths of its own: no known total)"
    known = known_total(config.backbone, config.classes, config.size)
    return f"{total:,} parameters, the released model has {known:,}: {'equal' if total == known else 'NOT EQUAL'}"


def _is_plain(model: UNEPT) -> bool:
    """Return True where the configuration alone says how the model is built."""
    with torch.device("meta"):
        own = build(model.config)
    shapes = [{name: tensor.shape for name, tensor in candidate.state_dict().items()} for candidate in (own, model)]
    return shapes[0] == shapes[1] and (_backbone_heads(own) == _backbone_heads(model))


def _backbone_heads(model: nn.Module) -> int:
    """Return the heads of a transformer backbone; 1 for another, which has none."""
    blocks: Any = model.backbone.blocks if isinstance(model.backbone, VisionTransformer) else None
    return blocks[0].attn.num_heads if blocks else 1


def _described(released: ReleasedFile, classes: int) -> _Described:
    """Return names and colours of the classes: the file's own where they are one for each, else numbers and ours."""
    lines = []
    names: Sequence[str] = [f"class {number}" for number in range(1, classes + 1)]
    palette: Sequence[tuple[int, int, int]] = default_palette(classes)
    if released.classes is not None and len(released.classes) == classes:
        names = released.classes
    else:
        lines.append(f"class names: not in the file for its {classes} classes; they are numbered")
    if released.palette is not None and len(released.palette) == classes:
        palette = released.palette
    else:
        lines.append(f"palette: not in the file for its {classes} classes; ours is used")
    return _Described(names, palette, lines)


@torch.no_grad()
def _check_output(out: Path, state_dict: dict[str, Tensor], heads: int) -> None:
    """Remove `out` and raise ValueError unless it gives what the source gives."""
    ours, theirs = model_file.load_model(out), load_released(state_dict, heads)
    picture = torch.rand(1, 3, ours.config.size, ours.config.size, generator=torch.Generator().manual_seed(0))
    for name, one, other in zip(
        ("logits", "boundary", "direction"), ours.model(picture), theirs(picture), strict=False
    ):
        if not torch.equal(one, other):
            out.unlink()
            out.with_suffix(".json").unlink()
            difference = float((one - other).abs().max())
            raise ValueError(f"{out}: {name} of the converted file differ from the source's by {difference}; removed")
