"""Python object of the library of CUDA kernels; every tensor is checked before its pointer is passed on.

Everything but the value has the type of the computation: double for double values, else float32.

Shape legend: see `unept.ops.reference`. ``shapes`` is flat here: height and width of each level in turn.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unept.ops import cuda_build
from unept.ops.cuda_build import Unavailable
from unept.ops.validation import VALUE_TYPES, Sizes, check_tensor, computed_in, sizes_of
from unept.utils.messages import first_error_line


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the argument types of a library's functions to ctypes, and return the library.

    Unavailable if one is missing.
    """
    pointer, number = ctypes.c_void_p, ctypes.c_int
    start: list[Any] = [ctypes.POINTER(Sizes), ctypes.POINTER(ctypes.c_int64), number, number, pointer]
    try:
        library.unept_msda_cuda_forward.argtypes = [*start, *[pointer] * 6]
        library.unept_msda_cuda_backward.argtypes = [*start, *[pointer] * 11]
        library.unept_cuda_message.argtypes = [number]
        library.unept_cuda_message.restype = ctypes.c_char_p
        library.unept_cuda_sources.restype = ctypes.c_char_p
    except AttributeError as error:
        raise Unavailable(f"not a library of these CUDA kernels: {error}") from error
    return library


class Kernel:
    """Kernels of one library on one device.

    Args:
        library: The loaded library.
        device: CUDA device. ("cpu" is for tests: an emulated library works on host memory.)
        stream: Returns the handle of the stream that work is queued on; default: torch's current stream.
    """

    def __init__(
        self, library: ctypes.CDLL, device: torch.device, stream: Callable[[torch.device], int] | None = None
    ) -> None:
        self.library = declared(library)
        self.device = device
        self._stream = stream or current_stream

    @classmethod
    def load(cls, path: Path, device: torch.device) -> Kernel:
        """Load the kernels from a file. Unavailable if it cannot be loaded or was built from other sources."""
        try:
            kernel = cls(ctypes.CDLL(str(path)), device)
        except OSError as error:
            raise Unavailable(f"{path} does not load: {first_error_line(str(error))}") from error
        if (built_from := kernel.library.unept_cuda_sources().decode()) != cuda_build.source_hash():
            raise Unavailable(f"{path} was built from other sources ({built_from or 'unnamed'})")
        return kernel

    def forward(
        self,
        value_BSHD: Tensor,
        reference_Q2: Tensor,
        offsets_BQHLP2: Tensor,
        logits_BQHLP: Tensor,
        shapes: Sequence[int],
    ) -> tuple[Tensor, Tensor]:
        """Return the sampled sum (B, Q, H * D), and (B, H, Q, 2).

        The largest logit and 1 / the sum of the exponentials.

        Raises:
            ValueError: For tensors that the kernels do not take.
            RuntimeError: For an error of the device.
        """
        sizes = sizes_of(self.device, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
        wide = computed_in(value_BSHD.dtype)
        result = value_BSHD.new_empty((sizes.batch, sizes.queries, sizes.heads * sizes.channels), dtype=wide)
        softmax = value_BSHD.new_empty((sizes.batch, sizes.heads, sizes.queries, 2), dtype=wide)
        inputs = [tensor.contiguous() for tensor in (value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP)]
        self._run("forward", sizes, shapes, value_BSHD.dtype, [*inputs, result, softmax])
        return result, softmax

    def backward(
        self,
        gradient_BQC: Tensor,
        value_BSHD: Tensor,
        reference_Q2: Tensor,
        offsets_BQHLP2: Tensor,
        logits_BQHLP: Tensor,
        result_BQC: Tensor,
        softmax_BHQ2: Tensor,
        shapes: Sequence[int],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the value, the offsets and the logits. Errors as in `forward`.

        The value's gradient is a sum in random order: if torch is set to be deterministic this raises or warns.
        """
        _alert_if_deterministic()
        sizes = sizes_of(self.device, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
        wide, sum_shape = computed_in(value_BSHD.dtype), (sizes.batch, sizes.queries, sizes.heads * sizes.channels)
        check_tensor("the result's gradient", gradient_BQC, sum_shape, device=self.device, dtype=wide)
        check_tensor("the result", result_BQC, sum_shape, device=self.device, dtype=wide)
        softmax_shape = (sizes.batch, sizes.heads, sizes.queries, 2)
        check_tensor("the softmax", softmax_BHQ2, softmax_shape, device=self.device, dtype=wide)
        inputs = (gradient_BQC, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, result_BQC, softmax_BHQ2)
        by_value, by_offsets, by_logits = (
            like.new_empty(like.shape) for like in (value_BSHD, offsets_BQHLP2, logits_BQHLP)
        )
        by_value_wide = by_value if by_value.dtype == wide else by_value.new_empty(by_value.shape, dtype=wide)
        tensors = [*(tensor.contiguous() for tensor in inputs), by_value, by_value_wide, by_offsets, by_logits]
        self._run("backward", sizes, shapes, value_BSHD.dtype, tensors)
        return by_value, by_offsets, by_logits

    def _run(
        self, name: str, sizes: Sizes, shapes: Sequence[int], value_type: torch.dtype, tensors: Sequence[Tensor]
    ) -> None:
        assert all(tensor.is_contiguous() for tensor in tensors)
        sides = (ctypes.c_int64 * len(shapes))(*shapes)
        function = getattr(self.library, f"unept_msda_cuda_{name}")
        pointers = [tensor.data_ptr() for tensor in tensors]
        code = function(
            ctypes.byref(sizes),
            sides,
            VALUE_TYPES[value_type],
            self.device.index or 0,
            self._stream(self.device),
            *pointers,
        )
        if code:
            reason = self.library.unept_cuda_message(code).decode(errors="replace")
            raise RuntimeError(f"the CUDA attention kernel ({name}) ended with error {code}: {reason}")


def current_stream(device: torch.device) -> int:
    """Return the handle of torch's current stream on ``device``; 0 if there are no streams."""
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0


def _alert_if_deterministic() -> None:
    """Raise RuntimeError, or warn, if torch is set to use deterministic algorithms only."""
    if torch.are_deterministic_algorithms_enabled():
        message = "the gradient of deformable attention's values on CUDA is a sum in an order left to chance"
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError(f"{message}, and torch.use_deterministic_algorithms is on")
        warnings.warn(message, stacklevel=3)
