"""Studies of release 0.1.0 are read, and continued without doing anything again.

`study_of_0_1_0` was made by that release: two variants and a user's own attention, two seeds each, with measures.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import environment
from bench.config.grid import Variant
from bench.config.settings import settings_from_dict
from bench.results import legacy_keys, release_0_1_0, source_hash
from bench.results.legacy_keys import adopt_rows, legacy_hashes, pending, translated
from bench.results.release_0_1_0 import EQUIVALENT, FILES, RELEASE, SAME_NUMBERS
from bench.results.rows import KINDS, Row, counts_all_products, release_of, row_from_text, row_key, row_to_text
from bench.results.source_hash import combined, our_roles
from bench.results.store import Store
from bench.study import run as study_execution
from bench.study.plan import plan_study
from bench.study.run import run_study
from bench.study.study import Study

ROOT = Path(__file__).resolve().parents[3]
MADE = Path(__file__).parent / "study_of_0_1_0"
MACHINE = "6342390bc5d87f93"
MODULE = "level_mean:LevelMean"


@pytest.fixture(autouse=True)
def equivalent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources that give the release's numbers, the machine of its measures, and a folder with the user's module."""
    monkeypatch.setattr(source_hash, "our_roles", lambda: dict(EQUIVALENT))
    monkeypatch.setattr(environment, "machine_key", lambda: MACHINE)
    shutil.copy(MADE / "level_mean.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    legacy_keys._legacy_hashes.cache_clear()
    source_hash._user_modules.cache_clear()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A copy of the study, with something under the key of each row in the folders beside."""
    out = tmp_path / "study"
    shutil.copytree(MADE, out, ignore=shutil.ignore_patterns("*.py"))
    store = Store(out)
    for folder in ("pictures", "logs", "checkpoints"):
        (out / folder).mkdir()
    for row in rows_of(store):
        store.pictures(row["key"]).write_text(f"pictures of {name_of(row)}")
        store.log(row["key"]).write_text(f"log of {name_of(row)}")
    return store


def rows_of(store: Store) -> list[Row]:
    """Every row, of runs and measures."""
    return [row for kind in KINDS for row in store.read(kind).rows]


def name_of(row: Row) -> str:
    """What a row is of, whatever its key."""
    return f"{row['kind']} {row['variant']} {row.get('seed')}"


def listed(store: Store) -> list[tuple[str, Row]]:
    """What the study's reports are made of: the rows that each experiment lists, without what follows from a key."""
    changed = ("key", "sources", "digest", "roles", "release", "former")
    return [
        (experiment, {name: value for name, value in row.items() if name not in changed})
        for experiment in store.experiments()
        for kind in KINDS
        for row in store.read(kind, experiment).rows
    ]


def content(folder: Path) -> dict[str, bytes]:
    """Every file but locks, by name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def studies_of(store: Store) -> list[Study]:
    """The two experiments, as today's program is asked for them."""
    made = []
    for name, entry in store.experiments().items():
        rows = {row["variant"]: row for row in store.read("run", name).rows}
        variants = tuple(
            Variant(name=variant, axes=rows[variant]["axes"], settings=settings_from_dict(rows[variant]["settings"]))
            for variant in entry["variants"]
        )
        made.append(
            Study(name=name, kind="ablate", variants=variants, seeds=2, preset="quick", data="scenes", out=store.out)
        )
    return made


# --- what the release made --------------------------------------------------------------------------------------------


def test_the_study_is_of_the_release() -> None:
    rows = rows_of(Store(MADE))
    assert len(rows) == 9
    for row in rows:
        slots = source_hash.slots_of(row["settings"])
        assert row["sources"] in legacy_hashes(row["kind"], slots)
        assert release_of(row) == RELEASE
        assert "roles" not in row
    assert {source_hash.slots_of(row["settings"]) for row in rows} == {(), (MODULE,)}


def test_the_hash_of_the_release_is_known_as_a_checkout_and_as_installed() -> None:
    installed = {name.replace("cuda/", "unept/ops/kernels/"): digest for name, digest in FILES.items()}
    assert installed.keys() != FILES.keys()
    expected = set()
    for files in (FILES, installed):
        names = sorted(name for name in files if not name.startswith("bench/measures/"))
        text = "".join(f"{name}\0{files[name]}\n" for name in names)
        expected.add(hashlib.sha256(text.encode()).hexdigest()[:16])
    assert legacy_hashes("run", ()) == expected
    assert not legacy_hashes("run", ()) & (legacy_hashes("measure", ()) | legacy_hashes("run", (MODULE,)))


def test_today_s_sources_give_the_numbers_of_the_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    version = legacy_keys.version()
    if version not in SAME_NUMBERS:
        return  # numbers were changed on purpose since
    today = our_roles()
    changed = sorted(role for role in {*today, *EQUIVALENT} if today.get(role) != EQUIVALENT.get(role))
    assert not changed, (
        f"the code of {', '.join(changed)} changed, and version {version} is one that gives the numbers of {RELEASE}. "
        "Do numbers change on purpose? Then raise the version in pyproject.toml: runs are due again. Is it other code "
        "for the same numbers? Then `python -m bench.results.legacy_keys --write`, after a run that shows so."
    )


# --- read and continued -----------------------------------------------------------------------------------------------


def test_reading_changes_nothing(store: Store) -> None:
    before = content(store.out)
    assert len(listed(store)) == 9
    assert len(pending(store)) == 8, "all but the measure of the user's attention"
    for study, due_measures in zip(studies_of(store), (0, 1), strict=True):
        plan = plan_study(study)
        assert len(plan.runs) == 2 * len(study.variants)
        assert (plan.due_runs, len(plan.due_measures)) == ((), due_measures)
    assert content(store.out) == before


def test_the_tables_of_a_study_that_is_only_read_name_the_release(store: Store) -> None:
    store.write_tables()
    lines = (store.out / "results.csv").read_text().splitlines()
    column = lines[0].split(",").index("release")
    assert [line.split(",")[column] for line in lines[1:]] == [RELEASE] * 6


def test_rows_are_given_today_s_keys_once(store: Store) -> None:
    before, reports = {name_of(row): row for row in rows_of(store)}, listed(store)
    assert adopt_rows(store) == ["8 rows of release 0.1.0 were given today's keys"]
    assert listed(store) == reports
    for row in rows_of(store):
        old = before[name_of(row)]
        if not counts_all_products(row):
            assert row == old
            continue
        ours = {role: digest for role, digest in row["roles"].items() if not role.startswith("user:")}
        assert ours == {
            role: digest for role, digest in EQUIVALENT.items() if row["kind"] == "measure" or role != "measure"
        }
        assert (set(row["roles"]) - set(ours)) == ({"user:level_mean"} if "level_mean" in row["variant"] else set())
        assert row["sources"] == combined(row["roles"])
        assert row["former"] == {"key": old["key"], "sources": old["sources"]}
        assert release_of(row) == RELEASE
        assert store.pictures(row["key"]).read_text() == f"pictures of {name_of(row)}"
        assert store.log(row["key"]).read_text() == f"log of {name_of(row)}"
    assert len(content(store.out)) == 3 * 9 + 1, "nothing is left under the old keys"
    after = content(store.out)
    assert adopt_rows(store) == []
    assert content(store.out) == after
    assert [plan_study(study).due_runs for study in studies_of(store)] == [(), ()]
    assert [len(plan_study(study).due_measures) for study in studies_of(store)] == [0, 1]


def test_the_old_row_can_be_had_back(store: Store) -> None:
    for move in pending(store):
        again = {name: value for name, value in move.new.items() if name not in ("roles", "release", "former")}
        assert again | move.new["former"] == {name: value for name, value in move.old.items() if name != "digest"}


def test_a_study_is_continued(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_execution, "_drain", lambda *_: None)
    said: list[str] = []
    first, second = (run_study(study, said.append) for study in studies_of(store))
    assert (len(first), len(second)) == (4 + 2, 2)
    assert said == [
        "8 rows of release 0.1.0 were given today's keys",
        "4 of 4 runs are there already",
        "2 of 2 runs are there already",
        "measuring 1 variant, one at a time, alone",
    ]


def test_a_row_is_due_where_the_user_s_module_is_another(store: Store, tmp_path: Path) -> None:
    module = tmp_path / "level_mean.py"
    module.write_text(module.read_text().replace("dim=1, keepdim", "dim=2, keepdim"))
    assert adopt_rows(store) == ["6 rows of release 0.1.0 were given today's keys"]
    ours, theirs = (plan_study(study) for study in studies_of(store))
    assert (ours.due_runs, len(theirs.due_runs), len(theirs.due_measures)) == ((), 2, 1)
    assert len(listed(store)) == 9, "what is due again can still be read"


def test_rows_of_other_sources_stay_as_they_are() -> None:
    row = rows_of(Store(MADE))[0]
    assert translated(row) is not None
    assert translated(row | {"sources": "0" * 16}) is None
    assert translated(row | {"roles": {}}) is None


def test_rows_are_due_again_where_numbers_changed_on_purpose(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt_rows(store)
    monkeypatch.setattr(source_hash, "our_roles", lambda: EQUIVALENT | {"losses": "0" * 16, "data": "1" * 16})
    said: list[str] = []
    monkeypatch.setattr(study_execution, "_drain", lambda *_: None)
    run_study(studies_of(store)[0], said.append)
    assert said[0] == "4 runs are due again: changed since their rows were made by release 0.1.0: data, losses"
    assert len(rows_of(store)) == 9
    store.write_tables()
    assert (store.out / "results.csv").read_text().count(RELEASE) == 6


def test_today_s_version_reads_the_release_s_rows_and_makes_them_due_where_numbers_changed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With today's own sources: nothing is lost, and every row says what it is of."""
    before = {name_of(row): row["metrics"] for row in rows_of(store)}
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study_execution, "_drain", lambda *_: None)
    same, said = legacy_keys.version() in SAME_NUMBERS, list[str]()
    study = studies_of(store)[0]
    run_study(study, said.append)
    assert {name_of(row): row["metrics"] for row in rows_of(store)} == before
    assert {release_of(row) for row in rows_of(store)} == {RELEASE}
    changed = [role for role, digest in our_roles().items() if role != "measure" and EQUIVALENT[role] != digest]
    assert (changed == []) == same
    due = len(plan_study(study).due_runs)
    if same:
        assert due == 0
        return
    assert due == 4
    line = next(line for line in said if "due again" in line)
    assert line.startswith(f"4 runs are due again: changed since their rows were made by release {RELEASE}: ")
    assert line.rpartition(": ")[2].split(", ") == sorted(changed)
    assert said[0] == f"8 rows of release {RELEASE} were given keys by what its code computes"


# --- options at their defaults ----------------------------------------------------------------------------------------


def with_default_options(store: Store, *, of: str = "N=4", release: bool = False) -> list[Row]:
    """Runs and measures of one variant as an older version wrote them with `encoder_self.window=0` typed."""
    made = []
    for row in [row for row in rows_of(store) if row["variant"].startswith(f"{of} ")]:
        store.path(row["kind"], row["key"]).unlink()
        settings = json.loads(json.dumps(row["settings"]))
        settings["model"] |= {"encoder_self": "longformer", "attention_options": {"encoder_self.window": 0}}
        old = {name: value for name, value in row.items() if name != "digest"}
        old |= {"settings": settings, "variant": f"{row['variant']} encoder_self.window=0"}
        if not release:
            roles = legacy_keys.equivalent_roles(row["kind"], ())
            old |= {"roles": roles, "sources": combined(roles)}
        old["key"] = row_key(row["kind"], old)
        store.path(row["kind"], old["key"]).write_text(row_to_text(old))
        study = json.loads((store.out / "study.json").read_text().replace(row["key"], old["key"]))
        for about in study["experiments"].values():
            about["variants"] = [old["variant"] if name == row["variant"] else name for name in about["variants"]]
            for entry in [*about["runs"], *about["measures"]]:
                if entry["key"] == old["key"]:
                    entry["variant"] = old["variant"]
        (store.out / "study.json").write_text(json.dumps(study))
        made.append(old)
    return made


@pytest.mark.parametrize("release", [False, True])
def test_a_row_with_options_at_their_defaults_has_the_key_of_the_run_without_them(store: Store, release: bool) -> None:
    adopt_rows(store) if not release else None
    olds = with_default_options(store, release=release)
    assert len(olds) == 3
    assert (
        adopt_rows(store)[-1]
        == "3 rows with options at their defaults were given the keys of the same runs without them"
    )
    assert pending(store) == []
    for old in olds:
        plain = old["settings"]["model"] | {}
        del plain["attention_options"]
        wanted = old | {"settings": old["settings"] | {"model": plain}}
        wanted |= {"sources": combined(legacy_keys.equivalent_roles(old["kind"], ()))}
        row = store.row(old["kind"], row_key(old["kind"], wanted))
        assert row is not None
        assert row["metrics"] == old["metrics"]
        assert row["variant"] == old["variant"].removesuffix(" encoder_self.window=0")
        assert row["former"]["settings"] == old["settings"]
        assert not store.has(old["kind"], old["key"])
    for name, about in store.experiments().items():
        found = [store.read(kind, name) for kind in KINDS]
        assert [problem for one in found for problem in one.problems] == []
        assert {row["variant"] for one in found for row in one.rows} == set(about["variants"])


def test_of_a_run_that_was_made_twice_both_rows_are_kept(store: Store) -> None:
    adopt_rows(store)
    (first, *_), moves = with_default_options(store), pending(store)
    twin = next(move for move in moves if move.old["key"] == first["key"])
    store.path("run", twin.new["key"]).write_text(row_to_text({**twin.new, "former": {"key": "another"}}))
    adopt_rows(store)
    assert store.row("run", twin.new["key"])["former"] == {"key": "another"}  # type: ignore[index]
    aside = store.path("run", first["key"]).with_name(f"{first['key']}.json.superseded-1")
    assert row_from_text(aside.read_text(), "run", first["key"])["metrics"] == first["metrics"]


# --- interruptions ----------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process ends here."""


def crashing(step: int, function: Callable[..., Any], count: list[int]) -> Callable[..., Any]:
    """The function, which ends the program when it is called for the `step`th time."""

    def call(*arguments: Any) -> Any:
        count[0] += 1
        if count[0] == step:
            raise Crash
        return function(*arguments)

    return call


def test_a_crash_at_any_step_loses_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for row in rows_of(store):
        if not row["variant"].startswith("N=4 "):  # three rows are enough
            store.path(row["kind"], row["key"]).unlink()
            store.pictures(row["key"]).unlink()
            store.log(row["key"]).unlink()
    reports, ended = listed(store), tmp_path / "ended"
    shutil.copytree(store.out, ended)
    adopt_rows(Store(ended))
    steps = 0
    while True:
        steps += 1
        out = tmp_path / f"crash-{steps}"
        shutil.copytree(store.out, out)
        count = [0]
        with monkeypatch.context() as patch:
            patch.setattr(legacy_keys, "atomic_write", crashing(steps, legacy_keys.atomic_write, count))
            patch.setattr(Store, "rename_listed", crashing(steps, Store.rename_listed, count))
            patch.setattr(Path, "rename", crashing(steps, Path.rename, count))
            patch.setattr(Path, "unlink", crashing(steps, Path.unlink, count))
            try:
                adopt_rows(Store(out))
            except Crash:
                pass
            else:
                break
        assert listed(Store(out)) == reports, f"after step {steps}"
        adopt_rows(Store(out))
        assert content(out) == content(ended), f"after step {steps}"
    assert steps == 3 + 1 + 3 * 3 + 1, "rows written, listed, and for each its files moved and the old row removed"


def test_two_processes_at_once_give_the_keys_once(store: Store) -> None:
    reports = listed(store)
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom bench.results import legacy_keys, source_hash\n"
        "source_hash.our_roles = lambda: dict(legacy_keys.release.EQUIVALENT)\nfrom bench.results.store import Store\n"
        "sys.stdin.readline()\nprint(json.dumps(legacy_keys.adopt_rows(Store(Path(sys.argv[1])))))"
    )
    paths = {"PYTHONPATH": str(ROOT), "PATH": ""}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(store.out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=paths,
            text=True,
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    said = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    assert sorted(map(len, said)) == [0, 0, 1]
    assert listed(store) == reports
    assert pending(store) == []


def test_a_row_that_is_being_made_is_left_alone(store: Store) -> None:
    move = pending(store)[0]
    with store.claim(move.kind, move.new["key"]):
        assert adopt_rows(store) == ["7 rows of release 0.1.0 were given today's keys"]
        assert store.row(move.kind, move.old["key"]) == move.old
    assert adopt_rows(store) == ["1 row of release 0.1.0 was given today's keys"]


def test_a_damaged_row_under_the_new_key_is_set_aside(store: Store) -> None:
    move = pending(store)[0]
    path = store.path(move.kind, move.new["key"])
    path.write_text("{")
    assert len(adopt_rows(store)) == 1
    assert store.has(move.kind, move.new["key"])
    assert path.with_name(f"{path.name}.damaged-1").exists()


def test_a_run_that_the_release_began_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies_of(store)[0]
    old = next(row for row in rows_of(store) if row["kind"] == "run" and row["variant"] == study.variants[0].name)
    store.path("run", old["key"]).unlink()
    store.checkpoints(old["key"]).mkdir()
    (store.checkpoints(old["key"]) / "last.safetensors").write_text("state")
    monkeypatch.setattr(study_execution, "_drain", lambda *_: None)
    with monkeypatch.context() as patch:
        patch.setattr(source_hash, "our_roles", lambda: EQUIVALENT | {"losses": "0" * 16})
        run_study(study, lambda _: None)
        assert store.checkpoints(old["key"]).exists(), "other sources begin anew"
    run_study(study, lambda _: None)
    (job,) = plan_study(study).due_runs
    assert (store.checkpoints(job.key) / "last.safetensors").read_text() == "state"
    assert store.log(job.key).read_text() == f"log of {name_of(old)}"
    assert not store.checkpoints(old["key"]).exists()


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, before = tmp_path / "release.py", Path(release_0_1_0.__file__).read_text()
    copy.write_text(before)
    monkeypatch.setattr(release_0_1_0, "__file__", str(copy))
    monkeypatch.setattr(legacy_keys, "our_roles", lambda: {"model": "a" * 16, "losses": "b" * 16})
    monkeypatch.setattr(legacy_keys, "version", lambda: "0.3.0")
    assert legacy_keys.main(["--write"]) == 2
    assert "version 0.3.0 does not give the numbers of 0.1.0" in capsys.readouterr().err
    assert copy.read_text() == before
    monkeypatch.setattr(legacy_keys, "version", lambda: SAME_NUMBERS[-1])
    assert legacy_keys.main(["--write"]) == 0
    written: dict[str, Any] = {}
    exec(copy.read_text(), written)
    assert written["EQUIVALENT"] == {"model": "a" * 16, "losses": "b" * 16}
    assert written["FILES"] == FILES
    assert legacy_keys.main([]) == 0
    assert capsys.readouterr().out.count("a" * 16) == 1
