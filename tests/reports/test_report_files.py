"""From a study's folder to files: what is written, and that the same rows give the same bytes."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from synthetic import measure_row, run_row, write_study

from reports import plots, write_report
from reports.rows import Study, assemble
from reports.write import folder_name

GRID = [f"N={n} L={level}" for level in (1, 3) for n in (4, 16, 64)]
FILES = {
    "report.md",
    "accuracy.csv",
    "seeds.csv",
    "cost.csv",
    "class_iou.csv",
    "failures.csv",
    "quoted.csv",
    "accuracy.png",
    "accuracy.svg",
}


def grid_runs(seeds: int = 3) -> list[dict[str, Any]]:
    return [run_row(name, seed, 0.3 + 0.02 * GRID.index(name) + 0.01 * seed) for name in GRID for seed in range(seeds)]


def digests(files: list[Path]) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def study(runs: list[dict[str, Any]]) -> Study:
    return assemble("ablate", runs=runs, planned=runs)


def test_files_of_a_study(tmp_path: Path) -> None:
    write_study(tmp_path, "table 6", "table 6", grid_runs(), [measure_row(name) for name in GRID])
    files = write_report(tmp_path, "table 6")
    assert {file.name for file in files} == FILES
    assert files[0] == tmp_path / "report" / "table-6" / "report.md"
    assert {file.name for file in files[0].parent.iterdir()} == FILES
    text = files[0].read_text()
    assert text.startswith("# How many sampling points, on how many feature scales? (Table 6)\n")
    assert "](accuracy.png)" in text
    assert "unept-bench table 6" in text


def test_same_store_same_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_study(tmp_path / place, "g", "ablate", grid_runs(), [measure_row(name) for name in GRID])
    first, second, again = (digests(write_report(tmp_path / place, "g")) for place in ("a", "b", "a"))
    assert first == second == again
    write_study(tmp_path / "c", "g", "ablate", grid_runs(2), [])
    assert digests(write_report(tmp_path / "c", "g")) != first


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
    assert folder_name("table 6") == "table-6"
    assert folder_name("ablate N=4,16 L=1,3") == "ablate-N=4,16-L=1,3"
    assert folder_name("ablate scales=0.5,1") != folder_name("ablate scales=0.5+1")
    assert folder_name("a/../b:c") == "a-..-b-c"
    assert folder_name("...") == "experiment"
    long = ["a" * 300, "a" * 301]
    assert len({folder_name(name) for name in long}) == 2
    assert all(len(folder_name(name)) < 120 for name in long)


def test_plot_against_points_has_a_series_for_each_l() -> None:
    series = plots.point_series(study(grid_runs()))
    assert list(series) == ["L = 1", "L = 3"]
    assert [group.place for group in series["L = 3"]] == [4, 16, 64]
    assert series["L = 1"][0].values == pytest.approx({0: 30, 1: 31, 2: 32})


def test_failed_runs_are_marked_where_they_belong() -> None:
    runs = grid_runs()
    runs[4] = run_row(GRID[1], 1, None)
    group = plots.point_series(study(runs))["L = 1"][1]
    assert (group.place, group.missing, sorted(group.values)) == (16, (1,), [0, 2])


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
    assert plots.point_series(study([run_row(name, 0, 0.4) for name in names])) == {}


@pytest.mark.parametrize(
    "runs",
    [
        grid_runs(5),
        grid_runs(1),
        [run_row(name, seed, None) for name in GRID for seed in range(2)],
        [run_row(name, seed, 0.4) for name in ("baseline", "+ spatial path") for seed in range(3)],
        [run_row("baseline", 0, 0.4), run_row("+ spatial path", 0, None)],
    ],
)
def test_every_plot_is_a_picture(runs: list[dict[str, Any]]) -> None:
    made = plots.draw(study(runs), "measured: scenes")
    with Image.open(io.BytesIO(made["png"])) as picture:
        assert picture.width == 960
        colours = picture.convert("RGB").getcolors(2**24)
    assert colours is not None
    assert len(colours) > 20
    assert made["svg"].startswith(b"<?xml")
    assert b"<dc:date>" not in made["svg"]


def test_seeds_do_not_hide_each_other() -> None:
    for count in range(1, 12):
        places = [plots._jitter(rank, count) for rank in range(count)]
        assert len({round(place, 6) for place in places}) == count
        assert max(map(abs, places)) <= 1
