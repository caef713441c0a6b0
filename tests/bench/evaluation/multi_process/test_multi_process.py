"""Scoring a checkpoint: the same counts by any number of processes, after any end, each picture once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pytest
import tiny_checkpoint
import torch
from locations import ROOT
from PIL import Image

from bench import environment
from bench.evaluation import multi_process
from bench.evaluation.multi_process import request as requests
from bench.evaluation.multi_process import results, work
from bench.evaluation.multi_process.request import short_names
from bench.evaluation.options import EvaluationRequest, ProtocolOverrides
from bench.evaluation.protocol import EvaluationProtocol
from unept.checkpoints import model_file
from unept.data import open_data

COUNT = 9  # two chunks of four and one of one


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    tiny_checkpoint.write(path)
    return path


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def request(checkpoint: Path, out: Path, **changes: Any) -> EvaluationRequest:
    given: dict[str, Any] = {"checkpoints": (checkpoint,), "data": "scenes", "images": COUNT, "out": out}
    quick: dict[str, Any] = {"scales": (1.0,), "flip": False, "mode": "whole"}
    quick |= {name: changes.pop(name) for name in [*changes] if name in quick}
    return EvaluationRequest(
        **(given | {"threads": 1, "device": "cpu", "overrides": ProtocolOverrides(**quick)} | changes)
    )


def evaluate(checkpoint: Path, out: Path, **changes: Any) -> multi_process.CheckpointScores:
    return multi_process.evaluate_checkpoints(request(checkpoint, out, **changes), lambda _: None)[0]


def chunks(out: Path) -> list[Path]:
    return sorted(out.rglob("chunks/*.npz"))


def same(one: results.ImageResults, other: results.ImageResults) -> None:
    assert one.names == other.names
    for kind in results.KINDS:
        assert (one.table(kind) == other.table(kind)).all()
        assert one.scores(kind) == other.scores(kind)


@pytest.fixture(scope="module")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> multi_process.CheckpointScores:
    return evaluate(checkpoint, tmp_path_factory.mktemp("whole"))


def test_the_counts_are_those_of_predicting_each_picture(
    checkpoint: Path, whole: multi_process.CheckpointScores
) -> None:
    model = work.with_refinement(model_file.load_model(checkpoint).model)
    dataset = open_data("scenes", "val")
    expected = results.ImageResults(7)
    for number in range(COUNT):
        sample = dataset[number]
        labels = EvaluationProtocol(mode="whole", base=(64, 64)).predict_labels(model, sample.image, 7)
        assert labels.refined is not None
        assert (labels.plain != labels.refined).any()
        expected.add(number, sample.name, sample.label, labels)
    same(whole.results, expected)
    assert len(np.unique(whole.results.table()[:, 2])) > 2
    assert whole.record["scores"]["plain"]["miou"] == expected.scores()[0].miou
    assert whole.record["pictures"] == COUNT


def test_what_is_kept(checkpoint: Path, tmp_path: Path, whole: multi_process.CheckpointScores) -> None:
    record = evaluate(checkpoint, tmp_path).record
    folder = Path(record["folder"])
    assert [path.name for path in chunks(tmp_path)] == ["000000.npz", "000004.npz", "000008.npz"]
    same(results.read_results(folder / "pictures.npz", 7), whole.results)
    kept = json.loads((folder / "scores.json").read_text())
    assert kept["scores"]["refined"]["miou"] == record["scores"]["refined"]["miou"]
    assert kept["sha256"] == model_file.load_model(checkpoint).digest
    assert set(kept["scores"]["plain"]) >= {"iou", "boundary_f", "trimap", "size_iou", "tolerance_px"}


def test_nothing_is_done_twice_and_damage_is_done_again(
    checkpoint: Path, tmp_path: Path, whole: multi_process.CheckpointScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(checkpoint, tmp_path)
    seen: list[int] = []
    labels = EvaluationProtocol.predict_labels
    monkeypatch.setattr(EvaluationProtocol, "predict_labels", lambda *a, **k: seen.append(1) or labels(*a, **k))
    same(evaluate(checkpoint, tmp_path).results, whole.results)
    assert not seen
    first, second, third = chunks(tmp_path)
    first.write_bytes(first.read_bytes()[:99])
    second.unlink()
    third.write_bytes(b"")
    said: list[str] = []
    again = multi_process.evaluate_checkpoints(request(checkpoint, tmp_path), said.append)[0]
    same(again.results, whole.results)
    assert len(seen) == COUNT
    assert [line.partition(": ")[0].rpartition("/")[2] for line in said[:2]] == ["000000.npz", "000008.npz"]


def test_damage_that_another_process_is_mending_is_left_to_it(checkpoint: Path, tmp_path: Path) -> None:
    evaluate(checkpoint, tmp_path)
    job, _ = requests._job(request(checkpoint, tmp_path), checkpoint, open_data("scenes", "val"), COUNT, ["cpu"], print)
    first = job.chunks()[0][0]
    first.write_bytes(b"")
    with work._claim(first) as mine:
        assert mine
        assert work.remove_damaged_chunks(job) == []
        assert first.exists()
    assert len(work.remove_damaged_chunks(job)) == 1


def test_several_that_end_together_write_one_after_the_other(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two machines do that share --out, each of which has a first process."""
    inside: list[int] = []
    write = requests.atomic_write

    def slowly(path: Path, data: bytes) -> Path:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.05)
        inside.pop()
        return write(path, data)

    monkeypatch.setattr(requests, "atomic_write", slowly)
    evaluate(checkpoint, tmp_path, images=1)
    with ThreadPoolExecutor() as pool:
        ends = [*pool.map(lambda _: evaluate(checkpoint, tmp_path, images=1), range(3))]
    assert len({json.dumps(end.record["scores"]) for end in ends}) == 1


