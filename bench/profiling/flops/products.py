"""Products written as a multiplication and a sum: `(q[:, :, None] * k[:, None]).sum(-1)` is the product `q @ k.mT`.

The multiplication of two tensors is remembered with the storage that holds its result, and for each dimension how many
of its two factors vary along it. A sum or a mean over a dimension along which both vary turns it into multiply-adds,
one for each of its elements, once. In between may come whatever leaves a product a product: views, copies, casts,
scaling, masking, broadcasting, a constant or a bias added, pieces joined, other products added.

No product is the square of a tensor, as in a norm or a variance, nor a factor that is constant along the sum, as in the
mean of a normalised or gated map. Whatever else is done to the elements (an activation, say) ends a product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_MULTIPLIES = frozenset(("mul",))
_ADDS = frozenset(("add", "sub", "rsub"))
_KEEPS = frozenset(  # the elements, or multiples of them, or others in their places
    ("neg", "positive", "clone", "_to_copy", "masked_fill", "nan_to_num", "tril", "triu", "where")
)
_MOVES = frozenset(  # elements along their own dimensions
    ("roll", "flip", "repeat", "constant_pad_nd", "index", "_unsafe_index", "index_select", "gather")
)
_WRITES = frozenset(("copy", "fill", "zero"))  # into a tensor or a part of one
_JOINS = frozenset(("cat", "stack"))
_SUMS = frozenset(("sum", "mean", "cumsum"))
_POOLS = frozenset(("avg_pool2d", "_adaptive_avg_pool2d"))  # means over the last two dimensions
_SCATTERED = {"scatter_add": 3, "scatter_reduce": 3, "index_put": 2}  # which argument they add or put


@dataclass(eq=False)
class _Multiplication:
    """A multiplication by the number of its elements that no sum has yet made multiply-adds."""

    elements: int


@dataclass(frozen=True, kw_only=True)
class _Product:
    """Factors and origins of a tensor's values, as far as they are known.

    Attributes:
        factors: For each dimension, how many factors vary along it.
        origins: The multiplications that the values come from; none for values that are no product.
    """

    factors: tuple[int, ...]
    origins: frozenset[_Multiplication] = frozenset()


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A product in the storage that holds it; the storage is kept, so that no other takes its address."""

    storage: Any
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    product: _Product

    def seen_as(self, view: Tensor) -> _Product:
        """Return the product as a view of the same storage shows it."""
        dimensions = zip(view.shape, view.stride(), strict=True)
        return _Product(
            factors=tuple(self._along(size, stride) for size, stride in dimensions), origins=self.product.origins
        )

    def _along(self, size: int, stride: int) -> int:
        """Return how many factors vary along a dimension of `size` steps of `stride` elements of the storage."""
        if size < 2 or not stride:
            return 0
        varying = [
            factors
            for own, factors in zip(self.strides, self.product.factors, strict=True)
            if own and stride * (size - 1) >= own and stride % self._period(own, stride)
        ]
        return max(varying, default=2)  # by default: from one product to the next, as in a stack

    def _period(self, stride: int, at_most: int) -> int:
        """Return after how many elements an index of the dimension with `stride` starts again."""
        larger = [other for size, other in zip(self.sizes, self.strides, strict=True) if size > 1 and other > stride]
        return min(larger, default=at_most + 1)


