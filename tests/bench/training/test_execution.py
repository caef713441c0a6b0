"""Each way to carry out a step agrees with the plain one: exactly, or within what its arithmetic allows."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest
import torch
from parallel_work import CASES, PAPER, steps
from torch import Tensor, nn

import unept
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.training import checkpoint, execution, loop
from bench.training.activation_checkpointing import enable_activation_checkpointing
from bench.training.execution import has_unused_parameters, prepare_model
from bench.training.optimizer import make_optimizer
from bench.training.options import Execution, check_batch
from unept.backbones import ResNet
from unept.ops import cpu_build


def stepped(execution: Execution, **changes: object) -> tuple[dict[str, Tensor], Tensor]:
    """The state after two steps in float32 with dropout, and the losses of both."""
    settings: Settings = replace_fields(preset("quick"), {**PAPER, "dropout": 0.1, **changes})
    torch.manual_seed(0)
    model = unept.build(settings.model).train()
    optimizer = make_optimizer(model, settings.train)
    called = prepare_model(model, execution)
    losses = []
    for step in range(2):
        torch.manual_seed(step)
        batch = loop.training_batches(settings, 0).batch_at(step)
        losses.append(torch.stack(loop.train_step(called, optimizer, batch, settings, execution)))
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.stack(losses)


@pytest.fixture(scope="module")
def plain() -> tuple[dict[str, Tensor], Tensor]:
    return stepped(Execution())


@pytest.mark.parametrize("backbone", ["tiny_conv", "tiny_vit"])
def test_checkpointing_changes_no_bit(backbone: str, plain: tuple[dict[str, Tensor], Tensor]) -> None:
    theirs = plain if backbone == "tiny_conv" else stepped(Execution(), backbone=backbone)
    ours = stepped(Execution(checkpointing=True), backbone=backbone)
    assert all(torch.equal(ours[0][name], theirs[0][name]) for name in theirs[0])
    assert torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("synced", [False, True])
def test_a_recomputed_batch_counts_once_in_batch_norms(synced: bool) -> None:
    """Also in those that GPUs synchronise, which compute as any other where there is no process group."""
    torch.manual_seed(0)
    one, other = (ResNet(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), stem_width=4).train() for _ in range(2))
    if synced:
        one, other = (nn.SyncBatchNorm.convert_sync_batchnorm(each) for each in (one, other))
    other.load_state_dict(one.state_dict())
    enable_activation_checkpointing(other)
    image = torch.randn(2, 3, 32, 32)
    for model in (one, other):
        sum(level.sum() for level in model(image)).backward()
    ours, theirs = other.state_dict(), one.state_dict()
    assert ours["layer1.0.bn1.num_batches_tracked"] == 1
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)  # type: ignore[arg-type]


def test_checkpointing_holds_less() -> None:
    held = []
    for checkpointing in (False, True):
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            settings = replace_fields(preset("quick"), {**PAPER, "backbone": "tiny_vit"})
            model = prepare_model(unept.build(settings.model).train(), Execution(checkpointing=checkpointing))
            model(torch.randn(1, 3, 32, 32))
        held.append(sum(saved))
    assert held[1] < 0.7 * held[0]


def test_channels_last_agrees_to_rounding(plain: tuple[dict[str, Tensor], Tensor]) -> None:
    state, losses = stepped(Execution(channels_last=True))
    torch.testing.assert_close(losses, plain[1], rtol=1e-4, atol=1e-5)
    assert state["spatial_branch.convblock1.conv1.weight"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("changes", [{}, {"architecture": "ccnet", "spatial": False, "queries": "embed", "width": 32}])
def test_bf16_agrees_within_its_precision(changes: dict[str, object]) -> None:
    """A bfloat16 has 8 bits: 2 % of the losses after one update, and weights that stay float32."""
    want = stepped(Execution(), **changes)[1]
    state, losses = stepped(Execution(precision="bf16"), **changes)
    torch.testing.assert_close(losses, want, rtol=0.02, atol=0.005)
    assert not torch.equal(losses, want)
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.skipif(bool(cpu_build.problem()), reason="torch.compile needs a compiler on a CPU")
@pytest.mark.filterwarnings("ignore")  # of torch's own, while it compiles
def test_a_compiled_step_agrees_to_rounding() -> None:
    changes = {"dropout": 0.0, "encoder_layers": 0, "spatial": False, "queries": "embed"}
    want = stepped(Execution(), **changes)
    state, losses = stepped(Execution(compile=True), **changes)
    torch.testing.assert_close(losses, want[1], rtol=1e-3, atol=1e-4)
    assert state.keys() == want[0].keys()


@pytest.mark.parametrize(("changes", "unused"), [({}, False), ({"encoder_layers": 0}, True)])
def test_parameters_without_a_part_in_it_are_found(changes: dict[str, object], unused: bool) -> None:
    model = unept.build(replace_fields(preset("quick"), {**PAPER, **changes}).model).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert has_unused_parameters(model, 32) is unused
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_every_network_can_be_asked_for_unused_parameters() -> None:
    for name in ("psanet", "encnet", "pointrend", "dnlnet"):
        changes = {"architecture": name, "spatial": False, "queries": "embed", "width": 32}
        model = unept.build(replace_fields(preset("quick"), {**PAPER, **changes}).model).train()
        assert has_unused_parameters(model, 32) is False, name


def test_pieces_of_a_batch_are_the_batch_where_there_is_no_batch_norm() -> None:
    """Whatever the labels: a piece's cross-entropy is divided by the labelled pixels of all."""
    whole, pieces = (steps("accumulated", Execution(accumulation=micro_batches)) for micro_batches in (1, 4))
    assert max((whole[name] - pieces[name]).abs().max().item() for name in whole) < 1e-9


