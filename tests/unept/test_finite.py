"""Values that are not finite are found in every type that a module may hold, and counted."""

from __future__ import annotations

import math

import pytest
import torch

from unept.utils.finite import NonFiniteError, check_finite, is_finite, non_finite_in, non_finite_names, one_and_more

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.float8_e5m2)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_of_many(dtype: torch.dtype, value: float) -> None:
    values = torch.linspace(-3, 3, 600).reshape(2, 3, 100).to(dtype)
    assert is_finite(values)
    spoilt = torch.linspace(-3, 3, 600)
    spoilt[417] = value
    assert not is_finite(spoilt.to(dtype).reshape(2, 3, 100))


def test_largest_values_nothing_and_whole_numbers_are_finite() -> None:
    assert is_finite(torch.full((1000,), torch.finfo(torch.float32).max))  # their sum is not
    assert is_finite(torch.zeros(0, 3))
    assert is_finite(torch.tensor([2**62, True]))


def test_message_counts_and_says_where() -> None:
    with (
        pytest.raises(NonFiniteError, match=r"^image 3: 2 of 1,200 class logits are not finite$"),
        non_finite_in("image 3"),
    ):
        check_finite(torch.cat([torch.zeros(1198), torch.tensor([math.nan, math.inf])]), "class logits")


def test_names_of_a_state() -> None:
    state = {"b": torch.tensor(math.nan), "a": torch.tensor([1, math.inf]), "c": torch.ones(2), "d": {"no": "tensor"}}
    assert non_finite_names(state) == {"a", "b"}
    assert one_and_more({"b", "a", "c"}) == "a and 2 more"
    assert one_and_more(["b"]) == "b"
