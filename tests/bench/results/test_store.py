from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from driving import drive, jobs, opened, spec

from bench.launchers.worker import make_row
from bench.results.row_files import ClaimBusy
from bench.results.rows import content_key, json_value, row_from_text, row_key, row_to_text
from bench.results.store import Store


def row_of(out: Path, **changes: Any) -> dict[str, Any]:
    made = spec(out, "quick", **changes)
    return make_row(
        made, {"status": "ok", "message": "", "metrics": {"miou": 0.5}}, started="2026-01-01T00:00:00+00:00"
    )


def add(store: Store, **changes: Any) -> str:
    row = row_of(store.out, **changes)
    with store.claim("run", row["key"]):
        store.write(row)
    return str(row["key"])


def test_a_row_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    row = store.row("run", key)
    assert row is not None
    assert row["metrics"] == {"miou": 0.5}
    assert row["schema"] == 1
    assert store.has("run", key)
    assert not store.path("run", key).with_suffix(".json.tmp").exists()


def test_rows_are_never_overwritten(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store)
    with pytest.raises(AssertionError, match="immutable"):
        add(store)


def test_the_key_is_made_of_what_decides_the_numbers() -> None:
    base = spec(Path("x"), "quick")
    for name, value in {
        "settings": {},
        "preset": "small",
        "seed": 7,
        "backend": "native",
        "threads": 2,
        "sources": "0",
    }.items():
        assert row_key("run", base | {name: value}) != base["key"], name
    for name in ("variant", "study", "command", "out", "label", "task"):
        assert row_key("run", base | {name: "else"}) == base["key"], name
    measure = base | {"machine": "a"}
    assert row_key("measure", measure) != row_key("measure", measure | {"machine": "b"})
    assert row_key("measure", measure) == row_key("measure", measure | {"target": 480})
    assert row_key("measure", measure) != row_key("measure", measure | {"target": 768})
    assert row_key("measure", measure) == row_key("measure", measure | {"seed": 7})


def test_the_key_ignores_the_order_of_fields() -> None:
    assert content_key({"a": 1, "b": [1.5]}) == content_key({"b": [1.5], "a": 1})


def test_what_is_not_finite_becomes_null() -> None:
    assert json_value({"a": [math.nan, math.inf, 1.0], 3: (1, 2)}) == {"a": [None, None, 1.0], "3": [1, 2]}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zeros(path: Path) -> None:
    path.write_bytes(b"\0" * 500)


def _flip_one_bit_of_a_digit(path: Path) -> None:
    data = path.read_bytes()
    at = data.index(b'"miou": 0.5') + len(b'"miou": 0.')
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def _not_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x80")


def _foreign(path: Path) -> None:
    path.write_text('{"name": "something else"}')


def _a_list(path: Path) -> None:
    path.write_text("[1, 2]")


def _nan(path: Path) -> None:
    path.write_text(path.read_text().replace('"miou": 0.5', '"miou": NaN'))


def _newer(path: Path) -> None:
    row = json.loads(path.read_text())
    path.write_text(row_to_text(row | {"schema": 2}))


def _of_another_key(path: Path) -> None:
    row = json.loads(path.read_text())
    path.write_text(row_to_text(row | {"key": "0" * 16}))


DAMAGES = [
    _truncate,
    _empty,
    _zeros,
    _flip_one_bit_of_a_digit,
    _not_text,
    _foreign,
    _a_list,
    _nan,
    _newer,
    _of_another_key,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_row_is_set_aside_and_said(tmp_path: Path, damage: Any) -> None:
    store = opened(tmp_path)
    key, whole = add(store), add(store, seed=1)
    path = store.path("run", key)
    damage(path)
    content = path.read_bytes()
    with pytest.raises(ValueError, match=f"{key}.json: "):
        store.row("run", key)
    assert not store.has("run", key)
    found = store.read("run")
    assert [row["key"] for row in found.rows] == [whole]
    assert len(found.problems) == 1

    said = store.clear_damaged("run", key)
    assert f"set aside as {key}.json.damaged-1" in said
    assert "\n" not in said
    assert path.with_name(f"{key}.json.damaged-1").read_bytes() == content
    assert store.row("run", key) is None
    assert store.clear_damaged("run", key) == ""
    add(store)
    damage(path)
    assert "damaged-2" in store.clear_damaged("run", key)


def test_no_changed_bit_and_no_cut_of_a_row_is_believed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    data, whole = store.path("run", key).read_bytes(), store.row("run", key)
    cut = [data[:length] for length in range(len(data) - 1)]  # the last letter is the end of the line
    flipped = [data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :] for at in range(len(data)) for bit in range(8)]
    believed = []
    for changed in (*cut, *flipped):
        with contextlib.suppress(ValueError):
            believed.append(row_from_text(changed.decode(), "run", key))
    assert all(row == whole for row in believed)  # `1e-3` is `1E-3`
    assert len(believed) < 5


