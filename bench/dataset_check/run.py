"""Read a data set with several threads and collect the findings."""

from __future__ import annotations

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
from unept.utils.container import usable_cores

MAX_JOBS = 256  # each is a thread
Progress = Callable[[int, int], None]  # pictures read, of how many
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """Result of a check.

    Attributes:
        spec: Specification of the data set, `kind:PATH`.
        name: Its name.
        splits: A record for each split.
        classes: A record for each class in each split.
        findings: Mistakes first, then remarks.
    """

    spec: str
    name: str
    splits: tuple[Record, ...]
    classes: tuple[Record, ...]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> bool:
        """True where there is a finding that is more than a remark."""
        return any(finding.wrong for finding in self.findings)

    def record(self) -> Record:
        """Return all of it in plain values, for reports."""
        findings = [asdict(finding) | {"files": [str(path) for path in finding.files]} for finding in self.findings]
        return {
            "spec": self.spec,
            "name": self.name,
            "splits": list(self.splits),
            "classes": list(self.classes),
            "findings": findings,
        }


def check_dataset(spec: str, *, jobs: int = 0, progress: Progress | None = None) -> DatasetCheck:
    """Read every file of a data set and return the findings.

    Args:
        spec: Specification of the data set, or a bare path, whose layout is then guessed.
        jobs: Pairs read at a time; 0 for one per processor.
        progress: Called with the pairs read, and the pairs in all.

    Raises:
        ValueError: The specification is malformed, the layout is not known, or no split can be opened; one line.
    """
    spec = spec_of(spec)
    opened, findings_so_far = _open(spec)
    readings = _read(opened, jobs or usable_cores(), progress)
    for split, pictures in opened.items():
        split_readings = readings[split]
        findings_so_far += findings.count_findings(split, pictures)
        findings_so_far += findings.pairing_findings(split, pictures)
        findings_so_far += findings.fault_findings(split, split_readings)
        findings_so_far += findings.size_findings(split, pictures, split_readings)
        findings_so_far += label_value_findings(split, pictures, split_readings)
    findings_so_far += findings.duplicate_findings(opened, readings)
    return DatasetCheck(
        spec=spec,
        name=next(iter(opened.values())).name,
        splits=tuple(_split(split, opened[split], split_readings) for split, split_readings in readings.items()),
        classes=tuple(
            line
            for split, split_readings in readings.items()
            for line in _classes(split, opened[split], split_readings)
        ),
        findings=tuple(sorted(findings_so_far, key=lambda finding: not finding.wrong)),
    )


def _open(spec: str) -> tuple[dict[str, Pictures], list[Finding]]:
    """Return the splits that can be opened, and a finding for each that cannot."""
    opened: dict[str, Pictures] = {}
    findings: list[Finding] = []
    for split in splits_of(spec):
        pictures = _tried(spec, split)
        if isinstance(pictures, Finding):
            findings.append(pictures)
        else:
            opened[split] = pictures
    if not opened:
        raise ValueError(findings[0].what)
    return opened, findings


def _tried(spec: str, split: str) -> Pictures | Finding:
    try:
        return open_incomplete(spec, split)
    except ValueError as error:
        fix = "mend what this names; nothing else of the split was looked at"
        return Finding(check="split", split=split, what=str(error), fix=fix)


def _read(opened: Mapping[str, Pictures], jobs: int, progress: Progress | None) -> dict[str, list[PairReading]]:
    """Return the readings of each split, in the order of its images."""
    work = [(split, pictures, pair) for split, pictures in opened.items() for pair in pictures.pairs]
    readings: dict[str, list[PairReading]] = {split: [] for split in opened}
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            results = pool.map(lambda item: read_pair(item[1], item[2]), work)
            for done, ((split, _, _), reading) in enumerate(zip(work, results, strict=True), 1):
                readings[split].append(reading)
                if progress:
                    progress(done, len(work))
        except BaseException:  # an interruption must not wait for what has not begun
            pool.shutdown(cancel_futures=True)
            raise
    return readings


def _split(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> Record:
    """Return the figures of a split: `owners` is their number of images, sizes are in pixels, `unlabelled` is a
    share.
    """
    sizes = [reading.size for reading in readings if reading.size]
    pixels = _pixels(readings)
    unlabelled = sum(pixels[value] for value in pictures.encoding.ignored)
    seen = {pictures.encoding.classes[value] for value in pixels if value in pictures.encoding.classes}
    return {
        "split": split,
        "pictures": len(pictures.pairs) + len(pictures.files.unpaired),
        "owners": pictures.official.pictures if pictures.official else None,
        "read": sum(not reading.faults for reading in readings),
        "labels": sum(bool(reading.pixels) for reading in readings),
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
    """Return pixels, share of the labelled pixels, and images with any, for each class; none for a split without
    labels.
    """
    if not pictures.labelled:
        return []
    pixels: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for reading in readings:
        by_class: Counter[int] = Counter()
        for value, number in reading.pixels.items():
            if value in pictures.encoding.classes:
                by_class[pictures.encoding.classes[value]] += number
        pixels.update(by_class)
        images.update(by_class.keys())
    total = pixels.total()
    return [
        {
            "split": split,
            "class": number,
            "name": name,
            "pixels": pixels[number],
            "share": pixels[number] / total if total else None,
            "pictures": images[number],
        }
        for number, name in enumerate(pictures.classes)
    ]


def _pixels(readings: Sequence[PairReading]) -> Counter[int]:
    total: Counter[int] = Counter()
    for reading in readings:
        total.update(reading.pixels)
    return total
