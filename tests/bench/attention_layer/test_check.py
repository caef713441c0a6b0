"""`unept-bench check`: our own attentions pass, and those that are wrong fail the check that is meant for it."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from locations import ROOT

import cli
from bench import attention_layer as checks
from bench.attention_layer import CheckEffort, CheckLine, behaviour, costs, gradients, timing
from experiments.tables.baselines import timed_baselines
from unept import attention
from unept.config import SLOTS, ModelConfig

SMALL = ModelConfig(width=32, points=4)
QUICK = CheckEffort(side=12, middle=12, reach=6, queries=2, sides=(6, 12), seconds=0)
NAMES = (
    "shapes",
    "fake-tensor trace",
    "operations counted",
    "parameters",
    "gradients in float64",
    "determinism in evaluation",
    "batch independence",
    "permutation",
    "padding",
    "padding of its own",
    "memory exponent",
    "reach after two layers",
)
JUDGED = {*NAMES[:7]} - {"parameters"}
OWN = [(slot, name) for slot in SLOTS for name in attention.attention_names(slot)]


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wrong_attentions` is found, as from the working directory of its author."""
    monkeypatch.chdir(Path(__file__).parent)


def checked(slot: str, name: str, *words: str, effort: CheckEffort = QUICK) -> dict[str, CheckLine]:
    lines = checks.check_attention(checks.attention_from_options(slot, name, words, SMALL), effort=effort)
    return {line.name: line for line in lines}


def failing(lines: dict[str, CheckLine]) -> set[str]:
    return {name for name, line in lines.items() if line.status == "FAIL"}


@pytest.mark.parametrize(("slot", "name"), OWN)
def test_our_own_pass_and_only_the_released_decoder_mixes_images(slot: str, name: str) -> None:
    lines = checked(slot, name)
    assert tuple(lines) == NAMES
    assert failing(lines) == ({"batch independence"} if name == "batch" else set()), lines
    assert {each for each, line in lines.items() if line.status == "INFO"} == set(NAMES) - JUDGED


@pytest.mark.parametrize(
    ("slot", "name", "words"),
    [
        ("encoder_self", "longformer", ("window=4", "order=window2d", "dilation=1+1+1+1+1+1+2+2")),
        ("encoder_self", "longformer", ("window=6", "global_tokens=2", "joint=true")),
        ("encoder_self", "sparse_transformer", ("mode=fixed", "block=8", "summary=3")),
        ("decoder_self", "sparse_transformer", ("split=layers", "stride=4", "joint=true")),
        ("encoder_self", "reformer", ("chunk=8", "hashes=2", "strict=true", "after=1")),
    ],
)
def test_their_parameters_too(slot: str, name: str, words: tuple[str, ...]) -> None:
    assert failing(checked(slot, name, *words)) == set()


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("Right", None, ""),
        ("BatchLeak", "batch independence", "largest change "),
        ("HiddenLeak", "batch independence", "largest change "),
        ("Random", "determinism in evaluation", "over 3 calls"),
        ("WrongGradient", "gradients in float64", "wrong for tokens: off by "),
        ("NoGradient", "gradients in float64", "wrong for tokens: off by 1"),
        ("TooShort", "shapes", "the result is (2, 34, 32), expected (2, 35, 32), at 7x5 in evaluation"),
        ("InPlace", "shapes", "tokens changed in place: the layer needs them afterwards, at 7x5 in evaluation"),
        ("NotAlone", "shapes", "the result is not finite, at 1x1 in evaluation"),
        ("Decides", "fake-tensor trace", "DataDependentOutputException: "),
        ("Uncounted", "operations counted", "operator own_for_checks::twist in layer is neither counted nor free"),
    ],
)
@pytest.mark.parametrize("slot", ["encoder_self", "decoder_self"])
def test_a_wrong_one_fails_the_check_that_is_meant(slot: str, name: str, check: str | None, said: str) -> None:
    lines = checked(slot, f"wrong_attentions:{name}")
    assert failing(lines) == ({check} if check else set()), lines
    assert check is None or said in lines[check].text


