"""Batch norm over the images of all processes that train together.

On GPUs it is torch's own. torch's does not support CPUs: there the sums behind mean and variance are all-reduced by an
operator that also all-reduces their gradients, and the rest is ordinary differentiation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from unept.utils import torchvision_shim


def synchronise(model: nn.Module) -> None:
    """Replace every batch norm inside `model` by one over all processes; parameters, buffers and names stay.

    Layers that also activate (timm's) keep doing so. A process group must exist before the model is called.
    """
    device = next(model.parameters()).device
    if device.type == "cuda":
        torchvision_shim.ensure()
        from timm.layers.norm_act import convert_sync_batchnorm

        convert_sync_batchnorm(model)
        return
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, SyncedBatchNorm(child))


class SyncedBatchNorm(_BatchNorm):
    """Batch norm with mean and variance over all processes; in evaluation no other process is needed."""

    def __init__(self, like: _BatchNorm) -> None:
        """Take over the parameters, buffers and settings of `like`, and its activation after normalising."""
        super().__init__(like.num_features, like.eps, like.momentum, affine=False, track_running_stats=False)
        self.affine, self.track_running_stats, self.training = like.affine, like.track_running_stats, like.training
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.after = nn.Sequential(*(getattr(like, name) for name in ("drop", "act") if hasattr(like, name)))

    def _check_input_dim(self, input: Tensor) -> None:
        assert input.dim() >= 2, input.shape

    @torch.compiler.disable
    def forward(self, input: Tensor) -> Tensor:
        """Normalise images (B, C, ...)."""
        if not self.training and self.running_mean is not None:
            normalised = F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        else:
            with torch.autocast(input.device.type, enabled=False):
                normalised = self._over_all(input)
        return self.after(normalised)

    def _over_all(self, input: Tensor) -> Tensor:
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        axes = [0, *range(2, x.dim())]
        shape = [1, -1, *[1] * (x.dim() - 2)]
        own = x.new_full((1,), x.numel() // x.shape[1])
        sums = _Summed.apply(torch.cat([x.sum(axes), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = x - mean.view(shape)
        variance = _Summed.apply(centred.square().sum(axes)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * (count / (count - 1).clamp(min=1)))
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(input.dtype)

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked or 1) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _Summed(torch.autograd.Function):
    """Sum over all processes. Each process's loss depends on it, so its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004 - autograd's form
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 - autograd's form
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
