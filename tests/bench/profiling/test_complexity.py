"""The networks of Table 7 at full size against the printed figures, and any model of the user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from locations import ROOT

import unept
from bench.profiling.complexity import complexity_record, network_from_spec
from bench.profiling.image_size import parse_size
from bench.profiling.network_timing import time_networks, timing_protocol
from experiments.tables.published_networks import add_network_times, count_networks, select_networks
from experiments.tables.table7 import LARGE_SIZE, table7_networks
from reports.paper import figures

# GMACs by module at 480x480, to the digit of an independent count with mmcv's tool; parameters of ours
COUNTED = {
    "PSANet": 239.501,
    "UperNet": 226.214,
    "EncNet": 192.283,
    "CCNet": 244.666,
    "PointRend": 63.302,
    "DNLNet": 244.194,
    "OCRNet": 144.844,
    "Ours": 99.036,
    "Ours, ResNet50": 138.407,
    "PointRend, 2048x1024": 526.467,
}
SLOW = {"ANL": 231.005, "ANL, ResNet50": 162.727, "CCNet, ResNet50": 176.388}
COMPLETE = {"DNLNet": 250.621, "OCRNet": 146.893, "CCNet": 244.952, "PSANet": 240.121, "UperNet": 226.108}


@pytest.fixture(scope="module")
def records() -> dict[str, dict]:
    """Every network with a figure to reproduce but SETR, counted once."""
    return {line["name"]: line for line in count_networks(select_networks((480, 480), names=[*COUNTED]))}


@pytest.mark.parametrize(("name", "gmacs"), COUNTED.items())
def test_operations_by_module(records: dict[str, dict], name: str, gmacs: float) -> None:
    assert records[name]["module_gmacs"] == pytest.approx(gmacs, abs=0.0006)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gmacs"), SLOW.items())
def test_operations_of_the_other_rows(name: str, gmacs: float) -> None:
    (line,) = count_networks(select_networks((480, 480), names=[name]))
    assert line["module_gmacs"] == pytest.approx(gmacs, abs=0.0006)


@pytest.mark.parametrize(("name", "gmacs"), COMPLETE.items())
def test_operations_in_all(records: dict[str, dict], name: str, gmacs: float) -> None:
    assert records[name]["gmacs"] == pytest.approx(gmacs, abs=0.0006)


@pytest.mark.parametrize("row", [row for row in figures.TABLES[7].rows if row not in ("PointRend", "SETR")])
def test_every_printed_figure_at_480_is_within_a_tenth(records: dict[str, dict], row: str) -> None:
    printed = figures.printed_figure(7, row, "GFLOPs").value
    assert records[row]["module_gmacs"] == pytest.approx(printed, abs=0.1)
    assert records[row]["size"] == [480, 480]


def test_pointrends_figure_is_that_of_another_size(records: dict[str, dict]) -> None:
    printed = figures.printed_figure(7, "PointRend", "GFLOPs").value
    assert records["PointRend, 2048x1024"]["size"] == [*LARGE_SIZE]
    assert records["PointRend, 2048x1024"]["module_gmacs"] == pytest.approx(printed, abs=0.1)
    assert records["PointRend"]["module_gmacs"] < records["Ours"]["module_gmacs"]


def test_counted_figures_in_the_notes_are_those_counted_here(records: dict[str, dict]) -> None:
    notes = " ".join(figures.notes_of_table(7))
    for name, form in (("Ours", "{:.2f}"), ("Ours, ResNet50", "{:.1f}"), ("PointRend", "{:.1f}")):
        assert form.format(records[name]["module_gmacs"]) in notes
    assert f"in all there are {records['Ours']['gmacs']:.1f} (counted)" in notes
    for name in ("EncNet", "DNLNet", "Ours"):
        assert f"{records[name]['parameters'] / 1e6:.2f}" in notes


@pytest.mark.slow
def test_what_the_notes_say_of_setr() -> None:
    """With modules for the projections, and as the public variants have them: inside torch's own attention module."""
    lines = count_networks(select_networks((480, 480), names=["SETR", "SETR, PUP", "SETR, Naive"]))
    seen = sorted(line["module_gmacs"] for line in lines)
    width, tokens, blocks = 1024, 901, 24
    projections = blocks * tokens * 4 * width**2 / 1e9
    found = [seen[0] - projections, seen[-1] - projections, seen[0], seen[-1]]
    found += [min(line["gmacs"] for line in lines), max(line["gmacs"] for line in lines)]
    notes = " ".join(figures.notes_of_table(7))
    assert all(f"{figure:.1f}" in notes for figure in found), found


def test_parts_add_up(records: dict[str, dict]) -> None:
    for line in records.values():
        assert sum(part["parameters"] for part in line["parts"]) == line["parameters"]
        for name in ("module_gmacs", "gmacs"):
            assert sum(part[name] for part in line["parts"]) == pytest.approx(line[name])
    assert [part["name"] for part in records["CCNet"]["parts"]] == ["backbone", "head", "auxiliary"]
    assert records["CCNet"]["parts"][2]["gmacs"] == 0


def test_rows_are_those_of_the_paper() -> None:
    assert [network.quoted for network in table7_networks() if network.quoted] == [*figures.TABLES[7].rows]
    assert {network.config.classes for network in table7_networks(19)} == {19}
    with pytest.raises(ValueError, match=r"--network CCnet: expected one of PSANet; .*; did you mean 'CCNet'\?"):
        select_networks((480, 480), names=["CCnet"])


# --- any model --------------------------------------------------------------------------------------------------------


