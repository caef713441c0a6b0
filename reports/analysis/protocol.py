"""Conditions under which rows were made: the protocol, its differences from the paper's, environment and commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from bench.results.rows import data_digest_of, is_data_verified, nested_items, release_of
from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.paper import figures

PROTOCOL_FIELDS = (
    "data",
    "backbone",
    "backbone_weights",
    "classes",
    "size",
    "levels",
    "points",
    "spatial",
    "queries",
    "steps",
    "batch",
    "lr",
    "backbone_lr",
    "warmup",
    "schedule",
    "lr_drop",
    "offset_lr",
    "weight_ce",
    "weight_refined",
    "weight_boundary",
    "weight_direction",
    "split",
    "images",
    "mode",
    "window",
    "stride",
    "scales",
    "flip_test",
    "refine_test",
)
FIELD_MEANINGS: Mapping[str, str] = {
    "size": "side of the training crop, pixels",
    "levels": "L, feature scales",
    "points": "N, sampling points per level and head",
    "spatial": "spatial branch and its two heads",
    "backbone_weights": "weights the backbone starts from",
    "backbone_lr": "rate of the backbone, as a factor of lr",
    "warmup": "part of the steps over which lr rises to its full value",
    "offset_lr": "rate of the sampling offsets, as a factor of lr",
    "lr_drop": "part of the steps after which lr falls to a tenth",
    "images": "images evaluated, 0 = all of the split",
    "scales": "test scales",
    "flip_test": "test with the mirrored image too",
    "refine_test": "boundary refinement at test",
    "mode": "evaluation of whole images or sliding windows",
}
NOT_VERIFIED = "data not verified"  # of rows made before a study recorded a digest of its data
EMPTY_VALUES = {"backbone_weights": "none, from scratch"}


def protocol_summary(study: Study) -> str:
    """Return data, scored split, size and steps in a few words, for the header of every table and plot of accuracy.

    A path is cut to its last part; `protocol_table` has all of it. Records of earlier releases do not say the split.
    """
    all_settings = _settings(study.runs)
    if not all_settings:
        return "no run yet"
    named = [{"data": _last_part(settings["data"])} for settings in all_settings if "data" in settings]
    split = _values("split", all_settings)
    parts = [_values("data", named), *[f"split {split}"] * bool(split), f"{_values('size', all_settings)} px"]
    return ", ".join([*parts, f"{_values('steps', all_settings)} steps"])


def protocol_headline(study: Study) -> str:
    """Return the protocol in one line: data, crop size, steps, batch, backbone, and the splits that decide."""
    all_settings = _settings(study.runs)
    if not all_settings:
        return "no run yet"
    text = {
        name: _values(name, all_settings)
        for name in ("data", "size", "steps", "batch", "backbone", "backbone_weights", "split")
    }
    scored = f", scored on the split {text['split']}" * bool(text["split"])
    chosen = f", learning rates chosen on the split {study.rate_split}" * bool(study.rate_split)
    return (
        f"data {text['data']}{_data_state(study.runs)}, crops of {text['size']} px, {text['steps']} steps of "
        f"{text['batch']} images, backbone {text['backbone']} (weights: {text['backbone_weights']}){scored}{chosen}"
    )


def protocol_table(study: Study) -> list[tuple[str, str]]:
    """Return (name, value) of every setting that decides the numbers, the most important ones first.

    A setting that differs between variants has all of its values.
    """
    all_settings = _settings(study.runs)
    lines = [
        ("preset", study_rows.distinct_text(run.get("preset") for run in study.runs)),
        ("seeds", _seeds(study.seeds)),
        ("threads a run", study_rows.distinct_text(run.get("threads") for run in study.runs)),
        ("backend of the attention operator", study_rows.distinct_text(run.get("backend") for run in study.runs)),
        ("arithmetic", _arithmetic(study.runs)),
        ("release", study_rows.distinct_text(release_of(run) for run in study.runs)),
        ("digest of the data", study_rows.distinct_text(filter(None, map(_data_digest, study.runs)))),
        ("hash of the sources", study_rows.distinct_text(run.get("sources") for run in study.runs)),
    ]
    others = dict.fromkeys(name for settings in all_settings for name in settings)
    lines += [(_named(name), _values(name, all_settings)) for name in dict.fromkeys((*PROTOCOL_FIELDS, *others))]
    return [(name, text) for name, text in lines if text]


def _arithmetic(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return how the runs computed; "" where none of their rows says so, as in those of older versions."""
    rows = [dict(run) for run in runs if run.get("status") == "ok"]
    said = [study_rows.value_at(row, "training", "arithmetic") for row in rows]
    return study_rows.distinct_text(text or "not said" for text in said) if any(said) else ""


