"""Interface of a backbone."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """Network from an image (B, 3, H, W), H and W multiples of 16, to a list of maps, earliest first.

    Attributes:
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        published: timm's name of its ImageNet weights; "" if there are none.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    published: str = ""  # timm's name of ImageNet weights for it

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Return one map (B, channels[i], H / strides[i], W / strides[i]) for each level."""
        raise NotImplementedError

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert a published state dict to this backbone's names and sizes.

        Tensors that it does not have are left out.
        """
        own = self.state_dict()
        return {name: tensor for name, tensor in tensors.items() if name in own}
