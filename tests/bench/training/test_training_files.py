"""training.json, result.json and a checkpoint as a hand or a damaged disk leaves them: read, or named in a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_values import FEW, SOME, changed, damaged, refusal
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import nn

from bench.results.data_digest import DataDigest
from bench.training.checkpoint import CHECKPOINT_FILE, TrainState, load_checkpoint, save_checkpoint
from bench.training.job import (
    MODEL_FILE,
    RECORD_FILE,
    RESULT_FILE,
    TrainingJob,
    build_training_job,
    create_training_folder,
)
from bench.training.options import TrainOptions
from bench.training.session import run_training, training_summary
from unept.checkpoints.model_file import digest_of

METRICS = {"miou": 0.5, "miou_refined": None, "pixel_accuracy": 0.75}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """A training that is done, as its folder says."""
    out = tmp_path_factory.mktemp("training") / "out"
    fields = ("encoder_self=longformer", "encoder_self.window=7")
    job = build_training_job(TrainOptions(preset="quick", threads=1, out=out, fields=fields))
    create_training_folder(job, DataDigest(digest="0"))
    record = json.loads((out / RECORD_FILE).read_text())
    result = {"metrics": METRICS, "training": {"seconds": 3.5}, "evaluation": {"images": 3}}
    (out / RESULT_FILE).write_text(json.dumps(result | record["identity"] | {"data": record["data"]}))
    (out / MODEL_FILE).touch()
    return job


@pytest.fixture(params=[RECORD_FILE, RESULT_FILE])
def file(job: TrainingJob, request: pytest.FixtureRequest) -> Iterator[Path]:
    """One of the folder's files, put back afterwards."""
    path = job.out / request.param
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def read_or_refused(job: TrainingJob, path: Path, content: bytes) -> None:
    path.write_bytes(content)
    said = refusal(lambda: training_summary(job, run_training(job, lambda _: None)))
    assert not said or str(job.out) in said


@SOME
@given(data=st.data())
def test_a_file_of_any_shape_is_read_or_named(job: TrainingJob, file: Path, data: st.DataObject) -> None:
    content = json.loads(_whole(file))
    read_or_refused(job, file, json.dumps(data.draw(changed(content))).encode())


@FEW
@given(data=st.data())
def test_a_damaged_file_is_read_or_named(job: TrainingJob, file: Path, data: st.DataObject) -> None:
    read_or_refused(job, file, data.draw(damaged(_whole(file))))


def _whole(path: Path) -> bytes:
    """The file's content at its first reading."""
    return _contents.setdefault(path, path.read_bytes())


_contents: dict[Path, bytes] = {}


# --- the checkpoint of a run that was cut off -------------------------------------------------------------------------


def network() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A network after one step."""
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint's file."""
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(folder, *network(), TrainState(step=1, seconds=2.0, curve=[[1, 0.5]], probes=[[1, None]]))
    return folder / CHECKPOINT_FILE


def loaded_or_set_aside(folder: Path, content: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / CHECKPOINT_FILE).write_bytes(content)
    model, optimizer = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = load_checkpoint(folder, model, optimizer)
    if state == TrainState() and not (folder / CHECKPOINT_FILE).exists():
        assert (folder / f"{CHECKPOINT_FILE}.damaged").read_bytes() == content
        assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert [type(state.step), type(state.curve), type(state.probes)] == [int, list, list]


STATE = {"step": 1, "seconds": 2.0, "probe_seconds": 0.0, "curve": [[1, 0.5]], "probes": [[1, None]]}


@SOME
@given(facts=changed(STATE), data=st.data())
def test_a_checkpoint_of_any_shape_with_a_right_digest_is_loaded_or_set_aside(
    saved: Path, tmp_path: Path, facts: dict[str, Any], data: st.DataObject
) -> None:
    tensors = load_file(saved)
    for _ in range(data.draw(st.integers(0, 2))):
        name = data.draw(st.sampled_from(sorted(tensors)))
        match data.draw(st.sampled_from(["drop", "shape", "type", "name"])):
            case "drop" if len(tensors) > 1:
                del tensors[name]
            case "shape":
                tensors[name] = tensors[name].reshape(-1)[:1].repeat(5)
            case "type":
                tensors[name] = tensors[name].to(torch.int16)
            case _:
                other = data.draw(st.sampled_from(["x", "optimizer.x", "optimizer.9.step", "model.y"]))
                tensors[other] = tensors[name].clone()
    text = json.dumps(facts)
    if "\ud800" in json.loads(text) or not text.isascii():
        return
    metadata = {"state": text, "sha256": digest_of(text, tensors)}
    loaded_or_set_aside(tmp_path / "out", to_bytes(tensors, metadata=metadata))


@FEW
@given(data=st.data())
def test_a_damaged_checkpoint_is_set_aside(saved: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = saved.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["cut", "change", "insert"]))
    piece = data.draw(st.binary(min_size=1, max_size=4))
    changed_content = {
        "cut": content[:place],
        "change": content[:place] + piece + content[place + len(piece) :],
        "insert": content[:place] + piece + content[place:],
    }[how]
    loaded_or_set_aside(tmp_path / "out", changed_content)
