"""The form of a network's name, `timm:NAME` or `module:callable`, checked without an import of it or of torch."""

from __future__ import annotations

from unept.config_rules import check_module


def check_network_spec(spec: str) -> None:
    """Raise ValueError, in one line, for a name of another form and for a module that is not there."""
    module, _, name = spec.partition(":")
    if module == "timm" and name:
        return
    if not (all(part.isidentifier() for part in module.split(".")) and name.isidentifier()):
        raise ValueError(f"--model {spec}: expected timm:NAME or module:callable, as in timm:resnet101")
    check_module(f"--model {spec}", module)
