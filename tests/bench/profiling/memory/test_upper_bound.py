"""Advice on what will not fit: a bound that never says too little, warnings, and rows `skipped` where asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driving import SETTINGS, Silent, jobs, opened

from bench import environment
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import Settings, settings_to_dict
from bench.launchers.local import run_local_jobs
from bench.launchers.queue import Job
from bench.profiling.memory import upper_bound
from bench.profiling.memory.predict import predict_peak
from bench.profiling.memory.setting import StepSetting
from bench.profiling.memory.tracker import PeakMemory
from bench.results.rows import content_key
from bench.study import oom_policy
from experiments.tables import table8
from unept.utils import container
from unept.utils.container import MemoryLimit

GIB = 1 << 30


def peak(settings: Settings, backend: str = "native") -> int:
    setting = StepSetting(batch=settings.train.batch, size=settings.model.size, bounded=False, device="cpu")
    return predict_peak(settings, setting, backend=backend).bytes


@pytest.mark.parametrize(
    ("backend", "changes"),
    [
        ("reference", {"points": 64, "size": 128}),
        ("native", {"encoder_self": "dense_math", "decoder_self": "dense_math", "size": 256, "dropout": 0.1}),
        ("native", {"architecture": "ccnet", "classes": 150, "size": 128}),
    ],
    ids=str,
)
def test_the_bound_never_says_too_little(backend: str, changes: dict[str, Any]) -> None:
    """The other networks are slow tests."""
    settings = replace_fields(preset("quick"), changes)
    assert upper_bound.step_upper_bound(settings, backend) > peak(settings, backend)


@pytest.mark.slow
@pytest.mark.parametrize("row", table8.table8_networks(), ids=lambda row: row.name)
def test_the_bound_holds_for_every_network_of_the_paper(row: table8.MemoryRow) -> None:
    settings = replace(row.settings, train=replace(row.settings.train, batch=2))
    for backend in ("native", "reference"):
        assert upper_bound.step_upper_bound(settings, backend) > peak(settings, backend)


def test_what_the_reference_holds_is_more() -> None:
    settings = replace_fields(preset("quick"), {"points": 16, "size": 96})
    assert peak(settings, "reference") > 1.2 * peak(settings)


def spec(variant: str, **changes: Any) -> dict[str, Any]:
    return {"variant": variant, "settings": settings_to_dict(replace_fields(preset("quick"), changes))}


def advised(
    specs: list[dict[str, Any]], free: float, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> oom_policy.MemoryAdvice:
    """With so many GiB free."""
    monkeypatch.setattr(environment, "available_memory_bytes", lambda: round(free * GIB))
    return oom_policy.advise_on_memory(specs, "native", **{"at_once": 1, "skip_oom": False} | options)


def test_a_small_study_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr("bench.profiling.memory.predict.predict_peak", refuse)
    found = advised([spec("N=4", points=4), spec("N=64", points=64)], 16, monkeypatch, at_once=4)
    assert found == oom_policy.MemoryAdvice(misfits={}, warnings=())
    assert oom_policy.advise_on_memory([], "native", at_once=1, skip_oom=True).warnings == ()


def test_what_does_not_fit_is_said_with_what_is_needed_and_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def predicted(settings: Settings, setting: StepSetting, *, backend: str) -> PeakMemory:
        assert (setting.batch, setting.size, setting.bounded, setting.device) == (800, 64, True, "cpu")
        assert backend == "native"
        return PeakMemory(bytes=settings.model.levels * GIB, kinds={}, location="")

    monkeypatch.setattr("bench.profiling.memory.predict.predict_peak", predicted)
    small, large = spec("L=1", levels=1, batch=800), spec("L=3", batch=800)
    found = advised([small, large], 2.5, monkeypatch)
    needs = "warning: L=3: a training step needs 3.0 GiB, predicted"
    assert found.misfits == {content_key(large["settings"]): f"{needs[14:]}; there are 2.5 GiB of memory free here"}
    assert found.warnings == (
        f"{needs}; there are 2.5 GiB of memory free here; it runs all the same; --skip-oom would leave it out",
    )
    (line,) = advised([small, large], 2.5, monkeypatch, skip_oom=True).warnings
    assert line == f"{needs}; there are 2.5 GiB of memory free here; it is skipped"
    (line,) = advised([small, large], 4, monkeypatch, at_once=2).warnings
    together = "2 run side by side; there are 4.0 GiB of memory free here: --jobs 1 takes them one by one"
    assert line == f"{needs}, and {together}"
    assert advised([small, large], 4, monkeypatch, at_once=2).misfits == {}


def test_a_gpu_s_memory_is_what_counts_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(total_memory=8 * GIB, name="A Card")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda _: card)
    assert str(upper_bound.available_memory()) == "8.0 GiB on the GPU (A Card)"


def test_the_limit_of_a_control_group_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[MemoryLimit] = []
    monkeypatch.setattr(container, "memory_limits", lambda: limits)
    assert environment.available_memory_bytes() > 1 << 20
    limits += [MemoryLimit(2 * GIB, GIB), MemoryLimit(1500, 1000)]
    assert environment.available_memory_bytes() == 500
    assert str(upper_bound.available_memory()) == "0.0 GiB of memory free here"
    limits[1:] = [MemoryLimit(1000, 1500)]
    assert environment.available_memory_bytes() == 0


def test_a_step_that_cannot_be_traced_is_said_nothing_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise NotImplementedError("a tensor's content decides")

    monkeypatch.setattr("bench.profiling.memory.predict.predict_peak", fail)
    assert advised([spec("L=3")], 0.001, monkeypatch).misfits == {}


def test_beyond() -> None:
    base = settings_to_dict(replace_fields(preset("quick"), {}))

    def of(**changes: Any) -> str | None:
        return upper_bound.extra_demand(settings_to_dict(replace_fields(preset("quick"), changes)), base)

    assert of() == ""
    assert of(points=64) == "points=64 for 16"
    assert of(points=64, batch=16) == "points=64 for 16, batch=16 for 8"
    assert of(points=4) is None
    assert of(points=64, levels=1) is None
    assert of(points=64, lr=1e-4) is None
    assert of(encoder_self="none") is None
    assert upper_bound.extra_demand(base, {**base, "model": {}}) is None


def statuses(out: Path) -> dict[tuple[int, int], tuple[str, str]]:
    rows = opened(out).read("run").rows
    return {(row["axes"]["points"], row["seed"]): (row["status"], row["message"]) for row in rows}


def test_after_one_that_ran_out_of_memory_those_that_ask_for_more_are_skipped(tmp_path: Path) -> None:
    store, todo = opened(tmp_path), jobs(tmp_path, "unwell", points=(2, 64, 128, 16), seeds=2)
    skip = oom_policy.skip_rule(store, oom_policy.MemoryAdvice(misfits={}, warnings=()))
    ended = run_local_jobs(store, todo, parallel=1, progress=Silent(), skip=skip)
    assert [each.status for each in ended] == ["ok", "oom", "skipped", "oom", "ok", "skipped", "skipped", "skipped"]
    found = statuses(tmp_path)
    assert found[128, 0] == ("skipped", "--skip-oom: N=64 seed 0 ran out of memory, and this takes points=128 for 64")
    assert found[16, 1] == ("skipped", "--skip-oom: N=16 seed 0 ran out of memory, and this is the same")
    later = jobs(tmp_path, "unwell", points=(256,))
    again = oom_policy.skip_rule(store, oom_policy.MemoryAdvice(misfits={}, warnings=()))
    assert [each.status for each in run_local_jobs(store, later, parallel=1, progress=Silent(), skip=again)] == [
        "skipped"
    ]


def test_a_record_of_another_machine_is_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    run_local_jobs(store, jobs(tmp_path, "unwell", points=(16,)), parallel=1, progress=Silent())
    monkeypatch.setattr(environment, "usable_memory_gib", lambda: 1024.0)
    reason = oom_policy.skip_rule(store, oom_policy.MemoryAdvice(misfits={}, warnings=()))
    assert reason(jobs(tmp_path, "unwell", points=(64,))[0], []) == ""


def test_what_is_predicted_not_to_fit_is_skipped_and_the_rest_goes_on(tmp_path: Path) -> None:
    todo: list[Job] = jobs(tmp_path, "quick", points=(4, 8))
    misfit = content_key(SETTINGS | {"model": {"points": 8}})
    store = opened(tmp_path)
    skip = oom_policy.skip_rule(
        store, oom_policy.MemoryAdvice(misfits={misfit: "a training step needs 9 GiB"}, warnings=())
    )
    run_local_jobs(store, todo, parallel=1, progress=Silent(), skip=skip)
    found = statuses(tmp_path)
    assert found[8, 0] == ("skipped", "--skip-oom: a training step needs 9 GiB")
    assert found[4, 0] == ("ok", "")
