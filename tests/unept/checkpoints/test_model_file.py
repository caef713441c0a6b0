"""A checkpoint comes back to the bit, and a file that is damaged, foreign or hostile is one line and nothing worse."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from locations import GOLDEN
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_checkpoint import CONFIG
from torch import nn

import unept
from unept.checkpoints import model_file

GOLDEN_FILE = GOLDEN / "deit.safetensors"
TINY = replace(CONFIG, size=32, classes=3)
CLASSES = ("sky", "große Straße", "_pole")
PALETTE = ((0, 0, 0), (255, 128, 1), (7, 8, 9))
FACTS = {"step": 300, "seed": 0, "data": "scenes", "protocol": {"mode": "whole", "scales": [1.0]}}


def made(config: unept.ModelConfig) -> nn.Module:
    torch.manual_seed(1)
    model = unept.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model(torch.randn(2, 3, 32, 32))  # batch norms count
    return model.eval()


def write(path: Path, config: unept.ModelConfig = TINY) -> nn.Module:
    model = made(config)
    model_file.save_model(path, model, config, classes=CLASSES, palette=PALETTE, facts=FACTS)
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    write(path)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "tiny_vit", "position_resize": "bicubic"},
        {"encoder_self": "reformer", "attention_options": (("encoder_self.hashes", 2),)},
        {"boundary_head": "two_class", "refine_test": False},
        {"architecture": "ccnet"},
        {"architecture": "pointrend"},
        {"architecture": "setr_pup", "backbone": "tiny_vit"},
    ],
    ids=str,
)
def test_a_model_comes_back_to_the_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = replace(TINY, **changes)
    model = write(tmp_path / "new" / "m.safetensors", config)
    found = model_file.load_model(tmp_path / "new" / "m.safetensors")
    assert (found.config, found.classes, found.palette, found.facts) == (config, CLASSES, PALETTE, FACTS)
    assert not found.model.training
    image = torch.randn(2, 3, 40, 56)
    with torch.no_grad():
        for ours, theirs in zip(found.model(image), model(image), strict=True):
            assert ours is theirs or ours == () or torch.equal(ours, theirs)


def test_a_released_model_of_other_widths_comes_back(tmp_path: Path) -> None:
    golden = load_file(GOLDEN_FILE)
    state = {n.removeprefix("state."): tensor for n, tensor in golden.items() if n.startswith("state.")}
    model = unept.load_released(state, heads=4)
    path = tmp_path / "m.safetensors"
    names = [f"class {i}" for i in range(7)]
    with pytest.raises(ValueError, match=r"backbone\.cls_token is \(1, 1, 48\), the model it describes"):
        model_file.save_model(path, model, model.config, classes=names, palette=[(0, 0, 0)] * 7, facts={})
    assert not path.exists()
    model_file.save_model(path, model, model.config, classes=names, palette=[(0, 0, 0)] * 7, facts={}, backbone_heads=3)
    with torch.no_grad():
        assert torch.equal(model_file.load_model(path).model(golden["x"]).logits, model(golden["x"]).logits)


def test_a_file_that_begins_like_a_pickle_is_read_all_the_same(tmp_path: Path) -> None:
    """The first byte is the header's length, a multiple of eight, and one in 32 is that of a pickle."""
    path = tmp_path / "m.safetensors"
    model = made(TINY)
    note = 0
    for _ in range(3):
        model_file.save_model(path, model, TINY, classes=CLASSES, palette=PALETTE, facts={"note": "x" * note})
        note += (0x80 - path.read_bytes()[0]) % 256
    assert path.read_bytes()[:1] == b"\x80"
    assert model_file.load_model(path).config == TINY


def test_the_text_beside_says_what_the_file_says(file: Path) -> None:
    beside = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    with safe_open(file, framework="pt") as content:
        metadata = content.metadata()
    assert beside.pop("sha256") == metadata["sha256"]
    assert beside == json.loads(metadata["unept"])
    assert beside["classes"] == [*CLASSES]
    assert beside["config"]["spatial_widths"] == [4, 6]
    assert beside["normalisation"]["mean"] == [123.675, 116.28, 103.53]


