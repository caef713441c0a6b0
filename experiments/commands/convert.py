"""`unept-bench convert`: a released checkpoint in our format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import argument, option
from bench.evaluation.options import check_new_checkpoint
from experiments.commands.console import DONE, Invocation, check_checkpoints
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """The files and what the checkpoint does not say."""

    released: Path = argument(help="A checkpoint of the released code.", metavar="RELEASED.pth", completes="files")
    out: Path = option(help="Ours: a name that ends in .safetensors.", metavar="FILE", completes="files", writes="file")
    heads: int = option(8, help="Number of attention heads (cannot be read from the checkpoint).", metavar="N", least=1)


def convert(options: ConvertOptions, call: Invocation) -> int:
    """Turn a checkpoint that the authors' released code (mmcv) wrote into ours, and say how the two compare.

    Nothing but tensors and plain values is unpickled. Class names and colours are the file's own where it has them.
    """
    check_checkpoints([options.released])
    check_new_checkpoint(options.out)

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
