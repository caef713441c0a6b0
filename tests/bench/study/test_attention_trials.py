"""A user's attention is tried before it trains: what fails is said at the start and on the report's first screen."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.attention_layer.trial import trial_results
from bench.config.grid import Variant
from bench.config.presets import preset
from bench.config.settings import settings_to_dict
from bench.results.attention_trials import is_tried, read_findings, trial_warnings, trials_of
from bench.results.store import Store
from bench.study.attention_trials import try_attentions
from bench.study.module_copies import copy_modules
from bench.study.plan import plan_study
from bench.study.run import run_study, study_rows
from bench.study.study import Study, WorkerTasks
from reports import read_study, write_report

OWN = """
import os
import sys
import time

import torch
from torch import nn


class Right(nn.Module):
    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, width)

    def forward(self, tokens, position, shapes):
        return self.project(tokens)


class Leak(Right):
    def forward(self, tokens, position, shapes):
        return super().forward(tokens, position, shapes) + 1e-3 * tokens.mean(0, keepdim=True)


class Short(Right):
    def forward(self, tokens, position, shapes):
        return super().forward(tokens, position, shapes)[:, 1:]


class Unsteady(Right):
    \"\"\"Not finite on the maps that are trained on, and random.\"\"\"

    def forward(self, tokens, position, shapes):
        result = super().forward(tokens, position, shapes) + 1e-3 * torch.randn_like(tokens)
        return result / (shapes[0] != (8, 8))


class Leaves(Right):
    def forward(self, tokens, position, shapes):
        os.chdir("/")
        print("gone", file=sys.stderr, flush=True)
        os._exit(7)


class Asks(Right):
    def forward(self, tokens, position, shapes):
        sys.exit("no")


class Stays(Right):
    def forward(self, tokens, position, shapes):
        time.sleep(600)
