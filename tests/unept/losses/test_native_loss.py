"""The native loss is that of plain PyTorch to rounding, on any number of threads, and wrong ones are told."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from loss_cases import LossCase, complaints, expected, library_of, loss_cases, native
from torch import Tensor

from unept.config import LossConfig
from unept.losses import native_loss, total_loss
from unept.losses.total_loss import Losses
from unept.model import Output
from unept.ops import cpu_build

needs_library = pytest.mark.skipif(bool(cpu_build.problem()), reason="no native kernel")
CASES = {case.name: case for case in loss_cases()}

# What is wrong, the text of loss.h, and what stands there instead.
MUTANTS = {
    "corners aligned where they are not": ("centred_(loss, false)", "centred_(loss, true)"),
    "corners not aligned where they are": ("aligned_(loss, true)", "aligned_(loss, false)"),
    "the upper weight for the lower row": (
        "weight = down.weight[row], rest = 1 - weight;",
        "weight = down.weight[row], rest = weight;",
    ),
    "a neighbour missing at the border": (
        "upper[i] = std::int32_t(whole + 1 < logits ? whole + 1 : whole)",
        "upper[i] = lower[i]",
    ),
    "a direction of another angle": ("kDown[kDirections + 1] = {0, -1, -1,", "kDown[kDirections + 1] = {0, -1, 1,"),
    "the border not held": ("y < loss_.height ? y : loss_.height - 1", "y < loss_.height ? y : 0"),
    "the last of two equal directions": ("plane[i] > best[i] ? c : choice[i]", "plane[i] >= best[i] ? c : choice[i]"),
    "edges by another logit": ("loss_.edge_by_logit ? last[i] > 0.5f", "loss_.edge_by_logit ? last[i] > 0.25f"),
    "directions where no boundary is": ("loss_.area == 1 ? truth", "loss_.area <= 1 ? truth"),
    "both areas taken for one": ("(loss_.area == 0 || truth)", "true"),
    "directions not balanced": ("counts ? direction_weights_[ways[i]] : 0", "counts ? 1.0f : 0"),
    "edges not balanced": ("two ? edge_weights_[positive] : 1.0f", "1.0f"),
    "ignored edges count": ("targets[i] == kNone ? 0.0f : two", "two"),
    "ignored labels count": ("target[i] == kNone ? 0.0f : slope", "slope"),
    "the refined term read at the pixel itself": ("log_sum[own.source[i]] - own.moved[i]", "log_sum[i] - own.moved[i]"),
    "readers of a pixel not counted": ("own.readers[own.source[i]] += 1", "own.readers[own.source[i]] = 1"),
    "the other sign of the lower channel": ("gradient[i] = -upper[i]", "gradient[i] = upper[i]"),
    "the largest logit forgotten": ("Vector<float>(most + logarithm(sum))", "Vector<float>(logarithm(sum))"),
    "a coarse logarithm": ("term < 9; ++term", "term < 7; ++term"),
    "log(1 + e) without what is lost": ("logarithm(sum) + (power - (sum - 1.0f)) / sum", "logarithm(sum)"),
    "terms of the last picture alone": ("loss_.sums[term] += sums[4", "loss_.sums[term] = sums[4"),
}


@needs_library
@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_are_those_of_float64(name: str) -> None:
    assert complaints(CASES[name], native_loss._library()) == []


@needs_library
def test_any_number_of_threads_gives_the_same_bits() -> None:
    case, made = dataclasses.replace(CASES["odd sizes"], batch=7), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 16):
            torch.set_num_threads(threads)
            made.append(native(case, native_loss._library()))
    finally:
        torch.set_num_threads(before)
    for other in made[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in made[0].items())


@needs_library
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("position", "spoilt"), [(0, {"ce", "refined"}), (1, {"boundary"}), (2, {"direction"})])
def test_a_logit_that_is_not_finite_is_seen(value: float, position: int, spoilt: set[str]) -> None:
    """Also one that no pixel reads, and one in the corner of the last picture."""
    case = dataclasses.replace(CASES["paper"], ignored=1.0)
    output = case.output(torch.float32)
    with torch.no_grad():
        output[position][-1, 0, -1, -1] = value
    losses = total_loss.total_loss(output, *case.targets(), case.config, edge_threshold="probability")
    assert {name for name in Losses._fields if getattr(losses, name).isnan()} == {"total", *spoilt}


@needs_library
@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("value", [8, 200, 256, -1])
def test_a_label_that_is_no_class_is_refused(target: int, value: int) -> None:
    case = dataclasses.replace(CASES["two channels"], ignored=0.0, config=LossConfig(direction_area="truth"))
    targets = case.targets()
    targets[1][-1, -1, -1] = 1  # where the direction is read
    targets[target][-1, -1, -1] = value
    with pytest.raises(IndexError, match="out of bounds"):
        native_loss.terms(case.output(torch.float32), targets, case.config, case.threshold)
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        total_loss.terms(case.output(torch.float32), targets, case.config, edge_threshold=case.threshold)


@needs_library
def test_a_training_s_loss_takes_it_where_the_attention_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    case, calls = CASES["paper"], []

    def counted(*arguments: object, **options: object) -> tuple[Tensor, ...]:
        calls.append(1)
        return terms(*arguments, **options)  # type: ignore[arg-type]

    terms = native_loss.terms
    monkeypatch.setattr(native_loss, "terms", counted)

    def loss(output: Output, config: LossConfig = case.config) -> Losses:
        return total_loss.total_loss(output, *case.targets(), config, edge_threshold=case.threshold)

    for backend, count in (("native", 1), ("auto", 1), ("reference", 0)):
        monkeypatch.setenv("UNEPT_BACKEND", backend)
        loss(case.output(torch.float32))
        assert len(calls) == count, backend
        calls.clear()
    monkeypatch.setenv("UNEPT_BACKEND", "native")
    loss(case.output(torch.float64))
    loss(case.output(torch.float32), dataclasses.replace(case.config, bounded=False))
    monkeypatch.setattr(native_loss, "WHOLE", 1000)
    loss(case.output(torch.float32))
    assert not calls, "another type, as it is written, and too large for a cache"


@needs_library
def test_it_is_differentiable_once() -> None:
    output = CASES["paper"].output(torch.float32)
    ce, *_ = native_loss.terms(output, CASES["paper"].targets(), LossConfig(), "probability")
    with pytest.raises(NotImplementedError, match="differentiable once"):
        torch.autograd.grad(ce, output.logits, create_graph=True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_wrong_losses_are_told(tmp_path: Path) -> None:
    names = ["", *MUTANTS]
    with ThreadPoolExecutor(2) as pool:
        built = dict(zip(names, pool.map(lambda name: _mutant(tmp_path, name), names), strict=True))
    told = {name: [line for case in _few() for line in complaints(case, library)] for name, library in built.items()}
    assert told.pop("") == []
    assert [name for name, lines in told.items() if not lines] == []


def _few() -> list[LossCase]:
    few = ("two channels by logit", "both areas", "odd sizes", "paper", "certain", "sure and right")
    return [*(CASES[name] for name in few), LossCase(name="equal directions", tied=True)]


def _mutant(folder: Path, name: str) -> ctypes.CDLL:
    own = folder / str(len(name)) / (name or "right").replace(" ", "_")
    own.mkdir(parents=True)
    for header in cpu_build.sources().glob("*.h"):
        shutil.copy(header, own)
    text = (own / "loss.h").read_text(encoding="utf-8")
    if name:
        before, after = MUTANTS[name]
        assert text.count(before) == 1, name
        text = text.replace(before, after)
    (own / "loss.h").write_text(text, encoding="utf-8")
    return library_of(own, own / "loss.so")


def test_the_expected_numbers_have_every_term() -> None:
    """Else nothing would be compared."""
    made = expected(CASES["paper"])
    assert {name for name in made if " by " not in name} == {"plain", "refined", "boundary", "direction"}
    assert all(tensor.abs().max() > 0 for name, tensor in made.items() if " by " not in name)
    assert sum(bool(tensor.abs().max() > 0) for name, tensor in made.items() if " by " in name) == 4
