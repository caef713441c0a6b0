"""What arguments and paths alone show to be wrong is refused in one line, before anything heavy is imported."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT

import cli
from bench.results.rows import SCHEMA
from bench.results.study_file import FORMAT, STUDY_FILE

LINES = [
    line
    for line in Path(__file__).with_name("refused_command_lines.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
HEAVY = ("torch", "torchvision", "timm", "mmcv", "matplotlib", "pandas")
PROGRAM = f"""
import contextlib, io, json, shlex, sys, time
from importlib.abc import MetaPathFinder

class Imported(BaseException):
    pass

class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            raise Imported(name)

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(ROOT)!r})
import cli

told = {{}}
for line in json.load(sys.stdin):
    out, error = io.StringIO(), io.StringIO()
    began = time.process_time()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            code = cli.main(shlex.split(line))
    except Imported as module:
        code = f"imports {{module}}"
    told[line] = [code, out.getvalue(), error.getvalue(), time.process_time() - began]
print(json.dumps({{"told": told, "imported": [name for name in {HEAVY!r} if name in sys.modules]}}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files that are there and nothing more, and a study without runs."""
    for name in ("m.safetensors", "a.jpg", "r.pth", "file"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    for name in ("empty", "data/images", "study/one", "real"):
        (tmp_path / name).mkdir(parents=True)
    experiment = {"kind": "ablate", "runs": [{"key": "0", "variant": "N=4"}], "measures": []}
    study = {"format": FORMAT, "schema": SCHEMA, "preset": "quick", "data": "scenes"}
    study |= {"experiments": {"ablate N=4": experiment}}
    (tmp_path / "real" / STUDY_FILE).write_text(json.dumps(study), encoding="utf-8")
    return tmp_path


def told(lines: list[str], folder: Path) -> dict:
    """Exit code, output, errors and seconds of each command line, in one process that imports nothing heavy."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_they_are_refused_in_one_line_and_at_once(folder: Path) -> None:
    before = _files(folder)
    answer = told(LINES, folder)
    assert answer["imported"] == []
    for line, (code, out, error, _) in answer["told"].items():
        assert (code, out) == (2, ""), (line, code, out, error)
        assert error.startswith("unept-bench: "), line
        assert error.count("\n") == 1, (line, error)
        assert error.endswith("\n"), line
    assert _files(folder) == before, "nothing is left behind"


def _files(folder: Path) -> list[str]:
    """Every file and folder but the lock of a study that has been read."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name != "study.lock")


def test_each_verb_is_among_them() -> None:
    verbs = {shlex.split(line)[0] for line in LINES}
    assert {verb.name for verb in cli.VERBS} | {"data"} <= verbs


def test_what_needs_torch_is_seen_to_import_it(folder: Path) -> None:
    """The guard works: a check of an attention that is there gets as far as torch."""
    assert told(["check longformer"], folder)["told"]["check longformer"][0] == "imports torch"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ablate --grid encoder_self=longformr", "(nearest: longformer)"),
        ("ablate --grid L=9 --preset quick", "levels=9, but tiny_conv has 3 levels"),
        ("ablate --grid encoder_self=reformer encoder_self.chunk=0", "chunk=0: expected at least 1"),
        ("table 8 --row Longformr", "did you mean 'Longformer'?"),
        ("check reformer --slot decoder_cross", "decoder_cross cannot be 'reformer'"),
        ("check nosuch:Class", "importing nosuch failed: ModuleNotFoundError: No module named 'nosuch'"),
        ("complexity --network CNet", "did you mean 'CCNet'?"),
        ("attention --only x", "--only x: there are longformer, "),
        ("report real --experiment ablat", "real: no experiment 'ablat'; there are: ablate N=4"),
        ("power real --control x", "--control x: ablate N=4 has N=4"),
    ],
)
def test_the_line_names_what_is_allowed(
    line: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert cli.main(shlex.split(line)) == 2
    assert said in capsys.readouterr().err
