"""Two studies of the same runs, before and after a change: `python -m experiments.compare_studies BEFORE AFTER`.

For every variant that both folders have, Welch's test of mIoU over the seeds, its p adjusted by Holm over the
variants, and how many seeds learned the distant cue. It prints a table in Markdown. The exit code is 1 where Holm finds
a difference, 2 where nothing can be compared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.results.rows import release_of
from bench.results.store import Store
from bench.stats.seed_statistics import WelchResult, holm_adjust, welch_test
from reports.analysis.learned_cue import learned_cue_frame
from reports.analysis.sample_comparison import ALPHA, POWER, compare_samples
from reports.analysis.study_rows import Study, assemble_study, distinct_text, metric_values


def read_runs(folder: Path) -> Study:
    """Return the runs of a study's folder, of each variant and seed the newest."""
    rows = Store(folder).read("run").rows
    if not rows:
        raise ValueError(f"{folder}: no runs of a study are there")
    return assemble_study("ablate", runs=rows)


def comparison_lines(before: Study, after: Study) -> tuple[list[str], bool]:
    """Return a table that compares two studies, and True if Holm finds a difference.

    Raises:
        ValueError: No variant has two seeds in both.
    """
    samples = {
        variant: tuple(
            [100 * value for value in metric_values(study.runs_of(variant), "miou")] for study in (before, after)
        )
        for variant in before.variants
        if variant in after.variants
    }
    tests = {
        variant: welch_test(new, old) for variant, (old, new) in samples.items() if len(old) >= 2 and len(new) >= 2
    }
    if not tests:
        raise ValueError("no variant has two seeds with mIoU in both studies")
    adjusted = dict(zip(tests, holm_adjust([test.p for test in tests.values()]), strict=True))
    learned = [dict(_learned(study)) for study in (before, after)]
    lines = [
        f"Before: release {_releases(before)}; after: release {_releases(after)}. mIoU in percent points, after less "
        f"before; a probability of {POWER:.0%} to see a difference of `detectable` in one test at {ALPHA:.0%}.",
        "",
        "| variant | runs | before | after | difference (95 %) | p | p, Holm | detectable | learned before | after |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for variant, test in tests.items():
        counts = " + ".join(str(len(values)) for values in samples[variant])
        means = [f"{sum(values) / len(values):.2f}" for values in samples[variant]]
        cells = [variant, counts, *means, _interval(test), f"{test.p:.3f}", f"{adjusted[variant]:.3f}"]
        cells += [_detectable(*samples[variant]), *(found.get(variant, "-") for found in learned)]
        lines.append(f"| {' | '.join(cells)} |")
    different = [variant for variant, p in adjusted.items() if p < ALPHA]
    lines += ["", f"Holm finds a difference in: {', '.join(different)}." if different else "Holm finds no difference."]
    return lines, bool(different)


def _learned(study: Study) -> list[tuple[str, str]]:
    frame = learned_cue_frame(study)
    return [(line["variant"], f"{line['learned']} of {line['seeds']}") for _, line in frame.iterrows()]


def _releases(study: Study) -> str:
    return distinct_text(release_of(run) or "not known" for run in study.runs)


def _interval(test: WelchResult) -> str:
    return f"{test.difference:+.2f} ({test.low:+.2f} to {test.high:+.2f})"


def _detectable(old: Sequence[float], new: Sequence[float]) -> str:
    least = compare_samples(new, old).detectable(ALPHA)
    return "-" if least is None else f"{least:.2f}"


def main(arguments: Sequence[str]) -> int:
    """Print the comparison of the two folders that are named; return the exit code."""
    if len(arguments) != 2:
        print("usage: python -m experiments.compare_studies BEFORE AFTER", file=sys.stderr)
        return 2
    try:
        lines, different = comparison_lines(*(read_runs(Path(folder)) for folder in arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return int(different)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
