"""Every code block of the documents runs, and every command in them is one that this version understands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from locations import ROOT

import cli

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/attention.md",
    "docs/check.md",
    "docs/data.md",
    "docs/kernels.md",
    "docs/memory.md",
    "docs/prediction.md",
    "docs/report.md",
    "docs/scaling.md",
    "docs/training.md",
)
SLOW = {
    "attention": "--repeats",
    "hours": "--seeds",
    "kernels": "--repeats",
    "memory": "--batch",
    "step": "--rounds",
}  # and an option that must not be 0
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (name, body)
        for name in DOCUMENTS
        for kind, body in FENCE.findall((ROOT / name).read_text(encoding="utf-8"))
        if kind == language
    ]


def commands(program: str) -> list[str]:
    lines = [line.strip() for _, body in blocks("sh") for line in body.splitlines()]
    return [line for line in lines if line.startswith(program)]


def python_blocks() -> list[str]:
    return [body for _, body in blocks("python")]


@pytest.mark.parametrize("body", python_blocks(), ids=range(len(python_blocks())))
def test_python_block_runs(body: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(body, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_line_of_a_shell_block_is_covered_here() -> None:
    known = ("unept-bench ", "torchrun ", "make ", "python3 -m venv ", "source ", "pip install ", "python -m ")
    strange = [line for _, body in blocks("sh") for line in body.splitlines() if not line.startswith(known)]
    assert strange == []


@pytest.mark.parametrize("command", [c for c in commands("unept-bench") if "PATH" not in c])
def test_command_is_understood(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = next(body for _, body in blocks("python") if "class LevelMean" in body)
    (tmp_path / "level_mean.py").write_text(own, encoding="utf-8")
    words = shlex.split(command)[1:]
    if words[0] == "train":
        assert cli.main([*words, "--dry-run"]) == 0
        assert "schedule: " in capsys.readouterr().out
    elif words[0] in ("ablate", "table"):
        assert cli.main([*words, "--dry-run"]) == 0
        assert "due" in capsys.readouterr().out
    elif words[0] in SLOW:  # other tests run them
        assert cli.main([*words, SLOW[words[0]], "0"]) == 2
        assert f"{SLOW[words[0]]} 0" in capsys.readouterr().err
    elif words[0] in ("report", "power") and not words[1].startswith("-"):  # no study is there yet, and it says so
        assert cli.main(words) == 2
        assert words[1] in capsys.readouterr().err
    elif words[0] in ("convert", "evaluate", "predict"):  # no file is there yet, and the first that is missing is named
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert re.search(r"(released\.pth|photos?(\.jpg)?|data/\S+): .*(not exist|no such)", said), said
    elif words[0] == "check":  # tests/bench/check runs it; here: it understands the words
        monkeypatch.setattr("bench.attention_layer.check", lambda *_, **__: [])
        assert cli.main(words) == 0
        assert "0 FAIL" in capsys.readouterr().out
    else:
        assert cli.main(words) == 0


def test_ones_own_attention_is_short_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import unept

    own = next(body for _, body in blocks("python") if "class LevelMean" in body)
    assert len(own.splitlines()) < 40
    (tmp_path / "level_mean.py").write_text(own, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    options = (("decoder_self.strength", 0.5),)
    config = unept.ModelConfig(
        backbone="tiny_conv",
        size=32,
        width=16,
        heads=2,
        ffn=16,
        decoder_self="level_mean:LevelMean",
        attention_options=options,
    )
    model = unept.build(config)
    model(torch.randn(2, 3, 32, 32)).logits.square().sum().backward()
    layer = model.context_branch.decoder.layers[0].self_attn
    assert layer.strength == 0.5
    assert layer.project.weight.grad.any()
    sys.modules.pop("level_mean")


def test_ones_own_attention_is_trained_and_measured_by_workers_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = next(body for _, body in blocks("python") if "class LevelMean" in body)
    (tmp_path / "level_mean.py").write_text(own, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    axes = ["decoder_self=none,level_mean:LevelMean", "decoder_self.strength=0.5", "images=4", "probes=0"]
    assert cli.main(["ablate", "--grid", *axes, "--steps", "2", "--seeds", "1", "--out", "out"]) == 0
    for name in ("results.csv", "measures.csv"):
        rows = pd.read_csv(tmp_path / "out" / name)
        assert set(rows["status"]) == {"ok"}
        assert rows["axis:decoder_self"].str.endswith("level_mean:LevelMean").sum() == 1
    sys.modules.pop("level_mean")


@pytest.mark.parametrize("command", [c for c in commands("unept-bench") if "PATH" in c])
def test_command_with_a_path_names_the_path_that_is_missing(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    assert cli.main(words if words[0] == "data" else [*words, "--dry-run"]) == 2
    assert "PATH" in capsys.readouterr().err


@pytest.mark.parametrize("command", commands("make"))
def test_make_target_exists(command: str) -> None:
    done = subprocess.run(["make", "-n", "-C", str(ROOT), command.split()[1]], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_extras_and_constraints_named_in_the_readme_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for command in commands("pip"):
        for extra in re.findall(r"\[(\w+)\]", command):
            assert f"\n{extra} = [" in project, extra
        for file in re.findall(r"-c (\S+)", command):
            assert (ROOT / file).exists(), file


def test_links_lead_somewhere() -> None:
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            assert ((ROOT / name).parent / target).exists(), f"{name}: {target}"


def test_the_table_of_the_readme_is_that_of_its_record() -> None:
    report = (ROOT / "reports/records/quick-grid/report.md").read_text(encoding="utf-8")
    table = re.search(r"^## Accuracy, measured.*?(^\|.*?\|\n)\n", report, re.MULTILINE | re.DOTALL)
    assert table is not None
    assert table[1] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_verdicts_of_the_readme_are_those_of_its_records() -> None:
    said = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("> ")]
    reports = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "reports/records").glob("*/report.md"))]
    assert said
    assert [line for line in said if not any(f"- {line.removeprefix('> ')}\n" in report for report in reports)] == []


def test_the_kernels_gain_in_the_readme_is_that_of_its_record() -> None:
    rows = pd.read_csv(ROOT / "reports/records/kernels/kernels.csv")
    rows = rows[(rows["part"] == "operator") & (rows["malloc"] == "tuned") & (rows["quantity"] == "ratio")]
    rows = rows[(rows["side"] == "torch-ms-deform-attn") & (rows["phase"] == "forward+backward")]
    assert len(rows) == 5
    said = f"it is {rows['value'].min():.1f} to {rows['value'].max():.1f} times faster than the C++ operator"
    assert said in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_how_often_our_attention_needs_less_in_the_readme_is_what_its_record_says() -> None:
    page = (ROOT / "reports/records/attention/attention.md").read_text(encoding="utf-8")
    time, memory = re.findall(r"ours needs as much or less in (\d+ of \d+) ratios", page)
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"ours needs as much time or less in {time} ratios, memory in {memory}" in readme


def test_how_right_the_memory_is_in_the_readme_is_what_its_record_says() -> None:
    rows = pd.read_csv(ROOT / "reports/records/memory-verified/verified.csv")
    rows = rows[rows["ratio"].notna()]
    said = f"between {rows['ratio'].min():.4f} and {rows['ratio'].max():.4f} of what [twelve real steps]"
    assert len(rows) == 12
    assert (rows["ratio"] - 1).abs().max() < 0.01
    assert said in " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def test_the_gain_of_a_step_in_the_readme_is_that_of_its_page() -> None:
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    found = sorted(re.findall(r"whole step takes (\d\.\d\d) times as long", page))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert len(found) == 4
    assert f"takes {found[0]} to {found[-1]} times as long in plain PyTorch" in readme


def test_commands_for_schedulers_and_clusters_are_understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.launchers.ray_cluster.check_ray", lambda _: None)  # of which Ray need not be here
    text = "".join(body for name, body in blocks("bash") if name == "docs/scaling.md").replace("\\\n", " ")
    lines = [line.removeprefix("exec ") for line in text.splitlines()]
    studies = [line for line in lines if line.startswith("unept-bench table")]
    assert len(studies) == 2
    for line in studies:
        words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "30").replace("$SLURM_ARRAY_TASK_COUNT", "30"))[1:]
        assert cli.main([*words, "--dry-run"]) == 2
        assert "PATH" in capsys.readouterr().err
        words = [word for word in words if word not in ("--preset", "paper", "--data", "ade20k:PATH")]
        words = ["reference" if word == "cuda" else word for word in words]
        assert cli.main([*words, "--dry-run"]) == 0
        assert "due in FOLDER" in capsys.readouterr().out
    assert f"--array=1-{5 * 6}\n" in text


def test_the_hours_of_the_page_are_those_of_its_record() -> None:
    from bench.profiling.gpu_card import Card
    from bench.profiling.gpu_hours import PICTURE
    from reports.pages import gpu_hours

    found = pd.read_csv(ROOT / "reports/records/gpu-hours/hours.csv", keep_default_na=False)
    page = gpu_hours.page(found.to_dict("records"), Card(), 5, PICTURE)
    assert page == (ROOT / "reports/records/gpu-hours/report.md").read_text(encoding="utf-8")
    assert f"<!-- unept-bench hours -->\n\n{page}" in (ROOT / "docs/scaling.md").read_text(encoding="utf-8")


def _recounted(names: tuple[str, ...]) -> None:
    from bench.config.fields import replace_fields
    from bench.config.presets import preset
    from bench.profiling.gpu_hours import VALIDATION, records
    from experiments.tables.gpu_hours import CLASSES, TABLES

    base = replace_fields(preset("paper"), {"classes": CLASSES})
    kept = pd.read_csv(ROOT / "reports/records/gpu-hours/hours.csv", keep_default_na=False).to_dict("records")
    variants = [(table, variant) for table, module in TABLES.items() for variant in module.variants(base)]
    assert [(table, variant.name) for table, variant in variants] == [(line["table"], line["row"]) for line in kept]
    for (table, variant), line in zip(variants, kept, strict=True):
        if not line["same_as"] and (not names or variant.name in names):
            (found,) = records(table, [variant], pictures=VALIDATION, known={})
            numbers = {name: found[name] for name in ("gmacs", "training_tflop", "evaluation_tflop")}
            assert numbers == pytest.approx({name: line[name] for name in numbers}, rel=1e-5), variant.name


def test_the_record_of_hours_is_what_is_counted() -> None:
    _recounted(("N=64 L=3", "PointRend"))


@pytest.mark.slow
def test_the_whole_record_of_hours_is_what_is_counted() -> None:
    _recounted(())


STUDIES = sorted(path.parent for path in (ROOT / "reports/records").glob("*/results.csv"))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_record_is_whole(folder: Path) -> None:
    """The same seeds of every variant, and a report that its raw rows tell; no picture but of our scenes."""
    runs = pd.read_csv(folder / "results.csv")
    assert set(runs["status"]) == {"ok"}
    (seeds,) = set(runs.groupby("variant")["seed"].agg(lambda seeds: tuple(sorted(seeds))))
    ours = set(runs["data"]) == {"scenes"}
    assert seeds == ((0, 1, 2, 3, 4) if ours else (0, 1, 2))
    text = (folder / "report.md").read_text(encoding="utf-8")
    for variant, miou in (100 * runs.groupby("variant")["miou"].mean()).items():
        assert re.search(rf"^\| {re.escape(str(variant))} \| {len(seeds)} \| {miou:.2f} ± ", text, re.MULTILINE), (
            variant
        )
    assert "\n## Command\n" in text
    assert "\n## Environment\n" in text
    plots = {path.name for path in folder.glob("*.png")} - {"complexity.png"}
    assert plots == {"accuracy.png", "cost.png", "curves.png"} | ({"pictures.png"} if ours else set())
