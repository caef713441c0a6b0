"""Reformer attention against masked dense attention with the buckets given, its randomness, its padding."""

from __future__ import annotations

import itertools
from unittest import mock

import pytest
import torch
from attention_checks import HEADS, LARGE, NOT_DIVIDING, WIDTH, Case, failures, inputs, prepared
from torch.nn import functional as F

from bench.profiling.receptive_field import measure_receptive_field
from unept.attention import lsh
from unept.attention.lsh import Look, factors, hashed, lsh_attention
from unept.attention.reformer import ReformerSelf


def visits(buckets, look):
    """How many rounds show each pair, (B, H, S, S), from buckets alone; at most one where duplicates do not count."""
    size, rounds = buckets.shape[3], buckets.shape[2]
    chunks = -(-size // look.chunk)
    rank = (buckets * size + torch.arange(size)).argsort(-1).argsort(-1)
    chunk = rank // look.chunk
    count = torch.zeros(*buckets.shape[:2], size, size, dtype=torch.float64)
    for one in range(rounds):
        query, key = chunk[:, :, one, :, None], chunk[:, :, one, None, :]
        seen = torch.zeros_like(count, dtype=torch.bool)
        for step in range(-look.before, look.after + 1):
            seen |= key == (query + step) % chunks
        if look.strict:
            seen &= buckets[:, :, one, :, None] == buckets[:, :, one, None, :]
        count += seen
    return count.clamp(max=1) if look.strict else count


def softmax_over_visits(qk, v, buckets, look):
    own = torch.eye(qk.shape[2], dtype=torch.bool)
    logits = qk @ F.normalize(qk, dim=-1).transpose(-1, -2)
    logits = logits.masked_fill(own, -5e4) + visits(buckets, look).log()
    return logits.softmax(-1) @ v


def case(shapes=NOT_DIVIDING, kind=ReformerSelf, **options):
    """The buckets are those that the module finds for the first of the inputs, given to both sides."""
    module = prepared(kind(width=WIDTH, heads=HEADS, dropout=0.0, **options))
    look = Look(**{"chunk": 64, "before": 1, "after": 0, "strict": False} | {
        name: value for name, value in options.items() if name in ("chunk", "before", "after", "strict")
    })  # fmt: skip

    def twin(tokens, position):
        qk, v = module.project(tokens + position, tokens)
        buckets = module.hash(qk, module.rotations(*qk.shape[2:]))
        return module.out_proj(softmax_over_visits(qk, v, buckets, look).transpose(1, 2).flatten(2))

    return Case(module, shapes, twin, None)


@pytest.mark.parametrize("shapes", [NOT_DIVIDING, LARGE, ((4, 4), (4, 4)), ((1, 1),), ((1, 5),)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"chunk": 8},
        {"chunk": 8, "hashes": 1, "after": 1},
        {"chunk": 8, "before": 0},
        {"chunk": 16, "before": 2, "after": 2, "hashes": 2},
        {"chunk": 8, "strict": True},
        {"chunk": 8, "strict": True, "before": 2, "after": 1, "buckets": 2},
        {"chunk": 4, "buckets": 200},
        {},
    ],
    ids=str,
)
def test_is_masked_dense_attention(shapes, options):
    assert failures(case(shapes, **options)) == set()


LOOKS = [
    Look(chunk=4),
    Look(chunk=4, before=0),
    Look(chunk=4, before=1, after=1),
    Look(chunk=2, before=2, strict=True),
    Look(chunk=4, before=1, after=2, strict=True),
]


def measured(look, size=19):
    """Which values each result depends on, (2, size, size), with the buckets held, and what the rounds show."""
    torch.manual_seed(0)
    qk, v = torch.randn(2, 1, 2, size, 4, dtype=torch.float64)
    v.requires_grad_()
    buckets = torch.randint(0, 6, (1, 2, 3, size))
    found = lsh_attention(*padded(qk, v, buckets, -size % look.chunk), look, real=size)
    seen = torch.zeros(2, size, size, dtype=torch.bool)
    for head, token in itertools.product(range(2), range(size)):
        (gradient,) = torch.autograd.grad(found[0, head, token].sum(), v, retain_graph=True)
        seen[head, token] = gradient[0, head].abs().sum(-1) > 0
    return seen, buckets


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_attends_what_the_rounds_show(look):
    """The measured matrix is the pattern; a token sees its own place only where it is alone, and no other look's."""
    seen, buckets = measured(look)
    others = ~torch.eye(19, dtype=torch.bool)
    shown = visits(buckets, look)[0] > 0
    assert torch.equal(seen & others, shown & others)
    assert torch.equal(seen.diagonal(dim1=1, dim2=2), ~(shown & others).any(-1))
    for other in LOOKS:
        assert other == look or not torch.equal(seen & others, (visits(buckets, other)[0] > 0) & others)


