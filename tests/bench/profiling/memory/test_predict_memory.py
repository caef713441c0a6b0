from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path

import pytest

import unept
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.profiling.memory import predict as module
from bench.profiling.memory import table
from bench.profiling.memory.malloc_peak import measure_malloc_peak
from bench.profiling.memory.predict import predict_peak
from bench.profiling.memory.setting import StepSetting
from experiments.tables import table8
from reports.paper import figures
from unept.losses import banded_cross_entropy
from unept.ops import cpu_build

SMALL = StepSetting(batch=2, size=64)
GIB = 1 << 30


def bytes_of(setting: StepSetting = SMALL, **changes: object) -> int:
    return predict_peak(replace_fields(preset("quick"), changes), setting).bytes


def test_options_change_the_peak_in_their_direction() -> None:
    plain = bytes_of()
    assert bytes_of(dataclasses.replace(SMALL, batch=4)) > 1.5 * plain
    assert bytes_of(dataclasses.replace(SMALL, size=96)) > 1.5 * plain
    assert bytes_of(dataclasses.replace(SMALL, bounded=True)) < plain
    assert bytes_of(dataclasses.replace(SMALL, precision="bf16")) < plain
    parameters = sum(parameter.numel() for parameter in unept.build(preset("quick").model).parameters())
    adamw, sgd = bytes_of(), bytes_of(dataclasses.replace(SMALL, optimizer="sgd"))
    assert abs(adamw - sgd - 4 * parameters) < 1000  # one moment less of each parameter, and the steps


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_checkpointing_saves_where_there_are_blocks(dropout: float) -> None:
    changes = {"encoder_layers": 6, "ffn": 2048, "dropout": dropout}
    plain = bytes_of(dataclasses.replace(SMALL, size=128), **changes)
    assert bytes_of(dataclasses.replace(SMALL, size=128, checkpointing=True), **changes) < 0.7 * plain


def test_a_mask_has_a_byte_an_element_on_a_gpu_and_four_on_a_cpu() -> None:
    on_gpu, on_cpu = (
        bytes_of(dataclasses.replace(SMALL, device=device), dropout=0.1, encoder_self="none", decoder_self="none")
        for device in ("cuda", "cpu")
    )
    without = bytes_of(encoder_self="none", decoder_self="none")
    # Encoder: after the slot, inside and after the feed-forward network; decoder, of which some are gone at the peak:
    # after two slots and the network.
    tokens, queries, width, ffn = 2 * 192, 2 * 64, 64, 128
    encoder, decoder = tokens * (2 * width + ffn), queries * (3 * width + ffn)
    assert 3 * encoder <= on_cpu - on_gpu <= 3 * (encoder + decoder)
    assert on_gpu > without


def test_a_gpu_s_losses_are_in_a_gpu_s_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is in the loss of a small network with many classes, whose bands are 16 times as large on a GPU."""
    large = dataclasses.replace(SMALL, size=256, bounded=True)
    on_gpu, on_cpu = (bytes_of(dataclasses.replace(large, device=each), classes=150) for each in ("cuda", "cpu"))
    assert on_gpu > 1.2 * on_cpu
    monkeypatch.setattr(banded_cross_entropy, "BAND_GPU", banded_cross_entropy.BAND_CPU)
    assert bytes_of(large, classes=150) < 1.05 * on_cpu


@pytest.mark.parametrize("size", [256, 250])  # pixels: four and more bands an image
def test_a_few_bands_stand_for_all(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    large = dataclasses.replace(SMALL, batch=4, size=size, bounded=True, device="cpu")
    few = predict_peak(replace_fields(preset("quick"), {"classes": 150}), large)
    monkeypatch.setattr(module, "_few_bands", nullcontext)
    assert predict_peak(replace_fields(preset("quick"), {"classes": 150}), large) == few


def test_no_compiler_is_needed_to_predict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usual = bytes_of()
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    cpu_build._outcome.cache_clear()
    try:
        assert cpu_build.problem()
        assert bytes_of() == usual
    finally:
        cpu_build._outcome.cache_clear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "--batch 0: expected at least 1"),
        ({"precision": "fp8"}, "--precision fp8: expected fp32, bf16 or fp16"),
        ({"optimizer": "lion"}, "--optimizer lion: expected adamw or sgd"),
        ({"device": "tpu"}, "--device tpu: expected one of cuda, cpu"),
    ],
)
def test_a_step_that_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepSetting(**changes)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("changes", [{}, {"encoder_self": "longformer", "dropout": 0.1}, {"architecture": "ccnet"}])
def test_what_is_predicted_for_a_cpu_is_what_it_allocates(changes: dict[str, object]) -> None:
    """At this size libraries' own work space shows; at the paper's it is within a percent (docs/memory.md)."""
    settings = replace_fields(preset("quick"), changes)
    setting = StepSetting(batch=8, size=128, device="cpu")
    assert predict_peak(settings, setting).bytes == pytest.approx(measure_malloc_peak(settings, setting), rel=0.05)


@pytest.mark.usefixtures("compiler")
def test_a_step_that_fails_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_VERIFIED_BYTES", GIB)
    rows = {"fails": replace_fields(preset("quick"), {"backbone": "nothing"}), "large": preset("paper")}
    fails, large = table.verify_rows(rows, StepSetting(), say=lambda _: None)
    assert "backbone" in fails["message"]
    assert large["message"] == "not run: it needs more than 1 GiB"
    assert "measured" not in fails
    assert "measured" not in large


def test_every_row_of_the_table_has_its_network() -> None:
    rows = table8.table8_networks()
    assert {row.quoted for row in rows} - {""} == set(figures.TABLES[8].rows)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match=r"--row Longfomer, ResNet50: .*did you mean 'Longformer"):
        table8.select_memory_rows(["Longfomer, ResNet50"])


@pytest.mark.slow
def test_bounded_losses_save_a_gibibyte_of_a_step() -> None:
    for backbone in ("resnet50", "deit_base"):
        settings = replace_fields(preset("paper"), {"backbone": backbone})
        plain, bounded = (predict_peak(settings, StepSetting(bounded=bounded)).bytes for bounded in (False, True))
        assert plain - bounded > GIB
