"""One block of attention, and its gradients from what its result was: no weights are kept between the two.

A block's weights are exp(logit - total), where the total is the logarithm of the sum of all exponentials that the
result was normalised by. With g the gradient of the result o, that of a logit is weight * (g . value - g . o), which
asks for the result and the total alone (Rabe and Staats 2021; Dao et al. 2022, appendix B). The sum may have had other
blocks in it, so blocks can be combined.

Shape legend: N attentions beside each other, Q queries, K keys, D and E widths. Logits and weights are at least
single precision; the products take the type of the queries.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOST = 1 << 22  # weights in a block


def once_differentiable(gradients: Callable[..., Any]) -> Callable[..., Any]:
    """For the backward pass of an `autograd.Function` that has no derivative of its own: RuntimeError if one is asked
    for (``create_graph=True``), where torch's own decorator may be silent.
    """

    @functools.wraps(gradients)
    def checked(ctx: Any, *given: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "this attention is differentiable once: its gradient was asked for with create_graph=True"
            )
        return gradients(ctx, *given)

    return checked


def forward(q_NQD: Tensor, k_NKD: Tensor, v_NKE: Tensor, bias: Tensor | None, dropout: float) -> tuple[Tensor, Tensor]:
    """What the queries find (N, Q, E), and the totals (N, Q). ``bias`` (N or 1, Q or 1, K) is added to the logits.

    ``dropout`` acts on the weights, by torch's random numbers.
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
    """Gradients of queries, keys and values. ``shared_NQ`` is the product of each result with its gradient.

    With ``dropout`` the random numbers must be those that `forward` met.
    """
    q, k, v = qkv
    weights = _logits(q, k, bias).sub_(total_NQ[..., None]).exp_()
    of_weights = (gradient_NQE @ v.transpose(1, 2)).to(weights.dtype)
    mixed = weights
    if dropout:
        kept = _kept(weights, dropout)
        mixed = weights * kept
        of_weights *= kept
    of_v = mixed.to(v.dtype).transpose(1, 2) @ gradient_NQE
    of_logits = of_weights.sub_(shared_NQ[..., None]).mul_(weights).to(q.dtype)
    return of_logits @ k, of_logits.transpose(1, 2) @ q, of_v


def _logits(q_NQD: Tensor, k_NKD: Tensor, bias: Tensor | None) -> Tensor:
    keys_NDK = k_NKD.transpose(1, 2)
    wide = torch.promote_types(q_NQD.dtype, torch.float32)
    if q_NQD.dtype != wide:
        logits = (q_NQD @ keys_NDK).to(wide)
        return logits if bias is None else logits.add_(bias)
    return torch.bmm(q_NQD, keys_NDK) if bias is None else torch.baddbmm(bias, q_NQD, keys_NDK)


def _kept(like: Tensor, dropout: float) -> Tensor:
    """0 for a weight that is dropped; 1 over the share of the others for one that is not."""
    return torch.empty_like(like).bernoulli_(1 - dropout).div_(1 - dropout)
