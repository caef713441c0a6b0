"""Checkpoints of the released code: what is read, what is compared, what is refused, and that the outputs are equal."""

from __future__ import annotations

import json
import math
import random
import shlex
from argparse import Namespace
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from locations import GOLDEN
from safetensors.torch import load_file, save_file

import cli
import unept
from bench.evaluation.convert import convert_checkpoint
from unept.backbones import ResNet
from unept.checkpoints import model_file
from unept.checkpoints.released_file import read_released
from unept.checkpoints.released_model import TOTALS, compare, known_total
from unept.model import UNEPT

NAMES = ("wall", "building", "sky", "floor", "tree", "ceiling", "road")
PALETTE = [[120, 120, 120], [180, 120, 120], [6, 230, 230], [80, 50, 50], [4, 200, 3], [120, 120, 80], [140, 140, 140]]

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    golden = load_file(GOLDEN / "deit.safetensors")
    return {name.removeprefix("state."): tensor for name, tensor in golden.items() if name.startswith("state.")}


def narrow_resnet() -> State:
    released, _ = unept.released_profile()
    settings: dict[str, Any] = {
        "classes": 5, "size": 48, "points": 3, "heads": 2, "width": 16, "ffn": 24, "encoder_layers": 1,
        "decoder_layers": 1, "spatial_widths": (6, 10), "head_width": 12,
    }  # fmt: skip
    torch.manual_seed(0)
    model = UNEPT(replace(released, **settings), ResNet(depths=(1, 2, 1, 1), widths=(4, 6, 8, 10), stem_width=5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    return model.state_dict()


def mmcv_file(path: Path, state: State, **meta: Any) -> Path:
    """A file as mmcv's runner writes it."""
    given = {"mmcv_version": "1.2.7", "time": "Mon", "config": "model = dict()\n", "epoch": 1, "iter": 160_000, **meta}
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-5, "params": [0]}]}
    torch.save({"meta": given, "state_dict": OrderedDict(state), "optimizer": optimizer}, path)
    return path


def test_a_checkpoint_becomes_ours(tmp_path: Path, state: State) -> None:
    path = mmcv_file(tmp_path / "iter_160000.pth", state, CLASSES=NAMES, PALETTE=PALETTE)
    said: list[str] = []
    convert_checkpoint(path, tmp_path / "ours.safetensors", heads=4, say=said.append)
    found = model_file.load_model(tmp_path / "ours.safetensors")
    assert found.classes == NAMES
    assert [[*colour] for colour in found.palette] == PALETTE
    assert found.facts == {"source": "iter_160000.pth", "profile": "released", "step": 160_000}
    assert said[0] == f"tensors: {len(state)} matched, 0 missing, 0 unknown, 0 of another shape"
    assert said[1].startswith("deit_base, 7 classes, crops of 96 pixels; ")
    assert said[1].endswith(" parameters (widths of its own: no known total)")
    assert said[2] == "4 heads of 4 points: in no tensor's shape; the released models have 8 of 16"
    assert said[-1].startswith("same picture through both files: logits, boundary and direction equal to the bit")
    golden = load_file(GOLDEN / "deit.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(found.model(golden["x"]).logits, golden["out.logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("how", ["plain", "parallel", "older", "safetensors"])
def test_other_files_of_the_same_weights(tmp_path: Path, how: str) -> None:
    state = narrow_resnet()
    path = tmp_path / ("w.safetensors" if how == "safetensors" else "w.pth")
    if how == "safetensors":
        save_file(state, path)
    elif how == "parallel":
        torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, path)
    else:
        torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=how != "older")
    said: list[str] = []
    convert_checkpoint(path, tmp_path / "ours.safetensors", heads=2, say=said.append)
    found = model_file.load_model(tmp_path / "ours.safetensors")
    assert found.classes == tuple(f"class {number}" for number in range(1, 6))
    assert found.facts["step"] is None
    assert "class names: not in the file for its 5 classes; they are numbered" in said
    picture = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(found.model(picture).logits, unept.load_released(state, heads=2)(picture).logits)


def test_names_of_another_number_of_classes_are_left_out(tmp_path: Path, state: State) -> None:
    path = mmcv_file(tmp_path / "a.pth", state, CLASSES=NAMES[:3], PALETTE=[[0, 0, 300]] * 7)
    convert_checkpoint(path, tmp_path / "a.safetensors", heads=4, say=lambda _: None)
    found = model_file.load_model(tmp_path / "a.safetensors")
    assert found.classes[0] == "class 1"
    assert found.palette[0] != (0, 0, 300)


@pytest.mark.parametrize("kind", ["deit", "r50"])
def test_the_published_layouts_match_tensor_by_tensor(kind: str) -> None:
    """The lists of the released code's own tensors, at full size, without memory."""
    shapes = json.loads((GOLDEN / f"keys_{kind}_ade20k.json").read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    parity = compare(state)
    assert (parity.matched, parity.missing, parity.extra, parity.shapes) == (len(shapes), (), (), ())
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    total = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(buffers))
    backbone = {"deit": "deit_base", "r50": "resnet50"}[kind]
    assert known_total(backbone, 150, 480) == TOTALS[backbone] == total


@pytest.mark.parametrize(
    ("backbone", "classes", "size"), [("deit_base", 19, 768), ("resnet50", 60, 480), ("resnet50", 19, 768)]
)
def test_known_totals_of_other_classes_and_crops(backbone: str, classes: int, size: int) -> None:
    released, _ = unept.released_profile()
    with torch.device("meta"):
        model = unept.build(replace(released, backbone=backbone, classes=classes, size=size))
    assert known_total(backbone, classes, size) == sum(parameter.numel() for parameter in model.parameters())