def test_no_changed_bit_of_a_study_json_is_more_than_a_value_error(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    store.register("grid", {"runs": [{"key": key, "variant": "N=4", "axes": {}, "seed": 0}], "measures": []})
    path = tmp_path / "study.json"
    data = path.read_bytes()
    read = 0
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with contextlib.suppress(ValueError):
            for name in store.experiments():
                read += len(store.read("run", name).rows)
    assert 0 < read < len(data)
    path.write_bytes(data)
    assert [row["key"] for row in store.read("run", "grid").rows] == [key]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "unept-bench study", "schema": 1}'], ids=repr
)
def test_a_foreign_or_damaged_study_json_beside_rows_costs_no_row(tmp_path: Path, content: bytes) -> None:
    key = add(opened(tmp_path))
    (tmp_path / "study.json").write_bytes(content)
    with pytest.raises(ValueError, match="no study here"):
        Store(tmp_path).experiments()
    opened(tmp_path)
    assert (tmp_path / "study.json.damaged-1").read_bytes() == content
    assert [row["key"] for row in Store(tmp_path).read("run").rows] == [key]


def test_foreign_files_among_the_rows(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / f"{key}.json.tmp").write_text("half")
    (tmp_path / "runs" / "copy of a row.json").write_bytes(store.path("run", key).read_bytes())
    (tmp_path / "runs" / "folder.json").mkdir()
    os.mkfifo(tmp_path / "runs" / "pipe.json")
    found = store.read("run")
    assert [row["key"] for row in found.rows] == [key]
    assert [problem.rpartition("/")[2] for problem in found.problems] == [
        "copy of a row.json: the row of another file",
        "folder.json: a folder",
        "pipe.json: a named pipe (FIFO)",
    ]
    store.write_tables()
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 2
    assert (tmp_path / "runs" / "notes.txt").read_text() == "mine"


def test_a_study_json_that_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "study.json")
    with pytest.raises(ValueError, match=r"no study here"):
        Store(tmp_path).experiments()


