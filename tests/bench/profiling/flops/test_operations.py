"""Operations against hand counts, second opinions, and a planted operator that nobody counts."""

from __future__ import annotations

import dataclasses
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import unept
from bench.config.presets import preset
from bench.profiling import variant
from bench.profiling.flops import counter
from bench.profiling.target_cost import count_operations
from experiments.tables import table5, table7
from unept.ops import reference

ROWS = {row.name: row.settings for row in table7.table7_variants(preset("quick"))}


class Runs(nn.Module):
    """A model that does `call` to its image."""

    def __init__(self, call, **children: nn.Module) -> None:
        super().__init__()
        self.call = call
        for name, child in children.items():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def on_meta(settings) -> nn.Module:
    with torch.device("meta"):
        return unept.build(settings.model).eval().requires_grad_(False)


def test_convolution_and_linear_by_hand() -> None:
    with torch.device("meta"):
        model = Runs(
            lambda own, x: own.linear(own.conv(x).mean((2, 3))),
            conv=nn.Conv2d(3, 8, 3, stride=2, padding=1),
            linear=nn.Linear(8, 5),
        )
    counted = counter.count_model(model, (12, 10))
    conv, linear = 6 * 5 * 8 * 3 * 9, 8 * 5
    assert counted.gmacs == pytest.approx((conv + linear) / 1e9)
    assert counted.gflops == 2 * counted.gmacs
    assert counted.module_gmacs == pytest.approx(
        (conv + 6 * 5 * 8 + linear) / 1e9
    )  # a bias adds, in a convolution only
    assert counted.module_gflops == 2 * counted.module_gmacs
    assert counted.parameters == 8 * 27 + 8 + 45
    assert [(part.name, part.parameters) for part in counted.parts] == [("conv", 224), ("linear", 45)]
    assert counted.parts[0].gmacs == pytest.approx(conv / 1e9)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.ReLU(), 3 * 8 * 6),
        (nn.Sigmoid(), 0),
        (nn.MaxPool2d(2), 3 * 8 * 6),
        (nn.AdaptiveAvgPool2d(1), 3 * 8 * 6),
        (nn.Upsample(scale_factor=2), 4 * 3 * 8 * 6),
        (nn.LayerNorm(6, device="meta"), 2 * 3 * 8 * 6),
        (nn.LayerNorm(6, elementwise_affine=False), 3 * 8 * 6),
        (nn.GroupNorm(1, 3, device="meta"), 2 * 3 * 8 * 6),
        (nn.BatchNorm2d(3, device="meta"), 0),
        (nn.ConvTranspose2d(3, 4, 2, stride=2, device="meta"), 8 * 6 * 3 * 4 * 4 + 4 * 16 * 12),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False, device="meta"), 8 * 6 * 6 * 9),
    ],
)
def test_modules_as_the_papers_tool_counts_them(module: nn.Module, expected: int) -> None:
    counted = counter.count_model(Runs(lambda own, x: own.one(x), one=module), (8, 6))
    assert counted.module_gmacs == pytest.approx(expected / 1e9)


def test_transposed_convolution_in_the_complete_convention() -> None:
    module = nn.ConvTranspose2d(3, 4, 2, stride=2, device="meta")
    assert counter.count_model(Runs(lambda own, x: own.one(x), one=module), (8, 6)).gmacs == pytest.approx(2304 / 1e9)


def test_a_class_of_its_own_is_unknown_to_the_tool_and_not_to_us() -> None:
    class Padded(nn.Conv2d):
        pass

    counted = counter.count_model(Runs(lambda own, x: own.one(x), one=Padded(3, 4, 1, device="meta")), (8, 6))
    assert counted.module_gmacs == 0
    assert counted.gmacs == pytest.approx(8 * 6 * 12 / 1e9)


