"""Findings on the values of a split's labels: off by one, 255 in the wrong role, another version of the labels.

Values are judged over the whole split, since a single label says little: one without the last class is no mistake, a
thousand of them are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.dataset_check.findings import Finding, first_and_more
from bench.dataset_check.reading import PairReading
from bench.units import count_of
from unept.data.image_dataset import Pictures
from unept.data.sample import IGNORE

VOID_NAMES = ("void", "unlabelled", "unlabeled", "unknown", "ignore", "ignored", "unannotated")
MANY_VALUES = 8  # that many strange values in so small a share of the pixels come from interpolation
SMALL_SHARE = 0.05


def label_value_findings(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> Iterator[Finding]:
    """Yield findings on the values of a split's labels; at most one on values that stand for nothing.

    Args:
        split: Name of the split.
        pictures: Its images, with the encoding of labels.
        readings: What was read of each pair.
    """
    pixels: Counter[int] = Counter()
    for reading in readings:
        pixels.update(reading.pixels)
    if not pixels:
        return
    encoding, seen = pictures.encoding, frozenset(pixels)
    unknown = encoding.unknown(seen)
    mistake = next((candidate for candidate in encoding.mistakes if candidate.fits(seen)), None)
    if mistake:
        yield Finding(check="value", split=split, what=f"labels: {mistake.what}", fix=mistake.fix)
    elif unknown:
        yield _strange(split, pictures, readings, pixels, unknown)
    yield from _void(split, pictures, seen)
    yield from _blank(split, pictures, readings)
    yield from _absent(split, pictures, seen)


def _strange(
    split: str, pictures: Pictures, readings: Sequence[PairReading], pixels: Counter[int], unknown: list[int]
) -> Finding:
    """Return a finding on values that are neither a class nor unlabelled."""
    affected = [
        reading.pair.label
        for reading in readings
        if reading.pair.label and any(value in reading.pixels for value in unknown)
    ]
    encoding = pictures.encoding
    first, last = min(encoding.classes), max(encoding.classes)
    void = min(encoding.ignored, default=None)
    # Counting from another number may be the reason only where the classes have the values first, first + 1 and so on.
    counted = unknown == [last + 1] and [*encoding.classes.items()] == [
        (first + number, number) for number in range(len(pictures.classes))
    ]
    share = f"{sum(pixels[value] for value in unknown) / pixels.total():.2%} of the pixels"
    listed = _listed([*map(str, unknown)])
    if counted and pixels.keys() - encoding.ignored == {*range(first + 1, last + 2)}:
        what = f"labels run from {first + 1} to {last + 1}, one above {first} to {last}: they are counted from 1"
        fix = f"take 1 off the values {first + 1} to {last + 1} and leave {void}, which is unlabelled, as it is"
    elif counted and first not in pixels:
        what = f"labels hold {last + 1}, one above {first} to {last}, and no {first}"
        fix = f"if they are counted from {first + 1}, take 1 off the values of classes; else one more class is needed"
    elif counted:
        what = f"labels hold {first} to {last + 1}, one value more than the {len(pictures.classes)} classes"
        fix = (
            f"if {first} means unlabelled, write {void} for it first and then take 1 off the values {first + 1} to "
            f"{last + 1}; else one more class is needed"
        )
    elif unknown == [IGNORE] and void is not None:
        what = f"labels hold 255 in {share}, which is no class, and unlabelled is {void}"
        fix = f"write {void} for 255, or say that 255 is unlabelled (in a folder: 'ignore' of meta.json)"
    elif len(unknown) >= MANY_VALUES and sum(pixels[value] for value in unknown) < SMALL_SHARE * pixels.total():
        what = f"labels hold {len(unknown)} strange values ({listed}) in {share}: such come of interpolation"
        fix = "make the labels anew, resized by nearest value and saved as PNG"
    else:
        what = f"labels hold {listed}, outside {encoding.said}, in {share}"
        fix = f"write {void} for what is not to be scored, or correct the number of classes"
    if pictures.official:
        left = f", or write {void} for what is not to be scored" if void is not None else ""
        fix = f"extract the owners' labels again{left}"
    files = f", in {count_of(len(affected), 'label')}, first {affected[0]}"
    return Finding(check="value", split=split, what=what + files, fix=fix, files=tuple(affected))


def _void(split: str, pictures: Pictures, seen: frozenset[int]) -> Iterator[Finding]:
    """Yield a finding where 255, or whatever stands for unlabelled, is missing or misused though every value is
    known.
    """
    encoding, names = pictures.encoding, pictures.classes
    hidden = sorted(set(range(len(names))) - set(encoding.classes.values()))
    if hidden:
        hides = f"unlabelled is {min(encoding.ignored)}, which is also class {hidden[0]} ({names[hidden[0]]!r})"
        yield Finding(
            check="void",
            split=split,
            what=f"{hides}: that class is never scored",
            fix="if classes are counted from 1, write 255 for 0 first, then take 1 off the values of the classes and "
            "let 'ignore' be 255; if not, let 'ignore' be 255",
        )
    elif len(names) == 2 and seen == {0, IGNORE} and IGNORE in encoding.ignored:
        yield Finding(
            check="void",
            split=split,
            what=f"labels hold 0 and 255 alone, and 255 is unlabelled: class 1 ({names[1]!r}) is never there",
            fix="write 1 for 255, if 255 marks the second class",
        )
    elif not seen & encoding.ignored and names[0].lower() in VOID_NAMES:
        yield Finding(
            check="void",
            split=split,
            what=f"class 0 is called {names[0]!r} and no pixel is {min(encoding.ignored)}: it is scored as a class",
            fix="write 255 for 0 first, then take 1 off the values of the classes, and take the name out",
        )
    elif pictures.official and pictures.official.void and not seen & encoding.ignored:
        yield Finding(
            check="void",
            split=split,
            what="not one pixel is unlabelled, but the owners' labels have such pixels",
            fix="extract the owners' labels again: something has filled or shifted these",
        )


def _blank(split: str, pictures: Pictures, readings: Sequence[PairReading]) -> Iterator[Finding]:
    """Yield a finding on labels in which nothing is labelled."""
    labels = [
        reading.pair.label
        for reading in readings
        if reading.pair.label and reading.pixels and pictures.encoding.ignored.issuperset(reading.pixels)
    ]
    if labels:
        yield Finding(
            check="void",
            split=split,
            what=f"{count_of(len(labels), 'label')} in which every pixel is unlabelled: {first_and_more(labels)}",
            fix="nothing, where it is so; such a picture teaches nothing and is not scored",
            files=tuple(labels),
            wrong=False,
        )


def _absent(split: str, pictures: Pictures, seen: frozenset[int]) -> Iterator[Finding]:
    """Yield a finding on classes of which the split has no pixel."""
    present = {pictures.encoding.classes[value] for value in seen if value in pictures.encoding.classes}
    absent = [name for number, name in enumerate(pictures.classes) if number not in present]
    if absent:
        yield Finding(
            check="class",
            split=split,
            what=f"{len(absent)} of {len(pictures.classes)} classes have no pixel: {_listed(absent)}",
            fix="nothing, where it is so; their IoU is left out of the mean",
            wrong=False,
        )


def _listed(words: Sequence[str]) -> str:
    """Return the first six words, and how many more there are."""
    return ", ".join(words[:6]) + (f" and {len(words) - 6} more" if len(words) > 6 else "")
