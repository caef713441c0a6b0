"""The report's sections on what was measured: accuracy, comparisons, claims, seeds, boundaries, cost, classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from bench.results.rows import comparable_metrics
from reports.analysis import (
    claim_verdicts,
    control,
    frames,
    lr_sweep,
    protocol,
    rate_choice,
    study_rows,
    verdict_sentences,
)
from reports.analysis.study_rows import Study
from reports.formats import numbers, operation_counts
from reports.formats.markdown import DASH, bullet_list, heading, markdown_table
from reports.plots import accuracy as plots

MAX_CLASSES = 24  # a longer list of classes is left to class_iou.csv
MAX_IOU_VARIANTS = 50  # so is a wider one
MAX_SEEDS = 50  # columns of the table of seeds
BOUNDARY_TITLES = {
    "boundary_iou": "Boundary IoU",
    "boundary_f": "boundary F",
    "interior_miou": "interior mIoU",
    "error_near_boundary": "errors near a boundary",
    "size:small": "IoU, small",
    "size:medium": "IoU, medium",
    "size:large": "IoU, large",
}


FORMER_REGIONS = (
    "Interior, trimap and size scores of {runs} are left out: they come from a release that averaged them over "
    "classes without true pixels there too."
)


def accuracy_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield the main table, with the plot beside it."""
    yield heading(f"Accuracy, measured ({_short(study)})")
    yield accuracy_table(frame)
    against = "N" if plots.point_series(study) else "variant"
    yield f"![mIoU against {against}; a dot a seed, mean and 95 % interval](accuracy.png)\n"
    yield (
        "Percent: mean ± sample standard deviation over n seeds, and Student's t interval of the mean. "
        "One seed has neither, and seeds in two groups have no interval. In the plot a dot is a seed, a bar the "
        "interval (cut at the frame), × a run without a value.\n"
    )
    by_rate = lr_sweep.variants_by_lr(study)
    if len(by_rate) > 1 and study.kind != rate_choice.LR_SWEEP_KIND:
        yield "Learning rates differ:\n"
        yield bullet_list(f"{study_rows.value_text(rate)}: {', '.join(names)}" for rate, names in by_rate.items())
    backbones = protocol.variants_by_backbone(study)
    if len(backbones) > 1:
        yield "Backbones differ, and so may what they start from:\n"
        yield bullet_list(f"{backbone}: {', '.join(names)}" for backbone, names in backbones.items())


def accuracy_table(frame: pd.DataFrame) -> str:
    """Return the accuracies of a frame of `frames.accuracy`, or of its CSV file read again, as a Markdown table."""
    shown = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"}
    present = {name: title for name, title in shown.items() if f"{name}_mean" in frame}
    columns = ["variant", "n"]
    for title in present.values():
        columns += [f"{title}, %", "95 % interval"]
    scored = "lookalike_low" in frame
    columns += ["look-alikes right, %"] * scored
    unfinished = bool((frame["runs"] != frame["n"]).any())
    columns += ["runs without a value"] * unfinished
    lines = []
    for _, line in frame.iterrows():
        cells = [line["variant"], str(line["n"])]
        for name in present:
            cells += [numbers.mean_std(line, name), numbers.format_interval(line[f"{name}_low"], line[f"{name}_high"])]
        if scored:
            cells.append(_range(line["lookalike_low"], line["lookalike_high"]))
        lines.append(cells + [str(line["runs"] - line["n"])] * unfinished)
    return markdown_table(columns, lines)


def _margin_words(study: Study) -> str:
    return f"; the margin of this study is {study.margin:g} points" if study.margin else ""


def _range(low: Any, high: Any) -> str:
    """Return the least and the most as `51 to 100`, one number where they round to the same."""
    texts = dict.fromkeys(numbers.format_number(value, ".0f") for value in (low, high))
    return " to ".join(texts)


