"""The attention under test, in a slot of the model, made and called as the model does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from unept.config import ModelConfig

Shapes = tuple[tuple[int, int], ...]
TINY_SHAPES: Shapes = ((5, 3), (2, 3), (1, 2))  # odd, and few tokens: what is called many times


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One call of an attention.

    Attributes:
        tensors: What goes in, by name and in order; None for a position that is not given.
        sizes: What follows the tensors, such as the level shapes.
    """

    tensors: Mapping[str, Tensor | None]
    sizes: tuple[Any, ...]

    def __call__(self, module: nn.Module, seed: int = 0) -> Any:
        """Return the module's result; torch's random numbers start at `seed` and are afterwards as before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return module(*self.tensors.values(), *self.sizes)

    def call_on_copies(self, module: nn.Module, seed: int = 0) -> Any:
        """Return the result for copies of the tensors, so that a module that writes into them leaves these as
        they are.
        """
        return self.with_tensors(**{name: tensor.clone() for name, tensor in self.present_tensors.items()})(
            module, seed
        )

    @property
    def present_tensors(self) -> dict[str, Tensor]:
        """The tensors that are not None, by name."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor is not None}

    @property
    def query_tensor(self) -> Tensor:
        """Tokens or queries: the result has the shape of this tensor, (B, S, C)."""
        return next(iter(self.present_tensors.values()))

    def with_tensors(self, **tensors: Tensor) -> AttentionCall:
        """Return the same call with other tensors of these names."""
        return replace(self, tensors={**self.tensors, **tensors})


@dataclass(frozen=True, kw_only=True)
class AttentionUnderTest:
    """The attention that `model` has in `slot`; `before` is called before each of its calls and may raise."""

    slot: str
    model: ModelConfig
    before: Callable[[], None] = field(default=_nothing, compare=False)

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return str(getattr(self.model, self.slot))

    @property
    def is_cross(self) -> bool:
        """True where queries attend to a memory."""
        return self.slot == "decoder_cross"

    @property
    def levels(self) -> int:
        """The most maps that the slot is called with."""
        return 1 if self.slot == "decoder_self" else self.model.levels

    def make(self, layer: int = 0, **changes: Any) -> nn.Module:
        """Return a new module, with the same weights each time.

        Args:
            layer: Number of the layer, counted from 0.
            **changes: Fields of the model configuration.
        """
        from unept.context import make_slot

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(layer)
            module = make_slot(replace(self.model, **changes), self.slot, layer)
        if self.before is not _nothing:
            module.register_forward_pre_hook(lambda *_: self.before())
        return module

    def perturbed(self, dtype: torch.dtype = torch.float32, **changes: Any) -> nn.Module:
        """Return a module in evaluation mode, with noise on its parameters: initial zeros would hide what it does."""
        return perturb_parameters(self.make(**changes).to(dtype).eval())

    def call(
        self, shapes: Shapes, *, batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32, empty: bool = False
    ) -> AttentionCall:
        """Return a call with normal random inputs; in the cross slot the grid of queries is like the first map.

        Args:
            shapes: Height and width of each map, in tokens.
            batch: Number of images.
            seed: Of the random numbers.
            dtype: Of the tensors.
            empty: Allocate the tensors only, for the meta device or fake tensors.
        """
        generator = torch.Generator().manual_seed(seed)
        total = sum(height * width for height, width in shapes)

        def tensor(images: int, tokens: int) -> Tensor:
            if empty:
                return torch.empty(images, tokens, self.model.width, dtype=dtype)
            return torch.randn(images, tokens, self.model.width, generator=generator, dtype=torch.float64).to(dtype)

        if self.is_cross:
            queries = tensor(batch, math.prod(shapes[0]))
            return AttentionCall(
                tensors={"queries": queries, "memory": tensor(batch, total)},
                sizes=(shapes[0], shapes),
            )
        tokens = tensor(batch, total)
        position = tensor(1, total).expand_as(tokens) if self.slot == "encoder_self" else None
        return AttentionCall(tensors={"tokens": tokens, "position": position}, sizes=(shapes,))

    def widest_dtype(self) -> torch.dtype:
        """Return double precision where the attention takes it, else single."""
        try:
            self.call(self.tiny_shapes, dtype=torch.float64)(self.perturbed(torch.float64))
        except Exception:  # whatever it raises, the check of its gradients says it
            return torch.float32
        return torch.float64

    @property
    def tiny_shapes(self) -> Shapes:
        """The smallest maps that it is called with, as many as the slot has."""
        return TINY_SHAPES[: self.levels]


def attention_from_options(
    slot: str, name: str, words: Sequence[str], base: ModelConfig | None = None
) -> AttentionUnderTest:
    """Return an attention in the model of the paper.

    Args:
        slot: Slot of the model.
        name: One of our names, or `module:Class`.
        words: Parameters of the attention, such as "window=7".
        base: Model to put it into; None for the paper's.

    Raises:
        ValueError: The slot, the name, a parameter or a value is not possible; the message is one line.
    """
    from bench.config.attention_options import model_with_attention

    subject = AttentionUnderTest(slot=slot, model=model_with_attention(slot, name, words, base))
    try:
        subject.make()
    except ValueError:
        raise
    except Exception:  # not a wrong value but a wrong class: the checks say it
        pass
    return subject


def perturb_parameters(module: nn.Module, seed: int = 1) -> nn.Module:
    """Add noise to the trained parameters, in proportion to what keeps a linear layer's results of size 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                scale = 0.5 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.1
                parameter.add_((scale * noise).to(parameter))
    return module


def relative_change(result: Any, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest number expected; infinite where it cannot be taken."""
    if not isinstance(result, Tensor) or result.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    difference = (result - expected).abs().max().item()
    largest = expected.abs().max().item()
    share = difference / largest if largest else (math.inf if difference else 0.0)
    return math.inf if math.isnan(share) else share


def format_sizes(shapes: Shapes) -> str:
    """Return `7x5 4x3`, or `3 x 60x60` where the maps are alike."""
    if len(shapes) > 1 and len(set(shapes)) == 1:
        return f"{len(shapes)} x {format_sizes(shapes[:1])}"
    return " ".join(f"{height}x{width}" for height, width in shapes)
