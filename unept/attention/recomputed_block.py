"""Forward and backward of one block of attention that stores no weights in between.

A block's weights are exp(logit - total), where the total is the logarithm of the sum of all exponentials that
normalised the result. With g the gradient of the result o, the gradient of a logit is weight * (g . value - g . o),
which needs the result and the total alone (Rabe and Staats 2021; Dao et al. 2022, appendix B). The sum may include
other blocks, so blocks can be combined.

Shape legend: N attentions beside each other, Q queries, K keys, D and E widths. Logits and weights are at least single
precision; the products have the type of the queries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOST = 1 << 22  # weights in a block


def once_differentiable(gradients: Callable[..., Any]) -> Callable[..., Any]:
    """Make the backward pass of an `autograd.Function` raise RuntimeError under ``create_graph=True``.

    torch's decorator of that name can stay silent there.
    """

    @functools.wraps(gradients)
    def checked(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this attention is differentiable once: its gradient was asked for with create_graph=True"
            )
        return gradients(ctx, *grads)

    return checked


def forward(q_NQD: Tensor, k_NKD: Tensor, v_NKE: Tensor, bias: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """Compute attention with an additive bias.

    Args:
        q_NQD: Queries, scaled already.
        k_NKD: Keys.
        v_NKE: Values.
        bias: Added to the logits, (N or 1, Q or 1, K), or None.
        dropout: Probability of dropping a weight, by torch's random numbers.

    Returns:
        The result (N, Q, E), and the logarithm of each query's sum of exponentials (N, Q).
    """
    logits = _logits(q_NQD, k_NKD, bias)
    weights = logits.softmax(-1)
    total = logits.amax(-1) - weights.amax(-1).log_()
    if dropout:
        weights *= _kept(weights, dropout)
    return weights.to(v_NKE.dtype) @ v_NKE, total


def backward(
    gradient_NQE: Tensor,
    shared_NQ: Tensor,
    total_NQ: Tensor,
    qkv: tuple[Tensor, Tensor, Tensor],
    bias: Tensor | None,
    dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of queries, keys and values.

    Args:
        gradient_NQE: Gradient of the result.
        shared_NQ: Dot product of each result with its gradient.
        total_NQ: Logarithm of each query's sum of exponentials, over all blocks.
        qkv: Queries, keys and values of `forward`.
        bias: Bias of `forward`.
        dropout: Dropout of `forward`; the generator must be in the state that `forward` met.

    Returns:
        Gradients of q (N, Q, D), k (N, K, D) and v (N, K, E).
    """
    q, k, v = qkv
    weights = _logits(q, k, bias).sub_(total_NQ[..., None]).exp_()
    grad_weights = (gradient_NQE @ v.transpose(1, 2)).to(weights.dtype)
    dropped = weights
    if dropout:
        kept = _kept(weights, dropout)
        dropped = weights * kept
        grad_weights *= kept
    grad_v = dropped.to(v.dtype).transpose(1, 2) @ gradient_NQE
    grad_logits = grad_weights.sub_(shared_NQ[..., None]).mul_(weights).to(q.dtype)
    return grad_logits @ k, grad_logits.transpose(1, 2) @ q, grad_v


def _logits(q_NQD: Tensor, k_NKD: Tensor, bias: Tensor | None) -> Tensor:
    keys_NDK = k_NKD.transpose(1, 2)
    wide = torch.promote_types(q_NQD.dtype, torch.float32)
    if q_NQD.dtype != wide:
        logits = (q_NQD @ keys_NDK).to(wide)
        return logits if bias is None else logits.add_(bias)
    return torch.bmm(q_NQD, keys_NDK) if bias is None else torch.baddbmm(bias, q_NQD, keys_NDK)


def _kept(like: Tensor, dropout: float) -> Tensor:
    """Return 0 for a dropped weight, 1 / (1 - dropout) for a kept one."""
    return torch.empty_like(like).bernoulli_(1 - dropout).div_(1 - dropout)