def test_a_crash_between_the_two_files_leaves_a_whole_checkpoint(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    for name in (path, path.with_suffix(".json")):
        name.write_bytes(file.with_suffix(name.suffix).read_bytes())
    other = replace(TINY, classes=4)
    synced: list[int] = []

    def stop_at(number: int) -> Callable[[int], None]:
        def sync(handle: int) -> None:
            synced.append(handle)
            if len(synced) == number:
                raise OSError(28, "No space left on device")

        synced.clear()
        return sync

    for number, classes in ((1, 3), (2, 4)):
        monkeypatch.setattr(os, "fsync", stop_at(number))
        with pytest.raises(OSError, match="No space left"):
            model_file.save_model(path, made(other), other, classes="abcd", palette=[(0, 0, 0)] * 4, facts={})
        assert model_file.load_model(path).config.classes == classes
        assert sorted(each.name for each in tmp_path.iterdir()) == ["m.json", "m.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("part", ["length", "header", "weights"])
def test_a_file_that_is_cut_off(file: Path, tmp_path: Path, part: str, share: float) -> None:
    content = file.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    start, end = {"length": (0, 8), "header": (8, header), "weights": (header, len(content))}[part]
    refused(tmp_path, content[: start + int(share * (end - start))], "cut off, damaged or no .safetensors file")


def test_one_byte_less_or_more(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    for changed in (content[:-1], content + b"\0", content[1:]):
        refused(tmp_path, changed, "cut off, damaged or no .safetensors file")


def test_every_changed_bit_is_found(file: Path, tmp_path: Path) -> None:
    content = bytearray(file.read_bytes())
    header = 8 + struct.unpack("<Q", content[:8])[0]
    chance = random.Random(0)
    places = [*range(24), *chance.sample(range(24, header), 150), *chance.sample(range(header, len(content)), 15)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        refused(tmp_path, bytes(changed), ".")


def refused(folder: Path, content: bytes, message: str) -> None:
    path = folder / "changed.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        model_file.load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    nothing, foreign, pickled, text = (tmp_path / name for name in ("none", "other", "weights.pth", "a.txt"))
    save_file({"weight": torch.zeros(2)}, foreign)
    torch.save({"weight": torch.zeros(2)}, pickled)
    text.write_text("model")
    for path, message in (
        (tmp_path, "a folder, no checkpoint"),
        (nothing, "file does not exist"),
        (foreign, "no description of unept-bench checkpoint in it: weights of another program"),
        (pickled, "a file of torch.save, which is not read as a checkpoint"),
        (text, "cut off, damaged or no"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            model_file.load_model(path)
        assert str(caught.value).startswith(f"{path}: ")


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for content in (pickle.dumps(_Bomb()), pickle.dumps(_Bomb(), protocol=0)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"torch\.save|no \.safetensors file"):
            model_file.load_model(path)


def rewritten(file: Path, change: Callable[[dict[str, Any]], None], tensors: Mapping[str, torch.Tensor] = {}) -> bytes:
    """The file with another description, its digest made again: what a hostile writer would do."""
    with safe_open(file, framework="pt") as content:
        description = json.loads(content.metadata()["unept"])
    change(description)
    text = json.dumps(description)
    weights = load_file(file) | dict(tensors)
    return model_file.to_bytes(weights, metadata={"unept": text, "sha256": model_file.digest_of(text, weights)})


def setting(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda description: description["config"].__setitem__(name, value)


def entry(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda description: description.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (entry("version", 0), "format 0; this program reads 1"),
        (entry("version", 2), "format 2; this program reads 1"),
        (entry("format", "other"), "its description is not that of a unept-bench checkpoint"),
        (lambda d: d.pop("facts"), "its description has no facts"),
        (entry("facts", []), "its facts are no mapping"),
        (entry("facts", {"base": [10**9, 10**9]}), r"its fact base is \[1000000000, 1000000000\]: expected two sides"),
        (entry("facts", {"step": "x"}), "its fact step is 'x': expected a whole number"),
        (entry("classes", "abc"), "its class names are no list"),
        (entry("normalisation", {"mean": [0, 0, 0], "std": [1, 1, 1]}), "normalised by"),
        (entry("classes", ["a", "b"]), "2 class names and 3 colours for 3 classes"),
        (entry("classes", ["a", "b", "\x1b[2J"]), r"its class name '\\x1b\[2J': expected text"),
        (entry("palette", [[0, 0, 256]] * 3), "its palette is no list of colours"),
        (entry("config", 3), "its config is no mapping"),
        (entry("backbone_heads", "x"), "backbone_heads is 'x'"),
        (entry("backbone_heads", 1), "the state dict has no"),
        (setting("size", 10**9), "config size=1000000000: expected at most"),
        (setting("size", "32"), "config size='32': expected int"),
        (setting("heads", True), "config heads=True: expected int"),
        (setting("dropout", float("nan")), "config dropout=nan"),
        (setting("encoder_layers", 2**20), "describes 1048577 layers, more than its tensors"),
        (setting("spatial_widths", [4]), r"config spatial_widths=\[4\]: expected a list of 2"),
        (setting("queries", "all"), "config queries='all': expected one of spatial, embed, both"),
        (setting("colour", 1), "config field 'colour' is unknown"),
        (setting("attention_options", [1]), r"config attention_options=\[1\]: expected a mapping"),
        (setting("attention_options", {"encoder_self.x": {}}), "config encoder_self.x={}"),
        (setting("attention_options", {"encoder_self.x": 1}), "has no parameter 'x'"),
        (setting("encoder_self", "os:system"), "encoder_self is os:system, code outside this program"),
        (setting("encoder_self", "magic"), "encoder_self cannot be 'magic'"),
        (setting("backbone", "tiny_vit"), "backbone"),
        (setting("architecture", "ccnet"), "is missing"),
        (setting("width", 2**20), "the model it describes has"),
        (setting("size", 2**20), "query_embed.weight is"),
        (setting("spatial_widths", [2**20, 2**20]), "the model it describes has"),
    ],
)
def test_a_description_that_is_not_that_of_its_weights(
    file: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    refused(tmp_path, rewritten(file, change), message)


def test_weights_that_are_not_those_of_the_description(file: Path, tmp_path: Path) -> None:
    weight = load_file(file)["cls.weight"]
    for tensors, message in (
        ({"cls.weight": weight[:2]}, r"cls\.weight is \(2, 16, 1, 1\), the model it describes has \(3, 16, 1, 1\)"),
        ({"cls.weight": weight.half()}, r"cls\.weight is torch\.float16"),
        ({"extra": weight}, "extra is no tensor of the model it describes"),
    ):
        refused(tmp_path, rewritten(file, lambda _: None, tensors), message)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["cls.weight", "spatial_branch", "running_var"])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    model = made(TINY)
    full_name, tensor = next(
        (full, t) for full, t in model.state_dict().items() if name in full and t.is_floating_point()
    )
    tensor.reshape(-1)[0] = value
    path = tmp_path / "m.safetensors"
    model_file.save_model(path, model, TINY, classes=CLASSES, palette=PALETTE, facts=FACTS)
    with pytest.raises(ValueError, match=rf"m\.safetensors: its weights are not finite: {full_name}$"):
        model_file.load_model(path)


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"m\.safetensors: a named pipe \(FIFO\), not a file$"):
        model_file.load_model(path)


def test_a_field_that_came_later_has_its_default(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "older.safetensors"
    path.write_bytes(rewritten(file, lambda d: d["config"].pop("ffn_chunks")))
    assert model_file.load_model(path).config == TINY


def test_own_code_is_imported_only_where_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_attention_of_a_checkpoint.py").write_text(
        "from unept.attention.none import NoSelfAttention\nclass Own(NoSelfAttention):\n    pass\n", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.safetensors"
    config = replace(TINY, encoder_self="own_attention_of_a_checkpoint:Own")
    write(path, config)
    with pytest.raises(ValueError, match="code outside this program; allow it to be imported"):
        model_file.load_model(path)
    assert model_file.load_model(path, own_modules=True).config == config


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    model = unept.build(TINY)

    def save(path: str = "m.safetensors", model: nn.Module = model, **changes: Any) -> None:
        given = {"classes": CLASSES, "palette": PALETTE, "facts": FACTS} | changes
        model_file.save_model(tmp_path / path, model, TINY, **given)

    for call, message in (
        (lambda: save("m.pth"), r"a checkpoint's name ends in \.safetensors"),
        (lambda: save(classes=["a"]), "1 class names and 3 colours for 3 classes"),
        (lambda: save(facts={"loss": float("nan")}), "facts that JSON cannot hold"),
        (lambda: save(facts={"loss": torch.zeros(1)}), "facts that JSON cannot hold"),
        (
            lambda: save(model=unept.build(TINY).double()),
            r"is torch\.float64, the model it describes",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert not [*tmp_path.iterdir()]
