"""Safetensors files with headers of any content: read, or one line that names the file, in little memory and time."""

from __future__ import annotations

import json
import pickle
import resource
import struct
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from odd_values import FEW, SOME, changed, damaged, refusal
from safetensors.torch import load_file
from tiny_checkpoint import CONFIG

import unept
from unept.checkpoints import model_file
from unept.utils.read_tensors import read_tensors

TINY = replace(CONFIG, size=32, classes=3)
ROOM = 1 << 30  # bytes that a refusal may take at most
DTYPES = ("F32", "F64", "F16", "BF16", "I8", "U8", "I64", "BOOL", "F8_E4M3", "F4", "C64", "x", "", 3, None)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint."""
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    facts = {"step": 3, "base": [64, 64]}
    model_file.save_model(path, unept.build(TINY), TINY, classes="abc", palette=[(0, 0, 0)] * 3, facts=facts)
    return path


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """No more address space than there is now and `ROOM`."""
    if not sys.platform.startswith("linux"):
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a file."""
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header: bytes, tensors: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + tensors


def read_or_refused(folder: Path, content: bytes) -> None:
    """The file is read as a checkpoint, as weights, or refused by both in a line with its name."""
    path = folder / "m.safetensors"
    path.write_bytes(content)
    for read in (model_file.load_model, lambda path: read_tensors(path, "weights")):
        said = refusal(read, path)
        assert not said or str(path) in said


@st.composite
def odd_entry(draw: st.DrawFn) -> Any:
    """What a header may say of a tensor."""
    number = st.sampled_from([0, 1, 4, 64, 1 << 20, 1 << 31, 1 << 62, 1 << 64, -1, 0.5, None])
    entry = {
        "dtype": draw(st.sampled_from(DTYPES)),
        "shape": draw(st.lists(number, max_size=4) | st.none()),
        "data_offsets": draw(st.lists(number, min_size=1, max_size=3)),
    }
    if draw(st.booleans()):
        del entry[draw(st.sampled_from(sorted(entry)))]
    return entry


@SOME
@given(data=st.data())
def test_a_header_of_any_content(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Types, shapes and offsets: absurd, overlapping, beyond the end; names that stand twice."""
    header, tensors = parts(file.read_bytes())
    names = [name for name in header if name != "__metadata__"]
    for name in data.draw(st.lists(st.sampled_from([*names, "", "x", "__metadata__", "\udcff"]), max_size=3)):
        how = data.draw(st.sampled_from(["entry", "drop", "overlap", "grow", "change"]))
        if how == "entry":
            header[name] = data.draw(odd_entry())
        elif how == "drop":
            header.pop(name, None)
        elif how == "overlap" and name in names and name in header:
            header[name] = header.get(data.draw(st.sampled_from(names)), {})
        elif how == "grow" and name in names and isinstance(header.get(name), dict):
            header[name] = {**header[name], "shape": [1 << data.draw(st.integers(0, 62))]}
    if data.draw(st.booleans()):
        header = data.draw(changed(header))
    read_or_refused(tmp_path, joined(json.dumps(header).encode(), tensors))


@FEW
@given(data=st.data())
def test_a_damaged_header(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = file.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = data.draw(damaged(content[8 : 8 + length]))
    read_or_refused(tmp_path, joined(header, content[8 + length :]))


@FEW
@given(length=st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 7, 8, 100_000_001, 1 << 31, 1 << 63]))
def test_any_length_field(file: Path, tmp_path: Path, length: int) -> None:
    read_or_refused(tmp_path, struct.pack("<Q", length) + file.read_bytes()[8:])


@FEW
@given(content=st.binary(max_size=40))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    read_or_refused(tmp_path, content)


@SOME
@given(data=st.data())
def test_a_description_of_any_content_with_a_right_digest(file: Path, tmp_path: Path, data: st.DataObject) -> None:
    header, _ = parts(file.read_bytes())
    text = json.dumps(data.draw(changed(json.loads(header["__metadata__"]["unept"]))))
    tensors = load_file(file)
    metadata = {"unept": text, "sha256": model_file.digest_of(text, tensors)}
    read_or_refused(tmp_path, model_file.to_bytes(tensors, metadata=metadata))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("unpickled",))


@FEW
@given(data=st.data(), protocol=st.integers(0, 5), suffix=st.sampled_from(["safetensors", "pth", "pt"]))
def test_nothing_is_unpickled(tmp_path: Path, data: st.DataObject, protocol: int, suffix: str) -> None:
    path = tmp_path / f"m.{suffix}"
    if data.draw(st.booleans()):
        content = pickle.dumps({"state_dict": Bomb(), "x": torch.zeros(1)}, protocol)
    else:
        torch.save({"weight": torch.zeros(2), "meta": Bomb()}, path)
        content = path.read_bytes()
    place = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:place] + data.draw(st.sampled_from([b"", b"\0", b"."])) + content[place:])
    for read in (model_file.load_model, lambda path: read_tensors(path, "weights")):
        with pytest.raises(ValueError, match=str(path)) as refused:
            read(path)
        assert "\n" not in str(refused.value)