def comparison_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield the comparison of each variant with the control; `frame` is the study's `comparison_frame`."""
    if frame.empty:
        return
    yield heading(f"Compared with {control.control_variant(study)}, measured ({_short(study)})")
    yield (
        "Differences of mean mIoU in percentage points, variant minus control. Welch's p, adjusted by Holm over this "
        "table, decides at 0.05; the exact permutation p stands beside it with the smallest value it can take. The "
        "intervals hold all at once with 95 % (Bonferroni), and end at 0 where only Holm's steps show a difference. "
        "Detectable: the true difference that Welch's test of so many seeds with such spreads shows with 80 % "
        "probability, in one test and at Holm's strictest step (none: more than mIoU can differ). Means of seeds in "
        "two groups have none of these: see the seeds that learned. Same within: the least margin within which two "
        f"one-sided tests at 5 % find a variant and the control the same{_margin_words(study)}.\n"
    )
    columns = [
        "variant",
        "verdict",
        "n",
        "difference",
        "95 % interval, all at once",
        "p",
        "p (Holm)",
        "p (permutation)",
        "smallest",
    ]
    columns += ["detectable", "same within"]
    lines = []
    for _, line in frame.iterrows():
        n, other = line["n"], line["n_control"]
        p = [numbers.format_p_value(line[name]) for name in ("p", "p_holm", "p_permutation", "p_permutation_smallest")]
        cells = [
            line["variant"],
            line["verdict"],
            str(n) if n == other else f"{n} and {other}",
            numbers.format_number(line["difference"], "+.2f"),
        ]
        cells += [numbers.format_interval(line["low"], line["high"]), *p]
        same = numbers.format_number(line["same_within"], ".2f")
        lines.append([*cells, verdict_sentences.detectable_text(line), same])
    yield markdown_table(columns, lines, left=2)


def claims_section(number: int | None, frame: pd.DataFrame, margin: float = 0.0) -> Iterator[str]:
    """Yield the verdicts on the paper's claims of this table, and how many are settled.

    Args:
        number: The paper's table.
        frame: The study's `claims_frame`.
        margin: Difference of mIoU that counts as none, percent points; 0 for none.
    """
    frame = frame[frame["table"] == number]
    if frame.empty:
        return
    yield f"## The paper's claims: Table {number}\n"
    yield (
        "A claim is a difference between two rows: the paper's is *quoted*, ours *measured* here, in another setting "
        "(see below), so that only signs are compared. It agrees or disagrees where Welch's p, adjusted by Holm over "
        "the claims of one column, is at most 0.05. Otherwise it is undetermined, or, in a study with a margin, the "
        "same within it where two one-sided tests at 0.05, not adjusted, say so. The paper's size may lie inside our "
        "interval, which then does not refute it here, or above or below it. Parameters and operations are "
        "exact, those of the networks as trained here; unept-bench complexity counts the published ones. Memory is "
        "that of a GPU, which unept-bench memory predicts and no row here holds.\n"
    )
    columns = ["claim", "outcome", "the paper's size", "column", "paper (quoted)", "here (measured)"]
    columns += ["95 % interval, all at once", "p (Holm)"]
    lines = [
        [
            line["claim"],
            line["outcome"],
            DASH if pd.isna(line["size"]) else line["size"],
            line["column"],
            numbers.format_number(line["quoted"], "+.4g"),
            numbers.format_number(line["difference"], "+.2f"),
            numbers.format_interval(line["low"], line["high"]),
            numbers.format_p_value(line["p_holm"]),
        ]
        for _, line in frame.iterrows()
    ]
    yield markdown_table(columns, lines, left=4)
    if margin:
        counts = [claim_verdicts.settled_claims(frame, factor * margin) for factor in (1, 0.5, 2)]
        yield (
            f"Settled (agrees, disagrees, or the same within the margin of {margin:g} points of mIoU): {counts[0]} of "
            f"{len(frame)} claims. With half the margin {counts[1]} would be, with twice the margin {counts[2]}.\n"
        )


def seeds_section(study: Study) -> Iterator[str]:
    """Yield the values of every seed."""
    yield heading(f"Every seed, measured ({_short(study)})")
    yield "mIoU / pixel accuracy in percent, or what became of the run.\n"
    lines = []
    seeds = study.seeds[:MAX_SEEDS]
    for variant in study.variants:
        by_seed = {study_rows.seed_of(run): _outcome(run) for run in study.runs_of(variant)}
        lines.append([variant, *(by_seed.get(seed, DASH) for seed in seeds)])
    yield markdown_table(["variant", *(f"seed {seed}" for seed in seeds)], lines)
    if len(study.seeds) > MAX_SEEDS:
        yield f"The first {MAX_SEEDS} of {len(study.seeds):,} seeds; seeds.csv has them all.\n"


