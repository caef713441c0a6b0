"""What a rival is trained with: cross-entropy of its logits, and of its auxiliary logits at their weights.

Both at the label's size: enlarged logits as the public code has them, or bands of them where the map is large.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import NONE
from unept.config import LossConfig
from unept.full_resolution import is_large, summed_cross_entropies
from unept.losses import Losses
from unept.peers.parts import MULTIPLE, Auxiliary, Output, resize


def total_loss(output: Output, label_BHW: Tensor, config: LossConfig) -> Losses:
    """The loss of one batch as `unept.losses.total_loss` gives it; 255 in a label means "not here".

    ``ce`` is the cross-entropy of the logits; ``total`` has the auxiliary terms too. The other three terms are 0: a
    rival has neither boundary nor direction head. ``config.weight_ce`` weights the whole.
    """
    H, W = label_BHW.shape[1:]
    label_BHW = F.pad(label_BHW, (0, -W % MULTIPLE, 0, -H % MULTIPLE), value=NONE)
    pixels = label_BHW.shape[0] * H * W
    ce = _cross_entropy(output.logits, label_BHW, pixels, config)
    total = ce
    for term in output.auxiliary:
        total = total + term.weight * _auxiliary(term, label_BHW, pixels, config)
    zero = torch.zeros_like(ce)
    return Losses(config.weight_ce * total, ce, zero, zero, zero)


def _auxiliary(term: Auxiliary, label_BHW: Tensor, pixels: int, config: LossConfig) -> Tensor:
    if term.logits.dim() == 2:
        return _presence(term.logits, label_BHW)
    if term.places is None:
        return _cross_entropy(term.logits, label_BHW, pixels, config)
    H, W = label_BHW.shape[1:]
    x_BP = (term.places[..., 0] * W).long().clamp(0, W - 1)
    y_BP = (term.places[..., 1] * H).long().clamp(0, H - 1)
    return _mean(term.logits, label_BHW.flatten(1).gather(1, y_BP * W + x_BP), x_BP.numel(), config)


def _cross_entropy(logits_BKhw: Tensor, label_BHW: Tensor, pixels: int, config: LossConfig) -> Tensor:
    """Of the logits enlarged to the label's size, averaged over the pixels that count, or over all of the image.

    With ``config.bounded`` a large map is enlarged in bands, if by a whole number and the same both ways.
    """
    stride = _stride(logits_BKhw, label_BHW)
    if config.bounded and stride > 1 and is_large(label_BHW, logits_BKhw.shape[1]):
        total = summed_cross_entropies(logits_BKhw, label_BHW, stride=stride)[0]
        return _averaged(total, logits_BKhw, label_BHW, pixels, config)
    return _mean(resize(logits_BKhw, label_BHW.shape[1:]), label_BHW, pixels, config)


def _stride(logits_BKhw: Tensor, label_BHW: Tensor) -> int:
    """Pixels of the label per logit; 0 where that is no one whole number."""
    (height, width), (h, w) = label_BHW.shape[1:], logits_BKhw.shape[2:]
    stride = height // h
    return stride if (height, width) == (stride * h, stride * w) else 0


def _mean(logits: Tensor, label: Tensor, count: int, config: LossConfig) -> Tensor:
    total = F.cross_entropy(logits, label, ignore_index=NONE, reduction="sum")
    return _averaged(total, logits, label, count, config)


def _averaged(total: Tensor, logits: Tensor, label: Tensor, count: int, config: LossConfig) -> Tensor:
    poison = torch.where(logits.detach().isfinite().all(), 0.0, torch.nan)  # a logit that no pixel reads is seen too
    return total / (count if config.ce_average == "all" else (label != NONE).sum().clamp(min=1)) + poison


def _presence(logits_BK: Tensor, label_BHW: Tensor) -> Tensor:
    """Binary cross-entropy of which classes each image holds."""
    B, classes = logits_BK.shape
    flat_BN = label_BHW.flatten(1)
    kept_BN = flat_BN != NONE
    present_BK = logits_BK.new_zeros(B, classes).scatter_reduce(
        1, flat_BN.where(kept_BN, 0), kept_BN.to(logits_BK.dtype), "amax"
    )
    return F.binary_cross_entropy_with_logits(logits_BK, present_BK)