def test_fused_attention_is_counted_not_skipped() -> None:
    def attends(_: nn.Module, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    counted = counter.count_model(Runs(attends), (4, 5))
    assert counted.gmacs == pytest.approx(2 * 20 * 20 * 3 / 1e9)
    assert counted.module_gmacs == 0


def test_operators_are_seen_inside_inference_mode_too() -> None:
    @torch.inference_mode()
    def call(_: nn.Module, x: Tensor) -> Tensor:
        return F.linear(x, x.new_ones(5, 6)) @ x.new_ones(5, 7)

    assert counter.count_model(Runs(call), (4, 6)).gmacs == pytest.approx(12 * (6 * 5 + 5 * 7) / 1e9)


def test_grid_sampling_reads_four_neighbours() -> None:
    def call(_: nn.Module, x: Tensor) -> Tensor:
        return F.grid_sample(x, x.new_zeros(1, 7, 2, 2), align_corners=False)

    counted = counter.count_model(Runs(call), (4, 4))
    assert counted.sampling_gmacs == counted.gmacs == pytest.approx(4 * 3 * 14 / 1e9)


def test_an_operator_that_nobody_counts_is_named_with_its_place() -> None:
    model = Runs(lambda own, x: own.inner(x), inner=Runs(lambda _, x: torch.fft.fft2(x).real))
    with pytest.raises(counter.UncountedError, match=r"operator aten::_fft_c2c in inner is neither counted nor free"):
        counter.count_model(model, (4, 4))
    assert isinstance(counter.UncountedError("x"), ValueError)


def test_a_planted_custom_operator_is_an_error_until_it_has_a_formula() -> None:
    from torch.utils import flop_counter

    @torch.library.custom_op("unept_test::planted", mutates_args=())
    def planted(x: Tensor) -> Tensor:
        return x.clone()

    planted.register_fake(torch.empty_like)
    model = Runs(lambda _, x: planted(x))
    with pytest.raises(counter.UncountedError, match="operator unept_test::planted is neither counted nor free"):
        counter.count_model(model, (4, 4))
    packet = torch.ops.unept_test.planted
    flop_counter.register_flop_formula(packet)(lambda shape, **_: 10 * torch.Size(shape).numel())
    try:
        assert counter.count_model(model, (4, 4)).gmacs == pytest.approx(5 * 48 / 1e9)
    finally:
        flop_counter.flop_registry.pop(packet)


def test_hooks_are_gone_after_a_failure() -> None:
    model = Runs(lambda _, x: torch.fft.fft2(x).real)
    with pytest.raises(counter.UncountedError):
        counter.count_model(model, (4, 4))
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_sampling_of_the_quick_model_by_formula() -> None:
    settings = preset("quick")
    model = settings.model
    queries = tokens = (model.size // 8) ** 2
    head = model.width // model.heads
    per_point = 5 * head * model.heads * model.points
    sampled = model.levels * tokens * model.levels + queries * 1 + queries * model.levels
    assert count_operations(settings).sampling_gmacs == pytest.approx(per_point * sampled / 1e9)


@pytest.mark.parametrize("index", range(4))
def test_every_row_of_the_component_table_can_be_counted(index: int) -> None:
    settings = table5.table5_variants(preset("quick"))[index].settings
    assert count_operations(settings).gmacs > 0


def test_more_points_cost_more() -> None:
    base = preset("quick")
    few, many = (dataclasses.replace(base, model=dataclasses.replace(base.model, points=points)) for points in (4, 16))
    assert count_operations(many).gmacs > count_operations(few).gmacs


def test_a_variant_that_cannot_be_counted_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise counter.UncountedError("operator x::y is neither counted nor free")

    monkeypatch.setattr(counter, "count_model", refuse)
    assert variant._count(preset("quick")) == (None, "operator x::y is neither counted nor free")


# --- second opinions, on the rows of Table 7 at reduced width ---------------------------------------------------------


@pytest.mark.parametrize("name", ROWS)
def test_complete_is_torchs_counter_and_sampling(name: str) -> None:
    model = on_meta(ROWS[name])
    counted = counter.count_model(model, (96, 72))
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as theirs:
        model(torch.zeros(1, 3, 96, 72, device="meta"))
    assert counted.matrix_gmacs == pytest.approx(theirs.get_total_flops() / 2e9, rel=1e-12)
    assert (counted.sampling_gmacs > 0) == (name in ("PointRend", "Ours", "Ours, convolutional"))


@pytest.mark.parametrize("name", ROWS)
def test_module_is_mmcvs_counter_on_synchronised_norms(name: str) -> None:
    with warnings.catch_warnings(action="ignore"):
        from mmcv.cnn import get_model_complexity_info

        model = on_meta(ROWS[name])
        counted = counter.count_model(model, (64, 64))
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        theirs, _ = get_model_complexity_info(synchronised, (3, 64, 64), print_per_layer_stat=False, as_strings=False)
    assert counted.module_gmacs == pytest.approx(theirs / 1e9, rel=1e-12)


FREE_IN_FVCORE = ("batch_norm", "layer_norm", "grid_sampler", "upsample_bilinear2d", "adaptive_avg_pool2d")


@pytest.mark.parametrize("name", ROWS)
def test_complete_agrees_with_fvcore_on_real_tensors(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its entries for what is free here, and for sampling, which it counts in part."""
    sample_by_grid(monkeypatch)
    found = fvcore(unept.build(ROWS[name].model), 64, FREE_IN_FVCORE)
    assert count_operations(ROWS[name]).matrix_gmacs == pytest.approx(found, rel=0.005)


def sample_by_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deformable attention in plain PyTorch, without the matrix product that stands in for sampling on small maps."""
    monkeypatch.setenv("UNEPT_BACKEND", "reference")
    monkeypatch.setattr(reference, "sum_by_matrix", reference.sum_by_grid)


def fvcore(model: nn.Module, side: int, without: tuple[str, ...]) -> float:
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # fvcore knows no fused attention
    with warnings.catch_warnings(action="ignore"):
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, side, side))
        analysis = analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return sum(macs for name, macs in analysis.by_operator().items() if name not in without) / 1e9


@pytest.mark.slow
@pytest.mark.parametrize("network", table7.table7_networks(), ids=lambda network: network.name)
def test_second_opinions_at_full_size(network: table7.Table7Network, monkeypatch: pytest.MonkeyPatch) -> None:
    sample_by_grid(monkeypatch)
    with warnings.catch_warnings(action="ignore"):
        from mmcv.cnn import get_model_complexity_info

        with torch.device("meta"):
            model = unept.build(network.config).eval().requires_grad_(False)
        side = 96
        counted = counter.count_model(model, (side, side))
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as theirs:
            model(torch.zeros(1, 3, side, side, device="meta"))
        assert counted.matrix_gmacs == pytest.approx(theirs.get_total_flops() / 2e9, rel=1e-12)
        synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        by_mmcv, _ = get_model_complexity_info(
            synchronised, (3, side, side), print_per_layer_stat=False, as_strings=False
        )
    assert counted.module_gmacs == pytest.approx(by_mmcv / 1e9, rel=1e-12)
    by_fvcore = fvcore(unept.build(network.config), side, ("batch_norm", "layer_norm", "grid_sampler"))
    assert counted.matrix_gmacs == pytest.approx(by_fvcore, rel=0.005)
