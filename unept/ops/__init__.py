"""The custom operators of the models: one entry, and behind it the implementations."""

from unept.ops.dispatch import Backend, msda, resolve
from unept.ops.macs import MACS
from unept.ops.reference import Shapes

__all__ = ["MACS", "Backend", "Shapes", "msda", "resolve"]
