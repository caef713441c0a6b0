"""Live tensors: what is allocated and freed while a tracker is open, of what kind it is, and what the peak holds.

Storages are counted at the dispatcher, on real tensors and on fake ones alike: a storage begins with the operator that
returns it and ends when nothing refers to it. The memory that an operator uses inside itself is not seen.
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
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.hooks import RemovableHandle

PARAMETERS, GRADIENTS, OPTIMIZER, INPUTS = "parameters", "gradients", "optimizer state", "inputs"
ACTIVATIONS, TEMPORARIES = "activations", "temporaries"
KINDS = (PARAMETERS, GRADIENTS, OPTIMIZER, INPUTS, ACTIVATIONS, TEMPORARIES)


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """The largest number of live bytes.

    Attributes:
        bytes: Bytes at the peak.
        kinds: The same by KINDS.
        location: The phase of the step and the module at work when it came.
    """

    bytes: int
    kinds: dict[str, int]
    location: str


class MemoryTracker(TorchDispatchMode):
    """Dispatch mode that tracks live tensors around a training step.

    Usage: `mark` what is there before, run the step inside `with tracker:`, `mark` gradients and optimiser state, and
    read `peak()`. Activations are what autograd keeps for the backward pass and is no parameter, input or gradient;
    temporaries are the rest. Only tensors that `mark` named or that were made while the tracker is open are counted.
    Set `phase` to name the part of the step that runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._saving = saved_tensors_hooks(self._saved, self._wanted)
        self._hooks: list[RemovableHandle] = []
        self._inside: list[str] = []  # the modules whose forward pass is on, the innermost last
        self._behind = ""  # the module, or the loss, whose backward pass asked for a tensor last
        self._names: dict[nn.Module, str] = {}
        self._sizes: list[int] = []  # of each storage, in the order in which they came
        self._kinds: list[str] = []
        self._numbers: dict[int, int] = {}  # of the living, by address
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._events: list[tuple[int, str]] = []  # a number and the place for a birth; ~number for a death
        self._from = 0
        self.phase = ""  # what the step is at, for the peak's place

    def __enter__(self) -> MemoryTracker:
        self._hooks = [
            register_module_forward_pre_hook(lambda module, _: self._inside.append(self._name(module))),
            register_module_forward_hook(lambda *_: self._leave(), always_call=True),
        ]
        self._saving.__enter__()
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._saving.__exit__(kind, error, trace)
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor):
                self._enter(tensor)
        return result

    def mark(self, tensors: Iterable[Tensor | None], kind: str) -> None:
        """Set the kind of these tensors; those that were not known count from now on."""
        assert kind in KINDS, kind
        for tensor in tensors:
            if tensor is not None:
                self._kinds[self._enter(tensor)] = kind

    def live_bytes(self) -> int:
        """Return the counted bytes that are alive now."""
        return sum(self._sizes[number] for number in self._numbers.values())

    def start_peak(self) -> None:
        """Look for the peak from here on."""
        self._from = len(self._events)

    def peak(self) -> PeakMemory:
        """Return the peak since `start_peak`, with the kinds that storages have in the end."""
        live = highest = 0
        peak_index, location = -1, ""
        for index, (number, event_location) in enumerate(self._events):
            live += self._sizes[number] if number >= 0 else -self._sizes[~number]
            if index >= self._from and live > highest:
                highest, peak_index, location = live, index, event_location
        alive: set[int] = set()
        for number, _ in self._events[: peak_index + 1]:
            if number >= 0:
                alive.add(number)
            else:
                alive.discard(~number)
        kinds = Counter(dict.fromkeys(KINDS, 0))
        for number in alive:
            kinds[self._kinds[number]] += self._sizes[number]
        return PeakMemory(bytes=highest, kinds=dict(kinds), location=location)

    def _enter(self, tensor: Tensor) -> int:
        """Return the number of the tensor's storage, which is born now if it was not known."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._numbers:
            return self._numbers[address]
        number = self._numbers[address] = len(self._sizes)
        self._sizes.append(storage.nbytes())
        self._kinds.append(TEMPORARIES)
        self._events.append((number, self._location()))

        def died(_: Any) -> None:
            del self._numbers[address], self._watched[address]
            self._events.append((~number, ""))

        self._watched[address] = weakref.ref(storage, died)
        return number

    def _saved(self, tensor: Tensor) -> tuple[Tensor, str]:
        number = self._enter(tensor)
        if self._kinds[number] == TEMPORARIES:
            self._kinds[number] = ACTIVATIONS
        return tensor, self._inside[-1] if self._inside else self.phase  # of the loss, which is no module

    def _wanted(self, saved: tuple[Tensor, str]) -> Tensor:
        tensor, self._behind = saved
        return tensor

    def _location(self) -> str:
        """Return the phase of the step, and the innermost module that is at work."""
        module = self._inside[-1] if self._inside else self._behind if self.phase == "backward" else ""
        return f"{self.phase}: {module}" if self.phase and module else self.phase or module

    def _name(self, module: nn.Module) -> str:
        """Return the module's name in the outermost module that was called, which is the model."""
        if not self._inside and module not in self._names:
            self._names = {part: name for name, part in module.named_modules()}
        return self._names.get(module, type(module).__name__)

    def _leave(self) -> None:
        self._inside.pop()


def reallocate_on_cpu(model: nn.Module) -> nn.Module:
    """Give a model from the meta device new parameters and buffers on the CPU, and return it.

    Inside a fake-tensor mode they have sizes but no data.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return model
