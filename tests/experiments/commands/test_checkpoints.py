"""convert, evaluate and predict as a user types them, on a tiny checkpoint of the generated scenes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_checkpoint
import torch
from locations import ROOT
from PIL import Image
from trees import cityscapes

import cli
from unept.checkpoints import model_file
from unept.data.cityscapes import TABLE

QUICK = ("--data", "scenes", "--images", "4", "--scales", "1", "--no-flip", "--mode", "whole", "--threads", "1")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate("ab"):
        tiny_checkpoint.write(folder / f"{name}.safetensors", seed=seed)
    return str(folder / "a.safetensors"), str(folder / "b.safetensors")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_evaluate_and_again(two: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", *two, *QUICK]) == 0
    first = capsys.readouterr()
    assert "a: 4 pictures of scenes, val; whole, scale 1, not flipped, base 64x64\n" in first.err
    said = first.out.splitlines()
    assert [line.partition(":")[0] for line in said[:4]] == ["a, plain", "a, refined", "b, plain", "b, refined"]
    assert said[4].startswith("b - a, mIoU: ")
    assert "95 % interval" in said[4]
    page = Path("study/evaluation/a-b-val.md").read_text(encoding="utf-8")
    assert page.count(said[4]) == 1
    assert f"unept-bench evaluate {' '.join(two)}" in page
    assert cli.main(["evaluate", *two, *QUICK]) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "4 of them done already" in again.err


def test_a_checkpoint_with_outputs_that_are_not_finite_is_refused_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / "large.safetensors"
    tiny_checkpoint.write(path)
    large = model_file.load_model(path)
    with torch.no_grad():
        large.model.cls.weight.fill_(3e38)  # finite, and their products are not
    model_file.save_model(
        path, large.model, large.config, classes=large.classes, palette=large.palette, facts=large.facts
    )
    noise(64, 80).save("photo.png")
    where = "scale 1, window at row 0, column 0: "
    assert cli.main(["evaluate", "large.safetensors", *QUICK]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"unept-bench: large.safetensors: not scored, image val_000000: {where}")
    assert line.endswith("class logits are not finite")
    assert not [*place.rglob("scores.json"), *place.rglob("*.npz")]
    assert cli.main(["predict", "photo.png", "--checkpoint", "large.safetensors", "--out", "drawn"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"unept-bench: large.safetensors: not drawn, photo.png: {where}")
    assert not (place / "drawn").exists()


def test_the_same_classes_in_another_order_are_not_scored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By number every class would be scored as another one."""
    path = place / "turned.safetensors"
    tiny_checkpoint.write(path)
    own = model_file.load_model(path)
    turned = own.classes[::-1]
    model_file.save_model(path, own.model, own.config, classes=turned, palette=own.palette, facts=own.facts)
    assert cli.main(["evaluate", "turned.safetensors", *QUICK]) == 2
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith(
            "unept-bench: turned.safetensors: its classes are those of scenes in another order "
            f"({turned[0]!r} is number 0 here, 6 there)"
        )
    )


def test_evaluate_when_it_is_stopped(
    two: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.evaluation.multi_process.work.run_scoring", stop)
    assert cli.main(["evaluate", two[0], *QUICK]) == 130
    assert capsys.readouterr().err.endswith("stopped; finished pictures are kept, the same command continues\n")


def test_only_the_first_of_torchruns_processes_speaks(
    two: tuple[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "here")):
        monkeypatch.setenv(name, value)
    assert cli.main(["evaluate", two[0], *QUICK]) == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["evaluate", two[0], *QUICK]) == 0
    assert "4 of them done already" in capsys.readouterr().err


