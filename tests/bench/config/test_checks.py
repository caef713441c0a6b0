from __future__ import annotations

import pytest
import torch

from bench import environment
from bench.config import checks
from bench.study.request import default_jobs


@pytest.mark.parametrize(
    ("present", "variable", "names"),
    [
        (0, None, ()),
        (0, "", ()),
        (2, None, ("0", "1")),
        (2, "3, 5", ("3", "5")),
        (1, "3,-1,5", ("3",)),  # CUDA takes those before the first that is none
        (2, "GPU-1f,MIG-2a", ("GPU-1f", "MIG-2a")),
    ],
)
def test_gpus_are_named_as_cuda_names_them(
    monkeypatch: pytest.MonkeyPatch, present: int, variable: str | None, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    if variable is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert checks.visible_gpus() == names


def test_runs_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "usable_cores", lambda: 6)
    assert default_jobs(4, ("0", "1", "2")) == 3
    assert default_jobs(1, ()) == 6
    assert default_jobs(4, ()) == 1
    assert default_jobs(8, ()) == 1
