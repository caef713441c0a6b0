"""Products written as a multiplication and a sum count what the matrix product counts; nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.profiling.flops import counter

B, N, M, C = 2, 6, 5, 4
ALL = B * N * M * C  # multiply-adds of q @ k.mT
Call = Callable[[Tensor, Tensor], Tensor]


class OfTokens(nn.Module):
    """A function of q (B, N, C) and k (B, M, C) as a model of an image."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self.call = call

    def forward(self, image: Tensor) -> Tensor:
        return self.call(image.new_zeros(B, N, C), image.new_zeros(B, M, C))


def count(call: Call) -> tuple[int, int]:
    """Multiply-adds and element-wise operations."""
    counted = counter.count_model(OfTokens(call), (8, 8))
    return round(counted.gmacs * 1e9), round(counted.elementwise_gops * 1e9)


def pairs(q: Tensor, k: Tensor) -> Tensor:
    return q[:, :, None] * k[:, None]


def into_rows(q: Tensor, k: Tensor) -> Tensor:
    table = q.new_empty(B, N, M, C)
    for row in range(N):
        table[:, row] = q[:, row, None] * k
    return table.sum(-1)


def into_channels(q: Tensor, k: Tensor) -> Tensor:
    table = q.new_empty(B, N, M, C)
    for channel in range(C):
        table[..., channel] = q[:, :, None, channel] * k[:, None, :, channel]
    return table.sum(-1)


def in_place(q: Tensor, k: Tensor) -> Tensor:
    table = q[:, :, None].expand(B, N, M, C).clone()
    table *= k[:, None]
    table[:, 0] = 0
    return table.sum(-1)