def test_a_superseded_row_is_kept(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    store.supersede("run", key)
    assert store.row("run", key) is None
    assert store.path("run", key).with_name(f"{key}.json.superseded-1").exists()
    assert store.read("run").rows == ()


def test_a_claim_excludes_and_dies_with_its_process(tmp_path: Path) -> None:
    store = opened(tmp_path)
    program = (
        "import sys, time; from pathlib import Path; from bench.results.store import Store\n"
        f"with Store(Path({str(tmp_path)!r})).claim('run', 'k'):\n    print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        holder.stdout.readline()
        assert store.is_claimed("run", "k")
        with pytest.raises(ClaimBusy), store.claim("run", "k"):
            pass
        holder.kill()
        holder.wait()
    assert not store.is_claimed("run", "k")


def test_opening_twice_is_the_same_study(tmp_path: Path) -> None:
    opened(tmp_path)
    before = (tmp_path / "study.json").read_bytes()
    opened(tmp_path)
    assert (tmp_path / "study.json").read_bytes() == before


@pytest.mark.parametrize(("preset", "data"), [("small", "scenes"), ("quick", "folder:x")])
def test_another_studys_folder_is_refused(tmp_path: Path, preset: str, data: str) -> None:
    add(opened(tmp_path))
    with pytest.raises(ValueError, match="belongs to preset quick, data scenes"):
        Store(tmp_path).open(preset=preset, data=data)


def test_a_folder_of_something_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="no study of this program"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_another_programs_study_json_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text('{"sampler": "tpe"}')
    with pytest.raises(ValueError, match="no study of this program"):
        opened(tmp_path)
    assert (tmp_path / "study.json").read_text() == '{"sampler": "tpe"}'


def test_a_file_as_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        opened(tmp_path / "out")


def test_a_damaged_study_json_is_made_anew_and_the_rows_tell_whose_it_is(tmp_path: Path) -> None:
    add(opened(tmp_path))
    _truncate(tmp_path / "study.json")
    with pytest.raises(ValueError, match="belongs to preset quick"):
        Store(tmp_path).open(preset="paper", data="scenes")
    said = Store(tmp_path).open(preset="quick", data="scenes")
    assert "set aside as study.json.damaged-1" in said[0]
    (listed,) = Store(tmp_path).experiments().values()
    assert [entry["variant"] for entry in listed["runs"]] == ["N=4"]
    assert len(Store(tmp_path).read("run").rows) == 1


def edit(store: Store, change: Any, *, digest: bool = False) -> None:
    """Change study.json by hand, without a digest as older versions wrote it, or with the digest it had."""
    path = store.out / "study.json"
    study = json.loads(path.read_text())
    change(study["experiments"]["test"])
    if not digest:
        del study["digest"]
    path.write_text(json.dumps(study))


def swapped(experiment: dict[str, Any]) -> None:
    first, second = experiment["runs"]
    first["variant"], second["variant"] = second["variant"], first["variant"]


def test_names_that_contradict_a_row_are_said_and_the_row_keeps_its_own(tmp_path: Path) -> None:
    assert drive(tmp_path, "quick", (4, 16), 1) == 0
    store = Store(tmp_path)
    before = store.read("run", "test")
    edit(store, swapped)
    found = store.read("run", "test")
    assert {row["key"]: row["variant"] for row in found.rows} == {row["key"]: row["variant"] for row in before.rows}
    assert found.problems == (
        "study.json lists N=16 seed 0 otherwise than its row, N=4 seed 0: the row's own names are shown",
        "study.json lists N=4 seed 0 otherwise than its row, N=16 seed 0: the row's own names are shown",
    )
    edit_seed = lambda test: test["runs"][0].update(seed=3)  # noqa: E731
    store = opened(tmp_path)  # gives the file a digest
    edit(store, edit_seed)
    assert [row["seed"] for row in store.read("run", "test").rows] == [0, 0]


def test_a_shared_row_has_a_name_of_its_own_only_if_its_settings_allow_it(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    for name, axes, shown in (("N=4 L=3", {"points": 4}, "N=4 L=3"), ("N=16", {}, "N=4"), ("a", {"points": 16}, "N=4")):
        entry = {"key": key, "variant": name, "axes": axes, "seed": 0}
        store.register("another", {"runs": [entry], "measures": []})
        assert [row["variant"] for row in store.read("run", "another").rows] == [shown]


def test_an_entry_gives_a_row_no_numbers(tmp_path: Path) -> None:
    assert drive(tmp_path, "quick", (4,), 1) == 0
    store = Store(tmp_path)
    (before,) = store.read("run", "test").rows
    edit(store, lambda test: test["runs"][0].update(metrics={"miou": 0.99}, status="failed", settings={}))
    assert store.read("run", "test").rows == (before,)


def test_a_study_json_that_was_edited_is_said_and_written_again_from_the_rows(tmp_path: Path) -> None:
    assert drive(tmp_path, "quick", (4, 16), 1) == 0
    store = Store(tmp_path)
    before = (tmp_path / "study.json").read_bytes()
    edit(store, swapped, digest=True)
    edited = (tmp_path / "study.json").read_bytes()
    (said,) = store.mend()
    assert "does not match its digest; set aside as study.json.damaged-1" in said
    assert (tmp_path / "study.json").read_bytes() == before
    assert (tmp_path / "study.json.damaged-1").read_bytes() == edited
    assert store.mend() == []


def test_a_study_json_without_a_digest_is_taken_once_and_given_one(tmp_path: Path) -> None:
    assert drive(tmp_path, "quick", (4,), 1) == 0
    store = Store(tmp_path)
    before = (tmp_path / "study.json").read_bytes()
    edit(store, lambda _: None)
    assert store.mend() == []
    assert (tmp_path / "study.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": "unept-bench study", "schema": 1}', None])
def test_experiments_are_listed_again_from_the_rows(tmp_path: Path, content: bytes | None) -> None:
    assert drive(tmp_path, "quick", (16, 4), 2) == 0
    store = Store(tmp_path)
    before = store.experiments()
    (tmp_path / "study.json").unlink()
    if content is not None:
        (tmp_path / "study.json").write_bytes(content)
    (said,) = store.mend()
    assert "made anew from the rows" in said
    (after,) = store.experiments().values()
    assert [(run["seed"], run["variant"]) for run in after["runs"]] == [
        (0, "N=4"),
        (0, "N=16"),
        (1, "N=4"),
        (1, "N=16"),
    ]
    assert {run["key"] for run in after["runs"]} == {run["key"] for run in before["test"]["runs"]}
    assert (after["seeds"], after["variants"], after["kind"]) == (2, ["N=4", "N=16"], "test")


def test_a_study_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    opened(tmp_path)
    study = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps(study | {"schema": 2}))
    with pytest.raises(ValueError, match="schema 2"):
        opened(tmp_path)


def test_two_experiments_share_a_row_under_their_own_names(tmp_path: Path) -> None:
    store = opened(tmp_path)
    shared, other = add(store), add(store, points=16)
    entry = {"key": shared, "variant": "+ spatial path", "axes": {}, "seed": 0}
    store.register("table 5", {"runs": [entry], "measures": []})
    store.register("grid", {"runs": [{"key": other}, {"key": shared}, {"key": "missing"}], "measures": []})
    assert [row["variant"] for row in store.read("run", "table 5").rows] == ["+ spatial path"]
    assert [row["key"] for row in store.read("run", "grid").rows] == [other, shared]
    with pytest.raises(ValueError, match="no experiment 'table 9'; there are: table 5, grid"):
        store.read("run", "table 9")


def test_registering_again_replaces_and_keeps_the_date(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.register("grid", {"runs": [], "measures": []})
    created = store.experiments()["grid"]["created"]
    store.register("grid", {"runs": [{"key": "k"}], "measures": []})
    assert store.experiments()["grid"] == {"runs": [{"key": "k"}], "measures": [], "created": created}


def test_tables_are_the_same_bytes_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for points in (16, 4):
        for seed in (10, 9):
            add(store, points=points, seed=seed)
    paths = store.write_tables()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    store.write_tables()
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [["N=4", "9"], ["N=4", "10"], ["N=16", "9"], ["N=16", "10"]]
    (tmp_path / "results.csv").unlink()
    store.write_tables()
    assert (tmp_path / "results.csv").read_bytes() == before[tmp_path / "results.csv"][0]


def test_results_hold_nothing_that_depends_on_when_a_run_was_made(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store)
    store.write_tables()
    head = (tmp_path / "results.csv").read_text().splitlines()[0].split(",")
    assert not {"started", "finished", "seconds", "command"} & set(head)
    assert {"miou", "status", "key", "sources", "threads"} <= set(head)
    provenance = (tmp_path / "provenance.csv").read_text().splitlines()[0].split(",")
    assert {"started", "finished", "environment:python", "environment:malloc"} <= set(provenance)


def test_a_full_disk_while_writing_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    kept = add(store)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("unept.utils.atomic_files.os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            add(store, seed=1)
    assert [row["key"] for row in store.read("run").rows] == [kept]
    assert not list((tmp_path / "runs").glob("*.tmp"))
    add(store, seed=1)


def test_left_over_temporary_files_and_checkpoints_do_no_harm(tmp_path: Path) -> None:
    store = opened(tmp_path)
    key = add(store)
    due = jobs(tmp_path, "quick", points=(64,))[0].key
    for name in (key, due):
        store.checkpoints(name).mkdir()
    (tmp_path / "runs" / f"{due}.json.tmp").write_text('{"half')
    opened(tmp_path)
    assert not store.checkpoints(key).exists(), "its row is there"
    assert store.checkpoints(due).exists(), "its run is due"
    assert len(store.read("run").rows) == 1
    assert store.read("run").problems == ()


def test_a_read_only_folder_raises_at_once(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("permissions do not bind root; the command's test patches the call instead")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            opened(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_reading_a_study_imports_no_torch() -> None:
    modules = "bench.results.store, bench.launchers.worker"
    program = f"import sys, {modules}; sys.exit(bool({{'torch', 'unept.model'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