"""
TASKS = WorkerTasks(run="fake_tasks:quick", measure="")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_trial.py").write_text(OWN)


def study(*names: str, tasks: WorkerTasks = TASKS) -> Study:
    base = preset("quick")
    variants = [
        Variant(
            name=f"row {name}",
            axes={"encoder_self": f"own_trial:{name}"},
            settings=replace(base, model=replace(base.model, encoder_self=f"own_trial:{name}")),
        )
        for name in names
    ]
    ours = Variant(name="ours", axes={"encoder_self": "deformable"}, settings=base)
    return Study(
        name="own", kind="ablate", variants=(ours, *variants), seeds=1, preset="quick", data="scenes", out=Path("out"),
        threads=1, jobs=1, backend="reference", tasks=tasks,
    )  # fmt: skip


def findings(name: str, seconds: float = 300.0) -> list[str]:
    """What a trial of this class finds in a process of its own."""
    said: list[str] = []
    specs = [job.spec for job in plan_study(study(name)).runs]
    copy_modules(Store(Path("out")), specs)
    try_attentions(Path("out"), specs, said.append, seconds=seconds)
    (trial,) = trials_of(specs)
    assert is_tried(Path("out"), trial.key) == (name != "Stays"), "what was stopped is tried again"
    assert said[0].startswith(f"trying own_trial:{name} in encoder_self: shapes, ")
    assert said[1:] == [f"warning: {warning}" for warning in trial_warnings(Path("out"), specs)]
    return [*read_findings(Path("out"), trial.key)]


def failures(name: str) -> list[str]:
    """What the checks of this class find, in this process."""
    settings = settings_to_dict(study(name).variants[1].settings)
    *_, last = trial_results({"settings": settings, "slot": "encoder_self"})
    assert last["at"] == ""
    return [f"{line['name']}: {line['text']}" for line in last["lines"] if line["status"] == "FAIL"]


def test_what_is_wrong_is_found() -> None:
    assert failures("Right") == []
    assert failures("Short")[0].startswith("shapes: the result is (2, ")
    finite, random = failures("Unsteady")
    assert finite == "finite results: the result is not finite, at 3 x 8x8 in evaluation"
    assert random.startswith("determinism in evaluation: largest change ")
    assert "shapes: SystemExit: no (own_trial.py:" in failures("Asks")[0]


def test_a_trial_ends_moves_and_holds_nothing() -> None:
    place = Path.cwd()
    assert findings("Leaves") == ["shapes: its process ended (gone)"]
    (stays,) = findings("Stays", seconds=4.0)
    assert stays.endswith(": it did not come to an end within 4 s")
    assert Path.cwd() == place


def test_a_variant_whose_attention_came_to_no_end_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trying = functools.partial(try_attentions, seconds=4.0)
    monkeypatch.setattr("bench.study.run.try_attentions", trying)
    run_study(replace(study("Stays"), seeds=2), say=(said := []).append)
    rows = {(row["variant"], row["seed"]): (row["status"], row["message"]) for row in study_rows(study("Stays"))}
    reason = "own_trial:Stays in encoder_self, when it was tried: "
    statuses = {key: status for key, (status, _) in rows.items()}
    ran, left = [("ours", 0), ("ours", 1)], [("row Stays", 0), ("row Stays", 1)]
    assert statuses == dict.fromkeys(ran, "ok") | dict.fromkeys(left, "skipped"), rows
    assert rows["row Stays", 0][1].startswith(reason)
    assert len([line for line in said if line.startswith("trying ")]) == 1, "once for both seeds"


def test_a_failure_is_on_the_first_screen_of_the_report_and_is_tried_once() -> None:
    own, said = study("Right", "Leak"), []
    run_study(own, say=said.append)
    (warning,) = [line for line in said if line.startswith("warning: ")]
    assert warning.startswith(
        "warning: row Leak: own_trial:Leak in encoder_self fails batch independence: largest change "
    )
    assert len([line for line in said if line.startswith("trying ")]) == 2
    (shown,) = read_study([own.out], "own").warnings
    assert f"warning: {shown}" == warning
    page, *_ = write_report(own.out, "own", with_pictures=False)
    first_screen = page.read_text().partition("## ")[0]
    assert "- Warning: row Leak: own_trial:Leak in encoder_self fails batch independence: largest" in first_screen
    said.clear()
    run_study(replace(own, seeds=2), say=said.append)
    assert [line for line in said if line.startswith(("trying", "warning"))] == [warning], "known, and said again"
    (file,) = [file for file in Path("out/trials").iterdir() if json.loads(file.read_text())["findings"]]
    file.write_text("damaged")
    assert read_study([own.out], "own").warnings == ()
    said.clear()
    run_study(replace(own, seeds=3), say=said.append)
    assert [line for line in said if line.startswith("warning")] == [warning], "a damaged file is made anew"


def test_an_edit_is_tried_anew_and_ours_are_never() -> None:
    rows = [job.spec for job in plan_study(study("Right")).runs]
    (before,) = trials_of(rows)
    assert before.variant == "row Right"
    from bench.results import source_hash

    Path("own_trial.py").write_text(OWN.replace("1e-3", "1e-2"))
    source_hash.source_hash("run", ("own_trial:Right",), again=True)
    (after,) = trials_of([job.spec for job in plan_study(study("Right")).runs])
    assert (after.slot, after.attention) == (before.slot, before.attention)
    assert after.key != before.key
    run_study(study(), say=lambda _: None)
    assert not Path("out/trials").exists()
    assert Store(Path("out")).read("run", "own").rows


def test_other_options_are_another_trial() -> None:
    def keys(options: dict[str, object]) -> set[str]:
        settings = settings_to_dict(preset("quick"))
        settings["model"] |= {"encoder_self": "own:Right", "attention_options": options}
        return {trial.key for trial in trials_of([{"settings": settings, "variant": "x"}])}

    plain, mixed = keys({}), keys({"encoder_self.mix": False})
    assert len(plain) == len(mixed) == 1
    assert plain != mixed
    assert keys({"encoder_self.mix": True}) != mixed
    assert keys({"decoder_self.mix": False}) == plain, "options of another slot"
