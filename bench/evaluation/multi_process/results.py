"""What is known of each picture: its confusion matrix, and the sums that boundary scores are made of.

Results add up: those of a few pictures are a file, and the files of all pictures together are the result, whoever made
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
    """Results of some pictures of one split, by one model."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.names: dict[int, str] = {}  # of the pictures, by number in the split
        self.cells: dict[str, list[Cells]] = {kind: [] for kind in KINDS}
        self.scorers = {kind: BoundaryScorer(classes, IGNORE) for kind in KINDS}

    def add(self, number: int, name: str, truth: Bytes, labels: LabelMaps) -> None:
        """Count one picture. ValueError for a label outside the classes."""
        assert number not in self.names, f"picture {number} is counted already"
        for kind, predicted in zip(KINDS, labels, strict=True):
            if predicted is None:
                continue
            own = ConfusionMatrix(self.classes, IGNORE)
            own.add(truth, predicted)
            self.scorers[kind].add(truth, predicted)
            true, guessed = np.nonzero(own.counts)
            place = np.full(len(true), number)
            self.cells[kind].append(np.stack([place, true, guessed, own.counts[true, guessed]], axis=1))
        self.names[number] = name

    def merge(self, other: ImageResults) -> None:
        """Count the pictures of `other`, none of which may be here."""
        twice = self.names.keys() & other.names.keys()
        if twice or other.classes != self.classes:
            raise ValueError(f"picture {min(twice)} is counted twice" if twice else f"{other.classes} classes")
        for kind in KINDS:
            self.scorers[kind].merge(other.scorers[kind].sums())
            self.cells[kind] += other.cells[kind]
        self.names |= other.names

    @property
    def refines(self) -> bool:
        """Whether there are refined predictions."""
        return bool(self.cells["refined"])

    def scores(self, kind: str = "plain") -> tuple[Scores, BoundaryScores]:
        """mIoU and pixel accuracy, and the boundary scores, over all pictures."""
        return self.scorers[kind].confusion.scores(), self.scorers[kind].scores()

    def table(self, kind: str = "plain") -> Cells:
        """Every count that is not 0, (m, 4): number, true class, predicted class, pixels; by number."""
        cells = np.concatenate([np.empty((0, 4), np.int64), *self.cells[kind]])
        return cells[np.lexsort(cells.T[::-1])]

    def per_picture(self, kind: str = "plain") -> npt.NDArray[np.int64]:
        """Pixels of each class that are hit, true and predicted: (3, pictures, classes), by number."""
        numbers = np.array(sorted(self.names), dtype=np.int64)
        number, true, predicted, pixels = self.table(kind).T
        row = np.searchsorted(numbers, number)
        found = np.zeros((3, len(numbers), self.classes), dtype=np.int64)
        right = true == predicted
        for into, column, which in ((0, true, right), (1, true, slice(None)), (2, predicted, slice(None))):
            np.add.at(found[into], (row[which], column[which]), pixels[which])
        return found

    def write(self, path: Path) -> None:
        """Replace the file `path`, whole or not at all."""
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
    """The results in a file. ValueError, naming it, where it is damaged or of another number of classes."""
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
    found = ImageResults(classes)
    found.names = dict(zip(arrays["numbers"].tolist(), arrays["names"].tolist(), strict=True))
    for kind in KINDS:
        cells = arrays[f"{kind}_confusion"]
        if cells.ndim != 2 or cells.shape[1] != 4 or cells.dtype != np.int64:
            raise ValueError("confusion")
        found.cells[kind] = [cells] if len(cells) else []
        prefix = f"{kind}_"
        found.scorers[kind].merge(
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        )
    return found


def merge_results(parts: Iterable[ImageResults], classes: int) -> ImageResults:
    """The results of all pictures of `parts`. ValueError where one is counted twice."""
    found = ImageResults(classes)
    for part in parts:
        found.merge(part)
    return found
