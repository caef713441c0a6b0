"""`unept-bench convert`: a released checkpoint in our format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import argument, option
from experiments.commands.console import DONE, Invocation, check_files
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The files and what the checkpoint does not say."""

    released: Path = argument(help="A checkpoint of the released code.", metavar="RELEASED.pth", completes="files")
    out: Path = option(help="Ours: a name that ends in .safetensors.", metavar="FILE", completes="files", writes="file")
    heads: int = option(8, help="Number of attention heads (cannot be read from the checkpoint).", metavar="N")


def convert(options: ConvertOptions, call: Invocation) -> int:
    """Turn a checkpoint that the authors' released code (mmcv) wrote into ours, and say how the two compare.

    Nothing but tensors and plain values is unpickled. Class names and colours are the file's own where it has them.
    """
    check_files([options.released])

    from bench.evaluation.convert import convert_checkpoint

    convert_checkpoint(options.released, options.out, heads=options.heads)
    return DONE


VERB = Verb(
    name="convert",
    run=convert,
    options=ConvertOptions,
    group="Model",
    summary="Convert a released checkpoint to our format",
    example="convert released.pth --out ours.safetensors",
)