def test_a_chunk_of_other_pictures_is_done_again(
    checkpoint: Path, tmp_path: Path, whole: multi_process.CheckpointScores
) -> None:
    evaluate(checkpoint, tmp_path)
    first, second, _ = chunks(tmp_path)
    first.write_bytes(second.read_bytes())
    same(evaluate(checkpoint, tmp_path).results, whole.results)


def test_other_settings_are_other_results(checkpoint: Path, tmp_path: Path) -> None:
    for changes in ({}, {"flip": True}, {"scales": (0.5,)}, {"images": 2}, {"split": "train"}, {"mode": "slide"}):
        evaluate(checkpoint, tmp_path, **({"images": 1} | changes))
    assert len([*tmp_path.iterdir()]) == 6


def test_two_processes_count_what_one_counts(
    checkpoint: Path, tmp_path: Path, whole: multi_process.CheckpointScores
) -> None:
    found = evaluate(checkpoint, tmp_path, processes=2)
    same(found.results, whole.results)
    assert found.record["environment"]["devices"] == ["cpu", "cpu"]


def test_processes_that_torchrun_starts(
    checkpoint: Path, tmp_path: Path, whole: multi_process.CheckpointScores, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 finds one chunk claimed, does the others, waits, and takes it over when its owner has died."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "here")
    assert not environment.is_main_process()
    with pytest.raises(ValueError, match="under torchrun its own options say how many"):
        evaluate(checkpoint, tmp_path, processes=2)
    said: list[str] = []
    pauses: list[float] = []
    job, _ = requests._job(
        request(checkpoint, tmp_path), checkpoint, open_data("scenes", "val"), COUNT, ["cpu"], said.append
    )
    job.folder.mkdir(parents=True)
    claimed = job.chunks()[1][0]
    with work._claim(claimed) as mine:
        assert mine

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            assert [path.name for path in chunks(tmp_path)] == ["000000.npz", "000008.npz"]
            raise KeyboardInterrupt

        monkeypatch.setattr(time, "sleep", pause)
        with pytest.raises(KeyboardInterrupt):
            work.run_scoring(job, ["cpu"])
    assert pauses == [work.PAUSE]
    same(multi_process.evaluate_checkpoints(request(checkpoint, tmp_path), said.append)[0].results, whole.results)
    assert said == []
    assert not [*tmp_path.rglob("scores.json")], "the first process writes it"


@pytest.mark.slow
def test_what_a_process_refuses_is_one_line(checkpoint: Path, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", 6)
    (tmp_path / "data/images/val/p5.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"p5\.png: not a picture: its content is of no known format"):
        evaluate(checkpoint, tmp_path / "out", data=data, images=0, processes=2)
    assert len(chunks(tmp_path / "out")) == 1


@pytest.mark.slow
def test_a_killed_process_is_said_and_the_rest_is_kept(
    checkpoint: Path, tmp_path: Path, whole: multi_process.CheckpointScores
) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from bench.evaluation import multi_process as scoring\n"
        "from bench.evaluation.options import EvaluationRequest, ProtocolOverrides\n"
        "from bench.evaluation.protocol import EvaluationProtocol as Protocol\n"
        "labels, seen = Protocol.labels, []\n"
        "def dying(*a, **k):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 6: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return labels(*a, **k)\n"
        "Protocol.labels = dying\n"
        f"scoring.evaluate_checkpoints(EvaluationRequest(checkpoints=(Path({str(checkpoint)!r}),), "
        f"data='scenes', images={COUNT}, "
        f"out=Path({str(tmp_path)!r}), threads=1, device='cpu', "
        "overrides=ProtocolOverrides(scales=(1.0,), flip=False, mode='whole')), print)\n"
    )
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, check=False, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [path.name for path in chunks(tmp_path)] == ["000000.npz"]
    said: list[str] = []
    same(multi_process.evaluate_checkpoints(request(checkpoint, tmp_path), said.append)[0].results, whole.results)
    assert said[0].endswith(", 4 of them done already")


def folder_of(folder: Path, count: int, classes: int = 7) -> str:
    chance = np.random.default_rng(0)
    for place in ("images/val", "labels/val"):
        (folder / place).mkdir(parents=True)
    for number in range(count):
        size = (20 + 7 * number, 30 + 5 * number)
        image = chance.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"images/val/p{number}.png")
        Image.fromarray(chance.integers(0, classes, size, dtype=np.uint8)).save(folder / f"labels/val/p{number}.png")
    (folder / "meta.json").write_text(json.dumps({"classes": classes}))
    return f"folder:{folder}"


def test_pictures_of_any_size_with_numbered_classes(checkpoint: Path, tmp_path: Path) -> None:
    data = folder_of(tmp_path / "data", 5)
    said: list[str] = []
    made = multi_process.evaluate_checkpoints(request(checkpoint, tmp_path / "out", data=data, images=0), said.append)[
        0
    ]
    assert made.record["pictures"] == 5
    assert "its classes are called otherwise than the data's; they are compared by number" in said[0]
    assert made.results.names == {number: f"p{number}" for number in range(5)}


def test_checkpoints_are_compared_with_the_first_and_refined_with_plain(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    tiny_checkpoint.write(other, seed=1, spatial=False, queries="embed")
    made = multi_process.evaluate_checkpoints(
        replace(request(checkpoint, tmp_path / "out"), checkpoints=(checkpoint, other)), lambda _: None
    )
    pairs = multi_process.paired_comparisons(made)
    said = [(pair["first"], pair["second"], pair["value"]["metric"]) for pair in pairs]
    assert said == [
        ("other", "model", "miou"),
        ("other", "model", "pixel_accuracy"),
        ("model, refined", "model, plain", "miou"),
        ("model, refined", "model, plain", "pixel_accuracy"),
    ]
    value = pairs[0]["value"]
    scores = [each.record["scores"]["plain"]["miou"] for each in made]
    assert value["first"] - value["second"] == pytest.approx(scores[1] - scores[0])
    assert value["low"] <= value["first"] - value["second"] <= value["high"]
    assert "refined" not in made[1].record["scores"]


def test_short_names_that_differ(tmp_path: Path) -> None:
    assert short_names([Path("a/x.safetensors"), Path("b/y.safetensors")]) == ["x", "y"]
    assert short_names([Path("a/x.safetensors"), Path("b/x.safetensors")]) == ["a-x", "b-x"]
    assert short_names([Path("a/x.safetensors"), Path("a/x.safetensors")]) == ["x-1", "x-2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"processes": -1}, "--processes -1: expected at least 0"),
        ({"images": -1}, "--images -1: expected at least 0"),
        ({"gpus": 1, "processes": 1}, "--processes and --gpus: give one of them"),
        ({"gpus": 99}, "--gpus 99: this machine has"),
        ({"device": "cuda:77"}, "--device cuda:77: not to be had here"),
        ({"device": "abacus"}, "--device abacus: not to be had here"),
        ({"split": "nothing"}, "nothing"),
        ({"data": "nothing"}, "data 'nothing': expected scenes"),
        ({"checkpoints": (Path("no.safetensors"),)}, r"no\.safetensors: file does not exist"),
        ({"checkpoints": ()}, "expected at least one checkpoint"),
    ],
)
def test_what_is_refused(checkpoint: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(checkpoint, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tiny_checkpoint.write(path, classes=3)
    with pytest.raises(ValueError, match=r"m\.safetensors: 3 classes, but scenes has 7"):
        evaluate(path, tmp_path / "out")


def test_scores_of_other_data_are_not_taken_for_these(tmp_path: Path, checkpoint: Path) -> None:
    folder, out = tmp_path / "d", tmp_path / "out"
    command_line.dataset(folder)
    (folder / "meta.json").write_text(json.dumps({"classes": 7}))
    said: list[str] = []

    def scores(at: Path) -> dict[str, Any]:
        said.clear()
        asked = request(checkpoint, out, data=f"folder:{at}", images=0)
        return multi_process.evaluate_checkpoints(asked, said.append)[0].record

    before = scores(folder)
    assert before["data_digest"]
    moved = folder.rename(tmp_path / "moved")
    again = scores(moved)
    assert again["folder"] == before["folder"], "the same data, wherever they are"
    assert again["scores"] == before["scores"]
    command_line.picture(moved / "labels" / "val" / "a.png", "L", value=3)
    after = scores(moved)
    assert after["folder"] != before["folder"]
    assert after["scores"] != before["scores"]
    assert said[1] == (
        f"the scores in {before['folder']} are of other data: those at folder:{moved} have changed since, digest "
        f"{before['data_digest']} before, {after['data_digest']} now"
    )


def test_data_that_change_while_they_are_scored_give_no_scores(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "d", tmp_path / "out"
    command_line.dataset(folder)
    (folder / "meta.json").write_text(json.dumps({"classes": 7}))
    run_scoring = work.run_scoring

    def change_and_score(*arguments: Any, **keywords: Any) -> None:
        run_scoring(*arguments, **keywords)
        command_line.picture(folder / "labels" / "val" / "a.png", "L", value=3)

    monkeypatch.setattr(work, "run_scoring", change_and_score)
    with pytest.raises(ValueError, match="changed while they were scored"):
        evaluate(checkpoint, out, data=f"folder:{folder}", images=0)
    assert not list(out.glob("*/scores.json"))
    assert not list(out.glob("*/chunks/*.npz"))
