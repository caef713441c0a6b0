"""`unept-bench train` as a user types it: to the end, continued after any end to the same bits, refused in one line."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import command_line
import pytest
import tiny_checkpoint
import torch
from locations import ROOT
from safetensors.torch import load_file

import cli
import unept
from bench.profiling import training_estimate
from bench.results.data_digest import DataDigest
from bench.study import attention_trials
from bench.training import loop, session
from bench.training.job import build_training_job, create_training_folder, read_training_record
from bench.training.options import Execution, TrainOptions
from unept.checkpoints import model_file

FIELDS = "N=2 width=16 ffn=16 head_width=16 spatial_widths=8+8 dropout=0.1 batch=2 size=32 checkpoint_every=4 images=3"
WORDS = ["train", "--preset", "quick", "--threads", "1", "--log-every", "2", "--set", *FIELDS.split()]
LONG = [*WORDS, "scene_train=8", "--steps", "40"]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert cli.main(["train", "--preset", "quick", *words]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1, said.err
    assert "Traceback" not in said.err + said.out
    return said.err.removeprefix("unept-bench: ").strip()


def log(out: Path) -> list[dict[str, Any]]:
    path = out / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def numbers(out: Path) -> tuple[Any, Any]:
    """The scores and the curve of a finished training."""
    result = json.loads((out / "result.json").read_text())
    return result["metrics"], result["training"]["curve"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert cli.main([*LONG, "--out", str(out)]) == 0
    return out


def equal(ours: Path, theirs: Path) -> bool:
    a, b = (load_file(out / "model.safetensors") for out in (ours, theirs))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_to_the_end_and_again(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert cli.main([*WORDS, "--steps", "6", "--eval-every", "4", "--out", "out"]) == 0
    said, progress = capsys.readouterr()
    assert "step 6/6: loss " in progress
    assert "step 6/6" not in said
    assert "6 steps in " in said
    assert "on 3 pictures of val: whole, scale 1, not flipped" in said
    files = {path.name for path in (place / "out").iterdir()}
    files.discard("training.lock")  # filelock removes its file on some systems
    assert files == {"training.json", "log.jsonl", "model.safetensors", "model.json", "result.json"}
    events = [(line["event"], line["step"]) for line in log(place / "out")]
    assert events == [("began", 0), ("step", 2), ("saved", 4), ("step", 4), ("evaluated", 4), ("step", 6)]
    found = model_file.load_model(place / "out" / "model.safetensors")
    assert (found.facts["step"], found.facts["seed"], found.facts["data"]) == (6, 0, "scenes:v2")
    assert len(found.classes) == 7
    assert cli.main([*WORDS, "--steps", "6", "--eval-every", "4", "--out", "out"]) == 0
    assert "this training is done" in capsys.readouterr().err


def test_it_is_the_very_path_of_a_studys_run(whole: Path, tmp_path: Path) -> None:
    fields = (*FIELDS.split(), "scene_train=8")
    training = build_training_job(TrainOptions(preset="quick", fields=fields, steps=40, threads=1))
    from bench.config.settings import settings_to_dict

    torch.set_num_threads(1)
    found = loop.train_and_evaluate(
        {"settings": settings_to_dict(training.settings), "seed": 0}, tmp_path, lambda *_: None
    )
    metrics, curve = numbers(whole)
    assert json.loads(json.dumps(found["training"]["curve"])) == curve
    assert json.loads(json.dumps(found["metrics"])) == metrics


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ended_at_any_step_it_continues_to_the_same_bits(
    number: signal.Signals, whole: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "out"
    command = [sys.executable, str(ROOT / "cli.py"), *LONG, "--out", str(out)]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while not any(line["event"] == "saved" for line in log(out)) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert not (out / "model.safetensors").exists(), "it had ended before the signal came"
    if number == signal.SIGTERM:
        assert process.returncode == 130
        step = log(out)[-1]["step"]
        assert said.endswith(f"unept-bench: stopped after step {step} of 40; the same command continues\n")
    else:
        with open(out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write('{"event": "st')  # as a kill may leave it
    assert cli.main([*LONG, "--out", str(out)]) == 0
    assert "continuing after step " in capsys.readouterr().err
    assert equal(out, whole)
    assert numbers(out) == numbers(whole)


def test_stopped_in_an_evaluation_it_continues_from_the_step_that_it_names(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "--steps", "4", "--eval-every", "3", "--out"]
    assert cli.main([*words, "undisturbed"]) == 0
    evaluate_model = session.evaluate_model

    def signalled(*given: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate_model(*given, **named)

    monkeypatch.setattr(session, "evaluate_model", signalled)
    assert cli.main([*words, "out"]) == 130
    assert "stopped after step 3 of 4" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert cli.main([*words, "out"]) == 0
    assert "continuing after step 3" in capsys.readouterr().err
    assert equal(place / "out", place / "undisturbed")
    assert numbers(place / "out") == numbers(place / "undisturbed")


def test_what_goes_wrong_is_one_line_and_its_trace_is_kept(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*WORDS, "lr=1e12", "--steps", "9", "--out", "out"]) == 1
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("unept-bench: ")]
    assert re.fullmatch(r"unept-bench: the training has diverged: step \d: loss is (nan|inf); no model is saved", line)
    assert not (place / "out" / "model.safetensors").exists()
    assert "Traceback" not in said
    assert "Traceback" in (place / "out" / "errors.log").read_text()


def test_weights_that_are_not_finite_are_not_saved(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = torch.optim.AdamW.step

    def overflow(self: torch.optim.AdamW, *args: Any) -> Any:
        made = step(self, *args)
        with torch.no_grad():
            self.param_groups[0]["params"][0][0] = torch.nan
        return made

    monkeypatch.setattr(torch.optim.AdamW, "step", overflow)
    assert cli.main([*WORDS, "probes=0", "--steps", "1", "--out", "out"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("unept-bench: the training has diverged: weights are not finite after the last step: ")
    assert line.endswith("; no model is saved")
    assert not {path.name for path in (place / "out").iterdir()} & {"model.safetensors", "model.json", "result.json"}


def test_outputs_that_are_not_finite_are_not_scored(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(self: unept.UNEPT, *args: Any) -> Any:
        output = forward(self, *args)
        return output if self.training else output._replace(direction=output.direction * torch.inf)

    forward = unept.UNEPT.forward
    monkeypatch.setattr(unept.UNEPT, "forward", spoil)
    assert cli.main([*WORDS, "probes=0", "--steps", "1", "--out", "out"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("unept-bench: the training has diverged: evaluation after step 1: image val_000000: ")
    assert line.endswith(
        "direction logits are not finite; out/model.safetensors is what it ended with, and has no scores"
    )
    assert not (place / "out" / "result.json").exists()


def test_an_attention_whose_buffers_cannot_be_saved_is_refused_before_the_first_step(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "grown.py").write_text(
        "import torch\nfrom torch import nn\nclass Own(nn.Module):\n"
        "    def __init__(self, width):\n        super().__init__()\n"
        "        self.register_buffer('seen', torch.zeros(0))\n"
        "    def forward(self, tokens, position, shapes):\n"
        "        self.seen = tokens.new_zeros(3)\n        return tokens\n",
        encoding="utf-8",
    )
    words = [*WORDS, "encoder_self=grown:Own", "probes=0", "--log-every", "1", "--steps", "2", "--out", "out"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].endswith("seen is (3,), the model it describes has (0,)")
    assert "step 1" not in said
    assert not (place / "out" / "model.safetensors").exists()


def test_a_users_attention_is_tried_and_what_fails_is_said_first_and_last(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "leaky.py").write_text(
        "from torch import nn\nclass Own(nn.Module):\n"
        "    def __init__(self, width):\n        super().__init__()\n        self.project = nn.Linear(width, width)\n"
        "    def forward(self, tokens, position, shapes):\n"
        "        return self.project(tokens) + 1e-3 * tokens.mean(0, keepdim=True)\n",
        encoding="utf-8",
    )
    words = [*WORDS, "encoder_self=leaky:Own", "probes=0", "--steps", "1", "--out", "out"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    begun, warning, *_ = said.err.splitlines()
    assert begun.startswith("trying leaky:Own in encoder_self: ")
    assert warning.startswith("warning: this model: leaky:Own in encoder_self fails batch independence: ")
    assert said.out.splitlines()[-1] == warning

    monkeypatch.setattr("bench.study.attention_trials.try_attentions", lambda *_, **__: 1 / 0)  # it is done: no trial
    assert cli.main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == warning


def test_a_users_attention_that_comes_to_no_end_is_not_trained(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "endless.py").write_text(
        "from torch import nn\nclass Own(nn.Module):\n"
        "    def forward(self, tokens, position, shapes):\n        while True: pass\n",
        encoding="utf-8",
    )
    trying = functools.partial(attention_trials.try_attentions, seconds=20)
    monkeypatch.setattr("bench.study.attention_trials.try_attentions", trying)
    assert cli.main([*WORDS, "encoder_self=endless:Own", "probes=0", "--steps", "1", "--out", "out"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line == (
        "unept-bench: endless:Own in encoder_self, when it was tried: shapes: it did not come to an end within 20 s"
    )
    assert not (place / "out" / "training.json").exists()


def test_where_only_the_scores_are_missing_only_they_are_made(whole: Path, place: Path) -> None:
    shutil.copytree(whole, place / "out")
    (place / "out" / "result.json").unlink()
    before = (place / "out" / "log.jsonl").read_text()
    assert cli.main([*LONG, "--out", str(place / "out")]) == 0
    assert numbers(place / "out") == numbers(whole)
    assert (place / "out" / "log.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "is no result of this program (content: expected an object, it is [])"),
        ('{"metrics": 1}', "is no result of this program (metrics: expected an object, it is 1)"),
        ("[" * 100_000, "is damaged"),
        ('{"metrics": {"miou": "high"}}', 'miou: expected a number or null, it is "high")'),
        ("other", "is the result of another training"),
    ],
)
def test_a_result_of_another_shape_is_named(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    shutil.copytree(whole, place / "out")
    path = place / "out" / "result.json"
    if content == "other":
        content = json.dumps(json.loads(path.read_text()) | {"seed": 7})
    path.write_text(content)
    capsys.readouterr()
    assert cli.main([*LONG, "--out", "out"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("unept-bench:")]
    assert line.startswith("unept-bench: out/result.json ")
    assert said in line
    assert line.endswith("; remove it, and the same command evaluates the model again")


@pytest.mark.parametrize(
    "content", ["[]", '{"identity": {}}', '{"identity": [], "manner": {}, "format": "x"}', "[" * 9**6]
)
def test_a_record_of_another_shape_is_named(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    shutil.copytree(whole, place / "out")
    (place / "out" / "training.json").write_text(content)
    capsys.readouterr()
    assert cli.main([*LONG, "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unept-bench: out/training.json is damaged or not of this program (")


def test_a_model_of_another_origin_is_not_scored_as_this_trainings(
    whole: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*WORDS, "scene_train=8", "--steps", "4", "--out", "out"]
    create_training_folder(
        build_training_job(
            TrainOptions(preset="quick", fields=(*FIELDS.split(), "scene_train=8"), steps=4, threads=1, out=Path("out"))
        ),
        DataDigest(digest="0"),
    )
    tiny_checkpoint.write(place / "out" / "model.safetensors")
    capsys.readouterr()
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith("unept-bench: out/model.safetensors is not the model of this training; ")


@pytest.mark.slow
def test_two_processes_killed_continue_to_the_same_bits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*LONG, "--processes", "2"]
    assert cli.main([*words, "--out", "undisturbed"]) == 0
    out = place / "out"
    command = [sys.executable, str(ROOT / "cli.py"), *words, "--out", str(out)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = len(log(out))
        process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True)
        while not any(line["event"] == "saved" for line in log(out)[before:]):
            time.sleep(0.005)
        process.send_signal(number)
        process.wait()
        if number == signal.SIGKILL:
            time.sleep(2)  # its processes see that it is gone
            with open(out / "log.jsonl", "a", encoding="utf-8") as file:
                file.write("\n")
    assert not (out / "model.safetensors").exists()
    path = out / "log.jsonl"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if line) + "\n")
    assert cli.main([*words, "--out", str(out)]) == 0
    assert equal(out, place / "undisturbed")
    assert numbers(out) == numbers(place / "undisturbed")


@pytest.mark.slow
def test_torchrun_trains_what_processes_train(place: Path) -> None:
    words = [*WORDS, "--steps", "6"]
    assert cli.main([*words, "--processes", "2", "--out", "launched"]) == 0
    runner = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29631"]
    done = subprocess.run(
        [*runner, str(ROOT / "cli.py"), *words, "--out", "torchrun"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("6 steps in") == 1, done.stdout
    assert equal(place / "torchrun", place / "launched")


def test_tensorboard_is_an_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("bench.training.logger.importlib.util.find_spec", lambda _: None)
    assert refused(capsys, "--tensorboard", "--threads", "1").startswith("--tensorboard: the package is not installed")


def test_curves_for_tensorboard(place: Path) -> None:
    pytest.importorskip("tensorboard")
    assert cli.main([*WORDS, "--steps", "4", "--tensorboard", "--out", "out"]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(place / "out" / "tensorboard"))
    events.Reload()
    drawn = {event.step: event.value for event in events.Scalars("loss/total")}
    assert drawn == {line["step"]: line["total"] for line in log(place / "out") if line["event"] == "step"}
    assert [*drawn] == [2, 4]


def test_a_folder_of_another_training_is_refused(whole: Path, capsys: pytest.CaptureFixture[str], place: Path) -> None:
    words = [*LONG[3:], "--out", str(whole)]
    said = refused(capsys, *words, "--seed", "1")
    assert said == f"{whole} holds a training with seed=0, this is seed=1; name another folder with --out"
    assert "steps=40, this is steps=39" in refused(capsys, *words[:-3], "39", *words[-2:])
    (place / "own").mkdir()
    (place / "own" / "training.json.tmp").touch()  # of a process that was killed as it began, or is just beginning
    assert read_training_record(build_training_job(TrainOptions(preset="quick", out=Path("own")))) == {}
    (place / "own" / "thesis.tex").touch()
    assert "no training of this program (it holds thesis.tex)" in refused(capsys, "--out", "own")
    (place / "own" / "training.json").write_text("{")
    assert "damaged or not of this program" in refused(capsys, "--out", "own")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "text"], "--profile text: expected paper or released"),
        (["--set", "profile=released"], "--set profile: use --profile"),
        (["--steps", "3", "--set", "steps=4"], "--set steps: use --steps"),
        (["--set", "N=4,16"], "N=4,16: expected one value for each field"),
        (["--set", "hads=2"], "there is no field 'hads'; did you mean"),
        (["--backbone", "dait"], "no backbone 'dait'"),
        (["--processes", "3"], "batch=8 over 3 processes: expected a multiple of 3"),
        (["--gpus", "1", "--processes", "2"], "give one of them"),
        (["--precision", "fp8"], "--precision fp8: expected fp32 or bf16"),
        (["--log-every", "0"], "--log-every 0: expected at least 1"),
        (["--gpus", "-2"], "--gpus -2: expected at least 0"),
        (["--workers", "-2"], "--workers -2: expected at least 0"),
        (["--backbone-weights", "absent.pth"], "no file of backbone weights at absent.pth"),
        (["--backbone-weights", "imagenet"], "no weights are published for this backbone"),
        (["--data", "folder:absent"], "absent: data folder does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str], place: Path) -> None:
    assert message in refused(capsys, *words)
    assert list(place.iterdir()) == []


@pytest.mark.skipif(torch.cuda.device_count() > 7, reason="there are that many")
def test_gpus_that_are_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "--gpus", "8").startswith("--gpus 8: there are ")


def test_the_papers_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the published recipe says follows from data, backbone and profile."""
    asked = []
    monkeypatch.setattr("bench.training.job.checks.read_class_names", lambda *_, **__: tuple(map(str, range(150))))
    monkeypatch.setattr("bench.training.job.checks.check_variants", lambda variants: asked.extend(variants))
    words = {"data": f"ade20k:{place}", "backbone": "deit", "gpus": 8}
    paper = build_training_job(TrainOptions(**words, profile="paper"), dry_run=True)
    released = build_training_job(TrainOptions(**words, profile="released"), dry_run=True)
    assert (paper.settings.model.backbone, paper.processes, paper.gpus) == ("deit_base", 8, True)
    assert (paper.settings.train.steps, paper.settings.train.batch) == (160_000, 16)
    assert paper.settings.train.backbone_weights == "imagenet"  # the same training dry or not: its folder is known
    assert asked[0].settings.train.backbone_weights == "", "nothing is fetched to see whether it can be built"
    assert (paper.settings.loss.weight_refined, released.settings.loss.weight_refined) == (1.5, 1.0)
    assert (paper.execution.loss_normalization, released.execution.loss_normalization) == ("global", "device")
    assert paper.out == Path("training") / f"paper-{place.name}-deit_base"
    one = build_training_job(TrainOptions(data=f"ade20k:{place}", backbone="deit", gpus=0))
    assert one.settings.train.backbone_weights == "imagenet"
    assert asked[-1].settings == one.settings
    assert build_training_job(TrainOptions(backbone_weights="none", gpus=0)).settings.train.backbone_weights == ""
    assert build_training_job(TrainOptions(backbone="tiny_conv", gpus=0)).settings.train.backbone_weights == ""


