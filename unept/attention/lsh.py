"""Attention inside the buckets of a locality-sensitive hash (Kitaev et al. 2020, section 2), without order.

Tokens are sorted by (bucket, place) and cut into chunks of equal length; a chunk attends to itself and to its
neighbours in the sorted order, which close to a ring. Each round of hashing does so for itself; the rounds are combined
by the sums of their exponentials, so the result is one softmax over everything that any round showed.

Shape legend, beside the usual: R rounds, C chunks of m tokens, K keys that a chunk sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

OWN = -5e4  # logit of a token for itself: it wins where nothing else is seen; a number that float16 can hold
MOST_IN_ONE = 128  # buckets; more are hashed as the pairs of two smaller hashes
ENDLESS = 1e9  # minus this is the logit of a key that is not seen; finite, so that a row of padding is a number


@dataclass(frozen=True, kw_only=True)
class Look:
    """Tokens in a chunk, and how many chunks before and after its own a chunk sees.

    ``strict`` adds what the paper's equations have: only keys of the query's own bucket, and a pair that several
    rounds show counts once.
    """

    chunk: int
    before: int = 1
    after: int = 0
    strict: bool = False

    def around(self, chunks: int) -> tuple[int, int]:
        """Chunks before and after in a ring of ``chunks``, each counted once."""
        before = min(self.before, chunks - 1)
        return before, min(self.after, chunks - 1 - before)


def factors(buckets: int) -> tuple[int, ...]:
    """Even numbers of buckets to hash into, one after the other, whose product is ``buckets`` or a little more."""
    if buckets <= MOST_IN_ONE:
        return (buckets,)
    first = 2 * round(buckets**0.5 / 2)
    return first, 2 * -(-buckets // (2 * first))


def hashed(x_BHSD: Tensor, rotations: list[Tensor]) -> Tensor:
    """The bucket of every token in every round, (B, H, R, S), int64; ``rotations`` are (H, D, R, half the buckets)."""
    total = None
    for rotation in rotations:
        rounds, half = rotation.shape[2:]
        turned = (x_BHSD @ rotation.flatten(2).to(x_BHSD)).unflatten(-1, (rounds, half))
        (high, at_high), (low, at_low) = turned.max(-1), turned.min(-1)
        bucket = torch.where(high >= -low, at_high, at_low + half)
        total = bucket if total is None else total * (2 * half) + bucket
    assert total is not None
    return total.transpose(2, 3)


def lsh_attention(
    qk_BHSD: Tensor, v_BHSD: Tensor, buckets_BHRS: Tensor, look: Look, *, real: int, dropout: float = 0.0
) -> Tensor:
    """The first ``real`` tokens attend to each other as their buckets say; (B, H, real, D).

    The tokens after them are padding: they must have a bucket of their own, greater than all others, and must fill the
    last chunk at least. They are never seen, and their number does not change the result.
    """
    (B, H, _, D), R = qk_BHSD.shape, buckets_BHRS.shape[2]
    m, C = look.chunk, -(-real // look.chunk)
    assert qk_BHSD.shape[2] >= C * m, (qk_BHSD.shape, look)
    order_BHRN = buckets_BHRS.sort(dim=-1, stable=True).indices[..., : C * m]
    size = (B, H, R, C, m)
    q, v = (_take(x, order_BHRN).view(*size, D) for x in (qk_BHSD, v_BHSD))
    wide = torch.promote_types(q.dtype, torch.float32)
    k = F.normalize(q.to(wide), dim=-1).to(q.dtype)
    scores = (q @ _seen_from(k, look).transpose(-2, -1)).to(wide)
    scores = _masked(scores, order_BHRN.view(size), buckets_BHRS, look, real)
    weights = scores.softmax(-1)
    with torch.no_grad():
        best = scores.argmax(-1, keepdim=True)
    # log of the sum of exponentials, from one weight of each row: nothing but the weights is kept for the gradient
    total = (scores.gather(-1, best) - weights.gather(-1, best).log()).reshape(B, H, R * C * m, 1)
    mixed = (F.dropout(weights, dropout, dropout > 0).to(v.dtype) @ _seen_from(v, look)).view(B, H, R * C * m, D)
    back = _places(order_BHRN, real) + torch.arange(R, device=v.device)[:, None] * (C * m)
    share = _take(total, back).view(B, H, R, real, 1).softmax(2)
    return (_take(mixed, back).view(B, H, R, real, D) * share.to(mixed.dtype)).sum(2)


def _take(x_BHSD: Tensor, index: Tensor) -> Tensor:
    """Rows of ``x`` by their place, (B, H, all of ``index``'s other dimensions as one, D)."""
    flat = index.flatten(2)
    return x_BHSD.gather(2, flat[..., None].expand(-1, -1, -1, x_BHSD.shape[3]))


def _places(order_BHRN: Tensor, real: int) -> Tensor:
    """The place of each real token in the sorted order of each round, (B, H, R, real): padding lies behind them."""
    found = torch.empty_like(order_BHRN[..., :real])
    place = torch.arange(real, device=order_BHRN.device).expand_as(found)
    return found.scatter_(-1, order_BHRN[..., :real], place)


def _seen_from(x_BHRCmD: Tensor, look: Look) -> Tensor:
    """What each chunk sees: the chunks before it, itself, those after it; (B, H, R, C, K, ...)."""
    before, after = look.around(x_BHRCmD.shape[3])
    shifts = range(before, -after - 1, -1)
    return torch.cat([x_BHRCmD.roll(shift, 3) if shift else x_BHRCmD for shift in shifts], dim=4)


def _masked(scores: Tensor, order_BHRCm: Tensor, buckets_BHRS: Tensor, look: Look, real: int) -> Tensor:
    """The logits with what is not seen taken out, a token's own place last of all; (B, H, R, C, m, K)."""
    m, K = scores.shape[-2:]
    C = scores.shape[3]
    before, _ = look.around(C)
    own = torch.arange(m, device=scores.device)[:, None] + before * m == torch.arange(K, device=scores.device)
    if look.strict:
        with torch.no_grad():
            shown = _shown(order_BHRCm, buckets_BHRS, look, real)
        scores = torch.where(shown > 0, scores - shown.clamp(min=1).to(scores.dtype).log(), -ENDLESS)
    scores = scores.masked_fill(own, OWN)
    if real < C * m:
        padding = torch.arange(C * m, device=scores.device).view(1, 1, 1, C, m) >= real
        scores = scores.masked_fill(_seen_from(padding, look)[..., None, :], -ENDLESS)
    return scores


def _shown(order_BHRCm: Tensor, buckets_BHRS: Tensor, look: Look, real: int) -> Tensor:
    """In how many rounds the key is in the query's bucket and in sight of it; 0 where it is not in this round."""
    B, H, R, C, m = order_BHRCm.shape
    before, after = look.around(C)
    chunks_BHRS = torch.full_like(buckets_BHRS, C - 1)
    chunks_BHRS[..., :real] = _places(order_BHRCm.flatten(3), real) // m
    count, here = torch.zeros((), device=order_BHRCm.device), []
    for other in range(R):
        bucket, chunk = (
            _take(x[:, :, other, :, None], order_BHRCm).view(B, H, R, C, m) for x in (buckets_BHRS, chunks_BHRS)
        )
        together = bucket[..., None] == _seen_from(bucket, look)[..., None, :]
        apart = (chunk[..., None] - _seen_from(chunk, look)[..., None, :]) % C
        count = count + (together & ((apart <= before) | (apart >= C - after)))
        here.append(together[:, :, other])
    return count * torch.stack(here, dim=2)
