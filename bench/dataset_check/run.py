"""Read a data set side by side and collect what there is to say about it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from bench.dataset_check import findings
from bench.dataset_check.findings import Finding
from bench.dataset_check.label_values import label_value_findings
from bench.dataset_check.reading import PairReading, read_pair
from unept.data.image_dataset import Pictures
from unept.data.source import open_incomplete, spec_of, splits_of

MAX_JOBS = 256  # each is a thread
Progress = Callable[[int, int], None]  # pictures read, of how many
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """What was found: a record for each split and for each class in each split, and the findings."""

    spec: str
    name: str
    splits: tuple[Record, ...]
    classes: tuple[Record, ...]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> bool:
        """Whether there is a finding that is no mere remark."""
        return any(finding.wrong for finding in self.findings)

    def record(self) -> Record:
        """All of it in plain values, for reports."""
        findings = [asdict(each) | {"files": [str(path) for path in each.files]} for each in self.findings]
        return {
            "spec": self.spec,
            "name": self.name,
            "splits": list(self.splits),
            "classes": list(self.classes),
            "findings": findings,
        }


def check_dataset(spec: str, *, jobs: int = 0, progress: Progress | None = None) -> DatasetCheck:
    """Read every file of the data set that `spec` names, or of a bare path, whose layout is then guessed.

    `jobs` pairs are read at a time (0: one for each processor). Whatever is wrong inside is a finding. ValueError, one
    line, for a malformed specification, a layout that is not known, and where not one split can be opened.
    """
    spec = spec_of(spec)
    opened, told = _open(spec)
    readings = _read(opened, jobs or os.cpu_count() or 1, progress)
    for split, pictures in opened.items():
        found = readings[split]
        told += findings.count_findings(split, pictures)
        told += findings.pairing_findings(split, pictures)
        told += findings.fault_findings(split, found)
        told += findings.size_findings(split, pictures, found)
        told += label_value_findings(split, pictures, found)
    told += findings.duplicate_findings(opened, readings)
    return DatasetCheck(
        spec=spec,
        name=next(iter(opened.values())).name,
        splits=tuple(_split(split, opened[split], found) for split, found in readings.items()),
        classes=tuple(line for split, found in readings.items() for line in _classes(split, opened[split], found)),
        findings=tuple(sorted(told, key=lambda finding: not finding.wrong)),
    )


def _open(spec: str) -> tuple[dict[str, Pictures], list[Finding]]:
    """The splits that can be opened, and a finding for each that cannot."""
    opened: dict[str, Pictures] = {}
    told: list[Finding] = []
    for split in splits_of(spec):
        pictures = _tried(spec, split)
        if isinstance(pictures, Finding):
            told.append(pictures)
        else:
            opened[split] = pictures
    if not opened:
        raise ValueError(told[0].what)
    return opened, told


def _tried(spec: str, split: str) -> Pictures | Finding:
    try:
        return open_incomplete(spec, split)
    except ValueError as error:
        fix = "mend what this names; nothing else of the split was looked at"
        return Finding(check="split", split=split, what=str(error), fix=fix)


def _read(opened: Mapping[str, Pictures], jobs: int, progress: Progress | None) -> dict[str, list[PairReading]]:
    """The readings of each split, in the order of its pictures."""
    work = [(split, pictures, pair) for split, pictures in opened.items() for pair in pictures.pairs]
    readings: dict[str, list[PairReading]] = {split: [] for split in opened}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            found = pool.map(lambda each: read_pair(each[1], each[2]), work)
            for done, ((split, _, _), reading) in enumerate(zip(work, found, strict=True), 1):
                readings[split].append(reading)
                if progress:
                    progress(done, len(work))
        except BaseException:  # an interruption must not wait for what has not begun
            pool.shutdown(cancel_futures=True)
            raise
    return readings


def _split(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> Record:
    """Figures of a split: `owners` is their number of pictures, sizes are in pixels, `unlabelled` is a share."""
    sizes = [each.size for each in readings if each.size]
    pixels = _pixels(readings)
    unlabelled = sum(pixels[value] for value in pictures.encoding.ignored)
    seen = {pictures.encoding.classes[value] for value in pixels if value in pictures.encoding.classes}
    return {
        "split": split,
        "pictures": len(pictures.pairs) + len(pictures.files.unpaired),
        "owners": pictures.official.pictures if pictures.official else None,
        "read": sum(not each.faults for each in readings),
        "labels": sum(bool(each.pixels) for each in readings),
        "width_min": min((width for width, _ in sizes), default=None),
        "width_max": max((width for width, _ in sizes), default=None),
        "height_min": min((height for _, height in sizes), default=None),
        "height_max": max((height for _, height in sizes), default=None),
        "value_min": min(pixels, default=None),
        "value_max": max(pixels, default=None),
        "unlabelled": unlabelled / pixels.total() if pixels else None,
        "classes": len(pictures.classes),
        "classes_seen": len(seen),
    }


def _classes(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> list[Record]:
    """Pixels, share of the labelled pixels, and pictures with any, for each class; none for a split without labels."""
    if not pictures.labelled:
        return []
    pixels: Counter[int] = Counter()
    shown: Counter[int] = Counter()
    for reading in readings:
        there: Counter[int] = Counter()
        for value, number in reading.pixels.items():
            if value in pictures.encoding.classes:
                there[pictures.encoding.classes[value]] += number
        pixels.update(there)
        shown.update(there.keys())
    total = pixels.total()
    return [
        {
            "split": split,
            "class": number,
            "name": name,
            "pixels": pixels[number],
            "share": pixels[number] / total if total else None,
            "pictures": shown[number],
        }
        for number, name in enumerate(pictures.classes)
    ]


def _pixels(readings: Sequence[PairReading]) -> Counter[int]:
    total: Counter[int] = Counter()
    for reading in readings:
        total.update(reading.pixels)
    return total
