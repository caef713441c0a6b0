"""Names of the generated scenes: what each names, and that records mean the same whichever version is the default."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.config.checks import default_study_folder
from bench.config.presets import preset
from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from bench.results.data_digest import digest_of_settings, has_files
from bench.results.rows import data_digest_of, is_data_verified, request_key, row_key
from unept.data import open_data, scene_spec
from unept.data.scene_spec import SceneSpec, canonical_spec, parse_scene_spec, recorded_spec, spec_of_record
from unept.data.scenes import SceneConfig, Scenes
from unept.data.scenes_v2 import ScenesV2

CONFIG = SceneConfig(scene_train=4, scene_val=4, scene_test=4)


@pytest.fixture(params=["v1", "v2"])
def default(request, monkeypatch):
    """Each version in turn as the default."""
    monkeypatch.setattr(scene_spec, "DEFAULT_VERSION", request.param)
    return request.param


def row_of(spec, **others):
    return {
        "settings": settings_to_dict(Settings(data=spec)),
        "preset": "quick",
        "seed": 0,
        "backend": "reference",
        "threads": 1,
        "sources": "x",
        **others,
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("scenes:v1", SceneSpec(version="v1", emblems=1)),
        ("scenes:v2", SceneSpec(version="v2", emblems=2)),
        ("scenes:v2?emblems=4", SceneSpec(version="v2", emblems=4)),
    ],
)
def test_what_a_specification_names(spec, expected):
    assert parse_scene_spec(spec) == expected
    assert parse_scene_spec(expected.full) == expected


def test_the_bare_name_is_the_default_version(default):
    assert parse_scene_spec("scenes").version == default
    kind = {"v1": Scenes, "v2": ScenesV2}[default]
    assert isinstance(open_data("scenes", "val", CONFIG), kind)


def test_the_second_version_is_the_default_today_with_the_same_bits():
    plain, named = open_data("scenes", "val", CONFIG), open_data("scenes:v2", "val", CONFIG)
    for index in range(4):
        np.testing.assert_array_equal(plain[index].image, named[index].image)
        np.testing.assert_array_equal(plain[index].label, named[index].label)


@pytest.mark.parametrize(
    "spec",
    ["scenes:", "scenes:v3", "scenes:v1?emblems=1", "scenes:v2?", "scenes:v2?emblems=5", "scenes:v2?emblems=0"],
)
@pytest.mark.parametrize("option", ["", "?size=3", "?emblems"])
def test_other_names_are_refused_in_one_line(spec, option):
    with pytest.raises(ValueError, match=r"^data 'scenes:") as caught:
        open_data(spec + option, "val")
    assert "expected scenes" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_say_the_same_whichever_version_is_the_default(default):
    assert recorded_spec("scenes:v1") == "scenes"
    assert recorded_spec("scenes:v2") == recorded_spec("scenes:v2?emblems=2") == "scenes:v2"
    assert recorded_spec("scenes:v2?emblems=3") == "scenes:v2?emblems=3"
    assert recorded_spec("folder:a:b") == spec_of_record("folder:a:b") == "folder:a:b"
    assert recorded_spec("scenes") == {"v1": "scenes", "v2": "scenes:v2"}[default]
    for data in ("scenes", "scenes:v2", "scenes:v2?emblems=4"):
        assert recorded_spec(spec_of_record(data)) == data
    assert settings_to_dict(settings_from_dict(row_of("scenes:v1")["settings"]))["data"] == "scenes"


def test_settings_come_back_as_they_were_written(default):
    for data in ("scenes", "scenes:v1", "scenes:v2", "scenes:v2?emblems=3"):
        settings = Settings(data=canonical_spec(data))
        assert settings_from_dict(settings_to_dict(settings)) == settings
    assert preset("quick", f"scenes:{default}") == preset("quick", "scenes") == preset("quick")


def test_the_key_of_a_run_on_the_first_scenes_is_the_one_it_always_had():
    assert row_key("run", row_of("scenes:v1")) == "78dc93dfc8c129b2"
    assert row_key("run", row_of("scenes")) == row_key("run", row_of("scenes:v2")) != "78dc93dfc8c129b2"


def test_a_shipped_row_has_its_key_under_both_names():
    """A row of a record, read, asked for by the explicit name, has the same settings."""
    folder = Path(__file__).parents[2] / "bench" / "results" / "study_of_0_1_0" / "runs"
    for path in sorted(folder.glob("*.json")):
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
        assert settings["data"] == "scenes"
        assert settings_to_dict(settings_from_dict(settings))["data"] == "scenes"


def test_versions_and_emblems_have_keys_of_their_own():
    data = ("scenes:v1", "scenes:v2", "scenes:v2?emblems=1", "scenes:v2?emblems=3")
    assert len({row_key("run", row_of(spec)) for spec in data}) == 4
    assert len({request_key(row_of(spec)) for spec in data}) == 4
    assert len({digest_of_settings(row_of(spec)["settings"]).digest for spec in data}) == 4


def test_generated_scenes_are_no_files(default):
    for data in ("scenes", "scenes:v1", "scenes:v2", "scenes:v2?emblems=3"):
        assert not has_files(data)
        assert data_digest_of(row_of(data, data={"digest": "0"})) == ""
        assert is_data_verified(row_of(data))
    assert has_files("folder:scenes")


def test_each_version_has_a_study_folder_of_its_own():
    assert default_study_folder("quick", "scenes").as_posix() == "study/quick-scenes"
    assert default_study_folder("quick", "scenes:v2").as_posix() == "study/quick-scenes-v2"
    assert default_study_folder("quick", "scenes:v2?emblems=3").as_posix() == "study/quick-scenes-v2-emblems-3"