def test_what_cannot_be_looked_at_is_said() -> None:
    lines = checked("encoder_self", "wrong_attentions:Decides")
    assert "wrong_attentions.py:" in lines["fake-tensor trace"].text
    assert lines["operations counted"].text == "not looked at, since fake-tensor trace fails"
    assert lines["memory exponent"].status == "INFO"
    lines = checked("encoder_self", "wrong_attentions:TooShort")
    assert lines["permutation"].text == "not looked at, since shapes fails"


def test_an_uncounted_operator_is_told_how_to_be_counted() -> None:
    text = checked("encoder_self", "wrong_attentions:Uncounted")["operations counted"].text
    assert "torch.utils.flop_counter.register_flop_formula" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Raises", "RuntimeError: no kernel for this card (wrong_attentions.py:"),
        ("Untidy", "KeyError: 'table' (wrong_attentions.py:"),
    ],
)
def test_whatever_it_raises_is_one_line_and_the_others_go_on(name: str, said: str) -> None:
    lines = checked("encoder_self", f"wrong_attentions:{name}")
    assert tuple(lines) == NAMES
    assert said in lines["shapes"].text
    assert "\n" not in lines["shapes"].text
    assert {
        "shapes",
        "fake-tensor trace",
        "parameters",
        "gradients in float64",
        "determinism in evaluation",
    } <= failing(lines)


def test_two_results_are_no_tensor() -> None:
    lines = checked("encoder_self", "wrong_attentions:TwoResults")
    assert "the result is of type tuple, expected a tensor" in lines["shapes"].text


def test_products_count_however_they_are_written_and_the_rest_is_warned_of() -> None:
    by_form = {}
    for form in ("products", "sums", "distances"):
        subject = checks.attention_from_options("encoder_self", "wrong_attentions:Elementwise", [f"form={form}"], SMALL)
        by_form[form] = costs.check_operations(subject, ((12, 12),))
    macs = 2 * 144**2 * SMALL.width / 1e9
    for form in ("products", "sums"):
        assert by_form[form].status == "PASS"
        assert by_form[form].text.startswith(f"{macs:.3f} GMACs for one image at 12x12, and 0.000e9 element-wise")
    assert by_form["distances"].status == "WARN"
    elements = 2 * 144**2 * SMALL.width + SMALL.heads * 144**2  # differences and their sizes, and the sign
    assert by_form["distances"].text == (
        f"{macs / 2:.3f} GMACs for one image at 12x12, and {elements / 1e9:.3f}e9 element-wise operations, which are "
        "as many or more and in no count of GMACs: compare this attention by time and memory"
    )
    assert checks.summary_line([*by_form.values()], 1.0) == "2 PASS, 0 FAIL, 1 WARN, 0 INFO in 1 s"


def test_figures_of_what_is_known() -> None:
    """Dense: quadratic, sees all, and knows no order; its neighbour sees a window."""
    lines = checked("encoder_self", "dense_math")
    assert "moves the results along" in lines["permutation"].text
    assert "100.0% of the tokens of its own level and 100.0% of the others" in lines["reach after two layers"].text
    assert f"{4 * (32 * 32 + 32):,} in a layer of width 32" in lines["parameters"].text
    lines = checked("encoder_self", "longformer", "window=4")
    assert "their order or place counts" in lines["permutation"].text
    assert "and 0.0% of the others" in lines["reach after two layers"].text
    lines = checked("encoder_self", "pointwise")
    assert lines["padding"].text.endswith("change 0% of the other results")
    assert "; 50% of them get no gradient" in lines["parameters"].text
    lines = checked("decoder_cross", "dense")
    assert "a query sees 100.0% of the memory" in lines["reach after two layers"].text


