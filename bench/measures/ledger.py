"""A ledger of live tensors: what is allocated and freed while it is open, of what kind it is, and what the peak holds.

It counts storages at the dispatcher, on real tensors and on fake ones alike: a storage begins with the operator that
returns it and ends when nothing refers to it. What an operator uses inside itself is not seen.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.module_tracker import ModuleTracker

PARAMETERS, GRADIENTS, OPTIMIZER, INPUTS = "parameters", "gradients", "optimizer state", "inputs"
ACTIVATIONS, TEMPORARIES = "activations", "temporaries"
KINDS = (PARAMETERS, GRADIENTS, OPTIMIZER, INPUTS, ACTIVATIONS, TEMPORARIES)


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The largest number of live bytes, by kind, and where it came: the phase of the step, and the module at work."""

    bytes: int
    kinds: dict[str, int]
    place: str


class Ledger(TorchDispatchMode):
    """Open it around a step with `with`; tell it by `mark` what is there before and what gradients and state are.

    Activations are what autograd keeps for the backward pass and is no parameter, input or gradient; temporaries are
    the rest. Only tensors that `mark` named or that were made while the ledger is open are counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._modules = ModuleTracker()
        self._saving = saved_tensors_hooks(self._saved, lambda tensor: tensor)
        self._sizes: list[int] = []  # of each storage, in the order in which they came
        self._kinds: list[str] = []
        self._numbers: dict[int, int] = {}  # of the living, by address
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._events: list[tuple[int, str]] = []  # a number and the place for a birth; ~number for a death
        self._from = 0
        self.phase = ""  # what the step is at, for the peak's place

    def __enter__(self) -> Ledger:
        self._modules.__enter__()
        self._saving.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._saving.__exit__(kind, error, trace)
        self._modules.__exit__(kind, error, trace)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._enter(tensor)
        return result

    def mark(self, tensors: Iterable[Tensor | None], kind: str) -> None:
        """Say what kind these are; those that were not known count from now on."""
        assert kind in KINDS, kind
        for tensor in tensors:
            if tensor is not None:
                self._kinds[self._enter(tensor)] = kind

    def live(self) -> int:
        """Bytes alive now, of what is counted."""
        return sum(self._sizes[number] for number in self._numbers.values())

    def begin(self) -> None:
        """Look for the peak from here on."""
        self._from = len(self._events)

    def peak(self) -> Peak:
        """The peak since `begin`, by what was known of each storage in the end."""
        live = highest = 0
        place, where = -1, ""
        for index, (number, step) in enumerate(self._events):
            live += self._sizes[number] if number >= 0 else -self._sizes[~number]
            if index >= self._from and live > highest:
                highest, place, where = live, index, step
        alive: set[int] = set()
        for number, _ in self._events[: place + 1]:
            if number >= 0:
                alive.add(number)
            else:
                alive.discard(~number)
        kinds = Counter(dict.fromkeys(KINDS, 0))
        for number in alive:
            kinds[self._kinds[number]] += self._sizes[number]
        return Peak(bytes=highest, kinds=dict(kinds), place=where)

    def _enter(self, tensor: Tensor) -> int:
        """The number of the tensor's storage, which is born now if it was not known."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._numbers:
            return self._numbers[address]
        number = self._numbers[address] = len(self._sizes)
        self._sizes.append(storage.nbytes())
        self._kinds.append(TEMPORARIES)
        self._events.append((number, self._place()))

        def died(_: Any) -> None:
            del self._numbers[address], self._watched[address]
            self._events.append((~number, ""))

        self._watched[address] = weakref.ref(storage, died)
        return number

    def _saved(self, tensor: Tensor) -> Tensor:
        number = self._enter(tensor)
        if self._kinds[number] == TEMPORARIES:
            self._kinds[number] = ACTIVATIONS
        return tensor

    def _place(self) -> str:
        """The phase of the step, and the innermost module that is at work."""
        names = [name for name in self._modules.parents if name != "Global"]
        inner = max(names, key=lambda name: name.count("."), default="")
        module = inner.partition(".")[2] or inner
        return f"{self.phase}: {module}" if self.phase and module else self.phase or module


def without_data(model: nn.Module) -> nn.Module:
    """A model that was built on the meta device, its parameters and buffers made anew on the CPU: inside a fake-tensor
    mode they have sizes but no data.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                made = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(made, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return model