def boundary_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield the scores at boundaries, in interiors and by object size; `frame` is the study's `boundary_frame`."""
    if frame.empty:
        return
    yield heading(f"Boundaries and object sizes, measured ({_short(study)})")
    yield f"Percent, mean ± sample standard deviation over the seeds. {_definitions(study, frame)}\n"
    former = sum(len(comparable_metrics(run)) < len(run.get("metrics") or ()) for run in study.runs)
    if former:
        runs = "1 run" if former == 1 else f"{former} runs"
        yield f"{FORMER_REGIONS.format(runs=runs)}\n"
    plain = [name for name in BOUNDARY_TITLES if f"{name}_mean" in frame]
    titles = [f"{BOUNDARY_TITLES[name]}{_classes_entered(frame, name)}" for name in plain]
    yield markdown_table(["variant", *titles], _spreads(frame, plain))
    columns = map(str, frame.columns)
    trimap = [name.removesuffix("_mean") for name in columns if re.fullmatch(r"trimap:.*_mean", name)]
    if trimap:
        yield "mIoU of the pixels within so many pixels of a true boundary (trimap), mean over the seeds:\n"
        titles = [f"{name.removeprefix('trimap:')} px{_classes_entered(frame, name)}" for name in trimap]
        lines = [
            [line["variant"], *(numbers.format_number(line[f"{name}_mean"], ".1f") for name in trimap)]
            for _, line in frame.iterrows()
        ]
        yield markdown_table(["variant", *titles], lines)


def refinement_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield the changes by boundary refinement at test; `frame` is the study's `refinement_frame`."""
    if frame.empty:
        return
    yield heading(f"Boundary refinement at test, measured ({_short(study)})")
    yield (
        "What refinement changed, in percentage points: the same networks before and after, so the changes are paired, "
        "with the 95 % interval of their mean. All other tables are without refinement.\n"
    )
    lines = []
    for _, line in frame.iterrows():
        cells = [line["variant"], str(line["n"]), numbers.mean_std(line, "miou_refined")]
        for name in frames.REFINABLE_METRICS:
            cells += [
                numbers.format_number(line[f"{name}_change"], "+.2f"),
                numbers.format_interval(line[f"{name}_low"], line[f"{name}_high"]),
            ]
        lines.append(cells)
    columns = ["variant", "n", "mIoU, refined"]
    for name in frames.REFINABLE_METRICS:
        columns += [f"change of {BOUNDARY_TITLES.get(name, 'mIoU')}", "95 % interval"]
    yield markdown_table(columns, lines)


def cost_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield parameters, operations, memory and speed; `frame` is the study's `cost_frame`."""
    yield "## Cost\n"
    if not study.measures:
        yield "Not measured yet.\n"
        return
    target = operation_counts.target_words(frame)
    yield (
        "Parameters and operations are derived by counting (GFLOPs = 2 × GMACs). Memory is the peak of a training step "
        f"at the study's batch, predicted by tracing it as on a GPU, at the study's size and at {target}: a lower "
        "bound of what a GPU shows. Speed is the median (quartiles) over repetitions. Inside is the share "
        "of sampled points that fall within their map before training. "
        "Each variant alone on the machine, under the protocol below the table.\n"
    )
    by_module = bool(frame["module_gmacs_derived"].notna().any())
    by_element = bool(frame["elementwise_gops_derived"].notna().any())
    if by_module:
        yield "Module GMACs are what the paper's tool counts; the others have every product and sampling.\n"
    columns = [
        "variant",
        "parameters (derived)",
        "GMACs (derived)",
        "GFLOPs (derived)",
        *["module GMACs (derived)"] * by_module,
        *["element-wise, 1e9 (derived)"] * by_element,
        f"GMACs at {target} (derived)",
        "memory, GiB (predicted)",
        f"memory at {target}, GiB (predicted)",
        "training, images/s (measured)",
        "inference, images/s (measured)",
        "inside, % (measured)",
    ]
    lines = []
    for _, line in frame.iterrows():
        cells = [
            line["variant"],
            numbers.format_number(line["parameters_derived"], ",d"),
            operation_counts.format_gmacs(line, ".4g", "_derived"),
            numbers.format_number(line["gflops_derived"], ".4g"),
            *[numbers.format_number(line["module_gmacs_derived"], ".4g")] * by_module,
            *[numbers.format_number(line["elementwise_gops_derived"], ".4g")] * by_element,
            numbers.format_number(line["target_gmacs_derived"], ".4g"),
            numbers.format_number(line["step_memory_gib_predicted"], ".3g"),
            numbers.format_number(line["target_memory_gib_predicted"], ".3g"),
            numbers.images_per_second(line, "train"),
            numbers.images_per_second(line, "inference"),
            numbers.format_number(100 * line["inside_share_measured"], ".0f"),
        ]
        lines.append(cells)
    yield markdown_table(columns, lines)
    if any(operation_counts.is_mostly_elementwise(line, "_derived") for _, line in frame.iterrows()):
        yield f"{operation_counts.NOTE}\n"
    how = [(name, text) for name, text in protocol.cost_protocol_table(study) if text]
    if how:
        yield markdown_table(["how cost was measured", "value"], [list(pair) for pair in how], left=2)