def test_a_model_of_timm() -> None:
    line = complexity_record("timm:resnet18", network_from_spec("timm:resnet18", (224, 224)), (224, 224))
    assert line["parameters"] == 11_689_512
    assert line["gmacs"] == pytest.approx(1.814, abs=0.001)


def test_a_network_of_timm_with_a_size_of_its_own_is_counted_at_another() -> None:
    """DeiT-tiny at 48x64: 12 patches, a class and a distillation token."""
    name, tokens, width = "timm:deit_tiny_distilled_patch16_224", 12 + 2, 192
    line = complexity_record(name, network_from_spec(name, (48, 64)), (48, 64))
    layer = tokens * 12 * width**2 + 2 * tokens**2 * width
    heads = 2 * width * 1000
    assert line["gmacs"] == pytest.approx((12 * 16 * 16 * 3 * width + 12 * layer + heads) / 1e9)
    own = complexity_record(name, network_from_spec(name, (224, 224)), (224, 224))
    assert own["parameters"] - line["parameters"] == (196 - 12) * width  # its positions


def test_a_module_of_ones_own_may_import_torchvision(tmp_path: Path) -> None:
    """In a process that has not imported it yet."""
    (tmp_path / "with_torchvision.py").write_text(
        "import torch, torchvision, timm\n"
        "def build():\n    return timm.create_model('resnet18', pretrained=False)\n"
        "class Same(torch.nn.Module):\n    def forward(self, tokens, position, shapes):\n        return tokens\n"
    )
    code = (
        "from bench.profiling.complexity import complexity_record, network_from_spec as network\n"
        "print(complexity_record('own', network('with_torchvision:build', (224, 224)), (224, 224))['parameters'])"
    )
    slot = "from unept.attention import check_slot; print(check_slot('encoder_self', 'with_torchvision:Same'))"
    for program, said in ((code, "11689512"), (slot, "None")):
        variables = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr


def test_a_module_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_network.py").write_text(
        "import torch\n"
        "def small():\n    return torch.nn.Conv2d(3, 4, 1)\n"
        "def number():\n    return 3\n"
        "def stuck():\n    raise KeyError('lost')\n"
        "class Reads(torch.nn.Module):\n    def forward(self, x):\n        return x * x.sum().item()\n"
        "class Odd(torch.nn.Module):\n    def forward(self, x):\n        return torch.fft.fft2(x)\n"
        "value = 3\n"
    )
    assert complexity_record("own", network_from_spec("own_network:small", (10, 20)), (10, 20))[
        "gmacs"
    ] == pytest.approx(200 * 12 / 1e9)
    for name, message in (
        ("number", r"^own: own_network.number\(\) gave a int, expected a torch.nn.Module$"),
        ("stuck", "^own: cannot be counted: KeyError: 'lost'$"),
        ("Reads", "^own: cannot be counted: RuntimeError: "),
        ("Odd", "^own: operator aten::_fft_.* is neither counted nor free"),
    ):
        with pytest.raises(ValueError, match=message):
            complexity_record("own", network_from_spec(f"own_network:{name}", (10, 20)), (10, 20))
    for spec, message in (
        ("own_network:absent", "own_network has no callable absent"),
        ("own_network:value", "own_network has no callable value"),
        ("no_such_module:x", "importing no_such_module failed: ModuleNotFoundError"),
        ("timm:resnet1O1", r"timm has no model 'resnet1O1' \(nearest: resnet1\d+\w*\)"),
        ("timm:", "expected timm:NAME or module:callable"),
        ("resnet101", "expected timm:NAME or module:callable"),
        ("a b:c", "expected timm:NAME or module:callable"),
    ):
        with pytest.raises(ValueError, match=f"--model {spec}: {message}"):
            network_from_spec(spec, (10, 20))


@pytest.mark.parametrize(
    ("text", "size"), [("480", (480, 480)), ("1024x2048", (1024, 2048)), ("16", (16, 16)), ("33x75", (33, 75))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "15", "x480", "480x", "480X480", "-1", "4e2", "99999", "16x99999", "1x2x3"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=f"--size {text}: expected "):
        parse_size(text)


# --- time -------------------------------------------------------------------------------------------------------------


def test_times_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = unept.ModelConfig(architecture="ccnet", backbone="tiny_conv", classes=5, size=64, width=16)
    from bench.config.settings import Settings

    said: list[str] = []

    def broken() -> torch.nn.Module:
        raise MemoryError("no room")

    subjects = {
        "published": (lambda: unept.build(tiny), Settings(model=tiny)),
        "own": (lambda: torch.nn.Conv2d(3, 4, 1), None),
        "broken": (broken, None),
    }
    found = time_networks(subjects, (32, 48), batch=2, rounds=3, say=said.append)
    assert [line.partition(",")[0] for line in said] == [
        *("timing published", "timing own", "timing broken"),
        *("timing own", "timing published"),
        *("timing published", "timing own"),
    ]
    assert set(found["published"]) == {"inference", "training"}
    assert set(found["own"]) == {"inference"}
    assert found["broken"] == {"message": "MemoryError: no room"}
    for spread in found["published"].values():
        assert 0 < spread["q1"] <= spread["median"] <= spread["q3"]
        assert spread["n"] == 3
    assert timing_protocol((32, 48), 2, 3)["batch"] == 2


def test_times_join_the_records_of_that_size() -> None:
    subjects = select_networks((64, 64), models=["timm:resnet18"])
    lines = count_networks(subjects)
    timing = add_network_times(subjects, lines, (64, 64), batch=1, rounds=1, say=lambda _: None)
    assert set(lines[0]["times"]) == {"inference"}
    assert timing["rounds"] == 1
