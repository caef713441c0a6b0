"""Dense attention by the fused product is the materialised one."""

from __future__ import annotations

import torch
from attention_checks import NOT_DIVIDING, Case, failures, prepared

from unept import attention
from unept.attention.dense_fused import DenseFusedSelf
from unept.attention.multihead import DenseSelf


def case(kind):
    module, twin = (prepared(each(width=24, heads=3, dropout=0.0)) for each in (kind, DenseSelf))
    everything = torch.ones(47, 47, dtype=torch.bool)
    twin.load_state_dict(module.state_dict())
    for name, parameter in module.named_parameters():  # one tensor, so that gradients can be asked of it
        owner, _, last = name.rpartition(".")
        setattr(twin.get_submodule(owner), last, parameter)
    return Case(module, NOT_DIVIDING, lambda tokens, position: twin(tokens, position, NOT_DIVIDING), everything)


def test_fused_is_math():
    assert failures(case(DenseFusedSelf)) == set()


def test_a_wrong_one_is_caught():
    class Unplaced(DenseFusedSelf):
        """Wrong: forgets the positions."""

        def forward(self, tokens, position, shapes):
            return super().forward(tokens, 0 * position, shapes)

    assert failures(case(Unplaced)) == {"is_its_twin", "has_its_gradients"}


def test_dense_is_the_older_name_of_dense_math():
    assert attention.SELF["dense"] is attention.SELF["dense_math"] is DenseSelf
