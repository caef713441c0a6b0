"""The file of maps that processes share gives what would have been made, whatever happens to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from unept.data import shared_cache as module
from unept.data.scenes import SceneConfig, Scenes, _drawn, draw
from unept.data.shared_cache import Maps, SharedCache, source_digest

SHAPES = ((3, 4), (2,))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, empty."""
    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path))
    return tmp_path / module.FOLDER


def cache(records: int = 64, makers: tuple[str, ...] = ("source", "1.0")) -> SharedCache:
    """A cache as another process would open it."""
    return SharedCache("some", SHAPES, makers=makers, records=records)


def maps(seed: int) -> Maps:
    """Content of an entry."""
    rng = np.random.default_rng(seed)
    return tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in SHAPES)


def refuse() -> Maps:
    """A maker that must not be called."""
    raise AssertionError("made again")


def counting(seed: int) -> tuple[Callable[[], Maps], list[int]]:
    """A maker, and the calls of it."""
    calls: list[int] = []

    def make() -> Maps:
        calls.append(seed)
        return maps(seed)

    return make, calls


def same(one: Maps, other: Maps) -> bool:
    """Whether two entries are equal."""
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_another_process_reads_what_was_written() -> None:
    first = cache()
    for seed in range(20):
        assert same(first.get(("key", seed), lambda seed=seed: maps(seed)), maps(seed))  # type: ignore[misc]
    second = cache()
    for seed in range(20):
        assert same(second.get(("key", seed), refuse), maps(seed))


def test_other_sources_have_a_file_of_their_own(folder: Path) -> None:
    cache().get("key", lambda: maps(0))
    assert same(cache(makers=("source", "1.1")).get("key", lambda: maps(1)), maps(1))
    assert len([*folder.iterdir()]) == 2


def test_nothing_is_kept_where_the_sources_are_not_known(folder: Path) -> None:
    assert source_digest(str(folder / "gone.py")) == ""
    assert same(cache(makers=("", "1.0")).get("key", lambda: maps(1)), maps(1))
    assert not folder.exists()


@pytest.mark.parametrize("position", range(0, 46, 5))
def test_a_damaged_record_is_made_again_and_mended(folder: Path, position: int) -> None:
    cache(records=1).get("key", lambda: maps(0))
    (path,) = folder.iterdir()
    content = bytearray(path.read_bytes())
    assert len(content) == 46
    content[position] ^= 1
    path.write_bytes(content)
    make, calls = counting(0)
    assert same(cache(records=1).get("key", make), maps(0))
    assert calls == [0]
    if position >= 16:  # else it is another key's record, which stays
        assert same(cache(records=1).get("key", refuse), maps(0))


@pytest.mark.parametrize("left", [0, 10, 20, 45])
def test_a_record_that_was_cut_off_is_made_again(folder: Path, left: int) -> None:
    cache(records=1).get("key", lambda: maps(0))
    (path,) = folder.iterdir()
    os.truncate(path, left)
    make, calls = counting(0)
    assert same(cache(records=1).get("key", make), maps(0))
    assert calls == [0]


def test_a_full_file_makes_the_rest_each_time() -> None:
    small = cache(records=3)
    for seed in range(6):
        assert same(small.get(seed, lambda seed=seed: maps(seed)), maps(seed))  # type: ignore[misc]
    made = []
    for seed in range(6):
        make, calls = counting(seed)
        assert same(small.get(seed, make), maps(seed))
        made += calls
    assert len(made) == 3


def test_a_file_that_cannot_be_written_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache().get("key", lambda: maps(0))
    monkeypatch.setattr(Path, "mkdir", _denied)
    reading = cache()
    assert same(reading.get("key", refuse), maps(0))
    assert same(reading.get("other", lambda: maps(1)), maps(1))
    make, calls = counting(1)
    assert same(reading.get("other", make), maps(1))
    assert calls == [1]
    (path,) = folder.iterdir()
    path.unlink()
    assert same(cache().get("key", lambda: maps(0)), maps(0))


def test_a_full_disk_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", _denied)
    full = cache()
    assert same(full.get("key", lambda: maps(0)), maps(0))
    make, calls = counting(0)
    assert same(full.get("key", make), maps(0))
    assert calls == [0]


def test_without_a_home_folder_maps_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cache_folder", _homeless)
    assert same(cache().get("key", lambda: maps(0)), maps(0))


def test_old_files_go(folder: Path) -> None:
    for version in range(module.KEPT_FILES + 3):
        cache(makers=("source", str(version))).get("key", lambda: maps(0))
        newest = max(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in folder.iterdir():
            if path != newest:
                os.utime(path, (version, version))
    assert len([*folder.iterdir()]) <= module.KEPT_FILES


def test_scenes_of_the_file_are_those_that_are_drawn(folder: Path) -> None:
    config = SceneConfig(scene_train=6, scene_val=3, scene_test=2)
    drawn = {}
    for again in (False, True):
        _drawn._entries.clear()
        module.shared_cache.cache_clear()
        for number, split in enumerate(("train", "val", "test")):
            scenes = Scenes(config, split)
            for index in range(len(scenes)):
                image, label = draw(config, np.random.default_rng([0, number, index]))
                drawn[split, index] = image
                assert np.array_equal(scenes[index].image, image)
                assert np.array_equal(scenes[index].label, label)
                assert not scenes[index].image.flags.writeable
        assert len([*folder.iterdir()]) == 1, again
    assert len({image.tobytes() for image in drawn.values()}) == 11


def test_processes_that_write_at_once_read_the_same(tmp_path: Path) -> None:
    code = (
        "import sys, hashlib\nfrom unept.data.scenes import SceneConfig, Scenes\n"
        "scenes = Scenes(SceneConfig(scene_train=60), 'train')\nsys.stdin.readline()\n"
        "print(hashlib.sha256(b''.join(scenes[i].image.tobytes() + scenes[i].label.tobytes() for i in range(60)))"
        ".hexdigest())"
    )
    variables = os.environ | {"UNEPT_CACHE": str(tmp_path)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables, text=True
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    said = {process.communicate(timeout=120)[0] for process in started}
    config = SceneConfig(scene_train=60)
    import hashlib

    total = hashlib.sha256()
    for index in range(60):
        image, label = draw(config, np.random.default_rng([0, 0, index]))
        total.update(image.tobytes() + label.tobytes())
    assert said == {f"{total.hexdigest()}\n"}


def _denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "denied")


def _homeless() -> Path:
    raise RuntimeError("no home")
