"""Attentions that are wrong on purpose, each in one way, and one that is right."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn


class Right(nn.Module):
    """Every token receives a projection of its level's mean, its own numbers and its position."""

    def __init__(self, *, width: int, strength: float = 1.0) -> None:
        super().__init__()
        if strength <= 0:
            raise ValueError(f"strength={strength}: expected more than 0")
        self.strength = strength
        self.project = nn.Linear(width, width)

    def forward(self, tokens: Tensor, position: Tensor | None, shapes: tuple[tuple[int, int], ...]) -> Tensor:
        levels = tokens.split([height * width for height, width in shapes], dim=1)
        means = torch.cat([level.mean(1, keepdim=True).expand_as(level) for level in levels], dim=1)
        placed = tokens if position is None else tokens + position
        return self.strength * self.project(means + placed.tanh())


class BatchLeak(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(tokens, *more) + 1e-3 * tokens.mean(0, keepdim=True)


class HiddenLeak(Right):
    """A leak behind a gate that is closed at first."""

    def __init__(self, *, width: int) -> None:
        super().__init__(width=width)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(tokens, *more) + self.gate * tokens.mean(0, keepdim=True)


class Random(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(tokens + 1e-6 * torch.randn_like(tokens), *more)


class _Cubed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2 * 1.001


class WrongGradient(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(_Cubed.apply(tokens), *more)


class NoGradient(Right):
    """What depends on the tokens, and says that it does not."""

    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(tokens.detach(), *more)


class TooShort(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(tokens, *more)[:, 1:]


class TwoResults(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Any:
        return super().forward(tokens, *more), None


class InPlace(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        result = super().forward(tokens, *more)
        if not tokens.requires_grad:
            tokens.mul_(0.5)
        return result


class NotAlone(Right):
    """Takes the spread of the tokens, which a single one does not have."""

    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        deviations = tokens - tokens.mean(1, keepdim=True)
        spread = deviations.square().sum(1, keepdim=True) / (tokens.shape[1] - 1)
        return super().forward(tokens, *more) * spread


class Decides(Right):
    """Asks what a tensor holds."""

    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        scale = tokens.detach().abs().max().item()
        return super().forward(tokens, *more) * (1.0 if scale < 1e9 else 0.0)


class Raises(Right):
    def forward(self, *_: Any) -> Tensor:
        raise RuntimeError("no kernel\nfor this card")


@torch.library.custom_op("own_for_checks::twist", mutates_args=())
def twist(x: Tensor) -> Tensor:
    return x @ x.mT @ x


@twist.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _twist_back(ctx: Any, grad: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(x @ x.mT @ x, x, grad)[0]


twist.register_autograd(_twist_back, setup_context=_keep)


class Uncounted(Right):
    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        return super().forward(twist(tokens), *more)


class Untidy(Right):
    """Fails to be made at all."""

    def __init__(self) -> None:
        raise KeyError("table")


class Elementwise(nn.Module):
    """Dense attention by matrix products, by multiplications and sums, or by distances of all pairs."""

    def __init__(self, *, heads: int, form: str = "sums") -> None:
        super().__init__()
        self.form, self.heads = form, heads

    def forward(self, tokens: Tensor, *_: Any) -> Tensor:
        images, total, width = tokens.shape
        x = tokens.view(images, total, self.heads, -1).transpose(1, 2)
        if self.form == "products":
            y = (x @ x.mT).softmax(-1) @ x
        elif self.form == "sums":
            weights = (x[:, :, :, None] * x[:, :, None]).sum(-1).softmax(-1)
            y = (weights[..., None] * x[:, :, None]).sum(3)
        else:
            y = (-(x[:, :, :, None] - x[:, :, None]).abs().sum(-1)).softmax(-1) @ x
        return y.transpose(1, 2).reshape(images, total, width)


class Slow(Right):
    """Right, but each call takes some seconds."""

    wait = time.sleep

    def __init__(self, *, width: int, seconds: float = 1.0) -> None:
        super().__init__(width=width)
        self.seconds = seconds

    def forward(self, tokens: Tensor, *more: Any) -> Tensor:
        type(self).wait(self.seconds)
        return super().forward(tokens, *more)
