"""The context branch: an encoder over the tokens of all levels, and a decoder from the queries to their classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unept import attention
from unept.config import ModelConfig, options_of
from unept.layers import positions, reversible
from unept.ops import Shapes
from unept.utils.rng import draws_by_name


class Layer(nn.Module):
    """Common parts of encoder and decoder layers: dropout, and the feed-forward network between residual and norm.

    Args:
        width: Channels of the tokens.
        ffn: Channels between the two linear layers.
        dropout: Dropout probability.
        chunks: Pieces of the sequence that the feed-forward network takes one after the other.
    """

    def __init__(self, width: int, ffn: int, dropout: float, chunks: int = 1) -> None:
        super().__init__()
        self.chunks = chunks
        self.linear1 = nn.Linear(width, ffn)
        self.linear2 = nn.Linear(ffn, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def feed_forward(self, x_BSC: Tensor) -> Tensor:
        """Apply two linear layers with a ReLU, dropout after each.

        In ``chunks`` pieces, recomputed for the gradient.
        """
        if self.chunks == 1:
            return self._feed_forward(x_BSC)
        parts = x_BSC.chunk(self.chunks, dim=1)
        return torch.cat([checkpoint(self._feed_forward, part, use_reentrant=False) for part in parts], dim=1)

    def _feed_forward(self, x_BSC: Tensor) -> Tensor:
        return self.dropout(self.linear2(self.dropout(self.linear1(x_BSC).relu_())))


class EncoderLayer(Layer):
    """Self-attention over all tokens, then the feed-forward network; norm after each."""

    self_attn: nn.Module

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor, shapes: Shapes) -> Tensor:
        """Return the tokens after attention and feed-forward network, (B, S, C)."""
        x = self.norm1(tokens_BSC + self.dropout(self.self_attn(tokens_BSC, position_BSC, shapes)))
        return self.norm2(x + self.feed_forward(x))

    def halves(self, position_BSC: Tensor, shapes: Shapes) -> list[reversible.Half]:
        """Return attention and feed-forward network as two functions of two streams, each with its norm in front."""

        def attend(x_BSC: Tensor) -> Tensor:
            return self.dropout(self.self_attn(self.norm1(x_BSC), position_BSC, shapes))

        def feed(x_BSC: Tensor) -> Tensor:
            return self.feed_forward(self.norm2(x_BSC))

        return [
            reversible.make_half(attend, (self.norm1, self.self_attn), position_BSC),
            reversible.make_half(feed, (self.norm2, self.linear1, self.linear2)),
        ]


class DecoderLayer(Layer):
    """Self-attention over the queries (norm2), cross-attention to the memory (norm1), feed-forward network (norm3)."""

    self_attn: nn.Module
    cross_attn: nn.Module

    def __init__(self, width: int, ffn: int, dropout: float, chunks: int = 1) -> None:
        super().__init__(width, ffn, dropout, chunks)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, queries_BQC: Tensor, memory_BSC: Tensor, query_shape: tuple[int, int], shapes: Shapes) -> Tensor:
        """Decode the queries for one layer.

        Args:
            queries_BQC: Queries, one for each pixel of the query grid.
            memory_BSC: Tokens of all levels after the encoder.
            query_shape: (rows, columns) of the query grid.
            shapes: (height, width) of each level of the memory.

        Returns:
            (B, Q, C).
        """
        x = self.norm2(queries_BQC + self.dropout(self.self_attn(queries_BQC, None, (query_shape,))))
        x = self.norm1(x + self.dropout(self.cross_attn(x, memory_BSC, query_shape, shapes)))
        return self.norm3(x + self.feed_forward(x))


class Stack(nn.Module):
    """Layers in a row; each is named ``layers.{i}``."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


class ContextBranch(nn.Module):
    """Encoder and decoder (paper, section 3.2 and Fig. 2); the attention in each of their slots is a setting."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = (config.width, config.ffn, config.dropout, config.ffn_chunks)
        self.reversible = config.reversible
        named = draws_by_name()

        def layer_of(kind: type[Layer], name: str) -> Layer:
            with named(name):
                return kind(*sizes)

        def slot_of(slot: str, index: int) -> nn.Module:
            with named(f"{slot} {index}"):
                return make_slot(config, slot, index)

        with named("level_embed"):  # from the last level up, so that the last one's is the same for every L
            self.level_embed = nn.Parameter(torch.randn(config.levels, config.width).flip(0))
        self.encoder = Stack([layer_of(EncoderLayer, f"encoder {i}") for i in range(config.encoder_layers)])
        self.decoder = Stack([layer_of(DecoderLayer, f"decoder {i}") for i in range(config.decoder_layers)])
        for index, layer in enumerate(self.encoder.layers):
            layer.self_attn = slot_of("encoder_self", index)
        for index, layer in enumerate(self.decoder.layers):
            layer.self_attn = slot_of("decoder_self", index)
            layer.cross_attn = slot_of("decoder_cross", index)

    def forward(self, maps: list[Tensor], queries_BQC: Tensor, query_shape: tuple[int, int]) -> Tensor:
        """Encode the maps and decode the queries.

        Args:
            maps: One (B, C, H, W) for each level.
            queries_BQC: Queries of the decoder.
            query_shape: (rows, columns) of the query grid.

        Returns:
            The queries after the last decoder layer, (B, Q, C).
        """
        # Tokens of all levels in one sequence.
        shapes: Shapes = tuple((level.shape[2], level.shape[3]) for level in maps)
        x_BSC = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)
        # Position encoding: sine of the place in the level, plus an embedding of the level.
        position = [
            positions.sine_encoding(height, width, x_BSC.shape[2], like=x_BSC) + self.level_embed[level]
            for level, (height, width) in enumerate(shapes)
        ]
        position_BSC = torch.cat(position).expand_as(x_BSC)

        # Encoder over the tokens, then decoder from the queries to them.
        x_BSC = self._encode(x_BSC, position_BSC, shapes)
        for layer in self.decoder.layers:
            queries_BQC = layer(queries_BQC, x_BSC, query_shape, shapes)
        return queries_BQC

    def _encode(self, x_BSC: Tensor, position_BSC: Tensor, shapes: Shapes) -> Tensor:
        if self.reversible and len(self.encoder.layers):
            layers = [layer for layer in self.encoder.layers if isinstance(layer, EncoderLayer)]
            halves = [half for layer in layers for half in layer.halves(position_BSC, shapes)]
            return F.layer_norm(reversible.run_reversible(halves, x_BSC), x_BSC.shape[-1:])
        for layer in self.encoder.layers:
            x_BSC = layer(x_BSC, position_BSC, shapes)
        return x_BSC


def make_slot(config: ModelConfig, slot: str, layer: int) -> nn.Module:
    """Build the attention of one layer (from 0) of ``slot``. ValueError for settings that it refuses."""
    settings = {
        "width": config.width,
        "heads": config.heads,
        "levels": 1 if slot == "decoder_self" else config.levels,
        "points": config.points,
        "offset_init": config.offset_init,
        "dropout": config.dropout,
        "layer": layer,
    }
    return attention.make_attention(slot, getattr(config, slot), settings, options_of(config, slot))