class ProductTracker:
    """Follows multiplications from operator to operator until a sum."""

    def __init__(self) -> None:
        self._stored: dict[int, _Stored] = {}

    def follow(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> int:
        """Take note of a call of an operator, and return the multiply-adds that become known by it."""
        name = func._schema.name.removeprefix("aten::").removesuffix("_")
        output = result[0] if isinstance(result, (tuple, list)) and result else result
        if not isinstance(output, Tensor):
            return 0
        if not func._schema.is_mutable and _address(output) in self._stored:  # a view: its storage tells
            return 0
        product, macs = self._product(name, [*args, *kwargs.values()], output)
        before = self._stored.pop(_address(output), None)
        if product is not None and product.origins:
            self._stored[_address(output)] = _Stored(
                storage=output.untyped_storage(), sizes=tuple(output.shape), strides=output.stride(), product=product
            )
        elif before and name in _WRITES and output.numel() * output.element_size() < before.storage.nbytes():
            self._stored[_address(output)] = before  # masked in part
        return macs

    def _product(self, name: str, args: Sequence[Any], output: Tensor) -> tuple[_Product | None, int]:
        """Return what the result of an operator is as a product, None for no product, and the multiply-adds."""
        if name in _SUMS or name in _POOLS:
            dimensions = range(-2, 0) if name in _POOLS else _summed(args)
            return self._sum(args[0], dimensions, output)
        if name in _SCATTERED:
            return self._scattered(args[0], args[_SCATTERED[name]], args[_SCATTERED[name] + 1 :], output)
        if name in _MULTIPLIES:
            return self._multiplied(args, output), 0
        if name in _ADDS:
            return self._added(args, output), 0
        if name in _JOINS:
            return self._joined(name, args, output), 0
        if name in _WRITES:  # beside what is there
            return self._united(args[1:2], output, also=self._known(args[0]).origins), 0
        if name == "div":
            return self._united(args[:1], output), 0
        if name in _MOVES:
            return self._moved(args[0], output), 0
        return (self._united(args, output), 0) if name in _KEEPS else (None, 0)

    def _scattered(
        self, target: Tensor, values: Tensor, how: Sequence[Any], output: Tensor
    ) -> tuple[_Product | None, int]:
        """Return what is added to a tensor at indices, or put there."""
        if not {"amin", "amax", "prod"}.isdisjoint(word for word in how if isinstance(word, str)):
            return None, 0
        if False in how:
            known = self._known(values)
            return _Product(factors=(2,) * output.dim(), origins=known.origins | self._known(target).origins), 0
        return self._sum(values, range(values.dim()), output)

    def _known(self, tensor: Tensor) -> _Product:
        stored = self._stored.get(_address(tensor))
        if stored is not None:
            return stored.seen_as(tensor)
        dimensions = zip(tensor.shape, tensor.stride(), strict=True)
        return _Product(factors=tuple(int(size > 1 and stride != 0) for size, stride in dimensions))

    def _multiplied(self, args: Sequence[Any], output: Tensor) -> _Product | None:
        tensors = [arg for arg in args[:2] if isinstance(arg, Tensor)]
        varying = [tensor for tensor in tensors if any(self._known(tensor).factors)]
        if len(varying) < 2:
            return self._united(tensors, output)
        if _same(*varying):
            return None
        factors = zip(*(_broadcast(self._known(tensor).factors, output.dim()) for tensor in varying), strict=True)
        return _Product(factors=tuple(map(sum, factors)), origins=frozenset((_Multiplication(output.numel()),)))

    def _added(self, args: Sequence[Any], output: Tensor) -> _Product | None:
        tensors = [arg for arg in args[:2] if isinstance(arg, Tensor)]
        whole = [tensor for tensor in tensors if not self._known(tensor).origins and tensor.numel() == output.numel()]
        return None if whole and output.numel() > 1 else self._united(tensors, output)

    def _united(
        self, args: Iterable[Any], output: Tensor, also: frozenset[_Multiplication] = frozenset()
    ) -> _Product | None:
        """Return a tensor whose every element is one of a product among `args`, or what was there before."""
        known = [self._known(arg) for arg in args if isinstance(arg, Tensor)]
        products = [product for product in known if product.origins]
        if not products:
            return None
        factors = zip(*(_broadcast(product.factors, output.dim()) for product in products), strict=True)
        origins = frozenset().union(also, *(product.origins for product in products))
        return _Product(factors=tuple(map(max, factors)), origins=origins)

    def _moved(self, source: Tensor, output: Tensor) -> _Product:
        """Return elements at other places; where the rank is another, of dimensions that are not told apart."""
        known = self._known(source)
        factors = known.factors if output.dim() == source.dim() else (max(known.factors, default=0),) * output.dim()
        return _Product(factors=factors, origins=known.origins)

    def _joined(self, name: str, args: Sequence[Any], output: Tensor) -> _Product | None:
        """Return the pieces side by side: along that dimension one product follows the other."""
        dimension = next((arg for arg in args[1:] if isinstance(arg, int)), 0) % max(1, output.dim())
        pieces = [self._known(piece) for piece in args[0]]
        products = [piece for piece in pieces if piece.origins and len(piece.factors) == args[0][-1].dim()]
        if not products:
            return None
        factors = [max(values) for values in zip(*(piece.factors for piece in products), strict=True)]
        factors[dimension : dimension + (name == "cat")] = [2]
        return _Product(factors=tuple(factors), origins=frozenset().union(*(piece.origins for piece in products)))

    def _sum(self, source: Tensor, dimensions: Iterable[int], output: Tensor) -> tuple[_Product | None, int]:
        known, rank = self._known(source), source.dim()
        summed = {dimension % rank for dimension in dimensions} if rank else set()
        if any(known.factors[dimension] > 1 for dimension in summed):
            macs = sum(origin.elements for origin in known.origins)
            for origin in known.origins:
                origin.elements = 0
            return None, macs
        if output.dim() == rank:
            factors = tuple(0 if output.shape[i] == 1 else factor for i, factor in enumerate(known.factors))
        else:
            factors = tuple(factor for i, factor in enumerate(known.factors) if i not in summed)
        return (_Product(factors=factors, origins=known.origins), 0) if len(factors) == output.dim() else (None, 0)


def _summed(args: Sequence[Any]) -> Iterable[int]:
    """Return the dimensions of a sum; all where none is named."""
    named = args[1] if len(args) > 1 and not isinstance(args[1], (bool, torch.dtype)) else None
    if isinstance(named, int):
        return (named,)
    return named or range(args[0].dim())


def _broadcast(factors: Sequence[int], rank: int) -> tuple[int, ...]:
    return (*[0] * (rank - len(factors)), *factors)


def _same(left: Tensor, right: Tensor) -> bool:
    """Return True for two tensors that are the same elements in the same order."""
    first, second = ((_address(view), view.storage_offset(), view.shape, view.stride()) for view in (left, right))
    return first == second


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
