"""Our synchronised batch norm, in a group of one process, is the batch norm that it replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import distributed, nn

from unept.layers.sync_batch_norm import SyncedBatchNorm, synchronise
from unept.utils import torchvision_shim


def activating() -> nn.Module:
    torchvision_shim.ensure()
    from timm.layers import BatchNormAct2d

    return BatchNormAct2d(3, act_layer=nn.ReLU6)


@pytest.fixture(scope="module", autouse=True)
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = distributed.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def trained(norm: nn.Module, synced: bool) -> list[torch.Tensor]:
    """Outputs, gradients, buffers and what evaluation gives after three batches."""
    torch.manual_seed(0)
    model = nn.Sequential(norm, nn.Conv2d(3, 3, 1)).double().train()
    if synced:
        synchronise(model)
        assert isinstance(model[0], SyncedBatchNorm)
    found = []
    for _ in range(3):
        image = torch.randn(4, 3, 5, 6, dtype=torch.float64).requires_grad_()
        output = model(image)
        (output * torch.randn_like(output)).sum().backward()
        assert image.grad is not None
        found += [output.detach(), image.grad]
    found += [*model.state_dict().values(), *(each.grad for each in model.parameters() if each.grad is not None)]
    with torch.no_grad():
        return [*found, model.eval()(torch.randn(1, 3, 2, 2, dtype=torch.float64))]


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm2d(3),
        lambda: nn.BatchNorm2d(3, momentum=None, eps=0.1),
        lambda: nn.BatchNorm2d(3, affine=False),
        activating,
    ],
    ids=["plain", "cumulative", "without weights", "timm's, which activates"],
)
def test_it_computes_what_it_replaces(make: Callable[[], nn.Module]) -> None:
    ours, theirs = (trained(make(), synced) for synced in (True, False))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
