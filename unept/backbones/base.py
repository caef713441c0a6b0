"""What the model asks of a backbone."""

from __future__ import annotations

from torch import Tensor, nn


class Backbone(nn.Module):
    """Calling it with an image (B, 3, H, W), H and W multiples of 16, gives its maps, earliest first."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    published: str = ""  # timm's name of ImageNet weights for it

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """One map (B, channels[i], H / strides[i], W / strides[i]) for each level."""
        raise NotImplementedError

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """A published state dict in this backbone's names and sizes; tensors that it has no use for are left out."""
        own = self.state_dict()
        return {name: tensor for name, tensor in tensors.items() if name in own}