def test_what_does_not_fit_is_listed_and_nothing_is_written(tmp_path: Path, state: State) -> None:
    changed = dict(state)
    del changed["dir_head.3.weight"]
    changed["auxiliary.weight"] = torch.zeros(1)
    changed["context_branch.encoder.layers.1.linear2.weight"] = torch.zeros(64, 5)
    path = mmcv_file(tmp_path / "a.pth", changed)
    said: list[str] = []
    with pytest.raises(ValueError, match=r"a\.pth: not a checkpoint of the released models: 1 tensors missing, 1 unk"):
        convert_checkpoint(path, tmp_path / "ours.safetensors", heads=4, say=said.append)
    assert said == [
        f"tensors: {len(state) - 2} matched, 1 missing, 1 unknown, 1 of another shape",
        "  missing: dir_head.3.weight",
        "  unknown: auxiliary.weight",
        "  of another shape: context_branch.encoder.layers.1.linear2.weight (64, 5) (expected (64, 128))",
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["a.pth"]


def test_an_output_that_differs_removes_the_file(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mmcv_file(tmp_path / "a.pth", state)
    load = model_file.load_model

    def other(path: Path) -> model_file.SavedModel:
        found = load(path)
        with torch.no_grad():
            found.model.cls.bias.add_(1)
        return found

    monkeypatch.setattr(model_file, "load_model", other)
    with pytest.raises(ValueError, match=r"logits of the converted file differ from the source's by"):
        convert_checkpoint(path, tmp_path / "ours.safetensors", heads=4, say=lambda _: None)
    assert [each.name for each in tmp_path.iterdir()] == ["a.pth"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["cls.bias", "running_var"])
def test_weights_and_statistics_that_are_not_finite_are_refused(
    tmp_path: Path, state: State, name: str, value: float
) -> None:
    full = name if name in state else next(key for key in state if key.endswith(name))
    spoilt = state | {full: state[full].clone()}
    spoilt[full].view(-1)[-1] = value
    path = mmcv_file(tmp_path / "a.pth", spoilt)
    with pytest.raises(ValueError, match=rf"^{path}: its weights are not finite: {full}$"):
        convert_checkpoint(path, tmp_path / "ours.safetensors", heads=4, say=lambda _: None)
    assert [file.name for file in tmp_path.iterdir()] == ["a.pth"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    ("held", "name"),
    [
        (np.zeros(3), "numpy._core.multiarray._reconstruct"),
        (Namespace(a=1), "argparse.Namespace"),
        (Bomb(), "_pytest"),
    ],
    ids=("array", "namespace", "bomb"),
)
def test_objects_in_the_meta_are_never_unpickled_and_the_line_says_what_to_do(
    tmp_path: Path, state: State, held: object, name: str
) -> None:
    path = mmcv_file(tmp_path / "a.pth", state, hook=held)
    with pytest.raises(ValueError, match=rf"a\.pth cannot be read as a checkpoint: it holds a {name}") as caught:
        read_released(path)
    line = str(caught.value)
    assert "\n" not in line
    assert "torch.load(sys.argv[1], map_location='cpu', weights_only=False)['state_dict']" in line
    assert line.endswith(f" {shlex.quote(str(path))}")


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content in (("text.pth", b"weights"), ("empty.pth", b""), ("zip.pth", b"PK\x03\x04rest")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a checkpoint") as caught:
            read_released(tmp_path / name)
        assert "weights_only" not in str(caught.value)
    numbered = {0: torch.zeros(1)}
    for name, content in (
        ("list.pth", [1]),
        ("none.pth", {"state_dict": {}}),
        ("text.pth", {"state_dict": "x"}),
        ("numbered.pth", numbered),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name}: (expected a checkpoint|no state dict of tensors)"):
            read_released(tmp_path / name)
    with pytest.raises(ValueError, match="a folder, no checkpoint"):
        read_released(tmp_path)
    with pytest.raises(ValueError, match=r"no\.pth: file does not exist"):
        read_released(tmp_path / "no.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_any_changed_byte_is_read_or_refused(tmp_path: Path, zipped: bool) -> None:
    """Torch's reader raises a dozen kinds of errors, IndexError and AssertionError among them."""
    path, chance = tmp_path / "a.pth", random.Random(0)
    torch.save({"state_dict": {"a": torch.zeros(3)}, "meta": {"iter": 3}}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    refused = []
    for _ in range(300):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] = chance.randrange(256)
        path.write_bytes(changed[: chance.choice((len(whole), chance.randrange(len(whole))))])
        try:
            read_released(path)
        except ValueError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(said.startswith(str(path)) for said in refused)


def test_the_command(tmp_path: Path, state: State, capsys: pytest.CaptureFixture[str]) -> None:
    path = mmcv_file(tmp_path / "a.pth", state, CLASSES=NAMES, PALETTE=PALETTE)
    words = ["convert", str(path), "--out", str(tmp_path / "ours.safetensors"), "--heads", "4"]
    assert cli.main(words) == 0
    assert "equal to the bit" in capsys.readouterr().out
    assert cli.main(words) == 2
    assert "exists: nothing is written over a checkpoint" in capsys.readouterr().err
    assert cli.main([*words[:3], str(tmp_path / "ours.pth")]) == 2
    assert "a checkpoint's name ends in .safetensors" in capsys.readouterr().err
    assert cli.main([*words[:3], str(tmp_path / "b.safetensors"), "--heads", "5"]) == 2
    assert "a.pth: heads=5 does not divide" in capsys.readouterr().err