def test_the_power_of_the_memory_is_that_of_what_is_kept() -> None:
    effort = replace(QUICK, sides=(30, 40, 60))
    quadratic = checked("encoder_self", "dense_math", effort=effort)["memory exponent"].text
    linear = checked("encoder_self", "pointwise", effort=effort)["memory exponent"].text
    assert 1.9 < float(quadratic.split("power ")[1].split()[0]) <= 2
    assert float(linear.split("power ")[1].split()[0]) == pytest.approx(1, abs=0.02)


def test_a_gradient_that_is_wrong_in_one_number_of_many_is_found() -> None:
    class Off(torch.autograd.Function):
        @staticmethod
        def forward(_, x):
            return x * 2

        @staticmethod
        def backward(_, grad):
            grad = grad * 2
            grad[0, 0, 0] *= 1.01
            return grad

    class Module(torch.nn.Module):
        def forward(self, tokens, *_):
            return Off.apply(tokens)

    call = checks.attention_from_options("encoder_self", "none", [], SMALL).call(((5, 3),), dtype=torch.float64)
    assert gradients.largest_gradient_errors(Module(), call)["tokens"] > gradients.TOLERANCE
    assert gradients.largest_gradient_errors(Module(), call)["position"] == 0


def test_own_padding_that_is_seen() -> None:
    class Padding(torch.nn.Module):
        def forward(self, tokens, *_):
            return torch.nn.functional.pad(tokens, (0, 0, 0, 1)).mean(1, keepdim=True) + tokens

    call = checks.attention_from_options("encoder_self", "none", [], SMALL).call(((5, 3),))
    module = Padding()
    with torch.no_grad():
        plain = call(module)
        with behaviour.PadWith(3.0):
            assert not torch.equal(call(module), plain)


