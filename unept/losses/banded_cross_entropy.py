"""Cross-entropy at the label's size over logits at about an eighth of it, computed in bands of upsampled logits.

Both segmentation terms of Eq. 7 are sums of -log p(label of a pixel) over valid pixels, p read at that pixel itself or
at the one the refinement takes it from (`unept.layers.boundary_refinement.source_pixels`). So, with c(q, k) counting
the valid pixels of label k that read pixel q, a term is -sum c(q, k) log p_k(q), and its gradient with respect to the
upsampled logits is (sum_k c(q, k)) p(q) - c(q, .). Neither needs the logits of other pixels. So a band of rows is
upsampled, read and turned into its gradient, and the gradient is brought back to the small map by the transposed
interpolation before the next band begins.

Axes: B images, K classes, H x W pixels, h x w = H / stride x W / stride rounded up (8 unless said), T terms; in a band
n images, R rows of pixels, r rows of logits. Rows come before images, so that they combine in one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import NONE

STRIDE = 8  # pixels of the label per logit, in UN-EPT
HALO = 1  # largest distance in rows between a pixel and its source
WHOLE = 1 << 20  # maps up to this many upsampled logits are computed in one piece, which is faster
BAND_CPU = 1 << 20  # logits of a band: fits the cache
BAND_GPU = 1 << 24  # logits of a band: enough work for a kernel launch


def summed_cross_entropies(
    logits_BKhw: Tensor,
    label_BHW: Tensor,
    source_BHW: Tensor | None = None,
    *,
    bounded: bool = True,
    stride: int = STRIDE,
) -> Tensor:
    """Sum the cross-entropy over valid pixels, at the pixels themselves and at the sources of the refinement (Eq. 7).

    Logits are upsampled ``stride`` times, bilinear, corners not aligned, and cropped to the label's size, in float32 at
    least. The result has the same bits on every repetition and is differentiable once, in the logits. Memory beyond the
    arguments is a few bands (see `_bands`) and copies of the logits, whatever the label's size; a map of at most
    `WHOLE` upsampled logits is one piece.

    Args:
        logits_BKhw: Logits at 1 / stride of the label's size.
        label_BHW: Classes, int64, 255 = ignore.
        source_BHW: row * W + column of the pixel that each pixel reads in the refined term, at most one row away; None
            for the plain term alone.
        bounded: Compute large maps in bands. False computes both terms as they are written, and stores what that takes.
        stride: Pixels of the label per logit.

    Returns:
        (1,) without sources: the plain term. (2,) with sources: the plain and the refined term.
    """
    size = label_BHW.shape[1:]
    assert logits_BKhw.shape[2:] == tuple(-(-side // stride) for side in size), f"logits must be at 1/{stride}"
    with torch.autocast(logits_BKhw.device.type, enabled=False):
        logits = logits_BKhw.to(torch.promote_types(logits_BKhw.dtype, torch.float32))
        if not bounded:
            return _as_written(logits, label_BHW, source_BHW, stride)
        if not is_large(label_BHW, logits.shape[1]):
            return _whole(logits, label_BHW, source_BHW, stride)
        _refuse_unknown_labels(label_BHW, logits_BKhw)
        differentiate = torch.is_grad_enabled() and logits_BKhw.requires_grad
        summed: Tensor = _Banded.apply(logits, label_BHW, source_BHW, differentiate, stride)
    return summed


def is_large(label_BHW: Tensor, classes: int) -> bool:
    """Return True if the map is too large to be computed in one piece."""
    return label_BHW.numel() * classes > WHOLE


def upsampled(maps_BChw: Tensor, size: tuple[int, int], *, align_corners: bool, stride: int = STRIDE) -> Tensor:
    """Upsample maps at 1 / stride of `size` to `size`, bilinear.

    A side that is no multiple of stride is cropped, as in tests.

    One matrix product an axis: forward and backward take a third of F.interpolate's time on a CPU, and unlike its
    backward pass they are deterministic on a GPU.

    Args:
        maps_BChw: Maps to upsample.
        size: Height and width of the result.
        align_corners: As in F.interpolate.
        stride: Ratio of the sizes.

    Returns:
        (B, C, height, width).
    """
    rows_Hh, columns_Ww = (
        bilinear(source, maps_BChw, align_corners=align_corners, stride=stride)[:side]
        for source, side in zip(maps_BChw.shape[2:], size, strict=True)
    )
    return rows_Hh @ (maps_BChw @ columns_Ww.T)


def bilinear(source: int, like: Tensor, *, align_corners: bool, stride: int = STRIDE) -> Tensor:
    """Return the matrix (stride n, n) that interpolates n values linearly to stride n values.

    Args:
        source: n.
        like: Gives the dtype and the device.
        align_corners: As in F.interpolate.
        stride: Ratio of the lengths.
    """
    unit = torch.eye(source, dtype=like.dtype, device=like.device).unsqueeze(0)
    return F.interpolate(unit, size=source * stride, mode="linear", align_corners=align_corners)[0].T


def _as_written(logits_BKhw: Tensor, label_BHW: Tensor, source_BHW: Tensor | None, stride: int) -> Tensor:
    """Upsample the logits, gather the refined ones, and compute the cross-entropy of each."""
    size = (label_BHW.shape[1], label_BHW.shape[2])
    upsampled_BKHW = upsampled(logits_BKhw, size, align_corners=False, stride=stride)
    maps = [upsampled_BKHW]
    if source_BHW is not None:
        index_B1P = source_BHW.flatten(1).unsqueeze(1)
        moved_BKP = upsampled_BKHW.flatten(2).gather(2, index_B1P.expand(-1, logits_BKhw.shape[1], -1))
        maps.append(moved_BKP.view_as(upsampled_BKHW))
    return torch.stack(
        [F.cross_entropy(logits_BKHW, label_BHW, ignore_index=NONE, reduction="sum") for logits_BKHW in maps]
    )


def _whole(logits_BKhw: Tensor, label_BHW: Tensor, source_BHW: Tensor | None, stride: int) -> Tensor:
    """Compute both sums from one stored map of log-probabilities, by ordinary automatic differentiation."""
    height, width = label_BHW.shape[1:]
    log_BKHW = upsampled(logits_BKhw, (height, width), align_corners=False, stride=stride).log_softmax(1)
    own = F.nll_loss(log_BKHW, label_BHW, ignore_index=NONE, reduction="sum")
    if source_BHW is None:
        return own.unsqueeze(0)
    valid_BHW = label_BHW != NONE
    index = label_BHW.where(valid_BHW, 0) * (height * width) + source_BHW
    picked = log_BKHW.flatten(1).gather(1, index.flatten(1)).view_as(label_BHW)
    return torch.stack([own, -picked.where(valid_BHW, 0).sum()])


def _refuse_unknown_labels(label_BHW: Tensor, logits_BKhw: Tensor) -> None:
    """Raise IndexError, on a GPU asynchronously, for a label that is neither a class nor 255: flat indices cannot."""
    nothing_PK = logits_BKhw.new_zeros(1, logits_BKhw.shape[1]).expand(label_BHW.numel(), -1)
    F.nll_loss(nothing_PK, label_BHW.flatten(), ignore_index=NONE, reduction="none")


class _Banded(torch.autograd.Function):
    """Banded sums whose gradient is computed together with the value, while the upsampled band is at hand."""

    @staticmethod
    def forward(
        ctx: Any, logits_BKhw: Tensor, label_BHW: Tensor, source_BHW: Tensor | None, differentiate: bool, stride: int
    ) -> Tensor:
        terms = 1 if source_BHW is None else 2
        limit = BAND_CPU if logits_BKhw.device.type == "cpu" else BAND_GPU
        height, width = label_BHW.shape[1:]
        rows_Hh = bilinear(logits_BKhw.shape[2], logits_BKhw, align_corners=False, stride=stride)[:height]
        columns_Ww = bilinear(logits_BKhw.shape[3], logits_BKhw, align_corners=False, stride=stride)[:width]
        logits_hBKw = logits_BKhw.permute(2, 0, 1, 3).contiguous()
        grad_ThBKw = logits_hBKw.new_zeros(terms if differentiate else 0, *logits_hBKw.shape)
        summed_T = logits_BKhw.new_zeros(terms, dtype=torch.float64)
        for band in _bands(label_BHW, classes=logits_BKhw.shape[1], limit=limit, stride=stride):
            rows_Rr = rows_Hh[band.pixels, band.logits]
            spare_RnKW = _upsample(logits_hBKw[band.logits, band.images], rows_Rr, columns_Ww)
            log_RnKW = spare_RnKW.log_softmax(2)
            reads = [_own(label_BHW, band, log_RnKW)]
            if source_BHW is not None:
                reads.append(_moved(label_BHW, source_BHW, band, log_RnKW))
            summed_T -= torch.stack([log_RnKW.take(read.entry).where(read.counts, 0).sum() for read in reads])
            if not differentiate:
                continue
            probability_RnKW = log_RnKW.exp_()
            for term in reversed(range(terms)):  # the first term comes last: it overwrites the probabilities
                slope_RnKW = _slope(probability_RnKW, reads[term], out=(probability_RnKW, spare_RnKW)[term])
                grad_ThBKw[term, band.logits, band.images] += _upsample_transposed(slope_RnKW, rows_Rr, columns_Ww)
        ctx.save_for_backward(grad_ThBKw)
        return summed_T.to(logits_BKhw.dtype)

    @staticmethod
    def backward(ctx: Any, upstream_T: Tensor) -> tuple[Tensor, None, None, None, None]:
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "the banded cross-entropy is differentiable once: no create_graph=True through it"
            )
        (grad_ThBKw,) = ctx.saved_tensors
        grad_hBKw = sum(upstream * grad for upstream, grad in zip(upstream_T, grad_ThBKw, strict=True))
        return grad_hBKw.permute(1, 2, 0, 3), None, None, None, None


class _Band(NamedTuple):
    """A piece of the work: some rows of some images, and the rows of logits that their interpolation reads."""

    images: slice
    pixels: slice
    logits: slice


class _Read(NamedTuple):
    """Positions in a band at which log-probabilities are read, one element for each pixel; flat indices."""

    entry: Tensor  # row, image, class, column
    pixel: Tensor  # image, row, column
    counts: Tensor  # False for a pixel that does not count or reads another band: its indices mean nothing


def _bands(label_BHW: Tensor, *, classes: int, limit: int, stride: int) -> Iterator[_Band]:
    """Yield bands of at most `limit` logits, but no less than ``stride`` rows of one image.

    Bands begin in the middle between the centres of two logits, half a stride off: there each reads the fewest logits.
    """
    batch, height, width = label_BHW.shape
    images = max(1, min(batch, limit // (stride * width * classes)))
    rows = max(1, limit // (stride * images * width * classes)) * stride
    for image in range(0, batch, images):
        for start in range(-stride // 2, height, rows):
            first, last = max(start, 0), min(start + rows, height) - 1
            low, high = (max((2 * row + 1 - stride) // (2 * stride), 0) for row in (first, last))
            yield _Band(slice(image, min(image + images, batch)), slice(first, last + 1), slice(low, high + 2))


def _upsample(logits_rnKw: Tensor, rows_Rr: Tensor, columns_Ww: Tensor) -> Tensor:
    wide_rnKW = logits_rnKw @ columns_Ww.T
    return (rows_Rr @ wide_rnKW.flatten(1)).view(-1, *wide_rnKW.shape[1:])


def _upsample_transposed(slope_RnKW: Tensor, rows_Rr: Tensor, columns_Ww: Tensor) -> Tensor:
    """Apply the transpose of `_upsample`."""
    wide_rnKW = (rows_Rr.T @ slope_RnKW.flatten(1)).view(-1, *slope_RnKW.shape[1:])
    return wide_rnKW @ columns_Ww


def _slope(probability_RnKW: Tensor, read: _Read, out: Tensor) -> Tensor:
    """Return the gradient of a term with respect to the band's logits.

    The atomic additions add equal values, so their order does not matter.
    """
    rows, images, _, width = probability_RnKW.shape
    counts = read.counts.to(probability_RnKW.dtype)
    readers_nRW = counts.new_zeros(images * rows * width).scatter_add_(0, read.pixel, counts).view(images, rows, width)
    slope_RnKW = torch.mul(probability_RnKW, readers_nRW.transpose(0, 1).unsqueeze(2), out=out)
    slope_RnKW.view(-1).scatter_add_(0, read.entry, counts.neg_())
    return slope_RnKW


def _own(label_BHW: Tensor, band: _Band, log_RnKW: Tensor) -> _Read:
    """Return the reads of a band in which each pixel reads itself."""
    rows, _, _, width = log_RnKW.shape
    itself_1RW = torch.arange(rows * width, device=label_BHW.device).view(1, rows, width)
    return _read(label_BHW[band.images, band.pixels], itself_1RW, log_RnKW)


def _moved(label_BHW: Tensor, source_BHW: Tensor, band: _Band, log_RnKW: Tensor) -> _Read:
    """Return the reads of a band in which each pixel reads its source; includes one row above and below the band."""
    first, end = band.pixels.start, band.pixels.stop
    around = slice(max(first - HALO, 0), end + HALO)
    source_nRW = source_BHW[band.images, around] - first * label_BHW.shape[2]
    return _read(label_BHW[band.images, around], source_nRW, log_RnKW)


def _read(label: Tensor, source: Tensor, log_RnKW: Tensor) -> _Read:
    """Return the indices of labels at sources, counted from the band's first pixel.

    Those that do not count are only valid.
    """
    rows, images, classes, width = log_RnKW.shape
    image_n11 = torch.arange(images, device=label.device).view(-1, 1, 1)
    counts = (label != NONE) & (source >= 0) & (source < rows * width)
    row = source.div(width, rounding_mode="floor")
    entry = torch.add(source, row, alpha=(images * classes - 1) * width) + label.add(image_n11, alpha=classes) * width
    pixel = (source + image_n11 * (rows * width)).expand_as(label)
    return _Read(
        entry.flatten().clamp_(0, log_RnKW.numel() - 1),
        pixel.flatten().clamp(0, images * rows * width - 1),
        counts.flatten(),
    )