def test_the_truths_area_is_whole_in_one_piece_after_the_other_too() -> None:
    """Without batch norm every term of Eq. 7 adds up, but for the direction's, whose class shares are each piece's."""
    settings = replace_fields(preset("quick"), {**PAPER, "batch": 4})
    model = unept.build(settings.model).double().eval()
    from parallel_work import batch_of

    from unept.losses.total_loss import BatchTotals
    from unept.model import Output

    batch = batch_of(0)
    with torch.no_grad():
        made = model(batch["image"])
    h = made.boundary.shape[2:]
    output = Output(nn.functional.interpolate(made.logits, size=h), made.boundary, made.direction, None)
    want = loop.compute_losses(output, batch, settings)
    totals = BatchTotals.from_targets(
        batch["label"], batch["boundary"], all_reduce_sum=lambda counts: counts, micro_batches=2
    )
    found = torch.zeros(5, dtype=torch.float64)
    for half in (slice(0, 2), slice(2, 4)):
        part = Output(output.logits[half], made.boundary[half], made.direction[half], None)
        piece = {name: value[half] for name, value in batch.items()}
        found += torch.stack(loop.compute_losses(part, piece, settings, totals))
    torch.testing.assert_close(found[1:4], torch.stack(want)[1:4], rtol=0, atol=1e-12)
    assert abs(found[4] - want.direction) > 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "fp8"}, "--precision fp8: expected fp32 or bf16"),
        ({"loss_normalization": "none"}, "--loss-normalization none: expected global or device"),
        ({"accumulation": 0}, "--accumulation 0: expected at least 1"),
        ({"workers": -1}, "--workers -1: expected at least 0"),
        ({"compile": True, "checkpointing": True}, "give one of them"),
    ],
)
def test_what_cannot_be(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Execution(**changes)  # type: ignore[arg-type]


def test_a_batch_that_does_not_come_out_even() -> None:
    assert check_batch(16, 4, 2) == 2
    with pytest.raises(ValueError, match=r"batch=16 over 3 processes x 2 pieces: expected a multiple of 6"):
        check_batch(16, 3, 2)


def test_a_part_of_a_batch_is_that_of_the_batch() -> None:
    batches = loop.training_batches(replace_fields(preset("quick"), PAPER), seed=1)
    whole = batches.batch_at(3)
    parts = [batches.batch_at(3, part=part, parts=2) for part in range(2)]
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([part[name] for part in parts]), tensor)


def test_processes_draw_their_own_dropout() -> None:
    assert loop._step_seed(3, 5) == loop._step_seed(3, 5, 0)
    assert len({loop._step_seed(3, 5, rank) for rank in range(4)}) == 4


def test_the_cases_have_batch_norm_where_they_should() -> None:
    for case, (changes, _) in CASES.items():
        model = unept.build(replace_fields(preset("quick"), changes).model)
        norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        assert bool(norms) == ("accumulated" not in case), case


def test_a_study_s_runs_name_every_field_of_their_execution() -> None:
    """A default of the options is no part of a run's key; what the runs of a study take is."""
    source = Path(execution.__file__).read_text(encoding="utf-8")
    call = next(
        node for node in ast.walk(ast.parse(source)) if "Execution" in getattr(getattr(node, "func", 0), "id", "")
    )
    assert {keyword.arg for keyword in call.keywords} == {field.name for field in dataclasses.fields(Execution)}
    assert Execution() == execution.DEFAULT_EXECUTION


def test_a_study_computes_with_channels_last_on_a_cpu_and_on_no_other_device() -> None:
    cpu, gpu = (execution.study_execution(torch.device(name)) for name in ("cpu", "cuda"))
    assert dataclasses.replace(cpu, channels_last=False) == gpu == execution.DEFAULT_EXECUTION
    assert cpu.channels_last
    assert execution.describe_arithmetic(cpu) == "float32, channels last"
    assert execution.describe_arithmetic(Execution(precision="bf16")) == "bfloat16 by autocast, channels first"


def test_a_training_with_channels_last_trains_every_weight_and_goes_on_with_its_moments(tmp_path: Path) -> None:
    """Moments that were read in another order of memory than their weights would move the wrong ones."""
    settings: Settings = replace_fields(preset("quick"), {**PAPER, "steps": 3, "scene_train": 8, "checkpoint_every": 2})

    def trained(steps: int, folder: str) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = unept.build(settings.model)
        some = replace_fields(settings, {"steps": steps, "probes": 0, "lr_drop": 1.0})
        options = {"seed": 0, "folder": tmp_path / folder, "progress": lambda *_: None}
        loop.train(model, some, execution=Execution(channels_last=True), **options)  # type: ignore[arg-type]
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    torch.manual_seed(0)
    first = unept.build(settings.model).state_dict()
    whole = trained(4, "whole")
    still = [name for name, tensor in whole.items() if tensor.is_floating_point() and torch.equal(tensor, first[name])]
    assert still == []
    trained(3, "cut")  # leaves the checkpoint of step 2
    continued = trained(4, "cut")
    assert all(torch.equal(continued[name], whole[name]) for name in whole)


def test_moments_are_laid_out_like_their_weights(tmp_path: Path) -> None:
    model = nn.Conv2d(4, 3, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(model, preset("quick").train)
    model(torch.randn(1, 4, 5, 5)).square().sum().backward()
    optimizer.step()
    before = {name: tensor.clone() for name, tensor in optimizer.state[model.weight].items()}
    checkpoint.save_checkpoint(tmp_path, model, optimizer, checkpoint.TrainState(step=1))
    checkpoint.load_checkpoint(tmp_path, model, optimizer)
    for name, tensor in optimizer.state[model.weight].items():
        assert torch.equal(tensor, before[name])
        assert tensor.stride() == before[name].stride(), name
