"""Two processes of gloo are one process of the whole batch, in float64, after three steps."""

from __future__ import annotations

from pathlib import Path

import parallel_work
import pytest
import torch
from parallel_work import CASES, batch_of, model_of, settings_of, steps
from torch import Tensor

from bench.training import loop
from bench.training.options import Execution
from bench.training.spawn import launch_processes

TOLERANCE = 1e-9
LARGE = "lite0"
QUICK = tuple(case for case in CASES if case != LARGE)
PER_DEVICE = [case for case in CASES if "per device" in case]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    launch_processes(parallel_work.work, (str(folder), QUICK), processes=2, gpus=False, threads=1)
    return folder


def read(results: Path, case: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    first, second = (torch.load(results / f"{case} {rank}.pt", weights_only=True) for rank in (0, 1))
    return first, second


def furthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of parameters, running statistics and losses."""
    assert ours.keys() == theirs.keys()
    return max((ours[name].double() - theirs[name].double()).abs().max().item() for name in ours)


@pytest.mark.parametrize("case", QUICK)
def test_both_processes_end_alike(case: str, results: Path) -> None:
    first, second = read(results, case)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("case", [case for case in QUICK if case not in PER_DEVICE])
def test_two_processes_are_one_of_the_whole_batch(case: str, results: Path) -> None:
    assert furthest(read(results, case)[0], steps(case, Execution())) < TOLERANCE


@pytest.mark.slow
def test_a_network_of_norms_that_activate_too(tmp_path: Path) -> None:
    launch_processes(parallel_work.work, (str(tmp_path), (LARGE,)), processes=2, gpus=False, threads=1)
    first, second = read(tmp_path, LARGE)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert furthest(first, steps(LARGE, Execution())) < TOLERANCE


@pytest.mark.parametrize("case", PER_DEVICE)
def test_with_denominators_of_each_device_they_are_not(case: str, results: Path) -> None:
    assert furthest(read(results, case)[0], steps(case, Execution())) > 1e-3


def test_four_pieces_of_one_process_are_two_of_two(results: Path) -> None:
    """Where there is no batch norm, that is; each piece has denominators of its own."""
    whole = steps("accumulated, per device", Execution(accumulation=4, loss_normalization="device"))
    assert furthest(read(results, "accumulated, per device")[0], whole) < TOLERANCE


def test_denominators_of_each_device_are_the_mean_of_its_losses(results: Path) -> None:
    """One forward pass of the whole batch, as synchronised batch norm has it, and the loss of each half."""
    settings, model, batch = settings_of("released, per device"), model_of("released, per device"), batch_of(0)
    output = model(batch["image"])
    halves = []
    for half in (slice(0, 2), slice(2, 4)):
        own = type(output)(*(part if part is None else part[half] for part in output))
        halves.append(
            torch.stack(loop.compute_losses(own, {name: value[half] for name, value in batch.items()}, settings))
        )
    expected = torch.stack(halves).mean(0)
    found = read(results, "released, per device")[0]["losses"][0]
    torch.testing.assert_close(found, expected.detach(), rtol=0, atol=TOLERANCE)


def test_the_halves_are_unequal() -> None:
    """Or the tests above could not tell one denominator from another."""
    valid = (batch_of(0)["label"] != 255).flatten(1).sum(1)
    assert valid[:2].sum() < 0.3 * valid[2:].sum()
