"""Results of images: their confusion matrices, and the sums that boundary scores are made of.

Results add up: those of a few images are a file, and the files of all images together are the result, whoever made
them. Files are NumPy archives without pickles.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.evaluation.boundary_metrics import BoundaryScorer, BoundaryScores
from bench.evaluation.metrics import ConfusionMatrix, Scores
from bench.evaluation.protocol import LabelMaps
from unept.data import IGNORE
from unept.utils.atomic_files import atomic_write

KINDS = ("plain", "refined")  # before and after refinement; the second is empty where a model does not refine

Bytes = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.int64]  # (m, 4): picture's number, true class, predicted class, pixels


class ImageResults:
    """Results of some images of one split, by one model."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.names: dict[int, str] = {}  # of the pictures, by number in the split
        self.cells: dict[str, list[Cells]] = {kind: [] for kind in KINDS}
        self.scorers = {kind: BoundaryScorer(classes, IGNORE) for kind in KINDS}

    def add(self, number: int, name: str, truth: Bytes, labels: LabelMaps) -> None:
        """Count one image.

        Args:
            number: Its number in the split.
            name: Its name.
            truth: Labels, uint8 (H, W).
            labels: Predicted classes.

        Raises:
            ValueError: A label lies outside the classes.
        """
        assert number not in self.names, f"picture {number} is counted already"
        for kind, predicted in zip(KINDS, labels, strict=True):
            if predicted is None:
                continue
            confusion = ConfusionMatrix(self.classes, IGNORE)
            confusion.add(truth, predicted)
            self.scorers[kind].add(truth, predicted)
            true, guessed = np.nonzero(confusion.counts)
            numbers = np.full(len(true), number)
            self.cells[kind].append(np.stack([numbers, true, guessed, confusion.counts[true, guessed]], axis=1))
        self.names[number] = name

    def merge(self, other: ImageResults) -> None:
        """Count the images of `other`.

        Raises:
            ValueError: An image is in both, or the numbers of classes differ.
        """
        twice = self.names.keys() & other.names.keys()
        if twice or other.classes != self.classes:
            raise ValueError(f"picture {min(twice)} is counted twice" if twice else f"{other.classes} classes")
        for kind in KINDS:
            self.scorers[kind].merge(other.scorers[kind].sums())
            self.cells[kind] += other.cells[kind]
        self.names |= other.names

    @property
    def refines(self) -> bool:
        """True where there are refined predictions."""
        return bool(self.cells["refined"])

    def scores(self, kind: str = "plain") -> tuple[Scores, BoundaryScores]:
        """Return mIoU and pixel accuracy, and the boundary scores, over all images."""
        return self.scorers[kind].confusion.scores(), self.scorers[kind].scores()

    def table(self, kind: str = "plain") -> Cells:
        """Return every count that is not 0, int64 (m, 4): number, true class, predicted class, pixels; by number."""
        cells = np.concatenate([np.empty((0, 4), np.int64), *self.cells[kind]])
        return cells[np.lexsort(cells.T[::-1])]

    def per_picture(self, kind: str = "plain") -> npt.NDArray[np.int64]:
        """Return pixels of each class that are hit, true and predicted, int64 (3, images, classes); by number."""
        numbers = np.array(sorted(self.names), dtype=np.int64)
        number, true, predicted, pixels = self.table(kind).T
        row = np.searchsorted(numbers, number)
        counts = np.zeros((3, len(numbers), self.classes), dtype=np.int64)
        right = true == predicted
        for into, column, which in ((0, true, right), (1, true, slice(None)), (2, predicted, slice(None))):
            np.add.at(counts[into], (row[which], column[which]), pixels[which])
        return counts

    def write(self, path: Path) -> None:
        """Replace the file `path`, atomically."""
        numbers = sorted(self.names)
        arrays: dict[str, npt.NDArray[Any]] = {
            "classes": np.array(self.classes, dtype=np.int64),
            "numbers": np.array(numbers, dtype=np.int64),
            "names": np.array([self.names[number] for number in numbers], dtype=np.str_),
        }
        for kind in KINDS:
            arrays[f"{kind}_confusion"] = self.table(kind)
            arrays |= {f"{kind}_{name}": array for name, array in self.scorers[kind].sums().items()}
        file = io.BytesIO()
        np.savez_compressed(file, allow_pickle=False, **arrays)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, file.getvalue())


def read_results(path: Path, classes: int) -> ImageResults:
    """Return the results in a file.

    Raises:
        ValueError: The file is damaged or of another number of classes; the message names it.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _from_arrays(arrays, classes)
    except FileNotFoundError:
        raise ValueError(f"{path}: file does not exist") from None
    except Exception as error:  # a changed byte makes zipfile, zlib and numpy raise a dozen kinds
        raise ValueError(f"{path}: damaged, or no results of {classes} classes ({type(error).__name__})") from None


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]], classes: int) -> ImageResults:
    if int(arrays["classes"]) != classes:
        raise ValueError("classes")
    loaded = ImageResults(classes)
    loaded.names = dict(zip(arrays["numbers"].tolist(), arrays["names"].tolist(), strict=True))
    for kind in KINDS:
        cells = arrays[f"{kind}_confusion"]
        if cells.ndim != 2 or cells.shape[1] != 4 or cells.dtype != np.int64:
            raise ValueError("confusion")
        loaded.cells[kind] = [cells] if len(cells) else []
        prefix = f"{kind}_"
        loaded.scorers[kind].merge(
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        )
    return loaded


def merge_results(parts: Iterable[ImageResults], classes: int) -> ImageResults:
    """Return the results of all images of `parts`.

    Raises:
        ValueError: An image is counted twice.
    """
    merged = ImageResults(classes)
    for part in parts:
        merged.merge(part)
    return merged
