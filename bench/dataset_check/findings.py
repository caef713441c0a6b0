"""What is wrong with a split, from its readings: each rule gives findings, and each finding says what to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.dataset_check.reading import PairReading
from unept.data.image_dataset import Pictures

_LOSSY = (".jpg", ".jpeg", ".webp")
_MENDING = {
    "damaged": ("truncated or damaged", "download or extract them again"),
    "image": ("of a sort that is not read", "save them with 8 bits a channel"),
    "label": (
        "without class numbers",
        "write the number of the class into a grey or palette PNG; colours have to be turned back into numbers first",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing about a split: what it is, what to do, and the files it is about.

    `wrong` is False for a remark, which may well be as it should be.
    """

    check: str
    split: str
    what: str
    fix: str
    files: tuple[Path, ...] = ()
    wrong: bool = True


def count_findings(split: str, pictures: Pictures) -> Iterator[Finding]:
    """Another number of pictures than the owners tell."""
    files, official = pictures.files, pictures.official
    found = len(files.pairs) + sum(each.path.is_file() for each in files.unpaired)
    if official is not None and found != official.pictures:
        yield Finding(
            check="count",
            split=split,
            what=f"{counted_noun(found, 'picture')}, but the owners' split has {official.pictures:,}",
            fix="download or extract the rest; scores on another set of pictures cannot stand beside published ones"
            if found < official.pictures
            else "take out what does not belong to the split",
        )


def pairing_findings(split: str, pictures: Pictures) -> Iterator[Finding]:
    """Pictures without label, labels without picture, and names in a list without either."""
    unpaired, spare = pictures.files.unpaired, pictures.files.spare
    lossy = [each for each in unpaired if any(each.expected.with_suffix(end).is_file() for end in _LOSSY)]
    for found, fix in (
        ([each for each in unpaired if each not in lossy], "extract the package they come from again"),
        (lossy, "a label saved as JPEG or WebP has lost its values: export it again, as PNG"),
    ):
        if found:
            said = first_and_more([each.said for each in found])
            yield Finding(
                check="pair",
                split=split,
                what=f"{counted_noun(len(found), 'picture')} without the other half: {said}",
                fix=fix,
                files=tuple(each.path for each in found),
            )
    if spare:
        yield Finding(
            check="pair",
            split=split,
            what=f"{counted_noun(len(spare), 'label')} without picture: {first_and_more(spare)}",
            fix="nothing, where they are meant to be left out; else extract the pictures again",
            files=spare,
            wrong=False,
        )


def fault_findings(split: str, readings: Sequence[PairReading]) -> Iterator[Finding]:
    """Files that cannot be decoded, and those of the wrong sort."""
    for kind, (state, fix) in _MENDING.items():
        found = [fault for reading in readings for fault in reading.faults if fault.kind == kind]
        if found:
            said = first_and_more([fault.said for fault in found])
            yield Finding(
                check=kind,
                split=split,
                what=f"{counted_noun(len(found), 'file')} {state}: {said}",
                fix=fix,
                files=tuple(fault.path for fault in found),
            )


def size_findings(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> Iterator[Finding]:
    """Labels of another size than their picture, and pictures of another size than the owners'."""
    other = [each for each in readings if each.size and each.label_size and each.size != each.label_size]
    turned = [each for each in other if each.size == (each.label_size or ())[::-1]]
    for found, fix in (
        (
            [each for each in other if each not in turned],
            "export the label at the size of its picture, by nearest value",
        ),
        (turned, "turn the label as the picture's EXIF orientation says, or the picture's file as the label"),
    ):
        if found:
            said = first_and_more([f"{each.pair.label}: {_by(each.label_size)} for {_by(each.size)}" for each in found])
            yield Finding(
                check="size",
                split=split,
                what=f"{counted_noun(len(found), 'label')} of another size than the picture: {said}",
                fix=fix,
                files=tuple(each.pair.label for each in found if each.pair.label),
            )
    owners = pictures.official.size if pictures.official else None
    strange = [each for each in readings if owners and each.size and each.size != owners]
    if strange:
        said = first_and_more([f"{each.pair.image}: {_by(each.size)}" for each in strange])
        yield Finding(
            check="size",
            split=split,
            what=f"{counted_noun(len(strange), 'picture')} of another size than the owners' {_by(owners)}: {said}",
            fix="extract the owners' package again: scores on resized pictures cannot stand beside published ones",
            files=tuple(each.pair.image for each in strange),
        )


def duplicate_findings(
    pictures: Mapping[str, Pictures], readings: Mapping[str, Sequence[PairReading]]
) -> Iterator[Finding]:
    """Picture files of equal content, in one split and in two of them; those that the owners distribute are remarks."""
    for split, found in readings.items():
        groups = [group for group in _groups(found).values() if len(group) > 1]
        if groups:
            apart = sum(len({each.label_digest for each in group}) > 1 for group in groups)
            labels = f", {counted_noun(apart, 'time')} with labels that differ" if apart else ""
            said = first_and_more([" = ".join(str(each.pair.image) for each in group[:2]) for group in groups])
            yield Finding(
                check="duplicate",
                split=split,
                what=f"{counted_noun(len(groups), 'picture')} there more than once{labels}: {said}",
                fix="keep one of each, with the right label",
                files=tuple(each.pair.image for group in groups for each in group),
                wrong=not _as_distributed(pictures[split]),
            )
    names = list(readings)
    for first, second in [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]:
        one, other = _groups(readings[first]), _groups(readings[second])
        shared = [digest for digest in one if digest in other]
        if shared:
            said = first_and_more([f"{one[each][0].pair.image} = {other[each][0].pair.image}" for each in shared])
            yield Finding(
                check="duplicate",
                split=f"{first}, {second}",
                what=f"{counted_noun(len(shared), 'picture')} in both splits: {said}",
                fix="take them out of one of the two: a picture that was trained on must not be scored",
                files=tuple(path for each in shared for path in (one[each][0].pair.image, other[each][0].pair.image)),
                wrong=not (_as_distributed(pictures[first]) and _as_distributed(pictures[second])),
            )


def _groups(readings: Iterable[PairReading]) -> dict[str, list[PairReading]]:
    groups: dict[str, list[PairReading]] = defaultdict(list)
    for reading in readings:
        if reading.digest:
            groups[reading.digest].append(reading)
    return groups


def _as_distributed(pictures: Pictures) -> bool:
    """Whether a split has the owners' number of pictures."""
    return pictures.official is not None and len(pictures) == pictures.official.pictures


def counted_noun(count: int, what: str) -> str:
    """`1 label`, `2 labels`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def first_and_more(items: Sequence[object]) -> str:
    """The first of them, and how many more there are."""
    return f"{items[0]}{f' (and {len(items) - 1:,} more)' if len(items) > 1 else ''}"


def _by(size: tuple[int, int] | None) -> str:
    return f"{size[0]}x{size[1]}" if size else "unknown"
