"""CUDA kernels of multi-scale deformable attention: built for the device, and checked on it before they are used.

Nothing is built or loaded before the first call for a device. `forward` and `backward` have the arguments and results
of the operators ``unept::msda`` and ``unept::msda_backward`` and are registered as their CUDA implementations.

Shape legend: see `unept.ops.reference`. ``shapes`` is flat here: height and width of each level in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from unept.ops import cuda_build, cuda_selftest
from unept.ops.cuda_build import Unavailable
from unept.ops.cuda_library import Kernel


@cache
def _kernel(index: int) -> Kernel | Unavailable:
    """Return the kernels of a device, built and checked once a process, or the reason why there are none.

    The reason is logged once.
    """
    try:
        device = torch.device("cuda", index)
        path = cuda_build.library_for(torch.cuda.get_device_capability(device))
        kernel = Kernel.load(path, device)
        if reason := cuda_selftest.verdict(path, device):
            raise Unavailable(f"they failed their test on this card: {reason}")
    except Unavailable as error:
        logging.getLogger(__name__).warning("no CUDA attention kernels on card %d: %s", index, error)
        return error
    return kernel


def kernel_for(device: torch.device) -> Kernel:
    """Return the kernels of a device. Unavailable, with the reason in one line, if there are none."""
    if device.type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        raise Unavailable(f"{device} is no CUDA card that this torch can use")
    kernel = _kernel(torch.cuda.current_device() if device.index is None else device.index)
    if isinstance(kernel, Unavailable):
        raise kernel
    return kernel


def problem(device: torch.device) -> str:
    """Return the reason in one line why a device has no kernels; "" if it has.

    The first call builds and checks them.
    """
    try:
        kernel_for(device)
    except Unavailable as error:
        return str(error)
    return ""


def forward(
    value_BSHD: Tensor, reference_Q2: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor, shapes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Compute ``unept::msda`` on the value's device; see `Kernel.forward`. Unavailable if it has no kernels."""
    return kernel_for(value_BSHD.device).forward(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)


def backward(
    gradient_BQC: Tensor,
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    result_BQC: Tensor,
    softmax_BHQ2: Tensor,
    shapes: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``unept::msda_backward`` on the value's device; see `Kernel.backward`.

    Unavailable if it has no kernels.
    """
    arguments = (gradient_BQC, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, result_BQC, softmax_BHQ2)
    return kernel_for(value_BSHD.device).backward(*arguments, shapes)
