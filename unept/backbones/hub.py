"""ImageNet weights from timm's hub: downloaded if the hub can be reached, else read from the local cache."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from unept.catalogue import IMAGENET
from unept.utils import torchvision_shim

PATIENCE = 3.0  # seconds for the hub to answer at all
_PROXIES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")


def fetch_imagenet(published: str) -> Path:
    """Return the safetensors file of timm's model `published`.

    ValueError, one line, if neither hub nor cache has it.
    """
    if not published:
        raise ValueError(f"weights {IMAGENET}: no weights are published for this backbone; give a file, or none")
    torchvision_shim.ensure()
    from huggingface_hub import constants, hf_hub_download
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(published)
    assert config is not None, published
    repository = str(config.hf_hub_id)
    offline = constants.HF_HUB_OFFLINE or not _reachable(constants.ENDPOINT)
    try:
        return Path(hf_hub_download(repository, "model.safetensors", local_files_only=offline))
    except Exception as error:  # the hub's client has errors of its own, and its transport's
        reason = "the hub cannot be reached" if offline else " ".join(str(error).split())[:150]
        raise ValueError(
            f"weights {IMAGENET}: {repository} is not in the local cache and {reason}; fetch its model.safetensors "
            "elsewhere and give that file as backbone weights"
        ) from None


def _reachable(endpoint: str) -> bool:
    """Return True if the hub's address accepts connections; its own client would need a minute to find out.

    Proxies are trusted.
    """
    if any(os.environ.get(name) for name in _PROXIES):
        return True
    address = urlsplit(endpoint)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        with socket.create_connection((address.hostname or "", port), timeout=PATIENCE):
            return True
    except OSError:
        return False