def class_iou_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield the IoU of each class; `frame` is the study's `class_iou_frame`."""
    if frame.empty:
        return
    yield heading(f"IoU by class, measured ({_short(study)})")
    for count, most, noun in (
        (len(frame), MAX_CLASSES, "classes"),
        (len(study.variants), MAX_IOU_VARIANTS, "variants"),
    ):
        if count > most:
            yield f"{count} {noun}: see class_iou.csv.\n"
            return
    yield f"Percent, mean over the seeds in which the class has an IoU; {DASH} where none has.\n"
    lines = [
        [line["class"], *(numbers.format_number(line[variant], ".1f") for variant in study.variants)]
        for _, line in frame.iterrows()
    ]
    yield markdown_table(["class", *study.variants], lines)


def _definitions(study: Study, frame: pd.DataFrame) -> str:
    """Definitions of the boundary metrics and of object sizes, with their widths in pixels."""
    width = protocol.evaluation_range(study, "boundary_width_px") or "some"
    tolerance = protocol.evaluation_range(study, "tolerance_px") or "some"
    limits = protocol.evaluation_range(study, "size_limits", "{:.0%}") or "some share"
    boundaries = (
        f"Boundary IoU: IoU of the bands of {width} px inside the outlines of truth and prediction (Cheng et al. "
        "2021). Boundary F: harmonic mean of the shares of true and of predicted outline pixels that have one of the "
        f"other within {tolerance} px. Errors near a boundary: the share of the wrong pixels within the band's width "
        "of a true boundary."
    )
    regions = (
        "Interior mIoU: over the pixels farther than that from every true boundary. Objects are connected regions of "
        f"one class, sky and ground too; medium ones cover {limits} of the picture, and a false positive counts for "
        "the size of the region that was predicted. A mean over a region goes over the classes with true pixels in it, "
        "whose number stands in brackets."
    )
    return f"{boundaries} {regions}" if any(str(name).endswith("_classes") for name in frame.columns) else boundaries


def _classes_entered(frame: pd.DataFrame, name: str) -> str:
    """Return ` (8 classes)`, or ` (7 to 8 classes)` where variants differ; "" for a metric that is of no region."""
    numbers_of_classes = frame[f"{name}_classes"].dropna() if f"{name}_classes" in frame else pd.Series(dtype=int)
    if numbers_of_classes.empty:
        return ""
    least, most = int(numbers_of_classes.min()), int(numbers_of_classes.max())
    return f" ({least if least == most else f'{least} to {most}'} {'class' if most == 1 else 'classes'})"


def _spreads(frame: pd.DataFrame, names: Sequence[str]) -> list[list[str]]:
    return [[line["variant"], *(numbers.mean_std(line, name) for name in names)] for _, line in frame.iterrows()]


def _short(study: Study) -> str:
    return protocol.protocol_summary(study)


def _outcome(run: study_rows.Row) -> str:
    """`mIoU / pixel accuracy` of a run in percent points, or its status."""
    status = str(run.get("status"))
    if status != "ok":
        return status
    scores = [study_rows.number_at(run, "metrics", name) for name in ("miou", "pixel_accuracy")]
    return " / ".join(DASH if value is None else f"{100 * value:.2f}" for value in scores)
