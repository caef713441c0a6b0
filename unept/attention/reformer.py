"""Reformer attention (Kitaev et al. 2020, section 2): queries that are their own keys, sorted into buckets by a hash.

The sequence is that of all levels together, so buckets span them. What is taken from the authors' code rather than from
their equations: the products are not divided by the root of the head's width, and a chunk attends to all of itself and
its neighbour whatever their buckets; ``strict`` turns both the buckets' mask and the count of duplicates on.

The hash is random. In training its rotations come from torch's generator of the CPU, so they are what the seed and the
step make them, on every device. In evaluation they are drawn anew at each call from ``evaluation_seed``, which is that
of the process when the module was made and is kept in the state dict: the same input gives the same output.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unept.attention.lsh import Look, factors, hashed, lsh_attention
from unept.attention_rules import check_reformer
from unept.ops import Shapes

PADDING = 2**31 - 1  # the bucket of padding, behind all others
LAYERS = 1 << 10  # seeds of layers with the same process seed lie beside each other


class ReformerSelf(nn.Module):
    """LSH self-attention: every token attends to those that a few rounds of hashing sort near it (Kitaev et al.

    2020).
    """

    def __init__(
        self,
        *,
        width: int = 256,
        heads: int = 8,
        dropout: float = 0.1,
        layer: int = 0,
        hashes: int = 4,
        chunk: int = 64,
        buckets: int = 0,
        before: int = 1,
        after: int = 0,
        strict: bool = False,
    ) -> None:
        """Build the projections and choose the hashing.

        Args:
            width: Channels of the tokens.
            heads: Number of heads.
            dropout: Probability of dropping an attention weight in training.
            layer: Place in the stack, from 0; layers of one model hash differently in evaluation.
            hashes: Rounds of hashing.
            chunk: Tokens of a chunk of the sorted sequence.
            buckets: Number of buckets, even; 0 = two for each ``chunk`` tokens.
            before: Chunks before its own that a chunk sees.
            after: Chunks after its own that a chunk sees.
            strict: Mask other buckets and count a pair once, as in the paper's equations.

        Raises:
            ValueError: For numbers below 1 (below 0 where 0 has a meaning) and an odd number of buckets.
        """
        super().__init__()
        check_reformer(
            hashes=hashes, chunk=chunk, buckets=buckets, before=before, after=after, strict=strict, heads=heads
        )
        self.heads, self.dropout, self.hashes, self.buckets = heads, dropout, hashes, buckets
        self.look = Look(chunk=chunk, before=before, after=after, strict=strict)
        self.evaluation_seed = (torch.initial_seed() * LAYERS + layer) % 2**63
        self.replay: Tensor | None = None  # buckets to take in place of a new hash: see `unept.layers.reversible`
        self.last_buckets: Tensor | None = None  # the buckets of the last call, while `keep` is set
        self.keep = False
        self.in_proj_weight = nn.Parameter(torch.empty(2 * width, width))  # query and key are one
        self.in_proj_bias = nn.Parameter(torch.zeros(2 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Return (B, S, C); the position encoding is added to queries and keys, not to the values."""
        assert sum(height * width for height, width in shapes) == tokens_BSC.shape[1]
        positioned_BSC = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        return self.out_proj(self.mix(*self.project(positioned_BSC, tokens_BSC)).transpose(1, 2).flatten(2))

    def mix(self, qk: Tensor, v: Tensor) -> Tensor:
        """Hash, sort and attend; arguments and result are (B, H, S, D)."""
        S = qk.shape[2]
        # Hash every token in every round.
        buckets = self.hash(qk, self.rotations(*qk.shape[2:]))  # (B, H, R, S)
        self.last_buckets = buckets if self.keep else None

        # Pad to whole chunks, with a bucket behind all others, and attend within the buckets.
        extra = -S % self.look.chunk
        qk, v = (F.pad(x, (0, 0, 0, extra)) for x in (qk, v))
        buckets = F.pad(buckets, (0, extra), value=PADDING)
        dropout = self.dropout if self.training else 0.0
        return lsh_attention(qk, v, buckets, self.look, real=S, dropout=dropout)

    def project(self, positioned_BSC: Tensor, tokens_BSC: Tensor) -> tuple[Tensor, Tensor]:
        """Return shared queries and keys, and values; (B, H, S, D) each."""
        weights, biases = self.in_proj_weight.chunk(2), self.in_proj_bias.chunk(2)
        inputs = zip((positioned_BSC, tokens_BSC), weights, biases, strict=True)
        qk, v = (F.linear(*arguments).unflatten(-1, (self.heads, -1)).transpose(1, 2) for arguments in inputs)
        return qk, v

    @torch.no_grad()
    def hash(self, qk_BHSD: Tensor, rotations: list[Tensor]) -> Tensor:
        """Return the bucket of every token in every round, (B, H, R, S), int64.

        One set of rotations for the whole batch.
        """
        if self.replay is not None:  # the rotations have been drawn nevertheless: dropout comes after them
            return self.replay
        device = qk_BHSD.device.type
        plain = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
        with plain:
            x = qk_BHSD.to(torch.promote_types(qk_BHSD.dtype, torch.float32))
            return hashed(x, rotations)

    def rotations(self, length: int, head_width: int) -> list[Tensor]:
        """Draw random directions (H, D, R, half the buckets), one tensor for each factor of the buckets.

        Float32 on the CPU.
        """
        buckets = self.buckets or 2 * max(1, length // self.look.chunk)
        generator = None if self.training else torch.Generator().manual_seed(self.evaluation_seed)
        return [
            torch.randn(
                self.heads, head_width, self.hashes, part // 2, generator=generator, device="cpu", dtype=torch.float32
            )
            for part in factors(buckets)
        ]

    def get_extra_state(self) -> Tensor:
        """Return the evaluation seed, for the state dict."""
        return torch.tensor(self.evaluation_seed, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the evaluation seed from a state dict."""
        self.evaluation_seed = int(state)