def protocol_differences(study: Study) -> list[tuple[str, str, str]]:
    """Return (what, in the paper, here) for each setting that differs from the paper's ablations."""
    all_settings = _settings(study.runs)
    lines = []
    for name, theirs in figures.RECIPE.items():
        here = _values(name, all_settings)
        if here and not _agrees(name, theirs, all_settings):
            lines.append((_named(name), study_rows.value_text(theirs), here))
    if study.seeds and len(study.seeds) != figures.RUNS_PER_ROW:
        lines.append(("runs a variant", str(figures.RUNS_PER_ROW), str(len(study.seeds))))
    return lines


def variants_by_backbone(study: Study) -> dict[str, list[str]]:
    """Return the variants by their backbone and the weights that it starts from."""
    groups: dict[str, list[str]] = {}
    for variant in study.variants:
        all_settings = _settings(study.runs_of(variant))
        if all_settings:
            text = f"{_values('backbone', all_settings)} (weights: {_values('backbone_weights', all_settings)})"
            groups.setdefault(text, []).append(variant)
    return groups


def environment_table(study: Study) -> list[tuple[str, str]]:
    """Return (name, value) of every fact about the machines that made the rows; several values where they differ."""
    rows = (*study.runs, *study.measures.values())
    facts = [_dotted(machine) for machine in _distinct(row.get("environment") for row in rows)]
    names = sorted({name for fact in facts for name in fact})
    return [(name, study_rows.distinct_text(fact[name] for fact in facts if name in fact)) for name in names]


def cost_protocol_table(study: Study) -> list[tuple[str, str]]:
    """Return (name, value) of the protocol under which cost was measured."""
    facts = [_dotted(protocol) for protocol in _distinct(row.get("protocol") for row in study.measures.values())]
    names = sorted({name for fact in facts for name in fact})
    return [(name, study_rows.distinct_text(fact[name] for fact in facts if name in fact)) for name in names]


def evaluation_range(study: Study, name: str, form: str = "{:g}") -> str:
    """Return the range of an evaluation's number over the runs, as in `2 to 3`; "" where no run has it.

    Args:
        study: Rows of the study.
        name: Key under a run's `evaluation`, whose value is a list of numbers.
        form: Format of one number.
    """
    told = [study_rows.value_at(run, "evaluation", name) for run in study.runs]
    numbers = [study_rows.finite_number(value) for values in told if isinstance(values, list) for value in values]
    known = [value for value in numbers if value is not None]
    ends = [min(known), max(known)] if known else []
    return " to ".join(dict.fromkeys(form.format(value) for value in ends))


def _settings(runs: Iterable[study_rows.Row]) -> list[dict[str, Any]]:
    return [study_rows.field_values(settings) for settings in _distinct(run.get("settings") for run in runs)]


def _distinct(values: Iterable[Any]) -> list[Mapping[str, Any]]:
    """The mappings among these values, each object once: rows that are read together share what is equal."""
    return list({id(value): value for value in values if isinstance(value, Mapping)}.values())


def _values(name: str, all_settings: Iterable[Mapping[str, Any]]) -> str:
    bare = EMPTY_VALUES.get(name, "")
    return study_rows.distinct_text(
        settings[name] or bare if bare else settings[name] for settings in all_settings if name in settings
    )


def _data_digest(run: study_rows.Row) -> str:
    """Return the digest of data in files, or that it was not recorded; "" for generated scenes."""
    if not isinstance(run.get("settings"), Mapping):
        return ""
    return data_digest_of(run) if is_data_verified(run) else NOT_VERIFIED


def _data_state(runs: Iterable[study_rows.Row]) -> str:
    told = list(dict.fromkeys(filter(None, map(_data_digest, runs))))
    return f" ({', '.join(text if text == NOT_VERIFIED else f'digest {text}' for text in told)})" if told else ""


def _last_part(data: object) -> str:
    """`folder:camvid11` of `folder:/home/someone/camvid11`."""
    kind, separator, path = study_rows.value_text(data).partition(":")
    return f"{kind}{separator}{PurePath(path).name}"


def _agrees(name: str, theirs: object, all_settings: Iterable[Mapping[str, Any]]) -> bool:
    if isinstance(theirs, str):  # data, backbone and weights are told in words: shown always, but for the paper's data
        return name == "data" and all(str(settings.get(name)).startswith("ade20k") for settings in all_settings)
    return all(
        study_rows.value_text(settings[name]) == study_rows.value_text(theirs)
        for settings in all_settings
        if name in settings
    )


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) > study_rows.MAX_DISTINCT:
        return f"{len(seeds)} from {seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _named(name: str) -> str:
    return f"{name} ({FIELD_MEANINGS[name]})" if name in FIELD_MEANINGS else name


def _dotted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {".".join(path): value for path, value in nested_items(values)}
