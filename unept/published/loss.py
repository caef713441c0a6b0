"""Loss of the published networks: cross-entropy of the logits, and of the auxiliary logits at their weights.

Both are computed at the label's size: on upsampled logits as in the public code, or in bands of them if the map is
large.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import NONE
from unept.config import LossConfig
from unept.losses.banded_cross_entropy import is_large, summed_cross_entropies
from unept.losses.total_loss import BatchTotals, Losses, ce_count
from unept.published.parts import MULTIPLE, Output, resize


def total_loss(output: Output, label_BHW: Tensor, config: LossConfig, totals: BatchTotals | None = None) -> Losses:
    """Compute the loss of one batch, or of a part of one.

    Args:
        output: Logits and auxiliary logits of the network in training.
        label_BHW: Classes, int64, 255 = ignore.
        config: ``weight_ce`` weights the sum; ``ce_average`` and ``bounded`` as for UN-EPT.
        totals: Counts of the whole batch if the label is a part of it; see `unept.losses.total_loss.total_loss`.

    Returns:
        ``ce`` is the cross-entropy of the logits; ``total`` includes the auxiliary terms. The other three terms are 0:
            these networks have no boundary and direction heads.
    """
    H, W = label_BHW.shape[1:]
    count = ce_count(label_BHW, config, totals)
    share = 1.0 if totals is None else label_BHW.numel() / totals.pixels
    label_BHW = F.pad(label_BHW, (0, -W % MULTIPLE, 0, -H % MULTIPLE), value=NONE)
    ce = _cross_entropy(_wide(output.logits), label_BHW, count, config)
    total = ce
    for term in output.auxiliary:
        logits = _wide(term.logits)
        if logits.dim() == 2:
            value = _presence(logits, label_BHW) * share
        elif term.places is None:
            value = _cross_entropy(logits, label_BHW, count, config)
        else:
            value = _at_places(logits, term.places, label_BHW, config, totals)
        total = total + term.weight * value
    zero = torch.zeros_like(ce)
    return Losses(config.weight_ce * total, ce, zero, zero, zero)


def _wide(logits: Tensor) -> Tensor:
    """Convert logits to float32 at least, whatever autocast chose."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _cross_entropy(logits_BKhw: Tensor, label_BHW: Tensor, count: Tensor | int, config: LossConfig) -> Tensor:
    """Return the cross-entropy of the upsampled logits, summed over the pixels with a label, divided by `count`.

    With ``config.bounded`` a large map is upsampled in bands, if the stride is one whole number for both axes.
    """
    stride = _stride(logits_BKhw, label_BHW)
    if config.bounded and stride > 1 and is_large(label_BHW, logits_BKhw.shape[1]):
        total = summed_cross_entropies(logits_BKhw, label_BHW, stride=stride)[0]
        return _averaged(total, logits_BKhw, count)
    return _mean(resize(logits_BKhw, label_BHW.shape[1:]), label_BHW, count)


def _stride(logits_BKhw: Tensor, label_BHW: Tensor) -> int:
    """Return the pixels of the label per logit; 0 if that is not one whole number for both axes."""
    (height, width), (h, w) = label_BHW.shape[1:], logits_BKhw.shape[2:]
    stride = height // h
    return stride if (height, width) == (stride * h, stride * w) else 0


def _at_places(
    logits_BKP: Tensor, places_BP2: Tensor, label_BHW: Tensor, config: LossConfig, totals: BatchTotals | None
) -> Tensor:
    """Return the cross-entropy of logits at sampled places; those that have a label are counted once they are drawn."""
    H, W = label_BHW.shape[1:]
    x_BP = (places_BP2[..., 0] * W).long().clamp(0, W - 1)
    y_BP = (places_BP2[..., 1] * H).long().clamp(0, H - 1)
    label_BP = label_BHW.flatten(1).gather(1, y_BP * W + x_BP)
    if totals is None:
        return _mean(logits_BKP, label_BP, ce_count(label_BP, config, None))
    counted = torch.ones_like(label_BP) if config.ce_average == "all" else label_BP != NONE
    return _mean(logits_BKP, label_BP, totals.all_reduce_sum(counted.sum()).clamp(min=1)) / totals.micro_batches


def _mean(logits: Tensor, label: Tensor, count: Tensor | int) -> Tensor:
    return _averaged(F.cross_entropy(logits, label, ignore_index=NONE, reduction="sum"), logits, count)


def _averaged(total: Tensor, logits: Tensor, count: Tensor | int) -> Tensor:
    poison = torch.where(logits.detach().isfinite().all(), 0.0, torch.nan)  # a logit that no pixel reads is seen too
    return total / count + poison


def _presence(logits_BK: Tensor, label_BHW: Tensor) -> Tensor:
    """Return the binary cross-entropy of the classes that each image contains."""
    B, classes = logits_BK.shape
    flat_BN = label_BHW.flatten(1)
    kept_BN = flat_BN != NONE
    present_BK = logits_BK.new_zeros(B, classes).scatter_reduce(
        1, flat_BN.where(kept_BN, 0), kept_BN.to(logits_BK.dtype), "amax"
    )
    return F.binary_cross_entropy_with_logits(logits_BK, present_BK)
