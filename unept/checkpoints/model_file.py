"""A trained model as a file: weights as safetensors, and their description in JSON, inside that file and beside it.

`model.safetensors` is complete: its metadata hold the description and a SHA-256 of description and tensors, so that a
changed bit anywhere is detected. `model.json` has the same content for people and other programs; it is written second
and never read back. Nothing is unpickled, nothing is built before its tensors are known to be in the file, and the code
of a user's own attention is imported only if the caller allows it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from unept.checkpoints.description import LARGEST, SUFFIX, check_facts, config_values, read_classes, read_config
from unept.checkpoints.released_model import load_released
from unept.config import SLOTS, ModelConfig
from unept.data.sample import Colour
from unept.model import build
from unept.utils.atomic_files import atomic_write
from unept.utils.finite import non_finite_names, one_and_more
from unept.utils.imagenet import MEAN, STD
from unept.utils.paths import special_file

FORMAT = "unept-bench checkpoint"
VERSION = 1
_NORMALISATION = {"mean": list(MEAN), "std": list(STD)}
_FIELDS = ("config", "classes", "palette", "normalisation", "facts", "backbone_heads")


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """Content of a checkpoint file.

    Attributes:
        model: The model, in evaluation mode on the CPU.
        config: Its configuration.
        classes: Names of the classes.
        palette: Colours of the classes.
        facts: Plain values that the writer added: step, seed, data, protocol.
        digest: SHA-256 of the content, independent of the file's name and place.
    """

    model: nn.Module
    config: ModelConfig
    classes: tuple[str, ...]
    palette: tuple[Colour, ...]
    facts: dict[str, Any]
    digest: str


def save_model(
    path: Path,
    model: nn.Module,
    config: ModelConfig,
    *,
    classes: Sequence[str],
    palette: Sequence[Colour],
    facts: Mapping[str, Any],
    backbone_heads: int | None = None,
) -> None:
    """Write a model to `path` (.safetensors) and its description beside it (.json).

    A crash leaves the old pair or the new one, or the new weights beside the old description, which is not read.

    Args:
        path: File to write; its name ends in .safetensors.
        model: What `unept.build(config)` or `unept.load_released` made.
        config: Its configuration.
        classes: Names of the classes.
        palette: Colours of the classes.
        facts: Plain values to keep.
        backbone_heads: For a model of `unept.load_released` with other widths than the configuration's backbone: the
            value that it was loaded with.

    Raises:
        ValueError: For another suffix, names or colours that are not one for each class, tensors that are not those of
            a new model of `config` by name, shape and type, and facts that JSON cannot hold.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a checkpoint's name ends in {SUFFIX}")
    content = {
        "config": config_values(config),
        "classes": [*classes],
        "palette": [[*colour] for colour in palette],
        "normalisation": _NORMALISATION,
        "facts": {**facts},
        "backbone_heads": backbone_heads,
    }
    read_classes(content, config)
    check_facts(facts)
    check_storable(model.state_dict())
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    _check_layout(tensors, config, backbone_heads)
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, **content}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: facts that JSON cannot hold ({error})") from None
    digest = digest_of(text, tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, to_bytes(tensors, metadata={"unept": text, "sha256": digest}))
    beside = json.dumps({**json.loads(text), "sha256": digest}, indent=1) + "\n"
    atomic_write(path.with_suffix(".json"), beside.encode())


def check_savable(
    config: ModelConfig, *, classes: Sequence[str], palette: Sequence[Colour], facts: Mapping[str, Any]
) -> None:
    """Check before a long training that `save_model` will take the trained model, and `load_model` read it.

    A user's attention is tried on one batch in training and in evaluation, since it may make its buffers there.

    Args:
        config: What is trained.
        classes: Names of the classes.
        palette: Colours of the classes.
        facts: Facts that are known before.

    Raises:
        ValueError: Names the class, the fact or the tensor.
    """
    read_classes({"classes": [*classes], "palette": [[*colour] for colour in palette]}, config)
    check_facts(facts)
    device = _sketch_device(config)
    with torch.device(device), torch.no_grad():
        model = build(config)
        if device == "cpu":
            images = torch.zeros(2, 3, config.size, config.size)
            model.train()(images)
            model.eval()(images)
    check_storable(model.state_dict())
    _check_layout(model.state_dict(), config, None)


def check_storable(state: Mapping[str, object]) -> None:
    """Raise ValueError that names the first entry of a state dict that a safetensors file cannot hold."""
    advice = "a checkpoint cannot hold it; leave it out of the state, as with register_buffer(..., persistent=False)"
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is a {type(value).__name__} and no tensor: {advice}")
        if is_lazy(value):
            raise ValueError(f"{name} has no size before the first forward pass: {advice}")
        if value.layout != torch.strided or value.is_quantized or value.is_nested:
            kind = "quantized" if value.is_quantized else str(value.layout).removeprefix("torch.")
            raise ValueError(f"{name} is a {kind} tensor: {advice}")
        if not _is_storable_type(value.dtype):
            raise ValueError(f"{name} is {value.dtype}: {advice}")


@cache
def _is_storable_type(dtype: torch.dtype) -> bool:
    try:
        to_bytes({"": torch.zeros(1, dtype=dtype, device="cpu")})
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError):
        return False
    return True


