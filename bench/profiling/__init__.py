"""Cost of a variant: parameters, operations, memory and time, each with the protocol it was taken under."""

from bench.profiling.variant import measure_variant

__all__ = ["measure_variant"]