def test_times_are_taken_in_turns_and_within_memory_and_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, *beside = (
        checks.attention_from_options("encoder_self", name, [], SMALL) for name in ("pointwise", "none", "dense_math")
    )
    taken: list[str] = []

    def step(each: checks.AttentionUnderTest, maps: behaviour.Shapes) -> float:
        taken.append(each.name)
        return {"pointwise": 0.5, "none": 0.25, "dense_math": 2.0}[each.name]

    monkeypatch.setattr(timing, "layer_step_seconds", step)
    monkeypatch.setattr(timing, "predict_step_seconds", lambda *_: 1.0)
    (line,) = timing.check_time(subject, beside, ((8, 8),), 60.0)
    once = ["pointwise", "none", "dense_math"]
    assert taken == [*once, *once[::-1]] * ((timing.MAX_ROUNDS + 1) // 2)
    assert "500 ms forward and backward at 8x8, one image; 2 times none (250 ms); 0.25 times dense_math (2 s); " in str(
        line
    )
    assert f"median of {timing.MAX_ROUNDS} rounds" in line.text
    monkeypatch.setattr(timing, "SLOW_SHARE", 1.0)
    line, skipped = timing.check_time(subject, beside, ((8, 8),), 2.5)
    assert "median of 2 rounds" in line.text
    assert skipped.text.startswith("dense_math skipped: about 1 s a step at 8x8")
    (line,) = timing.check_time(subject, beside, ((8, 8),), 5.0)
    assert "; one round, not warmed up, " in line.text
    monkeypatch.setattr(timing, "SLOW_SHARE", 0.1)
    taken.clear()
    (line,) = timing.check_time(subject, beside, ((8, 8),), 15.0)
    assert taken[:3] == ["pointwise", "none", "dense_math"]
    assert sorted(taken[3:]) == sorted(["pointwise", "none"] * timing.MAX_ROUNDS)
    assert "; 0.25 times dense_math (2 s, once); median of 5 rounds in turns" in line.text
    (line,) = timing.check_time(beside[1], [subject], ((8, 8),), 15.0)
    assert line.text.startswith(
        "2 s forward and backward at 8x8, one image; 4 times pointwise (500 ms); one round, not"
    )
    monkeypatch.setattr(timing, "USABLE_MEMORY_SHARE", 0.0)
    skipped, *_ = timing.check_time(subject, beside, ((8, 8),), 60.0)
    assert skipped.text.startswith("pointwise skipped: needs 0.0 GiB at 8x8, predicted; ")


def test_a_step_is_predicted_between_linear_and_quadratic(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = checks.attention_from_options("encoder_self", "none", [], SMALL)
    for power, expected in ((0.5, 8 * 4), (1.5, 8 * 8), (3.0, 8 * 16)):
        monkeypatch.setattr(
            timing, "layer_step_seconds", lambda _, maps, power=power: 8 * ((maps[0][0] * maps[0][1]) / 400) ** power
        )
        assert timing.predict_step_seconds(subject, ((40, 40),)) == pytest.approx(expected)


@pytest.mark.parametrize("slot", SLOTS)
def test_what_it_is_timed_with_is_there(slot: str) -> None:
    assert set(timed_baselines(slot)) <= set(attention.attention_names(slot))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing_like_it"], "encoder_self cannot be 'nothing_like_it'"),
        (["longformr"], "(nearest: longformer)"),
        (["longformer", "--slot", "encoder"], "--slot encoder: expected encoder_self, decoder_self or decoder_cross"),
        (["longformer", "--set", "windw=7"], "has no parameter 'windw' (nearest: window)"),
        (["longformer", "--set", "window=seven"], "encoder_self.window=seven: expected a whole number"),
        (["longformer", "--set", "window"], "--set window: expected parameter=value"),
        (["longformer", "--set", "window=7", "window=8"], "window is given twice"),
        (["longformer", "--set", "heads=4"], "heads is the model's own"),
        (["reformer", "--set", "chunk=0"], "chunk=0: expected at least 1"),
        (["wrong_attentions:Right", "--set", "strength=-1"], "strength=-1.0: expected more than 0"),
        (["wrong_attentions:Absent"], "has no torch.nn.Module class Absent"),
        (["no_such_module:Class"], "importing no_such_module failed"),
        ([], "Missing argument 'NAME'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert said in told.err


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(checks, "CheckEffort", lambda: QUICK)
    assert cli.main(["check", "wrong_attentions:Right", "--set", "strength=2", "--slot", "decoder_self"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(NAMES) + 1
    assert said[0].startswith("PASS  shapes: ")
    assert said[-1].startswith("6 PASS, 0 FAIL, 6 INFO in ")
    assert cli.main(["check", "batch", "--slot", "decoder_self"]) == 1
    assert "FAIL  batch independence: largest change " in capsys.readouterr().out


def without_rounding(line: str) -> str:
    return re.sub(r"\d\.\d+e-\d+", "tiny", line)


def test_the_example_of_the_documents_is_what_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the times, and the gradients' rounding errors; on a busy machine too."""
    monkeypatch.setattr(costs, "RECEPTIVE_FIELD_SECONDS", math.inf)
    text = (ROOT / "docs/check.md").read_text(encoding="utf-8")
    told = text.split("```text\n")[1].split("```")[0].splitlines()
    lines = checks.check_attention(
        checks.attention_from_options("decoder_self", "batch", []), effort=CheckEffort(seconds=0)
    )
    assert [without_rounding(str(line)) for line in lines] == [without_rounding(line) for line in told[:-2]]
    assert told[-2].startswith("INFO  time: ")
    assert told[-1].startswith("5 PASS, 1 FAIL, 7 INFO in ")
    assert "FAIL  batch independence" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deformable", "longformer", "reformer", "sparse_transformer", "dense_math"])
def test_a_full_check_takes_less_than_a_minute(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", name]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2].startswith("INFO  time: ")
    assert name == "deformable" or "times deformable" in said[-2]
    assert float(said[-1].split(" in ")[1].split()[0]) < 60


def teardown_module() -> None:
    sys.modules.pop("wrong_attentions", None)
