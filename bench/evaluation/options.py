"""The options of evaluations and predictions, and what a user changes in their protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.config.fields import LARGEST_INTEGER
from bench.config.option_fields import argument, check_options, nested_options, option
from bench.config.shared_options import DATA_HELP, device_option, own_modules_option, process_threads_option
from unept.checkpoints.description import SUFFIX
from unept.data.image_file import MAX_PIXELS
from unept.data.sample import SPLITS

if TYPE_CHECKING:
    from bench.evaluation.protocol import EvaluationProtocol
    from unept.data import Dataset

MODES = ("slide", "whole")
OWN_IMAGE_SIZE = (0, 0)  # instead of a base: every picture's own size
MAX_SCALE = 16
DEVICE_KINDS = ("auto", "cpu", "cuda", "mps", "xpu")
PROTOCOL, DEVICES = "Protocol", "Devices"


def parse_mode(text: str) -> Literal["whole", "slide"] | None:
    """Return `whole` or `slide`; None for the empty text. Raises ValueError for anything else."""
    if text not in ("", *MODES):
        raise ValueError(f"--mode {text}: expected whole or slide")
    return "whole" if text == "whole" else "slide" if text else None


def parse_scales(text: str) -> tuple[float, ...] | None:
    """Return the ratios in `0.5,1`; None for the empty text. Raises ValueError for what is none."""
    try:
        scales = tuple(float(word) for word in text.split(",")) if text else None
    except ValueError:
        raise ValueError(f"--scales {text}: expected ratios such as 0.5,1,1.5") from None
    if scales is not None and not all(0 < ratio <= MAX_SCALE for ratio in scales):
        raise ValueError(f"--scales {text}: expected ratios above 0, at most {MAX_SCALE}")
    return scales


def parse_base(text: str) -> tuple[int, int] | None:
    """Return the sides of `2048x512`, OWN_IMAGE_SIZE for `own`, None for the empty text. Raises ValueError."""
    if text == "own":
        return OWN_IMAGE_SIZE
    long, by, short = text.partition("x")
    if text and not (by and long.isdecimal() and short.isdecimal() and 0 < int(short) <= int(long) <= LARGEST_INTEGER):
        raise ValueError(f"--base {text}: expected LONGxSHORT in pixels, as in 2048x512, or own")
    return (int(long), int(short)) if text else None


@dataclass(frozen=True, kw_only=True)
class ProtocolOverrides:
    """Changes that a user makes to the default protocol; None keeps the default."""

    mode: Literal["whole", "slide"] | None = option(
        None,
        help="slide (windows) or whole (in one piece).",
        metavar="NAME",
        group=PROTOCOL,
        default_text="slide",
        choices=MODES,
        completes="choices",
        parse=parse_mode,
    )
    window: int | None = option(
        None, help="Side of a sliding window.", metavar="PIXELS", group=PROTOCOL, default_text="the crop trained on"
    )
    stride: int | None = option(
        None, help="Step between windows.", metavar="PIXELS", group=PROTOCOL, default_text="a third of the window"
    )
    scales: tuple[float, ...] | None = option(
        None,
        help="Image scales to average over, as in 0.5,1,1.5.",
        metavar="RATIOS",
        group=PROTOCOL,
        default_text="the paper's six to evaluate, 1 to predict",
        parse=parse_scales,
    )
    flip: bool | None = option(
        None,
        help="Average with the mirror image too.",
        group=PROTOCOL,
        default_text="yes to evaluate, no to predict",
    )
    base: tuple[int, int] | None = option(
        None,
        help="Image size at scale 1 as LONGxSHORT, or `own` for each image's own size.",
        metavar="LONGxSHORT",
        group=PROTOCOL,
        default_text="the data set's published size, else the training size",
        parse=parse_base,
    )

    def check(self) -> None:
        """Raise ValueError for a window or stride that no default makes possible."""
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None and not 1 <= value <= LARGEST_INTEGER:
                raise ValueError(f"--{name} {value}: expected at least 1")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise ValueError(f"--stride {self.stride}: expected at most the window, {self.window}")

    def over(self, default: EvaluationProtocol) -> EvaluationProtocol:
        """Return `default` with these changes; the stride follows the window. Raises ValueError."""
        self.check()
        changes = {name: value for name, value in vars(self).items() if value is not None}
        if "window" in changes and "stride" not in changes:
            changes["stride"] = max(1, changes["window"] // 3)
        if changes.get("base") == OWN_IMAGE_SIZE:
            changes["base"] = None
        protocol = replace(default, **changes)
        if protocol.stride > protocol.window:
            raise ValueError(f"--stride {protocol.stride}: expected at most the window, {protocol.window}")
        return protocol


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """The options of an evaluation. 0 stands for a default that depends on data and machine."""

    checkpoints: tuple[Path, ...] = argument(help="Files of trained models.", metavar="CHECKPOINT", completes="files")
    data: str = option(help=DATA_HELP, metavar="DATA", completes="data")
    split: str = option("val", help="train, val or test.", metavar="NAME", choices=SPLITS, completes="choices")
    images: int = option(0, help="Only the first N images.", metavar="N", default_text="all", least=0)
    overrides: ProtocolOverrides = nested_options(ProtocolOverrides)
    device: str = device_option(DEVICES)
    processes: int = option(
        0, help="Processes side by side on this machine.", metavar="N", group=DEVICES, default_text="1", least=0
    )
    gpus: int = option(0, help="GPUs, a process each.", metavar="N", group=DEVICES, default_text="none", least=0)
    threads: int = process_threads_option(DEVICES)
    own_modules: bool = own_modules_option()
    results: Path | None = option(
        None,
        help="Write files for Cityscapes' test server there.",
        metavar="FOLDER",
        default_text="none",
        completes="files",
        writes="folder",
    )
    out: Path = option(
        Path("study/evaluation"), help="Folder of the scores.", metavar="FOLDER", completes="files", writes="folder"
    )


@dataclass(frozen=True, kw_only=True)
class PredictRequest:
    """The options of a prediction."""

    checkpoints: tuple[Path, ...] = option(
        name="checkpoint",
        help="A trained model; give two to put them side by side.",
        metavar="FILE",
        completes="files",
    )
    max_pixels: int = option(MAX_PIXELS, help="Refuse pictures of more pixels.", metavar="N", least=1)
    overrides: ProtocolOverrides = nested_options(ProtocolOverrides)
    device: str = device_option(DEVICES)
    own_modules: bool = own_modules_option()


def check_device(name: str) -> None:
    """Raise ValueError for a name that no device has; whether it is there, torch says."""
    kind, colon, number = name.partition(":")
    if kind not in DEVICE_KINDS or (colon and (kind == "auto" or not number.isdecimal())):
        raise ValueError(f"--device {name}: not to be had here (expected auto, cpu, cuda, cuda:1 and so on)")


def check_evaluation(request: EvaluationRequest, dataset: Dataset) -> None:
    """Check what needs no checkpoint to be read and no torch: ranges, what goes together, and what the split is for.

    Raises:
        ValueError: In one line.
    """
    if not request.checkpoints:
        raise ValueError("evaluate: expected at least one checkpoint")
    check_options(request)
    request.overrides.check()
    check_device(request.device)
    if request.gpus and request.processes:
        raise ValueError("--processes and --gpus: give one of them")
    if request.results is not None and request.data.partition(":")[0] != "cityscapes":
        raise ValueError(f"--results: files for the test server of cityscapes:PATH, not of {request.data}")
    if request.results is not None and len(request.checkpoints) > 1:
        raise ValueError(f"--results: {len(request.checkpoints)} checkpoints would write the same files; give one")
    if request.results is None and not getattr(dataset, "labelled", True):
        hint = "; --results FOLDER writes files for its test server" if dataset.name == "Cityscapes" else ""
        raise ValueError(f"{request.data}: split {request.split!r} has no labels to score against{hint}")


def check_prediction(request: PredictRequest) -> None:
    """Check what needs no checkpoint to be read and no torch. Raises ValueError."""
    check_options(request)
    request.overrides.check()
    check_device(request.device)


def check_new_checkpoint(out: Path) -> None:
    """Raise ValueError if a checkpoint cannot be written there: something is there, or it has another suffix."""
    if out.exists():
        raise ValueError(f"{out} exists: nothing is written over a checkpoint; name another with --out")
    if out.suffix != SUFFIX:
        raise ValueError(f"--out {out}: a checkpoint's name ends in {SUFFIX}")
