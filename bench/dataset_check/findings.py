"""Findings about a split, from its readings: each rule yields findings, and each finding says what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.dataset_check.reading import PairReading
from bench.units import count_of
from unept.data.image_dataset import Pictures

_LOSSY = (".jpg", ".jpeg", ".webp")
_STATES = {"damaged": "truncated or damaged", "image": "not read as a picture", "label": "not read as a label"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about a split.

    Attributes:
        check: Name of the rule.
        split: Name of the split, or of two.
        what: What was observed, in one sentence.
        fix: What to do about it.
        files: The files it is about.
        wrong: False for a remark, which may well be as it should be.
    """

    check: str
    split: str
    what: str
    fix: str
    files: tuple[Path, ...] = ()
    wrong: bool = True


def count_findings(split: str, pictures: Pictures) -> Iterator[Finding]:
    """Yield a finding where the number of images is not that of the owners' split."""
    files, official = pictures.files, pictures.official
    number = len(files.pairs) + sum(missing.path.is_file() for missing in files.unpaired)
    if official is not None and number != official.pictures:
        yield Finding(
            check="count",
            split=split,
            what=f"{count_of(number, 'picture')}, but the owners' split has {official.pictures:,}",
            fix="download or extract the rest; scores on another set of pictures cannot stand beside published ones"
            if number < official.pictures
            else "take out what does not belong to the split",
        )


def pairing_findings(split: str, pictures: Pictures) -> Iterator[Finding]:
    """Yield findings on images without label, labels without image, and names in a list without either."""
    unpaired, spare = pictures.files.unpaired, pictures.files.spare
    lossy = [file for file in unpaired if any(file.expected.with_suffix(end).is_file() for end in _LOSSY)]
    for affected, fix in (
        ([file for file in unpaired if file not in lossy], "extract the package they come from again"),
        (lossy, "a label saved as JPEG or WebP has lost its values: export it again, as PNG"),
    ):
        if affected:
            examples = first_and_more([file.said for file in affected])
            yield Finding(
                check="pair",
                split=split,
                what=f"{count_of(len(affected), 'picture')} without the other half: {examples}",
                fix=fix,
                files=tuple(file.path for file in affected),
            )
    if spare:
        yield Finding(
            check="pair",
            split=split,
            what=f"{count_of(len(spare), 'label')} without picture: {first_and_more(spare)}",
            fix="nothing, where they are meant to be left out; else extract the pictures again",
            files=spare,
            wrong=False,
        )


def fault_findings(split: str, readings: Sequence[PairReading]) -> Iterator[Finding]:
    """Yield findings on files that cannot be decoded, and on those that are not read; one for each remedy."""
    faults = [fault for reading in readings for fault in reading.faults]
    for kind, state in _STATES.items():
        for fix in dict.fromkeys(fault.fix for fault in faults if fault.kind == kind):
            affected = [fault for fault in faults if (fault.kind, fault.fix) == (kind, fix)]
            yield Finding(
                check=kind,
                split=split,
                what=f"{count_of(len(affected), 'file')} {state}: {first_and_more([one.said for one in affected])}",
                fix=fix,
                files=tuple(fault.path for fault in affected),
            )


def size_findings(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> Iterator[Finding]:
    """Yield findings on labels of another size than their image, and on images of another size than the owners'."""
    other = [
        reading for reading in readings if reading.size and reading.label_size and reading.size != reading.label_size
    ]
    turned = [reading for reading in other if reading.size == (reading.label_size or ())[::-1]]
    for affected, fix in (
        (
            [reading for reading in other if reading not in turned],
            "export the label at the size of its picture, by nearest value",
        ),
        (
            turned,
            "turn the label as the picture is seen, with its EXIF orientation, or the picture's file as the label",
        ),
    ):
        if affected:
            examples = first_and_more(
                [f"{reading.pair.label}: {_by(reading.label_size)} for {_by(reading.size)}" for reading in affected]
            )
            yield Finding(
                check="size",
                split=split,
                what=f"{count_of(len(affected), 'label')} of another size than the picture: {examples}",
                fix=fix,
                files=tuple(reading.pair.label for reading in affected if reading.pair.label),
            )
    owners = pictures.official.size if pictures.official else None
    strange = [reading for reading in readings if owners and reading.size and reading.size != owners]
    if strange:
        examples = first_and_more([f"{reading.pair.image}: {_by(reading.size)}" for reading in strange])
        yield Finding(
            check="size",
            split=split,
            what=f"{count_of(len(strange), 'picture')} of another size than the owners' {_by(owners)}: {examples}",
            fix="extract the owners' package again: scores on resized pictures cannot stand beside published ones",
            files=tuple(reading.pair.image for reading in strange),
        )


def duplicate_findings(
    pictures: Mapping[str, Pictures], readings: Mapping[str, Sequence[PairReading]]
) -> Iterator[Finding]:
    """Yield findings on image files of equal content, in one split and in two of them.

    Those that the owners distribute are remarks.

    Args:
        pictures: Images by split.
        readings: Readings by split.
    """
    for split, split_readings in readings.items():
        groups = [group for group in _groups(split_readings).values() if len(group) > 1]
        if groups:
            apart = sum(len({item.label_digest for item in group}) > 1 for group in groups)
            labels = f", {count_of(apart, 'time')} with labels that differ" if apart else ""
            examples = first_and_more([" = ".join(str(item.pair.image) for item in group[:2]) for group in groups])
            yield Finding(
                check="duplicate",
                split=split,
                what=f"{count_of(len(groups), 'picture')} there more than once{labels}: {examples}",
                fix="keep one of each, with the right label",
                files=tuple(item.pair.image for group in groups for item in group),
                wrong=not _as_distributed(pictures[split]),
            )
    names = list(readings)
    for first, second in [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]:
        one, other = _groups(readings[first]), _groups(readings[second])
        shared = [digest for digest in one if digest in other]
        if shared:
            examples = first_and_more([f"{one[item][0].pair.image} = {other[item][0].pair.image}" for item in shared])
            yield Finding(
                check="duplicate",
                split=f"{first}, {second}",
                what=f"{count_of(len(shared), 'picture')} in both splits: {examples}",
                fix="take them out of one of the two: a picture that was trained on must not be scored",
                files=tuple(path for item in shared for path in (one[item][0].pair.image, other[item][0].pair.image)),
                wrong=not (_as_distributed(pictures[first]) and _as_distributed(pictures[second])),
            )


def _groups(readings: Iterable[PairReading]) -> dict[str, list[PairReading]]:
    groups: dict[str, list[PairReading]] = defaultdict(list)
    for reading in readings:
        if reading.digest:
            groups[reading.digest].append(reading)
    return groups


def _as_distributed(pictures: Pictures) -> bool:
    """Return True where a split has the owners' number of images."""
    return pictures.official is not None and len(pictures) == pictures.official.pictures


def first_and_more(items: Sequence[object]) -> str:
    """Return the first of the items, and how many more there are."""
    return f"{items[0]}{f' (and {len(items) - 1:,} more)' if len(items) > 1 else ''}"


def _by(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "unknown"
