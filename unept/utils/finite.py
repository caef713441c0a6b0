"""Numbers that must be finite: losses, gradients, weights and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class NonFiniteError(ArithmeticError):
    """Raised when a loss, a gradient, a weight or an output is not finite."""


def is_finite(values: Tensor) -> bool:
    """Return True if no value is NaN or infinite; they are read once, without a temporary of their size."""
    if not values.numel() or not (values.is_floating_point() or values.is_complex()):
        return True
    if values.is_complex():
        values = torch.view_as_real(values)
    elif values.element_size() == 1:  # torch computes nothing in the types of 8 bits
        values = values.float()
    return bool(torch.stack(torch.aminmax(values.detach())).isfinite().all())  # NaN becomes both ends


def check_finite(values: Tensor, name: str) -> None:
    """Raise NonFiniteError that counts the values that are not finite, if there are any.

    Args:
        values: The values.
        name: What they are, in the plural, for the message.
    """
    if not is_finite(values):
        raise NonFiniteError(f"{int((~values.isfinite()).sum()):,} of {values.numel():,} {name} are not finite")


def non_finite_names(state: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the tensors of a state dict that hold a NaN or an infinity."""
    return frozenset(name for name, value in state.items() if isinstance(value, Tensor) and not is_finite(value))


def one_and_more(names: Iterable[str]) -> str:
    """Return the first of the names in alphabetical order, and how many more there are."""
    first, *more = sorted(names)
    return f"{first} and {len(more)} more" if more else first


@contextmanager
def non_finite_in(source: str) -> Iterator[None]:
    """Say where a NonFiniteError comes from that is raised within the context: `source: message`."""
    try:
        yield
    except NonFiniteError as error:
        raise NonFiniteError(f"{source}: {error}") from None