def load_model(path: Path, *, own_modules: bool = False) -> SavedModel:
    """Load the model in `path`.

    Args:
        path: File that `save_model` wrote.
        own_modules: Import an attention that the file names as `module:Class`.

    Raises:
        ValueError: One line that names the file, if it is missing, truncated, changed, of another program or version,
            or its tensors do not fit its description or are not finite.
    """
    tensors, metadata = _read(path)
    try:
        content = _content(metadata, tensors)
        config = read_config(content["config"], own_modules=own_modules)
        if config.encoder_layers + config.decoder_layers > len(tensors):
            raise ValueError(f"describes {config.encoder_layers + config.decoder_layers} layers, more than its tensors")
        classes, palette = read_classes(content, config)
        model = _model(config, tensors, content["backbone_heads"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return SavedModel(
        model=model, config=config, classes=classes, palette=palette, facts=content["facts"], digest=metadata["sha256"]
    )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file. ValueError that names it."""
    if path.is_dir():
        raise ValueError(f"{path}: a folder, no checkpoint; its files end in {SUFFIX}")
    try:
        if special := special_file(path):
            raise ValueError(f"{path}: {special}, not a file")
        with safe_open(path, framework="pt") as content:
            names = content.keys()
            return {name: content.get_tensor(name) for name in names}, dict(content.metadata() or {})
    except FileNotFoundError:
        raise ValueError(f"{path}: file does not exist") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    except (SafetensorError, RuntimeError, TypeError, AttributeError) as error:  # the last three: types without a name
        with open(path, "rb") as file:
            pickled = file.read(4).startswith((b"PK\x03\x04", b"\x80"))
        if pickled:
            raise ValueError(
                f"{path}: a file of torch.save, which is not read as a checkpoint; see `convert`"
            ) from None
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: cut off, damaged or no {SUFFIX} file ({reason})") from None


def _content(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the description after checking its format and its hash."""
    text = metadata.get("unept")
    if text is None:
        raise ValueError(f"no description of {FORMAT} in it: weights of another program")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its description is damaged: no JSON") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"its description is not that of a {FORMAT}")
    if content.get("version") != VERSION:
        raise ValueError(f"format {content.get('version')!r}; this program reads {VERSION}")
    if metadata.get("sha256") != digest_of(text, tensors):
        raise ValueError("damaged: description or weights are not those that were written (SHA-256)")
    missing = [name for name in _FIELDS if name not in content]
    if missing:
        raise ValueError(f"its description has no {missing[0]}")
    if content["normalisation"] != _NORMALISATION:
        raise ValueError(f"normalised by {content['normalisation']}; this program uses {_NORMALISATION}")
    if not isinstance(content["facts"], dict):
        raise ValueError("its facts are no mapping")
    check_facts(content["facts"])
    return content


def digest_of(text: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the description and of name, type, shape and bytes of every tensor."""
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


# --- the model --------------------------------------------------------------------------------------------------------


def _model(config: ModelConfig, tensors: dict[str, Tensor], backbone_heads: object) -> nn.Module:
    """Build the model with its weights. The tensors are first compared with a model that is built without memory."""
    _check_layout(tensors, config, backbone_heads)
    model = _guarded(lambda: _made(config, tensors, backbone_heads))
    # A user's module may begin with such values, as a mask of minus infinity; a released model is loaded already.
    begins_with = non_finite_names(model.state_dict()) if backbone_heads is None else frozenset()
    if spoilt := non_finite_names(tensors) - begins_with:
        raise ValueError(f"its weights are not finite: {one_and_more(spoilt)}")
    model.load_state_dict(tensors)
    return model.eval()


def _sketch_device(config: ModelConfig) -> str:
    """Return the device on which a model is built to be compared: the CPU for a user's module, else without memory."""
    return "cpu" if any(":" in getattr(config, slot) for slot in SLOTS) else "meta"


def _check_layout(tensors: Mapping[str, Tensor], config: ModelConfig, backbone_heads: object) -> None:
    """Raise ValueError unless the tensors are those of a new model by name, shape and type."""
    device = _sketch_device(config)
    with torch.device(device):
        sketch = _guarded(lambda: _made(config, {n: t.to(device) for n, t in tensors.items()}, backbone_heads))
    expected = sketch.state_dict()
    for name in [*expected, *tensors]:
        stored, wanted = tensors.get(name), expected.get(name)
        if stored is None or wanted is None:
            raise ValueError(f"{name} is {'missing' if stored is None else 'no tensor of the model it describes'}")
        if stored.shape != wanted.shape:
            raise ValueError(f"{name} is {tuple(stored.shape)}, the model it describes has {tuple(wanted.shape)}")
        if stored.dtype != wanted.dtype:
            raise ValueError(f"{name} is {stored.dtype}, the model it describes has {wanted.dtype}")


def _made(config: ModelConfig, tensors: dict[str, Tensor], backbone_heads: object) -> nn.Module:
    if backbone_heads is None:
        return build(config)
    if type(backbone_heads) is not int or not 1 <= backbone_heads <= LARGEST:
        raise ValueError(f"backbone_heads is {backbone_heads!r}: expected a whole number from 1, or nothing")
    model = load_released(tensors, heads=config.heads, backbone_heads=backbone_heads)
    if model.config != config:
        raise ValueError("its tensors are of another released model than its config says")
    return model


def _guarded(make: Callable[[], nn.Module]) -> nn.Module:
    """Return the result of `make`. Values of the right type that do not describe a model are a ValueError too."""
    try:
        return make()
    except ValueError:
        raise
    except Exception as error:  # raised by layers' constructors, and by a user's own code
        reason = " ".join(str(error).split())
        raise ValueError(f"its config describes no model ({type(error).__name__}: {reason})") from None