@pytest.mark.slow
def test_under_torchrun(two: tuple[str, str], place: Path) -> None:
    words = ["evaluate", two[0], *QUICK, "--images", "9", "--out", str(place / "out")]
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29677"]
    done = subprocess.run([*run, str(ROOT / "cli.py"), *words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("a, plain: mIoU") == 1
    assert len([*(place / "out").rglob("chunks/*.npz")]) == 3


def test_results_for_the_test_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    city = cityscapes(tmp_path / "city")
    path = tmp_path / "m.safetensors"
    tiny_checkpoint.write(path, classes=19)
    words = ["evaluate", str(path), "--data", f"cityscapes:{city}", "--split", "test", *QUICK[4:], "--base", "own"]
    assert cli.main(words) == 2
    assert "split 'test' has no labels to score against; --results FOLDER" in capsys.readouterr().err
    assert cli.main([*words, "--results", str(tmp_path / "results")]) == 0
    written = sorted((tmp_path / "results").iterdir())
    assert written
    assert all(path.name.startswith("berlin_") for path in written)
    with Image.open(written[0]) as picture:
        assert {*np.unique(np.array(picture)).tolist()} <= {number for _, number, _ in TABLE}
    assert "mIoU –" in capsys.readouterr().out
    before = written[0].read_bytes()
    written[0].unlink()
    assert cli.main([*words, "--results", str(tmp_path / "results")]) == 0
    assert f"{written[0]} is gone; removed, its pictures are evaluated again" in capsys.readouterr().err
    assert written[0].read_bytes() == before
    assert cli.main(["evaluate", str(path), *QUICK, "--results", "results"]) == 2
    assert "--results: files for the test server of cityscapes:PATH, not of scenes" in capsys.readouterr().err


def test_predict_a_picture(two: tuple[str, str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise(50, 70).save("photo.jpg")
    assert cli.main(["predict", "photo.jpg", "--checkpoint", two[0], "--out", "out"]) == 0
    kinds = ("boundary", "direction", "label", "mask", "overlay", "refinement")
    assert sorted(path.name for path in Path("out").iterdir()) == [f"photo-{kind}.png" for kind in kinds]
    with Image.open("out/photo-label.png") as label:
        assert (label.mode, label.size) == ("P", (70, 50))
        assert np.array(label).max() < 8
    assert capsys.readouterr().out == "1 of 1 pictures: out\n"


def test_predict_opens_no_pipe(two: tuple[str, str], place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.png")
    words = ["--checkpoint", two[0], "--out", "out"]
    assert cli.main(["predict", "pipe.png", *words]) == 2
    assert capsys.readouterr().err.startswith("unept-bench: pipe.png: a named pipe (FIFO), not a file")
    Path("in").mkdir()
    os.mkfifo("in/pipe.png")
    (Path("in") / "page.png").write_bytes(b"%!PS-Adobe-3.0")
    noise(20, 20).save("in/photo.png")
    assert cli.main(["predict", "in", *words]) == 1
    told = capsys.readouterr()
    assert "in/pipe.png: a named pipe (FIFO), not a file" in told.err
    assert "in/page.png: PostScript by its content" in told.err
    assert told.out == "1 of 3 pictures: out\n"


def test_a_checkpoint_that_is_no_file_is_never_opened(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.safetensors")
    noise(20, 20).save("photo.png")
    for words in (
        ("evaluate", "pipe.safetensors", *QUICK),
        ("predict", "photo.png", "--checkpoint", "pipe.safetensors", "--out", "out"),
        ("convert", "pipe.safetensors", "--out", "ours.safetensors"),
    ):
        assert cli.main(list(words)) == 2
        assert capsys.readouterr().err == "unept-bench: pipe.safetensors: a named pipe (FIFO), not a file\n"


def test_predict_says_its_limit_of_pixels(
    two: tuple[str, str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise(20, 30).save("photo.png")
    words = ["predict", "photo.png", "--checkpoint", two[0], "--out", "out", "--max-pixels"]
    assert cli.main([*words, "599"]) == 1
    assert "photo.png: 30x20 pixels, above the limit of 599; raise it by" in capsys.readouterr().err
    assert cli.main([*words, "600"]) == 0


def test_a_folder_with_a_damaged_file_and_two_checkpoints(
    two: tuple[str, str], place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reports.plots.style.DPI", 40)  # drawing takes most of the time
    (place / "in/deep").mkdir(parents=True)
    noise(1, 1).convert("LA").save("in/deep/one.png")
    (place / "in/broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (place / "in/notes.txt").write_text("no picture")
    assert cli.main(["predict", "in", "--checkpoint", two[0], "--checkpoint", two[1], "--out", "out"]) == 1
    said = capsys.readouterr()
    assert "in/broken.jpg: truncated or damaged JPEG" in said.err
    assert "in/deep/one.png: alpha dropped" in said.err
    assert said.out == "1 of 2 pictures: out\n"
    assert Path("out/deep/one-compare.png").exists()
    assert len([*Path("out/a/deep").iterdir()]) == len([*Path("out/b/deep").iterdir()]) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "nothing.jpg", "--checkpoint", "no.safetensors", "--out", "o"], "nothing.jpg: no such picture"),
        (["predict", "p.png", "--checkpoint", "no.safetensors", "--out", "o"], "no.safetensors: file does not exist"),
        (
            ["predict", "p.png", "--checkpoint", "p.png", "--out", "o"],
            "p.png: cut off, damaged or no .safetensors file",
        ),
        (["predict", "p.png", *["--checkpoint", "x"] * 3, "--out", "o"], "--checkpoint: 3 files; expected one, or two"),
        (["predict", "p.png", "--checkpoint", "A", "--out", "o", "--scales", "0"], "--scales 0: expected ratios"),
        (["predict", "p.png", "--checkpoint", "A", "--out", "o", "--window", "0"], "--window 0: expected at least 1"),
        (["predict", "p.png", "--checkpoint", "A", "--out", "o", "--mode", "x"], "--mode x: expected whole or slide"),
        (["predict", "p.png", "--checkpoint", "A", "--out", "o", "--device", "x"], "--device x: not to be had here"),
        (["evaluate", "A", "--data", "scenes", "--stride", "99"], "--stride 99: expected at most the window, 64"),
        (["evaluate", "A", "--data", "folder:nothing"], "nothing: data folder does not exist"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, two: tuple[str, str], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise(5, 5).save("p.png")
    assert cli.main([two[0] if word == "A" else word for word in words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert message in said[0]
    assert json.dumps(sorted(path.name for path in place.iterdir())) == '["p.png"]'
