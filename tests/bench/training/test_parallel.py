"""Two processes of gloo are one process of the whole batch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import parallel_work
from parallel_work import CASES, steps

from bench.training.execution import Execution
from bench.training.launch import launch

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    launch(parallel_work.work, str(folder), processes=2, gpus=False, threads=1)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_it(case: str, results: Path) -> None:
    a, b = (torch.load(results / f"{case} {rank}.pt") for rank in (0, 1))
    want = steps(case, Execution())
    assert a.keys() == want.keys()
    print(
        case,
        max((a[n].double() - b[n].double()).abs().max().item() for n in a),
        max((a[n].double() - want[n].double()).abs().max().item() for n in a),
        (a["losses"] - want["losses"]).abs().max(),
    )
