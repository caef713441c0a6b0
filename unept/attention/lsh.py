"""Attention inside the buckets of a locality-sensitive hash (Kitaev et al. 2020, section 2), without order.

Tokens are sorted by (bucket, place) and cut into chunks of equal length; a chunk attends to itself and to its
neighbours in the sorted order, which close to a ring. Each round of hashing does so for itself; the rounds are combined
by the sums of their exponentials, so the result is one softmax over everything that any round showed.

A block of chunks is computed at a time, and once more for the gradient: nothing of the size of the weights is kept.

Shape legend, beside the usual: N images times heads, R rounds, T tokens (padding included) in C chunks of m, K keys
that a chunk sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.attention import recomputed_block
from unept.utils import rng

OWN = -5e4  # added to the logit of a token for itself: it wins where nothing else is seen
MOST_IN_ONE = 128  # buckets; more are hashed as the pairs of two smaller hashes
ENDLESS = 1e9  # taken from the logit of a key that is not seen; finite, so that a row of padding is a number


@dataclass(frozen=True, kw_only=True)
class Look:
    """Tokens in a chunk, and how many chunks before and after its own a chunk sees.

    ``strict`` adds what the paper's equations have: a query sees keys of its own bucket only, and a pair that several
    rounds show counts once.
    """

    chunk: int
    before: int = 1
    after: int = 0
    strict: bool = False

    def keys(self, chunks: int) -> int:
        """Return the number of tokens that a chunk sees in a ring of ``chunks``."""
        before, after = self.around(chunks)
        return (before + 1 + after) * self.chunk

    def around(self, chunks: int) -> tuple[int, int]:
        """Return the chunks before and after a chunk in a ring of ``chunks``, each counted once."""
        before = min(self.before, chunks - 1)
        return before, min(self.after, chunks - 1 - before)


def factors(buckets: int) -> tuple[int, ...]:
    """Return even numbers of buckets for successive hashes, whose product is ``buckets`` or a little more."""
    if buckets <= MOST_IN_ONE:
        return (buckets,)
    first = 2 * round(buckets**0.5 / 2)
    return first, 2 * -(-buckets // (2 * first))


def hashed(x_BHSD: Tensor, rotations: list[Tensor]) -> Tensor:
    """Hash tokens by random rotations (Kitaev et al. 2020, section 2).

    Args:
        x_BHSD: Vectors to hash.
        rotations: One tensor (H, D, R, half the buckets) for each factor.

    Returns:
        The bucket of every token in every round, (B, H, R, S), int64.
    """
    total = None
    for rotation in rotations:
        rounds, half = rotation.shape[2:]
        turned = (x_BHSD @ rotation.flatten(2).to(x_BHSD)).unflatten(-1, (rounds, half))
        at = turned.abs().max(-1, keepdim=True).indices
        bucket = (at + half * (turned.gather(-1, at) < 0)).squeeze(-1)
        total = bucket if total is None else total * (2 * half) + bucket
    assert total is not None
    return total.transpose(2, 3)


def lsh_attention(
    qk_BHSD: Tensor, v_BHSD: Tensor, buckets_BHRS: Tensor, look: Look, *, real: int, dropout: float = 0.0
) -> Tensor:
    """Attend within the buckets among the first ``real`` tokens. Differentiable once.

    The tokens after them are padding: they need a bucket of their own, greater than all others, and must at least fill
    the last chunk. They are never seen, and their number does not change the result.

    Args:
        qk_BHSD: Shared queries and keys, padding included.
        v_BHSD: Values.
        buckets_BHRS: Bucket of every token in every round.
        look: Chunks and what they see.
        real: Number of tokens that are not padding.
        dropout: Probability of dropping a weight.

    Returns:
        (B, H, real, D).
    """
    # Drop the padding beyond the last chunk; shared queries and keys, the keys with unit length.
    T = -(-real // look.chunk) * look.chunk
    assert qk_BHSD.shape[2] >= T, (qk_BHSD.shape, look)
    q, v = (x[:, :, :T].flatten(0, 1) for x in (qk_BHSD, v_BHSD))
    wide = torch.promote_types(q.dtype, torch.float32)
    k = F.normalize(q.to(wide), dim=-1).to(q.dtype)

    # Sort by bucket in every round, then attend within chunks and combine the rounds.
    order = buckets_BHRS.sort(dim=-1, stable=True).indices[..., :T]
    rounds = Rounds(look=look, real=real, dropout=dropout)
    attended = _Rounds.apply(q, k, v, order.flatten(0, 1), buckets_BHRS[..., :T].flatten(0, 1), rounds)
    return attended[:, :real].unflatten(0, qk_BHSD.shape[:2])


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Settings of all rounds: what a chunk sees, the number of tokens that are not padding, and the dropout."""

    look: Look
    real: int
    dropout: float

    def parts(self, order_NRT: Tensor) -> Iterator[tuple[int, slice]]:
        """Yield each round with slices of N that make up one block."""
        N, R, T = order_NRT.shape
        step = max(1, recomputed_block.MOST // (T * self.look.keys(T // self.look.chunk)))
        for round_index in range(R):
            for start in range(0, N, step):
                yield round_index, slice(start, start + step)


class _Rounds(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor, order_NRT: Tensor, buckets_NRT: Tensor, rounds: Rounds
    ) -> Tensor:
        ctx.random = rng.get_rng_state(q_NTD) if rounds.dropout else None
        positions_NRT = _places(order_NRT)
        wide = torch.promote_types(q_NTD.dtype, torch.float32)
        attended, total = (
            v_NTD.new_zeros(v_NTD.shape, dtype=wide),
            q_NTD.new_full(q_NTD.shape[:2], -torch.inf, dtype=wide),
        )
        plain = _bias(rounds.look, rounds.real, total)
        for round_index, images in rounds.parts(order_NRT):
            order, inverse = order_NRT[images, round_index], positions_NRT[images, round_index]
            # Sort the tokens of this round, attend within chunks, and restore the order.
            bias = _bias_of(plain, order_NRT[images], buckets_NRT[images], round_index, rounds.look)
            qkv = _sorted(q_NTD[images], k_NTD[images], v_NTD[images], order, rounds.look)
            part, size = (
                _take(x.view(*order.shape, -1), inverse) for x in recomputed_block.forward(*qkv, bias, rounds.dropout)
            )
            # Merge with the earlier rounds as one softmax over all.
            _add(attended[images], total[images], part, size.squeeze(-1))
        attended = attended.to(v_NTD.dtype)
        ctx.rounds = rounds
        ctx.save_for_backward(q_NTD, k_NTD, v_NTD, order_NRT, buckets_NRT, attended, total)
        return attended

    @staticmethod
    @recomputed_block.once_differentiable
    def backward(ctx: Any, gradient_NTD: Tensor) -> Any:
        q, k, v, order_NRT, buckets_NRT, attended, total = ctx.saved_tensors
        rounds, positions_NRT = ctx.rounds, _places(order_NRT)
        shared = (gradient_NTD * attended).sum(-1, dtype=total.dtype)
        grads = [torch.zeros_like(x) for x in (q, k, v)]
        plain = _bias(rounds.look, rounds.real, total)
        with nullcontext() if ctx.random is None else rng.replay_rng(ctx.random, q):
            for round_index, images in rounds.parts(order_NRT):
                order, inverse = order_NRT[images, round_index], positions_NRT[images, round_index]
                bias = _bias_of(plain, order_NRT[images], buckets_NRT[images], round_index, rounds.look)
                qkv = _sorted(q[images], k[images], v[images], order, rounds.look)
                rows = (_take(x[images], order) for x in (gradient_NTD, shared[..., None], total[..., None]))
                g, g_o, size = (x.view(len(qkv[0]), rounds.look.chunk, -1) for x in rows)
                of_q, *others = recomputed_block.backward(g, g_o[..., 0], size[..., 0], qkv, bias, rounds.dropout)
                parts = [of_q.view(*order.shape, -1), *(_folded(x, len(order), rounds.look) for x in others)]
                for grad, part in zip(grads, parts, strict=True):
                    grad[images].add_(_take(part, inverse))
        return *grads, None, None, None


def _add(attended_NTD: Tensor, total_NT: Tensor, part_NTD: Tensor, size_NT: Tensor) -> None:
    """Merge the result of one more round, and the logarithm of its sum, into those of the rounds before it.

    In place.
    """
    before = total_NT.clone()
    torch.logaddexp(before, size_NT, out=total_NT)
    attended_NTD.mul_((before - total_NT).exp_()[..., None])
    attended_NTD.addcmul_(part_NTD.to(attended_NTD.dtype), (size_NT - total_NT).exp_()[..., None])


def _take(x_NTD: Tensor, index_NI: Tensor) -> Tensor:
    """Select rows of ``x`` by index; (N, I, D)."""
    N, T, D = x_NTD.shape
    first = torch.arange(N, device=x_NTD.device)[:, None] * T
    return x_NTD.flatten(0, 1).index_select(0, (index_NI + first).flatten()).view(N, -1, D)


def _places(order_NRT: Tensor) -> Tensor:
    """Return the position of each token in the sorted order of each round."""
    position = torch.arange(order_NRT.shape[2], device=order_NRT.device).expand_as(order_NRT)
    return torch.empty_like(order_NRT).scatter_(-1, order_NRT, position)


def _seen_from(x_NT: Tensor, look: Look) -> Tensor:
    """Return the entries that each chunk sees of a sorted sequence; (N, C, K)."""
    C = x_NT.shape[1] // look.chunk
    before, after = (look.chunk * count for count in look.around(C))
    ring = torch.cat((x_NT[:, x_NT.shape[1] - before :], x_NT, x_NT[:, :after]), dim=1)
    return ring.unfold(1, look.keys(C), look.chunk)


def _sorted(q_NTD: Tensor, k_NTD: Tensor, v_NTD: Tensor, order_NT: Tensor, look: Look) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries (N * C, m, D), and the keys and values that their chunk sees (N * C, K, D)."""
    seen = _seen_from(order_NT, look)
    k, v = (_take(x, seen.flatten(1)).view(-1, seen.shape[2], x.shape[2]) for x in (k_NTD, v_NTD))
    return _take(q_NTD, order_NT).view(len(k), look.chunk, -1), k, v


def _folded(x_MKD: Tensor, N: int, look: Look) -> Tensor:
    """Sum the chunks' contributions to each sorted token; (N, T, D). The transpose of `_seen_from`."""
    x = x_MKD.view(N, -1, x_MKD.shape[1] // look.chunk, look.chunk, x_MKD.shape[2])
    before, _ = look.around(x.shape[1])
    parts = [x[:, :, position].roll(position - before, 1) for position in range(x.shape[2])]
    return sum(parts[1:], parts[0]).flatten(1, 2)


def _bias(look: Look, real: int, like_NT: Tensor) -> Tensor:
    """Return the bias of the logits of every round, for a token's own position and for padding; (C, m, K)."""
    T, m, device = like_NT.shape[1], look.chunk, like_NT.device
    C = T // m
    bias = torch.zeros(C, m, look.keys(C), dtype=like_NT.dtype, device=device)
    own = torch.arange(m, device=device)[:, None] + look.around(C)[0] * m == torch.arange(look.keys(C), device=device)
    bias.masked_fill_(own, OWN)
    if real < T:
        padding = torch.arange(T, device=device)[None] >= real
        bias.masked_fill_(_seen_from(padding, look)[0, :, None], -ENDLESS)
    return bias


def _bias_of(bias_CmK: Tensor, order_NRT: Tensor, buckets_NRT: Tensor, round_index: int, look: Look) -> Tensor:
    """Return the bias of one round, (N * C, m, K).

    The strict form also masks other buckets and corrects repeated pairs.
    """
    bias = bias_CmK[None]
    if look.strict:
        shown = _shown(order_NRT, buckets_NRT, round_index, look)
        bias = bias + torch.where(shown > 0, -shown.clamp(min=1).to(bias.dtype).log(), -ENDLESS)
    return bias.expand(len(order_NRT), -1, -1, -1).flatten(0, 1)


def _shown(order_NRT: Tensor, buckets_NRT: Tensor, round_index: int, look: Look) -> Tensor:
    """Count the rounds in which the key is in the query's bucket and in its sight, (N, C, m, K).

    0 if not in this round.
    """
    N, R, T = order_NRT.shape
    C = T // look.chunk
    before, after = look.around(C)
    chunks_NRT = _places(order_NRT) // look.chunk
    count, same_bucket = torch.zeros((), device=order_NRT.device), None
    for other in range(R):
        bucket, chunk = (x[:, other].gather(-1, order_NRT[:, round_index]) for x in (buckets_NRT, chunks_NRT))
        together, apart = ((x.view(N, C, -1, 1), _seen_from(x, look)[:, :, None]) for x in (bucket, chunk))
        same = together[0] == together[1]
        far = (apart[0] - apart[1]) % C
        count = count + (same & ((far <= before) | (far >= C - after)))
        same_bucket = same if other == round_index else same_bucket
    assert same_bucket is not None
    return count * same_bucket
