"""ImageNet weights: from the hub where it can be reached, else from the cache, else one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from unept import backbones
from unept.backbones import hub


class Answers:
    """A hub's client that has one file, or nothing."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.asked: list[tuple[str, str, bool]] = []

    def __call__(self, repository: str, name: str, *, local_files_only: bool) -> str:
        self.asked.append((repository, name, local_files_only))
        if self.path is None:
            raise OSError("not\nfound")
        return str(self.path)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Answers:
    answers = Answers()
    monkeypatch.setattr("huggingface_hub.hf_hub_download", answers)
    monkeypatch.setattr(hub, "_reachable", lambda _: True)
    return answers


def test_what_the_hub_has_is_loaded(client: Answers, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = backbones.make_backbone("lite0", 64)
    client.path = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in made.state_dict().items()}, client.path)
    torch.manual_seed(1)
    found = backbones.make_backbone("lite0", 64, weights="imagenet")
    assert client.asked == [("timm/tf_efficientnet_lite0.in1k", "model.safetensors", False)]
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in made.state_dict().items())


def test_without_a_hub_the_cache_is_asked(client: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_reachable", lambda _: False)
    with pytest.raises(ValueError, match=r"^weights imagenet: timm/deit_base_distilled\S+ is not in the"):
        hub.fetch_imagenet("deit_base_distilled_patch16_384.fb_in1k")
    assert client.asked[0][2]


def test_what_the_client_says_is_one_line(client: Answers) -> None:
    with pytest.raises(ValueError, match=r"and not found; fetch its model.safetensors elsewhere and give that file"):
        hub.fetch_imagenet("resnet50c.gluon_in1k")


def test_a_backbone_without_published_weights(client: Answers) -> None:
    with pytest.raises(ValueError, match="no weights are published for this backbone"):
        backbones.make_backbone("tiny_vit", 64, weights="imagenet")
    assert client.asked == []


def test_whether_something_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hub._PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert not hub._reachable("https://127.0.0.1:1")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    assert hub._reachable("https://127.0.0.1:1")


def test_every_published_name_is_one_of_timms() -> None:
    from timm.models import get_pretrained_cfg

    from unept.published.backbones import TIMM_WEIGHTS

    own = [backbones.make_backbone(name, 32).published for name in ("resnet50", "lite0")]
    for name in (*own, *TIMM_WEIGHTS.values(), "deit_base_distilled_patch16_384.fb_in1k"):
        assert get_pretrained_cfg(name).hf_hub_id == f"timm/{name}"