def padded(qk, v, buckets, number, value=0.0):
    qk, v = (F.pad(x, (0, 0, 0, number), value=value) for x in (qk, v))
    return qk, v, F.pad(buckets, (0, number), value=99)


@pytest.mark.parametrize("strict", [False, True])
def test_more_padding_changes_nothing(strict):
    torch.manual_seed(0)
    qk, v = torch.randn(2, 2, 2, 19, 4, dtype=torch.float64)
    buckets, look = torch.randint(0, 6, (2, 2, 3, 19)), Look(chunk=4, after=1, strict=strict)
    expected = lsh_attention(*padded(qk, v, buckets, 1), look, real=19)
    for number in (2, 5, 40):
        found = lsh_attention(*padded(qk, v, buckets, number, value=7.0), look, real=19)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class SeesItself(ReformerSelf):
    """Wrong: a token's own place is like any other."""

    def forward(self, tokens, position, shapes):
        with mock.patch.object(lsh, "OWN", 0.0):
            return super().forward(tokens, position, shapes)


class LooksNowhere(ReformerSelf):
    """Wrong: no chunk sees its neighbour."""

    def forward(self, tokens, position, shapes):
        self.look = Look(chunk=self.look.chunk, before=0)
        return super().forward(tokens, position, shapes)


class CountsTwice(ReformerSelf):
    """Wrong in the strict form: what several rounds show counts as often."""

    def forward(self, tokens, position, shapes):
        right = lsh._shown
        with mock.patch.object(lsh, "_shown", lambda *given: right(*given).clamp(max=1)):
            return super().forward(tokens, position, shapes)


class SeesPadding(ReformerSelf):
    """Wrong: padding is a token like any other."""

    def forward(self, tokens, position, shapes):
        right = lsh._bias

        def bias(look, _, like):
            return right(look, 10**6, like)

        with mock.patch.object(lsh, "_bias", bias):
            return super().forward(tokens, position, shapes)


class OneHashForEachImage(ReformerSelf):
    """Wrong: an image's buckets depend on its place in the batch."""

    def hash(self, qk_BHSD, rotations):
        single = super().hash
        turned = [[rotation.roll(index, 0) for rotation in rotations] for index in range(len(qk_BHSD))]
        return torch.cat([single(image[None], turned[index]) for index, image in enumerate(qk_BHSD)])


@pytest.mark.parametrize(
    ("options", "caught"),
    [
        ({"kind": SeesItself}, {"is_its_twin", "has_its_gradients"}),
        ({"kind": LooksNowhere}, {"is_its_twin"}),
        ({"kind": CountsTwice, "strict": True, "buckets": 2}, {"is_its_twin"}),
        ({"kind": SeesPadding}, {"is_its_twin", "is_blind_to_padding"}),
        ({"kind": OneHashForEachImage}, {"keeps_images_apart"}),
    ],
    ids=["own", "look", "duplicates", "padding", "batch"],
)
def test_a_wrong_one_is_caught(options, caught):
    assert caught <= failures(case(**{"chunk": 8} | options))


def test_hashing_is_by_angle():
    """Length does not matter, opposite vectors are half the buckets apart, near ones mostly share theirs."""
    torch.manual_seed(0)
    rotations = [torch.randn(2, 8, 3, 5)]
    x = torch.randn(1, 2, 100, 8)
    buckets = hashed(x, rotations)
    assert buckets.shape == (1, 2, 3, 100)
    assert set(buckets.unique().tolist()) == set(range(10))
    assert torch.equal(hashed(3 * x, rotations), buckets)
    assert torch.equal(hashed(-x, rotations), (buckets + 5) % 10)
    near = hashed(x + 0.05 * torch.randn(x.shape), rotations)
    assert (
        (near == buckets).float().mean()
        > 0.8
        > 0.3
        > (hashed(torch.randn(x.shape), rotations) == buckets).float().mean()
    )


