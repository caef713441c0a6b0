"""The digest of a data set: what changes it, what does not, and how often files are read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import command_line
import pytest
import trees
from command_line import picture

from bench.results import data_digest as module
from bench.results.data_digest import DataDigest, data_digest, differing_files, digest_of_settings
from unept.data import image_file


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own; files count as settled at once."""
    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SETTLED_NS", -(10**12))
    monkeypatch.setattr(module, "_known", {})
    return tmp_path / "cache"


@pytest.fixture
def opened_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The data's files that are read, by name."""
    names: list[str] = []
    real = image_file.open_file

    def spy(path: Path) -> Any:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(image_file, "open_file", spy)
    return names


def dataset(folder: Path) -> None:
    """Two pictures for each split, and three classes, of which the labels have the second."""
    command_line.dataset(folder)
    (folder / "meta.json").write_text(json.dumps({"classes": 3}))


def digest(folder: Path, *splits: str) -> DataDigest:
    return data_digest(f"folder:{folder}", splits or ("train", "val"), again=True)


def test_a_moved_folder_and_new_times_change_nothing(tmp_path: Path) -> None:
    dataset(tmp_path / "a")
    before = digest(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere" / "b")
    assert digest(tmp_path / "elsewhere" / "b") == before
    for path in (tmp_path / "a").rglob("*.png"):
        os.utime(path, (1, 1))
    assert digest(tmp_path / "a") == before


def test_content_names_and_the_meaning_of_labels_change_it(tmp_path: Path) -> None:
    root = tmp_path / "a"
    dataset(root)
    seen = [digest(root)]

    def is_new(*changed: str) -> None:
        now = digest(root)
        assert now.digest not in [known.digest for known in seen]
        assert differing_files(seen[-1].files, now.files) == sorted(changed)
        seen.append(now)

    label = next((root / "labels" / "val").iterdir())
    picture(label, "L", value=2)
    is_new(f"labels/val/{label.name}")
    image = root / "images" / "val" / label.name
    image.rename(image.with_name("z.png"))
    label.rename(label.with_name("z.png"))
    is_new(f"images/val/{label.name}", f"labels/val/{label.name}", "images/val/z.png", "labels/val/z.png")
    meta = json.loads((root / "meta.json").read_text())
    (root / "meta.json").write_text(json.dumps(meta | {"ignore": 2}))
    is_new()
    (root / "meta.json").write_text(json.dumps(meta | {"name": "another name"}))
    assert digest(root).digest == seen[-2].digest


def test_a_split_that_is_not_read_decides_nothing(tmp_path: Path) -> None:
    dataset(tmp_path)
    before = digest(tmp_path, "train")
    picture(next((tmp_path / "labels" / "val").iterdir()), "L", value=2)
    assert digest(tmp_path, "train") == before
    assert digest(tmp_path).splits["train"] == before.splits["train"]


def test_a_file_is_read_again_only_where_stat_says_that_it_may_have_changed(
    tmp_path: Path, own_cache: Path, opened_files: list[str]
) -> None:
    dataset(tmp_path / "a")
    before = digest(tmp_path / "a")
    assert len(opened_files) == len(before.files)
    opened_files.clear()
    assert digest(tmp_path / "a") == before
    assert opened_files == []
    label = next((tmp_path / "a" / "labels" / "val").iterdir())
    kept = label.stat()
    content = bytearray(label.read_bytes())
    content[-1] ^= 1  # as long as before, with the old modification time
    label.write_bytes(content)
    os.utime(label, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert digest(tmp_path / "a").digest != before.digest
    assert opened_files == [label.name]


def test_a_file_that_has_just_changed_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_files: list[str]
) -> None:
    monkeypatch.setattr(module, "SETTLED_NS", 10**12)
    dataset(tmp_path / "a")
    files = len(digest(tmp_path / "a").files)
    digest(tmp_path / "a")
    assert len(opened_files) == 2 * files


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 3}', b'{"files": {"images/train/0.png": 3}}', b"\xff"])
def test_a_damaged_cache_is_not_believed(tmp_path: Path, own_cache: Path, content: bytes) -> None:
    dataset(tmp_path / "a")
    before = digest(tmp_path / "a")
    (file,) = (own_cache / "data").glob("*.json")
    file.write_bytes(content)
    assert digest(tmp_path / "a") == before


def test_without_a_place_for_the_cache_the_digest_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(tmp_path / "a")
    before = digest(tmp_path / "a")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path / "file"))
    assert digest(tmp_path / "a") == before
    monkeypatch.delenv("UNEPT_CACHE")
    monkeypatch.setattr(module, "cache_folder", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert digest(tmp_path / "a") == before


def test_a_file_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset(tmp_path)
    with pytest.raises(ValueError, match=r"images/val/nothing.png: file does not exist"):
        module._file_digests(tmp_path, ["images/val/nothing.png"])


def test_generated_scenes_have_a_digest_of_their_configuration() -> None:
    plain = digest_of_settings({"data": "scenes", "scenes": {"scene_size": 64}})
    assert plain.splits == {}
    assert plain.digest != digest_of_settings({"data": "scenes", "scenes": {"scene_size": 32}}).digest


def test_a_pipe_among_the_pictures_is_named_and_not_opened(tmp_path: Path) -> None:
    """In a layout whose lists name the files, so that no folder is looked through."""
    root = trees.pascal_png(tmp_path / "data")
    path = root / "JPEGImages" / "2008_000001.jpg"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"2008_000001\.jpg: a named pipe \(FIFO\), not a file"):
        data_digest(f"pascal_context:{root}", ("train",), again=True)


def test_names_that_are_not_utf8_have_a_digest(tmp_path: Path) -> None:
    dataset(tmp_path)
    name, before = os.fsdecode(b"caf\xe9"), digest(tmp_path)
    for part in ("images", "labels"):
        (tmp_path / part / "train" / "a.png").rename(tmp_path / part / "train" / f"{name}.png")
    after = digest(tmp_path)
    assert after != before
    assert digest(tmp_path) == after
