"""The attention-blind harness: configuration in, rows out.

A study compares variants of one network on one data set, with several seeds each:

    import bench

    def variants(base: bench.Settings) -> tuple[bench.Variant, ...]:
        base = bench.with_field_values(base, ["images=16"])  # of the validation split
        return bench.expand_axes(bench.parse_axes(["encoder_self=deformable,none"]), base)

    request = bench.StudyRequest(preset="quick", seeds=1, steps=2, backend="reference")
    study = bench.build_study("ablate", "encoder_self images=16", variants, request)
    rows = bench.run_study(study)

`build_study` checks everything that needs no training; `run_study` does what is due, each run in a process of its own,
and measures each variant. The same calls resume. The rows stay in the study's folder:

    store = bench.Store(study.out)
    scores = {row["variant"]: row["metrics"]["miou"] for row in store.read("run").rows}

`import bench` imports neither torch nor any other module of the harness: each name comes with its module when it is
first used. Configuration, store and statistics need no torch at all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.config.grid import Axis, Variant, expand_axes, parse_axes, with_field_values
    from bench.config.presets import PRESETS, preset
    from bench.config.settings import EvalConfig, Settings, TrainConfig, settings_from_dict, settings_to_dict
    from bench.evaluation.evaluate import evaluate_model
    from bench.results.row_files import StoredRows
    from bench.results.store import Store
    from bench.stats.bootstrap import paired_bootstrap
    from bench.stats.power import plan_seeds
    from bench.stats.seed_statistics import holm_adjust, permutation_test, summarize_sample, welch_test
    from bench.study.options import StudyRequest
    from bench.study.plan import plan_study
    from bench.study.request import build_study
    from bench.study.run import run_study, study_rows
    from bench.study.shard import Shard
    from bench.study.study import Study
    from bench.training.execution import Execution
    from bench.training.loop import Callback, train
    from unept.checkpoints.model_file import load_model, save_model

__all__ = [
    "PRESETS",
    "Axis",
    "Callback",
    "EvalConfig",
    "Execution",
    "Settings",
    "Shard",
    "Store",
    "StoredRows",
    "Study",
    "StudyRequest",
    "TrainConfig",
    "Variant",
    "build_study",
    "evaluate_model",
    "expand_axes",
    "holm_adjust",
    "load_model",
    "paired_bootstrap",
    "parse_axes",
    "permutation_test",
    "plan_seeds",
    "plan_study",
    "preset",
    "run_study",
    "save_model",
    "settings_from_dict",
    "settings_to_dict",
    "study_rows",
    "summarize_sample",
    "train",
    "welch_test",
    "with_field_values",
]

_HOMES = {
    "PRESETS": "bench.config.presets",
    "Axis": "bench.config.grid",
    "Callback": "bench.training.loop",
    "EvalConfig": "bench.config.settings",
    "Execution": "bench.training.execution",
    "Settings": "bench.config.settings",
    "Shard": "bench.study.shard",
    "Store": "bench.results.store",
    "StoredRows": "bench.results.row_files",
    "Study": "bench.study.study",
    "StudyRequest": "bench.study.options",
    "TrainConfig": "bench.config.settings",
    "Variant": "bench.config.grid",
    "build_study": "bench.study.request",
    "evaluate_model": "bench.evaluation.evaluate",
    "expand_axes": "bench.config.grid",
    "holm_adjust": "bench.stats.seed_statistics",
    "load_model": "unept.checkpoints.model_file",
    "paired_bootstrap": "bench.stats.bootstrap",
    "parse_axes": "bench.config.grid",
    "permutation_test": "bench.stats.seed_statistics",
    "plan_seeds": "bench.stats.power",
    "plan_study": "bench.study.plan",
    "preset": "bench.config.presets",
    "run_study": "bench.study.run",
    "save_model": "unept.checkpoints.model_file",
    "settings_from_dict": "bench.config.settings",
    "settings_to_dict": "bench.config.settings",
    "study_rows": "bench.study.run",
    "summarize_sample": "bench.stats.seed_statistics",
    "train": "bench.training.loop",
    "welch_test": "bench.stats.seed_statistics",
    "with_field_values": "bench.config.grid",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
