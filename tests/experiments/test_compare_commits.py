"""Two commits timed in turns: which commit is meant, what is run from which tree, and the table of ratios."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

import pytest

from experiments import compare_commits
from experiments.compare_commits import BASE, NOW, Benchmark, compare, measure, ratio_table

FAKE = Benchmark(name="fake", words=("-c", "import which; print(which.SECONDS)"), phases=True)


def commit(root: Path, version: str, seconds: str) -> str:
    (root / "pyproject.toml").write_text(f'version = "{version}"\n', encoding="utf-8")
    (root / "which.py").write_text(f"SECONDS = '{seconds}'\n", encoding="utf-8")
    run = partial(subprocess.run, cwd=root, check=True, capture_output=True, text=True)
    run(["git", "add", "."])
    run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", version + seconds])
    return run(["git", "rev-parse", "HEAD"]).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release and two commits after it; the last one is three times as slow."""
    root = tmp_path / "repository"
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    commit(root, "1.0", '{"step": 2.0}')
    commit(root, "1.1.dev", '{"step": 2.0}')
    commit(root, "1.1.dev", '{"step": 6.0}')
    monkeypatch.setattr(compare_commits, "ROOT", root)
    monkeypatch.setattr(compare_commits, "BENCHMARKS", (FAKE,))
    return root


def test_a_slower_commit_is_seen(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_commits.main(["HEAD~1", "--rounds", "2"]) == 0
    assert "| fake step | 2 | 6 | 3.00 | 3.00 to 3.00 |" in capsys.readouterr().out.splitlines()
    trees = subprocess.run(["git", "worktree", "list"], cwd=repository, check=True, capture_output=True, text=True)
    assert len(trees.stdout.splitlines()) == 1, "the worktree is removed"


def test_without_a_name_it_is_the_last_tag_or_the_last_release(repository: Path) -> None:
    name = compare_commits.default_base(repository)
    assert compare_commits.resolve_commit(name, repository) == compare_commits.resolve_commit("HEAD~2", repository)
    subprocess.run(["git", "tag", "v1", "HEAD~1"], cwd=repository, check=True)
    assert compare_commits.default_base(repository) == "v1"


@pytest.mark.parametrize("name", ["nosuch", "--all", "HEAD~9", "which.py"])
def test_an_unknown_commit_is_refused_in_one_line(
    repository: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    del repository
    assert compare_commits.main(["--", name]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"bench: BASE={name}: no commit of this repository; expected a hash, tag or branch\n"


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--only", "nothing like it"]])
def test_nothing_to_time_is_refused(repository: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    del repository
    assert compare_commits.main(words) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rounds_begin_in_turns_and_ratios_are_of_one_round() -> None:
    """A machine that is slower in one round is so for both sides, and the ratio stays."""
    calls: list[str] = []
    seconds = {NOW: iter([9.0, 1.0, 4.0, 3.0]), BASE: iter([9.0, 2.0, 8.0, 2.0])}

    def run(_: Benchmark, tree: Path) -> dict[str, float]:
        calls.append(str(tree))
        return {"": next(seconds[str(tree)])}

    rows = compare([FAKE], {NOW: Path(NOW), BASE: Path(BASE)}, 3, run)
    assert calls == [NOW, BASE, NOW, BASE, BASE, NOW, NOW, BASE]
    assert rows == {"fake": {NOW: [1.0, 4.0, 3.0], BASE: [2.0, 8.0, 2.0]}}
    assert [*ratio_table(rows)][-1] == "| fake | 2 | 3 | 0.50 | 0.50 to 1.50 |"


def test_what_fails_on_a_side_is_said(tmp_path: Path) -> None:
    def run(_: Benchmark, tree: Path) -> dict[str, float]:
        return {} if tree == Path(BASE) else {"": 1.0}

    trees = {NOW: Path(NOW), BASE: Path(BASE)}
    assert [*ratio_table(compare([FAKE], trees, 2, run))][-1] == "| fake | fails | 1 |  |  |"
    assert [*ratio_table(compare([FAKE], trees, 2, lambda *_: {}))][-1] == "| fake | fails | fails |  |  |"
    failing = Benchmark(name="fails", words=("-c", "raise SystemExit(1)"))
    assert measure(failing, tmp_path, made={}) == {}


def test_the_processors_seconds_are_taken_and_paths_are_put_in(tmp_path: Path) -> None:
    code = "import sys, time\nassert sys.argv[1] == 'here'\nwhile time.process_time() < 0.3: pass"
    busy = Benchmark(name="busy", words=("-c", code, "{model}"))
    assert 0.3 <= measure(busy, tmp_path, made={"model": "here"})[""] < 5
    asleep = Benchmark(name="asleep", words=("-c", "import time; time.sleep(1)"))
    assert measure(asleep, tmp_path, made={})[""] < 0.9


def test_each_preset_is_trained() -> None:
    words = [benchmark.words for benchmark in compare_commits.BENCHMARKS]
    assert {line[line.index("--preset") + 1] for line in words if "--preset" in line} == {"quick", "small", "paper"}
