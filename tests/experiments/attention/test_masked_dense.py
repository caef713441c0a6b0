"""The masked forms give what the true sparse forms give, so that their memory is that of the same pattern."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.attention.masked_dense import MaskedSelf
from experiments.tables import table8
from reports.paper.memory_claims import MASKED_FORMS, MEMORY_STATEMENTS
from unept.attention.longformer import LongformerSelf
from unept.attention.sparse_transformer import SparseTransformerSelf

SHAPES = ((5, 7), (3, 4))
WIDTH, HEADS = 16, 4


def found(layer: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    tokens, position = torch.randn(2, 2, 5 * 7 + 3 * 4, WIDTH, dtype=torch.float64)
    return layer.double().eval()(tokens, position, SHAPES)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("pattern", ["window", "rows_columns"])
def test_a_mask_over_all_pairs_gives_what_the_sparse_form_gives(pattern: str, joint: bool) -> None:
    masked = MaskedSelf(width=WIDTH, heads=HEADS, pattern=pattern, window=6, joint=joint)  # type: ignore[arg-type]
    true: nn.Module = LongformerSelf(width=WIDTH, heads=HEADS, window=6, dilation=(1,))
    if pattern == "rows_columns":
        true = SparseTransformerSelf(width=WIDTH, heads=HEADS)
    true.load_state_dict(masked.state_dict())
    torch.testing.assert_close(found(masked), found(true))
    other = MaskedSelf(width=WIDTH, heads=HEADS, pattern="window", window=8, joint=joint)
    other.load_state_dict(masked.state_dict())
    assert (found(other) - found(masked)).abs().max() > 1e-3


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="pattern=rows: expected window or rows_columns"):
        MaskedSelf(pattern="rows")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads=3: expected an even number"):
        MaskedSelf(width=9, heads=3, pattern="rows_columns")


def test_there_is_a_network_for_every_form_that_a_statement_needs() -> None:
    rows = {row.name: row.settings.model for row in table8.masked_networks()}
    assert [*rows] == [*MASKED_FORMS]
    named = {row.name for row in table8.table8_networks()} | {row.quoted for row in table8.table8_networks()}
    assert {statement.by for statement in MEMORY_STATEMENTS} <= named | rows.keys()
    slots = {(model.encoder_self != "deformable", model.decoder_self != "deformable") for model in rows.values()}
    assert slots == {(True, True), (True, False), (False, True)}
    assert {dict(model.attention_options).get("encoder_self.joint") for model in rows.values()} == {True, False, None}
