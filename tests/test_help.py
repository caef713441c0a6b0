"""`--help`: verbs in groups, summaries that fit, defaults in words, an example that works; nothing imports torch."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import captured, parse_command_line
from locations import ROOT

import cli
from experiments.commands.options import GROUPS, Verb

VERBS = (*cli.VERBS, cli.data_verify.VERB)
LONGEST_SUMMARY = 45


def help_of(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    capsys.readouterr()
    assert cli.main([*words, "--help"]) == 0
    return captured(capsys).out


def words_of(verb: Verb) -> list[str]:
    return shlex.split(verb.example)[: 2 if verb.example.startswith("data ") else 1]


def test_verbs_are_listed_by_group_and_no_summary_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = help_of([], capsys, monkeypatch)
    assert re.findall(r"^(\S.*):$", page, re.MULTILINE) == ["Options", *GROUPS]
    for verb in cli.VERBS:
        assert 0 < len(verb.summary) <= LONGEST_SUMMARY
        assert re.search(rf"^  {verb.name} +{re.escape(verb.summary)}$", page, re.MULTILINE), verb.name
        assert verb.group in GROUPS
    assert max(map(len, page.splitlines())) <= 80
    assert "..." not in page.replace("[ARGS]...", "")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_verb_shows_its_options_in_words_and_one_example(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = help_of(words_of(verb), capsys, monkeypatch)
    assert "-1" not in page
    assert "None" not in page
    assert page.count("Example:\n") == 1
    assert page.endswith(f"Example:\n  unept-bench {verb.example}\n")
    parse_command_line(shlex.split(verb.example))


def test_what_is_required_is_said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    page = " ".join(help_of(["evaluate"], capsys, monkeypatch).split())
    assert re.search(r"--data DATA [^\[]*\[required\]", page)
    assert "[default: the preset's]" not in page


def test_no_option_is_described_twice() -> None:
    """Each option of the command line is a field of one dataclass, and the command has that field's name."""
    for verb in VERBS:
        names = [field.typed_name for field in options_of(verb.options)]
        assert len(set(names)) == len(names), verb.name


def options_of(kind: type) -> list[object]:
    from bench.config.option_fields import nested_fields, option_fields

    return [*option_fields(kind), *(field for _, inner in nested_fields(kind) for field in options_of(inner))]


def in_child(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import cli\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    calls = [[], ["--version"], *[[*words_of(verb), "--help"] for verb in VERBS]]
    code = (
        f"for words in {calls!r}:\n"
        "    assert cli.main(words) == 0, words\n"
        "    assert not {'torch', 'timm', 'mmcv', 'pandas', 'matplotlib'} & set(sys.modules), words\n"
    )
    done = in_child(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
