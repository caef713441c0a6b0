"""Every code block of the documents runs, and every command in them is one that this version understands."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from locations import ROOT

import cli
from experiments import docs
from unept.data.scene_spec import is_generated

RECORDS = ROOT / docs.RECORDS
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/attention.md",
    "docs/check.md",
    "docs/data.md",
    "docs/kernels.md",
    "docs/memory.md",
    "docs/performance.md",
    "docs/prediction.md",
    "docs/reliability.md",
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
    elif words[0] == "scaling":  # tests/experiments/commands runs it; here: it understands the words
        assert cli.main([*words, "--out", "level_mean.py"]) == 2
        assert "level_mean.py: " in capsys.readouterr().err
    elif words[0] in SLOW:  # other tests run them
        assert cli.main([*words, SLOW[words[0]], "0"]) == 2
        assert f"{SLOW[words[0]]} 0" in capsys.readouterr().err
    elif words[0] == "scaling":  # other tests run it; it tries its folder before it measures
        Path("file").touch()
        assert cli.main([*words, "--out", "file/scaling"]) == 2
        assert "file" in capsys.readouterr().err
    elif words[0] in ("report", "power") and not words[1].startswith("-"):  # no study is there yet, and it says so
        assert cli.main(words) == 2
        assert words[1] in capsys.readouterr().err
    elif words[0] in ("convert", "evaluate", "predict"):  # no file is there yet, and the first that is missing is named
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert re.search(r"(released\.pth|photos?(\.jpg)?|data/\S+): .*(not exist|no such)", said), said
    elif words[0] == "check":  # tests/bench/check runs it; here: it understands the words
        monkeypatch.setattr("bench.attention_layer.check_attention", lambda *_, **__: [])
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


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for name in DOCUMENTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#]+)#?([^)]*)\)", text):
            page = (ROOT / name).parent / target
            assert page.exists(), f"{name}: {target}"
            assert not anchor or anchor in anchors(page), f"{name}: {target}#{anchor}"


def test_every_test_that_a_promise_names_is_there() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|([^|]*)\|(.*)\|$", page, re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 22))
    for number, _, cell in rows:
        assert re.findall(r"`tests/", cell), f"promise {number} has no test"
    named = re.findall(r"`(tests/[^`:]+)::(\w+)`", page)
    assert len(named) == page.count("`tests/")
    for file, name in named:
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE), f"{file}::{name}"


def numbers(text: str) -> list[str]:
    return re.findall(r"[-+]?\d+(?:\.\d+)?", text)


def checkout(folder: Path) -> Path:
    """A copy of all that the figures of the documents are made of."""
    for name in ("README.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("docs", "reports/records"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.png"))
    return folder


def test_figures_of_the_documents_are_those_of_their_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--check"]) == 0, capsys.readouterr().out


def test_a_typed_figure_is_stale_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = checkout(tmp_path)
    page = root / "README.md"
    right = page.read_text(encoding="utf-8")
    page.write_text(right.replace("N=16 L=3 | 5 | 82.70", "N=16 L=3 | 5 | 92.70"), encoding="utf-8")
    assert docs.main(["--check"], root) == 1
    assert capsys.readouterr().out.startswith("README.md: stale")
    assert docs.main([], root) == 0
    assert page.read_text(encoding="utf-8") == right
    assert docs.main(["--check"], root) == 0


@pytest.mark.parametrize(
    ("record", "old", "new", "page"),
    [
        ("quick-grid/accuracy.csv", "82.69", "92.69", "README.md"),
        ("table-5/comparisons.csv", "-22.79", "-12.79", "README.md"),
        ("quick-grid/learned.csv", "N=4 L=1,5,4", "N=4 L=1,5,3", "README.md"),
        ("memory-verified/verified.csv", "0.999825", "0.989825", "README.md"),
        ("scaling/exponents.csv", "deformable,side,peak,1,", "deformable,side,peak,2,", "docs/memory.md"),
        ("gpu-hours/hours.csv", "Table 5,baseline,,111.222", "Table 5,baseline,,211.222", "docs/scaling.md"),
        ("scene-sanity-check/scores.csv", "False,0,0.56", "False,0,0.46", "docs/data.md"),
        ("check/batch.txt", "0.946 GMACs", "0.947 GMACs", "docs/check.md"),
    ],
)
def test_a_changed_record_makes_the_page_stale(
    record: str, old: str, new: str, page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = checkout(tmp_path)
    path = root / "reports/records" / record
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert docs.main(["--check"], root) == 1
    assert f"{page}: stale" in capsys.readouterr().out


@pytest.mark.parametrize(
    "mark", ["<!-- begin: no such thing -->1<!-- end -->", "<!-- begin: hours -->", "<!-- end -->"]
)
def test_a_wrong_marker_is_refused(mark: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = checkout(tmp_path)
    with (root / "docs/training.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{mark}\n")
    assert docs.main(["--check"], root) == 2
    assert "docs/training.md: " in capsys.readouterr().err


def test_every_figure_is_shown() -> None:
    shown = {match["name"] for page in docs.pages(ROOT) for match in docs.MARKED.finditer(page.read_text("utf-8"))}
    assert shown == set(docs.FIGURES)


def test_no_figure_within_a_sentence_begins_a_line() -> None:
    """Markdown would take the line as HTML."""
    for page in docs.pages(ROOT):
        assert not re.search(r"^ *<!-- begin: [^>]*-->(?!\n)", page.read_text("utf-8"), re.MULTILINE), page


@pytest.mark.parametrize("study", docs.STUDIES)
def test_the_verdict_of_a_study_is_that_of_its_report(study: str) -> None:
    report = (RECORDS / study / "report.md").read_text(encoding="utf-8").split("\n## ")[0]
    bullets = [numbers(line) for line in report.splitlines() if line.startswith("- ")]
    sentences = [line for line in docs.FIGURES[f"{study} verdict"](RECORDS).splitlines() if line != ">"]
    assert sentences
    for sentence in sentences:
        assert numbers(sentence) in bullets


def test_the_accuracies_of_the_readme_are_those_of_the_report() -> None:
    report = (RECORDS / "quick-grid/report.md").read_text(encoding="utf-8")
    table = re.search(r"^## Accuracy, measured.*?(^\|.*?\|\n)\n", report, re.MULTILINE | re.DOTALL)
    assert table is not None
    assert docs.FIGURES["quick-grid accuracy"](RECORDS) == table[1]


def test_the_kernels_gain_is_that_of_its_report() -> None:
    report = (RECORDS / "kernels/kernels.md").read_text(encoding="utf-8")
    table = report.split("## Operator, tuned malloc")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    column = lines[0].index("torch-ms-deform-attn")
    ratios = [float(line[column].split()[0]) for line in lines if line[1] == "forward+backward"]
    assert docs.kernel_shapes(RECORDS) == str(len(ratios)) == "5"
    assert numbers(docs.kernel_gain(RECORDS)) == [f"{min(ratios):.1f}", f"{max(ratios):.1f}"]


def test_how_often_our_attention_needs_less_is_what_its_report_says() -> None:
    page = (RECORDS / "attention/attention.md").read_text(encoding="utf-8")
    time, memory = re.findall(r"^- (?:time|memory): .*?(\d+ of \d+)", page, re.MULTILINE)
    assert (docs.FIGURES["attention time"](RECORDS), docs.FIGURES["attention memory"](RECORDS)) == (time, memory)


def test_the_error_of_predicted_memory_is_below_a_percent() -> None:
    assert all(abs(float(ratio) - 1) < 0.01 for ratio in numbers(docs.memory_error(RECORDS)))
    assert int(docs.memory_rows(RECORDS)) == 12


def test_the_gain_of_a_step_is_that_of_its_page() -> None:
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    ratios = sorted(re.findall(r"whole step takes (\d\.\d\d) times as long", page))
    assert len(ratios) == 4
    assert numbers(docs.step_gain(RECORDS)) == [ratios[0], ratios[-1]]


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
    from bench.profiling.gpu_hours import DEFAULT_IMAGE_SIZE
    from bench.results.gpu_assumption import GpuAssumption
    from reports.pages import gpu_hours

    found = pd.read_csv(ROOT / "reports/records/gpu-hours/hours.csv", keep_default_na=False)
    page = gpu_hours.gpu_hours_markdown(found.to_dict("records"), GpuAssumption(), 5, DEFAULT_IMAGE_SIZE)
    assert page == (ROOT / "reports/records/gpu-hours/report.md").read_text(encoding="utf-8")


def _recounted(names: tuple[str, ...]) -> None:
    from bench.config.fields import replace_fields
    from bench.config.presets import preset
    from bench.profiling.gpu_hours import ADE20K_VALIDATION_IMAGES, gpu_hours_records
    from experiments.tables.gpu_hours import CLASSES
    from experiments.tables.registry import TABLES

    base = replace_fields(preset("paper"), {"classes": CLASSES})
    kept = pd.read_csv(ROOT / "reports/records/gpu-hours/hours.csv", keep_default_na=False).to_dict("records")
    tables = [(f"Table {number}", table) for number, table in TABLES.items()]
    variants = [(table, variant) for table, module in tables for variant in module.variants(base)]
    assert [(table, variant.name) for table, variant in variants] == [(line["table"], line["row"]) for line in kept]
    for (table, variant), line in zip(variants, kept, strict=True):
        if not line["same_as"] and (not names or variant.name in names):
            (found,) = gpu_hours_records(table, [variant], pictures=ADE20K_VALIDATION_IMAGES, known={})
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
    (data,) = set(runs["data"])
    ours = is_generated(data)
    assert seeds == ((0, 1, 2, 3, 4) if ours else (0, 1, 2))
    text = (folder / "report.md").read_text(encoding="utf-8")
    for variant, miou in (100 * runs.groupby("variant")["miou"].mean()).items():
        assert re.search(rf"^\| {re.escape(str(variant))} \| {len(seeds)} \| {miou:.2f} ± ", text, re.MULTILINE), (
            variant
        )
    assert "\n## Command\n" in text
    assert "\n## Environment\n" in text
    plots = {path.name for path in folder.glob("*.png")} - {"complexity.png"}
    if data.startswith("scenes:v2"):  # the first version has one distance for all
        assert "cue_distance.png" in plots
        plots -= {"cue_distance.png"}
    assert plots == {"accuracy.png", "cost.png", "curves.png"} | ({"pictures.png"} if ours else set())


def test_the_table_of_the_two_profiles_names_every_field_that_differs() -> None:
    from dataclasses import asdict

    from bench.config.grid import PROFILES

    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8").split("## The two profiles")[1]
    named = [name for line in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(\w+)`", line)]
    paper, released = (
        {name: value for part in parts for name, value in asdict(part).items()}
        for parts in (PROFILES["paper"], PROFILES["released"])
    )
    assert sorted(named) == sorted(name for name in paper if paper[name] != released[name])
