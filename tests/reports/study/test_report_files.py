"""From a study's folder to files: what is written, and that the same rows give the same bytes."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from synthetic import SETTINGS, full_row, measure_row, run_row, section, without_plots, write_study
from test_qualitative import arrays, keep

from reports import read_study, write_report
from reports.analysis.study_rows import Study, assemble_study, metric_values, seed_of
from reports.formats.report_files import experiment_folder
from reports.plots import accuracy, style
from reports.study.report import study_report_files

PAIR = ["control", "+ more"]
GRID = [f"N={n} L={level}" for level in (1, 3) for n in (4, 16, 64)]
TABLES = (
    "accuracy",
    "comparisons",
    "learned",
    "claims",
    "seeds",
    "axes",
    "learning",
    "time_to_learn",
    "probes",
    "boundaries",
    "refinement",
    "cost",
    "reach",
    "class_iou",
)
FILES = {"report.md", "report.html", "failures.csv", "quoted.csv", *(f"{name}.csv" for name in TABLES)}
FILES |= {f"{name}.{suffix}" for name in ("accuracy", "cost") for suffix in ("png", "svg")}


def grid_runs(seeds: int = 3) -> list[dict[str, Any]]:
    return [run_row(name, seed, 0.3 + 0.02 * GRID.index(name) + 0.01 * seed) for name in GRID for seed in range(seeds)]


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)


def full_runs(seeds: int = 3) -> list[dict[str, Any]]:
    return [
        full_row(name, seed, 0.4 + 0.1 * i + 0.01 * seed, lookalike=0.9, refined=0.5)
        for i, name in enumerate(PAIR)
        for seed in range(seeds)
    ]


def digests(files: list[Path]) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def study(runs: list[dict[str, Any]]) -> Study:
    return assemble_study("ablate", runs=runs, planned=runs)


def test_files_of_a_study(tmp_path: Path) -> None:
    write_study(tmp_path, "table 6", "table 6", grid_runs(), [measure_row(name) for name in GRID])
    files = write_report(tmp_path, "table 6")
    assert {file.name for file in files} == FILES
    assert files[:2] == [tmp_path / "report" / "table-6" / name for name in ("report.md", "report.html")]
    assert {file.name for file in files[0].parent.iterdir()} == FILES
    text = files[0].read_text()
    assert text.startswith("# How many sampling points, on how many feature scales? (Table 6)\n")
    assert "](accuracy.png)" in text
    assert "unept-bench table 6" in text


def test_files_of_a_study_with_all_that_rows_may_hold(tmp_path: Path) -> None:
    runs = full_runs()
    write_study(tmp_path, "g", "ablate", runs, [measure_row(name) for name in PAIR])
    for run in runs:
        keep(tmp_path, run["key"], arrays({3: 5, 8: 30, 9: 1}, refined=True))
    files = write_report(tmp_path, "g")
    assert {file.name for file in files} == FILES - {"quoted.csv"} | {"curves.png", "curves.svg", "pictures.png"}
    text, html = (file.read_text() for file in files[:2])
    found = section(text, "Pictures, measured (scenes, split val, 64 px, 500 steps)")
    assert "](pictures.png)\n" in found
    assert "Chosen by rule from 3 kept pictures, by pixel accuracy averaged over 2 variants: best: picture 9" in found
    assert "](curves.png)" in section(text, "Training")
    assert "](cost.png)" in section(text, "Cost")
    assert html.count("<img") == text.count("](") == 4
    for name in ("accuracy.csv", "learned.csv", "boundaries.csv", "comparisons.csv"):
        shown = ["control", "'+ more"]  # no spreadsheet computes it
        assert [line.split(",")[0] for line in (files[0].parent / name).read_text().splitlines()[1:]] in (
            shown,
            shown[1:],
        ), name
    before = digests(files)
    assert digests(write_report(tmp_path, "g")) == before
    kept = {file.name for file in write_report(tmp_path, "g", with_pictures=False)}
    assert kept == {file.name for file in files} - {"pictures.png"}
    assert {file.name for file in files[0].parent.iterdir()} == kept
    assert all("pictures.png" not in file.read_text() for file in files[:2])


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda data: data[:-30],
    "foreign": lambda _: b"GIF89a",
    "bits": lambda data: bytes([*data[:40], *(byte ^ 4 for byte in data[40:80]), *data[80:]]),
}


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_pictures_are_left_out_and_said(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    runs = full_runs(seeds=1)
    write_study(tmp_path, "g", "ablate", runs, [])
    first, second = (keep(tmp_path, run["key"], arrays({3: 5, 8: 30})) for run in runs)
    first.write_bytes(damage(first.read_bytes()))
    text = write_report(tmp_path, "g")[0].read_text()
    assert f"- left out: {first.name}, pictures of {PAIR[0]}, seed 0: " in text.partition("\n## ")[0]
    assert "from 2 kept pictures, by pixel accuracy averaged over 1 variant:" in section(text, "Pictures")
    second.write_bytes(damage(second.read_bytes()))
    files = write_report(tmp_path, "g")
    assert "## Pictures" not in files[0].read_text()
    assert "pictures.png" not in {file.name for file in files}


# --- several folders --------------------------------------------------------------------------------------------------


def shards(place: Path, *seeds: int, **changes: Any) -> Path:
    runs = [
        full_row(name, seed, 0.3 + 0.1 * i + 0.01 * seed, **changes) for i, name in enumerate(PAIR) for seed in seeds
    ]
    write_study(place, "g", "ablate", runs, [])
    return place


@pytest.mark.usefixtures("no_plots")
def test_two_folders_are_one_experiment(tmp_path: Path) -> None:
    folders = [shards(tmp_path / "a", 0, 2), shards(tmp_path / "b", 1, 3)]
    together = read_study(folders, "g")
    whole = read_study([shards(tmp_path / "c", 0, 2, 1, 3)], "g")
    assert together.runs == whole.runs
    assert [seed_of(run) for run in together.runs_of(PAIR[1])] == [0, 1, 2, 3]
    assert together.missing_seeds(PAIR[0]) == ()
    files = write_report(folders, "g")
    assert {file.parent for file in files} == {tmp_path / "a" / "report" / "g"}
    assert not (tmp_path / "b" / "report").exists()
    assert f"| {PAIR[0]} | 4 | 31.50 ± 1.29 |" in files[0].read_text()
    assert digests(files) == digests(write_report(tmp_path / "c", "g"))
    backward = digests(write_report(folders[::-1], "g"))
    assert {name: backward[name] for name in ("accuracy.csv", "comparisons.csv")} == {
        file.name: digests([file])[file.name] for file in files if file.name in ("accuracy.csv", "comparisons.csv")
    }


@pytest.mark.usefixtures("no_plots")
def test_of_a_seed_in_two_folders_the_newer_row_counts(tmp_path: Path) -> None:
    old = shards(tmp_path / "old", 0, 1)
    rerun = run_row(PAIR[0], 1, 0.9, key="f" * 16, finished="2026-02-01T00:00:00.000+00:00")
    write_study(tmp_path / "new", "g", "ablate", [rerun], [])
    for folders in ([old, tmp_path / "new"], [tmp_path / "new", old]):
        found = read_study(folders, "g")
        assert [metric_values([run], "miou") for run in found.runs_of(PAIR[0])] == [[0.3], [0.9]]


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("change", [{"settings": SETTINGS | {"data": "folder:x"}}, {"preset": "small"}])
def test_folders_of_different_data_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    folders = [shards(tmp_path / "a", 0), shards(tmp_path / "b", 1, **change)]
    with pytest.raises(ValueError, match="do not belong together: preset quick, data") as refused:
        read_study(folders, "g")
    assert ("folder:x" in str(refused.value)) == ("settings" in change)
    with pytest.raises(ValueError, match="do not belong together"):
        write_report(folders, "g")
    assert not (tmp_path / "a" / "report").exists()


@pytest.mark.usefixtures("no_plots")
def test_folders_without_the_experiment(tmp_path: Path) -> None:
    write_study(tmp_path / "other", "h", "ablate", grid_runs(1), [])
    folders = [tmp_path / "other", shards(tmp_path / "a", 0)]
    assert {run["variant"] for run in read_study(folders, "g").runs} == set(PAIR)
    assert write_report(folders, "g")[0] == tmp_path / "a" / "report" / "g" / "report.md"
    with pytest.raises(ValueError, match="no experiment 'x'; there are: h, g"):
        read_study(folders, "x")
    with pytest.raises(ValueError, match="no study here"):
        read_study([*folders, tmp_path / "nothing"], "g")


# --- the control ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_plots")
def test_the_control_is_the_declared_one_or_the_asked_one(tmp_path: Path) -> None:
    write_study(tmp_path, "g", "ablate", full_runs(), [], control=PAIR[1])
    assert f"\n## Compared with {PAIR[1]}," in write_report(tmp_path, "g")[0].read_text()
    assert f"\n## Compared with {PAIR[0]}," in write_report(tmp_path, "g", control=PAIR[0])[0].read_text()
    with pytest.raises(ValueError, match=f"--control dense: g has {', '.join(map(re.escape, PAIR))}"):
        write_report(tmp_path, "g", control="dense")


@pytest.mark.usefixtures("no_plots")
def test_same_store_same_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_study(tmp_path / place, "g", "ablate", grid_runs(), [measure_row(name) for name in GRID])
    first, second, again = (digests(write_report(tmp_path / place, "g")) for place in ("a", "b", "a"))
    assert first == second == again
    write_study(tmp_path / "c", "g", "ablate", grid_runs(2), [])
    assert digests(write_report(tmp_path / "c", "g")) != first


@pytest.mark.usefixtures("no_plots")
def test_damaged_row_is_left_out_and_said(tmp_path: Path) -> None:
    runs = grid_runs()
    write_study(tmp_path, "g", "ablate", runs, [])
    (tmp_path / "runs" / f"{runs[0]['key']}.json").write_text("{")
    text = write_report(tmp_path, "g")[0].read_text()
    assert "not whole JSON" in text
    assert "1 run missing: these figures are not final" in text
    assert "| N=4 L=1 | 2 |" in text


def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no study here"):
        write_report(tmp_path, "table 6")
    write_study(tmp_path, "table 6", "table 6", grid_runs(1), [])
    with pytest.raises(ValueError, match="no experiment 'table 5'; there are: table 6"):
        write_report(tmp_path, "table 5")


def test_folder_names() -> None:
    assert experiment_folder("table 6") == "table-6"
    assert experiment_folder("ablate N=4,16 L=1,3") == "ablate-N=4,16-L=1,3"
    assert experiment_folder("ablate scales=0.5,1") != experiment_folder("ablate scales=0.5+1")
    assert experiment_folder("a/../b:c") == "a-..-b-c"
    assert experiment_folder("...") == "experiment"
    long = ["a" * 300, "a" * 301]
    assert len({experiment_folder(name) for name in long}) == 2
    assert all(len(experiment_folder(name)) < 120 for name in long)


def test_plot_against_points_has_a_series_for_each_l() -> None:
    series = accuracy.point_series(study(grid_runs()))
    assert list(series) == ["L = 1", "L = 3"]
    assert [group.position for group in series["L = 3"]] == [4, 16, 64]
    assert series["L = 1"][0].values == pytest.approx({0: 30, 1: 31, 2: 32})


def test_failed_runs_are_marked_where_they_belong() -> None:
    runs = grid_runs()
    runs[4] = run_row(GRID[1], 1, None)
    group = accuracy.point_series(study(runs))["L = 1"][1]
    assert (group.position, group.missing, sorted(group.values)) == (16, (1,), [0, 2])


@pytest.mark.parametrize(
    "names",
    [
        ["baseline", "+ spatial path"],
        ["N=4", "N=4 L=1"],
        ["N=16 L=1", "N=16 L=3"],
        [f"N={n} heads={h}" for n in (4, 16) for h in range(7)],
        ["N=4", "heads=2"],
    ],
)
def test_no_plot_against_points_where_it_would_not_serve(names: list[str]) -> None:
    assert accuracy.point_series(study([run_row(name, 0, 0.4) for name in names])) == {}


@pytest.mark.parametrize(
    "runs",
    [
        grid_runs(5),
        grid_runs(1),
        [run_row(name, seed, None) for name in GRID for seed in range(2)],
        [run_row(name, seed, 0.4) for name in ("baseline", "+ spatial path") for seed in range(3)],
        [run_row("baseline", 0, 0.4), run_row("+ spatial path", 0, None)],
        [run_row(f"decoder_self=my_package.my_module:{name} decoder_self.strength=0.5", 0, 0.4) for name in ("A", "B")],
    ],
)
@pytest.mark.filterwarnings("error")  # a layout that does not work is a warning
def test_every_plot_is_a_picture(runs: list[dict[str, Any]]) -> None:
    made = accuracy.draw_accuracy(study(runs), "measured: scenes")
    with Image.open(io.BytesIO(made["png"])) as picture:
        assert picture.width == style.FIGURE_WIDTH * style.DPI
        colours = picture.convert("RGB").getcolors(2**24)
    assert colours is not None
    assert len(colours) > 20
    assert made["svg"].startswith(b"<?xml")
    assert b"<dc:date>" not in made["svg"]


def test_seeds_do_not_hide_each_other() -> None:
    for count in range(1, 12):
        places = [style.jitter(rank, count) for rank in range(count)]
        assert len({round(place, 6) for place in places}) == count
        assert max(map(abs, places)) <= 1


class Name(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Name.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_twice_the_rows_take_about_twice_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)

    def steps(variants: int) -> int:
        names = [Name(f"width={number}") for number in range(variants)]
        rows = [full_row(name, seed, 0.5 + 0.01 * seed, refined=0.6) for name in names for seed in range(2)]
        study = assemble_study("ablate", runs=rows, measures=[measure_row(name) for name in names])
        Name.compared = 0
        study_report_files(study)
        return Name.compared

    few, many = steps(100), steps(200)
    assert many <= 2.2 * few + 100, (few, many)