def test_a_large_number_of_buckets_is_a_product_of_even_ones():
    assert factors(128) == (128,)
    for buckets in range(130, 3000, 2):
        first, second = factors(buckets)
        assert first % 2 == second % 2 == 0
        assert buckets <= first * second <= buckets + 2 * first
    torch.manual_seed(0)
    two = [torch.randn(1, 8, 1, 6), torch.randn(1, 8, 1, 7)]
    x = torch.randn(1, 1, 500, 8)
    assert torch.equal(hashed(x, two), hashed(x, two[:1]) * 14 + hashed(x, two[1:]))


def test_number_of_buckets_and_their_rotations():
    module = ReformerSelf(width=8, heads=2, hashes=3)
    assert [tuple(r.shape) for r in module.rotations(3600, 4)] == [(2, 4, 3, 56)]  # 2 (3600 // 64) = 112
    assert [tuple(r.shape) for r in module.rotations(10800, 4)] == [(2, 4, 3, 9), (2, 4, 3, 10)]  # 336 -> 18 x 20
    assert [tuple(r.shape) for r in module.rotations(30, 4)] == [(2, 4, 3, 1)]


def test_evaluation_repeats_itself_and_training_follows_the_seed():
    torch.manual_seed(5)
    module = ReformerSelf(width=WIDTH, heads=HEADS, dropout=0.0, chunk=4).eval()
    tokens = torch.randn(1, 47, WIDTH)
    before = torch.get_rng_state()
    first = module(tokens, None, NOT_DIVIDING)
    assert torch.equal(first, module(tokens, None, NOT_DIVIDING))
    assert torch.equal(torch.get_rng_state(), before)
    module.train()
    torch.manual_seed(1)
    one = module(tokens, None, NOT_DIVIDING)
    other = module(tokens, None, NOT_DIVIDING)
    torch.manual_seed(1)
    assert torch.equal(module(tokens, None, NOT_DIVIDING), one)
    assert not torch.allclose(one, other)


def test_the_evaluation_seed_is_the_process_seed_and_travels_with_the_weights():
    torch.manual_seed(5)
    five, second = ReformerSelf(width=8, heads=2), ReformerSelf(width=8, heads=2, layer=1)
    torch.manual_seed(6)
    six = ReformerSelf(width=8, heads=2)
    seeds = {five.evaluation_seed, second.evaluation_seed, six.evaluation_seed}
    assert len(seeds) == 3
    six.load_state_dict(five.state_dict())
    assert six.evaluation_seed == five.evaluation_seed


def test_buckets_span_levels():
    shapes = ((6, 6), (3, 4))
    found = measure_receptive_field(lambda layer: ReformerSelf(width=8, heads=2, layer=layer, chunk=8), shapes, 8)
    assert all(share > 0.5 for row in found.two_layers for share in row)


def test_half_types_are_finite():
    for dtype in (torch.bfloat16, torch.float16):
        module = ReformerSelf(width=WIDTH, heads=HEADS, dropout=0.1, chunk=4, hashes=2).to(dtype)
        tokens = torch.randn(2, 47, WIDTH, dtype=dtype, requires_grad=True)
        found = module(tokens, None, NOT_DIVIDING)
        found.float().square().sum().backward()
        assert found.dtype == dtype
        assert found.isfinite().all()
        assert tokens.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hashes": 0}, "hashes=0: expected at least 1"),
        ({"chunk": -4}, "chunk=-4: expected at least 1"),
        ({"before": -1}, "before=-1: expected at least 0"),
        ({"after": -1}, "after=-1: expected at least 0"),
        ({"buckets": 7}, "buckets=7: expected an even number"),
        ({"buckets": -2}, "buckets=-2: expected an even number"),
    ],
)
def test_values_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=f"reformer: {message}"):
        ReformerSelf(**{"width": 8, "heads": 2} | options)


def test_inputs_differ():
    """The checks would be blind if tokens and positions were alike."""
    tokens, position = inputs(NOT_DIVIDING)
    assert not torch.allclose(tokens, position)
