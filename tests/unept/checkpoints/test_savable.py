"""What a trained model's file can hold is saved, and what it cannot is refused before the training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_checkpoint import CONFIG

import unept
from unept.checkpoints import model_file

TINY = replace(CONFIG, size=32, classes=3)
CLASSES = ("sky", "große Straße", "_pole")
PALETTE = ((0, 0, 0), (255, 128, 1), (7, 8, 9))
FACTS = {"step": 300, "seed": 0, "data": "scenes"}


IN_ANY_SCRIPT = (
    "\u0645\u06cc\u200c\u0634\u0648\u062f",  # Persian, with a non-joiner
    "\u0915\u094d\u200d\u0937",  # Devanagari, with a joiner
    "traffic\u00a0light",  # a no-break space
    "\u4fe1\u53f7\u3000\u6a5f",  # an ideographic space
    "co\u00adoperate",  # a soft hyphen
    "\u200fright to left",
    "\U0001f6a6",
    "<b>$\\frac{|}",
)


def test_names_in_any_script_come_back(tmp_path: Path) -> None:
    config = replace(TINY, classes=len(IN_ANY_SCRIPT))
    palette = [(number, 0, 0) for number in range(len(IN_ANY_SCRIPT))]
    path = tmp_path / "m.safetensors"
    model_file.save_model(path, unept.build(config), config, classes=IN_ANY_SCRIPT, palette=palette, facts={})
    assert model_file.load_model(path).classes == IN_ANY_SCRIPT
    assert json.loads(path.with_suffix(".json").read_text())["classes"] == [*IN_ANY_SCRIPT]


@pytest.mark.parametrize("name", ["box\t1", "two\nlines", "\x1b[31mred", "half \ud800", "line\u2028end", "nul\0"])
def test_names_that_are_no_line_of_text_are_refused_before_and_at_saving(tmp_path: Path, name: str) -> None:
    message = "its class name .*: expected text without tabs, line ends and other controls"
    rest: dict[str, Any] = {"classes": ("a", name, "c"), "palette": PALETTE, "facts": {}}
    with pytest.raises(ValueError, match=message):
        model_file.check_savable(TINY, **rest)
    with pytest.raises(ValueError, match=message):
        model_file.save_model(tmp_path / "m.safetensors", unept.build(TINY), TINY, **rest)


OWN_MODULE = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.mix = nn.Linear(width, width)
        self.register_buffer("cache", torch.zeros(0))
        self.register_buffer("seen", {buffer})
        self.register_buffer("mask", torch.full((3,), -torch.inf))

    def forward(self, tokens, position, shapes):
        {forward}
        return self.mix(tokens)
"""


def own(folder: Path, monkeypatch: pytest.MonkeyPatch, *, buffer: str, forward: str) -> unept.ModelConfig:
    """The configuration with a user's attention that has such a buffer and does this first in its forward pass."""
    name = f"own_buffers_{abs(hash((buffer, forward)))}"
    (folder / f"{name}.py").write_text(OWN_MODULE.format(buffer=buffer, forward=forward), encoding="utf-8")
    monkeypatch.chdir(folder)
    return replace(TINY, encoder_self=f"{name}:Own")


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "complex64", "int64", "bool", "float8_e5m2"])
def test_buffers_of_any_type_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    config = own(tmp_path, monkeypatch, buffer=f"torch.arange(5.0).to(torch.{dtype})", forward="pass")
    rest: dict[str, Any] = {"classes": CLASSES, "palette": PALETTE, "facts": FACTS}
    model_file.check_savable(config, **rest)
    model = unept.build(config)
    path = tmp_path / "m.safetensors"
    model_file.save_model(path, model, config, **rest)
    found = model_file.load_model(path, own_modules=True).model.state_dict()
    (name,) = [name for name in found if name.endswith("seen")]
    assert found[name].dtype == getattr(torch, dtype)
    assert torch.equal(found[name].to(torch.complex64), model.state_dict()[name].to(torch.complex64))


@pytest.mark.parametrize(
    ("buffer", "forward", "message"),
    [
        ("torch.zeros(3, 3).to_sparse()", "pass", "seen is a sparse_coo tensor: a checkpoint cannot hold it"),
        ("torch.zeros(2, dtype=torch.complex128)", "pass", r"seen is torch\.complex128: a checkpoint cannot hold it"),
        ("torch.zeros(1)", "self.cache = tokens.new_zeros(7)", r"cache is \(7,\), the model it describes has \(0,\)"),
        ("torch.zeros(1)", "self.cache = self.cache.double()", r"cache is torch\.float64, the model it describes has"),
        (
            "torch.zeros(1)",
            "self.training or self.register_buffer('late', tokens.new_zeros(2))",
            "late is no tensor of the model it describes",
        ),
    ],
)
def test_buffers_that_cannot_come_back_are_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffer: str, forward: str, message: str
) -> None:
    config = own(tmp_path, monkeypatch, buffer=buffer, forward=forward)
    with pytest.raises(ValueError, match=message):
        model_file.check_savable(config, classes=CLASSES, palette=PALETTE, facts=FACTS)


def test_a_state_that_is_no_tensor_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match=r"^a\._extra_state is a dict and no tensor: a checkpoint cannot hold it"):
        model_file.check_storable({"b": torch.zeros(1), "a._extra_state": {}})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"base": "x"}, "its fact base is 'x': expected two sides of a picture, of 1 to 16384 pixels"),
        ({"base": [0, 0]}, "its fact base is"),
        ({"base": [-5, 3]}, "its fact base is"),
        ({"base": [10**9, 10**9]}, "its fact base is"),
        ({"base": [True, True]}, "its fact base is"),
        ({"base": [64.0, 64]}, "its fact base is"),
        ({"base": {"a": 1}}, "its fact base is"),
        ({"base": [64]}, "its fact base is"),
        ({"base": "x" * 10**5}, r"its fact base is 'x{59}\.\.\.: expected"),
        ({"step": "x"}, "its fact step is 'x': expected a whole number"),
        ({"training": 5}, "its fact training is 5: expected a mapping"),
        ({"data": ["<b>"]}, "its fact data is .*: expected text"),
    ],
)
def test_absurd_facts_are_refused_before_training(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_file.check_savable(TINY, classes=CLASSES, palette=PALETTE, facts=facts)