def in_two_halves(q: Tensor, k: Tensor) -> Tensor:
    table = pairs(q, k)
    return torch.cat((table[..., : C // 2].sum(-1), table[..., C // 2 :].sum(-1)))


PRODUCTS: dict[str, Call] = {
    "matrix product": lambda q, k: q @ k.mT,
    "einsum": lambda q, k: torch.einsum("bnc,bmc->bnm", q, k),
    "sum": lambda q, k: pairs(q, k).sum(-1),
    "mean": lambda q, k: pairs(q, k).mean(-1),
    "sum of all": lambda q, k: pairs(q, k).sum(),
    "kept dimension": lambda q, k: pairs(q, k).sum(-1, keepdim=True),
    "permuted": lambda q, k: pairs(q, k).permute(3, 0, 1, 2).sum(0),
    "copied by a reshape": lambda q, k: pairs(q, k).permute(0, 3, 1, 2).reshape(B, C, -1).sum(1),
    "split in two dimensions": lambda q, k: pairs(q, k).view(B, N, M, 2, 2).sum(-1).sum(-1),
    "flattened": lambda q, k: pairs(q, k).flatten(0, 1).flip(-1).sum(-1),
    "cast": lambda q, k: pairs(q, k).half().sum(-1),
    "scaled": lambda q, k: (pairs(q, k) * 0.5 / 3).sum(-1),
    "scaled by channel": lambda q, k: (pairs(q, k) * q.new_ones(C)).sum(-1),
    "where": lambda q, k: torch.where(q[:, :, None] > k[:, None], pairs(q, k), 0.0).sum(-1),
    "masked": lambda q, k: pairs(q, k).masked_fill(q[:, :, None] > k[:, None], 0.0).sum(-1),
    "lower triangle": lambda q, k: pairs(q, k).tril().sum(-1),
    "bias": lambda q, k: (pairs(q, k) + q.new_ones(C)).sum(-1),
    "padded": lambda q, k: F.pad(pairs(q, k), (0, 2)).sum(-1),
    "expanded": lambda q, k: pairs(q, k)[None].expand(3, B, N, M, C).sum(-1),
    "two products added": lambda q, k: (pairs(q[:, :3], k) + pairs(q[:, 3:], k)).sum(-1),
    "in chunks": lambda q, k: torch.cat([pairs(q[:, i : i + 2], k) for i in (0, 2, 4)], 1).sum(-1),
    "channel by channel": lambda q, k: torch.stack([pairs(q[..., i], k[..., i]) for i in range(C)]).sum(0),
    "in halves": in_two_halves,
    "written by rows": into_rows,
    "written by channels": into_channels,
    "in place": in_place,
    "vmap": lambda q, k: torch.vmap(lambda a, b: (a[:, None] * b[None]).sum(-1))(q, k),
    "pooled": lambda q, k: F.adaptive_avg_pool2d(pairs(q, k).permute(0, 1, 3, 2), (1, M)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_multiplication_and_a_sum_are_the_matrix_product(name: str) -> None:
    assert count(PRODUCTS[name])[0] == ALL


NO_PRODUCTS: dict[str, Call] = {
    "squared norm": lambda q, _: (q * q).sum(-1),
    "squares": lambda q, _: q.pow(2).mean(-1),
    "variance by hand": lambda q, _: ((q - q.mean(-1, keepdim=True)) * (q - 1)).pow(2).mean(-1),
    "softmax by hand": lambda q, _: (q.exp() / q.exp().sum(-1, keepdim=True)).sum(1),
    "gate and mean": lambda q, _: (q * q.mean(1, keepdim=True).sigmoid()).mean(1),
    "scaled branch beside the tokens": lambda q, _: (q + q.sigmoid() * q.new_ones(C)).mean(-1),
    "activation": lambda q, k: pairs(q, k).relu().sum(-1),
    "activation in place": lambda q, k: pairs(q, k).relu_().sum(-1),
    "written over": lambda q, k: pairs(q, k).zero_().sum(-1),
    "denominator": lambda q, k: (1 / pairs(q, k)).sum(-1),
    "greatest": lambda q, k: pairs(q, k).amax(-1),
    "distance": lambda q, k: (q[:, :, None] - k[:, None]).abs().sum(-1),
}


@pytest.mark.parametrize("name", NO_PRODUCTS)
def test_what_is_no_product_counts_no_multiply_add(name: str) -> None:
    macs, elements = count(NO_PRODUCTS[name])
    assert macs == 0
    assert elements > 0


def test_a_multiplication_is_counted_once_and_not_as_elements_too() -> None:
    def both(q: Tensor, k: Tensor) -> Tensor:
        table = pairs(q, k)
        return table.sum(-1).sum() + table.sum(1).sum()

    assert count(lambda q, k: pairs(q, k).sum(-1)) == (ALL, 0)
    assert count(lambda q, k: (2 * pairs(q, k)).sum(-1)) == (ALL, ALL)
    assert count(both) == (ALL, 1)


def test_elements_of_elementwise_operators_are_a_figure_of_their_own() -> None:
    assert count(lambda q, k: (q[:, :, None] - k[:, None]).abs().sum(-1)) == (0, 2 * ALL)
    assert count(lambda q, k: q.clone().view(B, C, N).transpose(1, 2) @ k.mT) == (ALL, 0)
    assert counter.count_model(OfTokens(lambda q, k: (q[:, :, None] - k[:, None]).abs()), (8, 8)).is_mostly_elementwise
    assert not counter.count_model(OfTokens(lambda q, k: (q @ k.mT).relu()), (8, 8)).is_mostly_elementwise
    assert not counter.count_model(OfTokens(lambda q, _: q.clone()), (8, 8)).is_mostly_elementwise, "nothing at all"


@pytest.mark.parametrize("how", ["norm", "amax", "logsumexp", "addcmul"])
def test_half_of_the_products_in_another_form_are_marked(how: str) -> None:
    """A dense product and one that is no sum of a multiplication: as many elements as multiply-adds."""

    def scores(q: Tensor, k: Tensor) -> Tensor:
        table = q[:, :, None] * k[:, None]
        if how == "addcmul":
            total = q.new_zeros(*table.shape[:3])
            for c in range(C):
                total = torch.addcmul(total, q[..., c, None], k[:, None, :, c])
            return total
        return {"norm": table.norm(p=1, dim=-1), "amax": table.amax(-1), "logsumexp": table.logsumexp(-1)}[how]

    counts = counter.count_model(OfTokens(lambda q, k: scores(q, k) + q @ k.mT), (8, 8))
    assert counts.is_mostly_elementwise
    assert round(counts.gmacs * 1e9) == ALL
    assert counts.elementwise_gops * 1e9 >= ALL


def test_a_users_operator_is_not_free_by_calling_itself_elementwise() -> None:
    @torch.library.custom_op("unept_test::pointwise", mutates_args=(), tags=(torch.Tag.pointwise,))
    def pointwise(x: Tensor) -> Tensor:
        return x @ x.mT @ x

    pointwise.register_fake(torch.empty_like)
    with pytest.raises(counter.UncountedError, match="operator unept_test::pointwise is neither counted nor free"):
        count(lambda q, _: pointwise(q))
