"""Shell completion as the shells ask for it: by a child process and its environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT

import cli
from experiments.commands import completion

QUESTIONS = (
    ("", {"ablate", "table", "train", "scaling", "doctor"}),
    ("ev", {"evaluate"}),
    ("ablate --se", {"--seeds"}),
    ("ablate --preset ", {"quick", "small", "paper"}),
    ("ablate --split t", {"train", "test"}),
    ("ablate --backend ", {"auto", "reference", "native", "cuda"}),
    ("ablate --grid queri", {"queries=", "queries=both", "queries=embed"}),
    ("ablate --grid N=4 enc", {"encoder_self=", "encoder_layers="}),
    ("ablate --grid N=4 encoder_self=longf", {"longformer"}),
    ("ablate --grid encoder_self=none,re", {"reformer"}),
    ("ablate --grid profile=", {"paper", "released"}),
    ("ablate --grid N=4 --pre", {"--preset"}),
    ("ablate --retry failed,o", {"oom"}),
    ("ablate --data sc", {"scenes"}),
    ("ablate --data city", {"cityscapes:"}),
    ("table ", {"5", "6", "7", "8"}),
    ("table 6 --set mod", {"mode=slide", "mode=whole"}),
    ("train --backbone d", {"deit", "deit_base"}),
    ("train --precision ", {"fp32", "bf16"}),
    ("check re", {"reformer"}),
    ("check reformer --slot decoder_", {"decoder_self", "decoder_cross"}),
    ("data ", {"verify"}),
    ("evaluate m.safetensors --device c", {"cpu", "cuda"}),
)


def bash_words(line: str) -> list[str]:
    """The pieces of COMP_WORDS: bash breaks words at `=` and `:`, which are pieces of their own."""
    pieces: list[str] = []
    for word in line.split(" "):
        piece = ""
        for letter in word:
            if letter in "=:":
                pieces += [piece, letter] if piece else [letter]
                piece = ""
            else:
                piece += letter
        if piece or not word:
            pieces.append(piece)
    return pieces


def environment(shell: str, line: str) -> dict[str, str]:
    """What the shell's own function puts into the environment."""
    asked = {completion.VARIABLE: f"complete_{shell}"}
    if shell == "bash":
        words = bash_words(f"unept-bench {line}")
        return asked | {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    return asked | {"_TYPER_COMPLETE_ARGS": f"unept-bench {line}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def answers(shell: str, text: str) -> set[str]:
    """The words in what the program answers."""
    if shell == "zsh":
        assert text.startswith("_arguments '*: :((")
        text = text.removeprefix("_arguments '*: :((").rstrip().removesuffix("))'")
        return {line.split('":"')[0].strip('"').replace("\\\\:", ":") for line in text.splitlines()}
    return {line.split("\t")[0] for line in text.splitlines()}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_kind_of_word_is_completed(
    shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for line, expected in QUESTIONS:
        for name, value in environment(shell, line).items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        assert cli.main([]) == 0, line
        said = capfd.readouterr()
        assert said.err == ""
        before = line.split(" ")[-1]
        kept = before[
            : max(before.rfind("="), before.rfind(",")) + 1
        ]  # bash keeps less of it: what it has not broken off
        found = {word.removeprefix(kept).removeprefix(kept.partition("=")[2]) for word in answers(shell, said.out)}
        assert expected <= found, (line, found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_child_process_answers_without_torch(shell: str) -> None:
    code = "import sys, cli; code = cli.main([]); sys.exit(code or ('torch' in sys.modules) * 9)"
    asked = environment(shell, "ablate --grid N=4 encoder_self=longf")
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "longformer" in done.stdout


def test_the_older_form_of_the_request_is_answered_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(completion.VARIABLE, "source_bash")
    assert cli.main([]) == 0
    assert "complete -o default -F" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert cli.main(["--show-completion"]) == 0
    program = tmp_path / "bin" / "unept-bench"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "cli.py"} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    script = (
        f"{capsys.readouterr().out}\n"
        "COMP_WORDS=(unept-bench ablate --grid N = 4 encoder_self = dense_); COMP_CWORD=8\n"
        "_unept_bench_completion unept-bench\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.stderr, done.stdout.splitlines()) == ("", ["dense_math", "dense_fused"])


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/unept-bench.sh"),
        ("zsh", ".zfunc/_unept-bench"),
        ("fish", ".config/fish/completions/unept-bench.fish"),
    ],
)
def test_completion_is_installed(
    shell: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: (shell, f"/bin/{shell}"))
    assert cli.main(["--install-completion"]) == 0
    assert f"{shell} completion installed in {tmp_path / file}" in capsys.readouterr().out
    assert completion.VARIABLE in (tmp_path / file).read_text(encoding="utf-8")
    assert cli.main(["--install-completion", "zsh"]) == 2
    assert "call it from the shell that is to complete" in capsys.readouterr().err


def test_folders_after_a_kind_of_data(tmp_path: Path) -> None:
    (tmp_path / "camvid").mkdir()
    (tmp_path / "cam.txt").touch()
    assert completion.complete_data("folder:cam") == ["folder:camvid/"]
