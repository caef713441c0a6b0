from __future__ import annotations

from pathlib import Path

import pytest

from unept.ops import cpu_build
from unept.utils.cache_folder import cache_folder


def test_the_cache_folder_is_the_chosen_one_else_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNEPT_CACHE", "/chosen")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == cpu_build.library_folder() == Path("/chosen")
    monkeypatch.delenv("UNEPT_CACHE")
    assert cache_folder() == cpu_build.library_folder() == Path("/somewhere/unept-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == cpu_build.library_folder() == Path.home() / ".cache" / "unept-bench"


def test_libraries_are_unavailable_where_no_home_folder_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("UNEPT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(cpu_build.Unavailable, match="set UNEPT_CACHE to a folder"):
        cpu_build.library_folder()