def test_dry_run_says_it_all_and_does_nothing(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    words = "train --preset quick --steps 1000 --processes 2 --accumulation 2 --eval-every 400 --dry-run --threads 1"
    assert cli.main([*shlex.split(words), "--set", "scales=0.5+1", "flip_test=true", "mode=slide"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "training", "schedule", "batch", "evaluation", "memory", "time", "folder",
    ]  # fmt: skip
    assert (
        "1000 steps, 2.00 times the 4000 pictures; rate rising to 0.002 over 100 steps, 0.0002 from step 900" in said[1]
    )
    assert said[2] == "batch: 8 = 2 processes on the CPU x 2 pieces x 2 images; fp32, channels_last"
    assert "every 400 steps and at the end, 256 pictures of val" in said[3]
    assert said[3].endswith("4 windows a picture")
    assert "GiB of tensors on each of 2 processes, predicted by tracing a step" in said[4]
    assert "of 3 evaluations" in said[5]
    assert said[6] == "folder: training/quick-scenes-tiny_conv, new"
    assert list(place.iterdir()) == []
    options = TrainOptions(preset="quick", gpus=4, execution=Execution(precision="bf16"))
    on_gpus = build_training_job(options, dry_run=True)
    assert training_estimate._batch(on_gpus) == "batch: 8 = 4 GPUs x 2 images; bf16"
    assert "an assumed 40 TFLOP/s a GPU, loading and communication hidden" in training_estimate._time(on_gpus, 1.0, 1.0)


def data_set(folder: Path) -> str:
    """A data set in files, and its specification."""
    command_line.dataset(folder)
    (folder / "meta.json").write_text(json.dumps({"classes": 3}))
    return f"folder:{folder.name}"


def test_a_training_records_the_digest_of_its_data_and_goes_on_with_the_same_data_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = [word for word in FIELDS.split() if not word.startswith("images=")]
    words = ["--threads", "1", "--steps", "1", "--out", "out", "--set", *fields]
    data = data_set(place / "d")
    assert cli.main(["train", "--preset", "quick", "--data", data, *words]) == 0
    record, result = (json.loads((place / "out" / name).read_text()) for name in ("training.json", "result.json"))
    digest = record["data"]["digest"]
    assert result["data"] == record["data"]
    assert set(record["data"]["splits"]) == {"train", "val"}
    assert f"data: {data}, digest {digest}" in capsys.readouterr().err
    assert log(place / "out")[0]["data"] == record["data"]
    (place / "d").rename(place / "moved")
    assert cli.main(["train", "--preset", "quick", "--data", "folder:moved", *words]) == 0
    assert "this training is done" in capsys.readouterr().err
    command_line.picture(place / "moved" / "labels" / "val" / "b.png", "L", value=2)
    assert refused(capsys, "--data", "folder:moved", *words) == (
        "the data at folder:moved have changed since the training in out began: 1 file differs (labels/val/b.png); "
        "name another folder with --out"
    )
    del record["data"]
    record["identity"]["settings"]["data"] = "folder:moved"
    (place / "out" / "training.json").write_text(json.dumps(record))
    (place / "out" / "result.json").unlink()
    assert cli.main(["train", "--preset", "quick", "--data", "folder:moved", *words]) == 0
    assert "not verified, the training began before" in capsys.readouterr().err
