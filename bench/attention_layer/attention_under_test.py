"""What is checked: an attention in a slot of the model, made and called as the model does it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unept.config import ModelConfig

Shapes = tuple[tuple[int, int], ...]
TINY: Shapes = ((5, 3), (2, 3), (1, 2))  # odd, and few tokens: what is called many times


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of an attention: the tensors that go in, by name and in order, and the sizes that follow them."""

    tensors: Mapping[str, Tensor | None]
    sizes: tuple[Any, ...]

    def __call__(self, module: nn.Module, seed: int = 0) -> Any:
        """The result; torch's random numbers start at ``seed`` and are afterwards as before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return module(*self.tensors.values(), *self.sizes)

    def answer(self, module: nn.Module, seed: int = 0) -> Any:
        """The result of copies of the tensors, so that a module that writes into them leaves these as they are."""
        return self.having(**{name: tensor.clone() for name, tensor in self.given.items()})(module, seed)

    @property
    def given(self) -> dict[str, Tensor]:
        """The tensors that are there."""
        return {name: tensor for name, tensor in self.tensors.items() if tensor is not None}

    @property
    def first(self) -> Tensor:
        """Tokens or queries: what the result has the shape of."""
        return next(iter(self.given.values()))

    def having(self, **tensors: Tensor) -> Call:
        """The same call with other tensors of these names."""
        return replace(self, tensors={**self.tensors, **tensors})


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The attention that ``model`` has in ``slot``."""

    slot: str
    model: ModelConfig

    @property
    def name(self) -> str:
        """As it is named in the configuration."""
        return str(getattr(self.model, self.slot))

    @property
    def cross(self) -> bool:
        """Whether queries attend to a memory."""
        return self.slot == "decoder_cross"

    @property
    def levels(self) -> int:
        """The most maps that the slot is given."""
        return 1 if self.slot == "decoder_self" else self.model.levels

    def make(self, layer: int = 0, **changes: Any) -> nn.Module:
        """A new module for ``layer``, the same weights each time; ``changes`` are fields of the model."""
        from unept.context import make_slot

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(layer)
            return make_slot(replace(self.model, **changes), self.slot, layer)

    def stirred(self, dtype: torch.dtype = torch.float32, **changes: Any) -> nn.Module:
        """The same in evaluation mode, with noise on its parameters: initial zeros would hide what it does."""
        return stir(self.make(**changes).to(dtype).eval())

    def call(
        self, shapes: Shapes, *, batch: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32, empty: bool = False
    ) -> Call:
        """Normal random inputs on maps of ``shapes``; in the cross slot the grid of queries is like the first map."""
        generator = torch.Generator().manual_seed(seed)
        total = sum(height * width for height, width in shapes)

        def tensor(images: int, tokens: int) -> Tensor:
            if empty:
                return torch.empty(images, tokens, self.model.width, dtype=dtype)
            return torch.randn(images, tokens, self.model.width, generator=generator, dtype=torch.float64).to(dtype)

        if self.cross:
            queries = tensor(batch, math.prod(shapes[0]))
            return Call(tensors={"queries": queries, "memory": tensor(batch, total)}, sizes=(shapes[0], shapes))
        tokens = tensor(batch, total)
        position = tensor(1, total).expand_as(tokens) if self.slot == "encoder_self" else None
        return Call(tensors={"tokens": tokens, "position": position}, sizes=(shapes,))

    def precision(self) -> torch.dtype:
        """Double precision where the attention takes it, else single."""
        try:
            self.call(self.tiny, dtype=torch.float64)(self.stirred(torch.float64))
        except Exception:  # whatever it raises, the check of its gradients says it
            return torch.float32
        return torch.float64

    @property
    def tiny(self) -> Shapes:
        """The smallest maps that it is called with, as many as the slot has."""
        return TINY[: self.levels]


def subject(slot: str, name: str, words: Sequence[str], base: ModelConfig | None = None) -> Subject:
    """The attention ``name`` with the parameters in ``words`` ("window=7") in the model of the paper.

    ValueError, in one line, for a slot, a name, a parameter or a value that cannot be.
    """
    from bench.config.attention_options import applicable_options
    from unept import attention

    attention.attention_names(slot)
    named: dict[str, Any] = {slot: name}
    model, given = replace(base or ModelConfig(), **named), {}
    for word in words:
        parameter, equals, value = word.partition("=")
        if not (parameter and equals and value):
            raise ValueError(f"--set {word}: expected parameter=value")
        if parameter in given:
            raise ValueError(f"--set {word}: {parameter} is given twice")
        given[parameter] = value
    attention.check_slot(slot, name, given)
    options = applicable_options(model, {f"{slot}.{parameter}": value for parameter, value in given.items()})
    found = Subject(slot=slot, model=replace(model, attention_options=tuple(sorted(options.items()))))
    try:
        found.make()
    except ValueError:
        raise
    except Exception:  # not a wrong value but a wrong class: the checks say it
        pass
    return found


def stir(module: nn.Module, seed: int = 1) -> nn.Module:
    """Add noise to the parameters that are trained, in proportion to what keeps a linear layer's results of size 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                scale = 0.5 / parameter.shape[-1] ** 0.5 if parameter.dim() > 1 else 0.1
                parameter.add_((scale * noise).to(parameter))
    return module


def change(found: Any, expected: Tensor) -> float:
    """The largest difference as a share of the largest number expected; infinite where there is none to be had."""
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        return math.inf
    if not expected.numel():
        return 0.0
    difference = (found - expected).abs().max().item()
    largest = expected.abs().max().item()
    share = difference / largest if largest else (math.inf if difference else 0.0)
    return math.inf if math.isnan(share) else share


def sizes(shapes: Shapes) -> str:
    """`7x5 4x3`, or `3 x 60x60` where they are alike."""
    if len(shapes) > 1 and len(set(shapes)) == 1:
        return f"{len(shapes)} x {sizes(shapes[:1])}"
    return " ".join(f"{height}x{width}" for height, width in shapes)
