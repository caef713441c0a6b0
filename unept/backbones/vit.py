"""Vision transformers: the token maps after each third of the blocks, without a final norm."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unept.backbones.base import Backbone
from unept.layers import positions
from unept.utils import torchvision_shim


class VisionTransformer(Backbone):
    """Pre-norm ViT with extra tokens in front.

    Args:
        size: Side in pixels whose token grid the position embedding is stored for.
        patch: Side of a patch in pixels.
        width: Channels of the tokens.
        depth: Number of blocks, at least 3.
        heads: Number of heads.
        mlp_ratio: Hidden channels of a block's MLP over ``width``.
        prefix: Extra tokens: 2 as in DeiT (class and distillation), or 0.
        position_resize: Interpolation of the position embedding for images of another size.

    Raises:
        ValueError: For fewer than 3 blocks, and for heads that do not divide the width.
    """

    def __init__(
        self,
        *,
        size: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        prefix: int = 0,
        position_resize: str = "bilinear",
    ) -> None:
        super().__init__()
        torchvision_shim.ensure()
        from timm.models.vision_transformer import Block, PatchEmbed

        assert prefix in (0, 2), prefix
        if depth < 3:
            raise ValueError(f"a transformer backbone of {depth} blocks does not give 3 levels")
        if width % heads:
            raise ValueError(f"backbone heads={heads} does not divide the backbone's width of {width}")
        self.prefix, self.position_resize = prefix, position_resize
        self.grid = -(-size // patch)
        self.outputs = tuple(depth * third // 3 for third in (1, 2, 3))
        self.channels, self.strides = (width,) * 3, (patch,) * 3
        if prefix:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
            self.dist_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, prefix + self.grid**2, width))
        self.patch_embed = PatchEmbed(None, patch, embed_dim=width, strict_img_size=False)
        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(
            *(Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        )
        self.reset()

    def reset(self) -> None:
        """Initialise linear layers, position and class token from a normal of 0.02 cut at 2.

        Biases and the distillation token are 0.
        """
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.prefix:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Three token maps (B, width, H / patch, W / patch)."""
        B, _, H, W = image_B3HW.shape
        grid = (H // self.strides[0], W // self.strides[0])
        x = self.patch_embed(image_B3HW)
        if self.prefix:
            x = torch.cat((self.cls_token.expand(B, -1, -1), self.dist_token.expand(B, -1, -1), x), dim=1)
        x = x + self._positions(self.pos_embed, (self.grid, self.grid), grid)
        maps = []
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self.outputs:
                maps.append(x[:, self.prefix :].transpose(1, 2).unflatten(2, grid))
        return maps

    def _positions(self, stored_1SC: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
        if grid == target:
            return stored_1SC
        prefix, embedding = stored_1SC[0, : self.prefix], stored_1SC[0, self.prefix :]
        return torch.cat((prefix, positions.resize_embedding(embedding, grid, target, self.position_resize)))[None]

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict in timm's or DeiT's names (the same).

        The position embedding is resized, the prefix tokens kept.
        """
        own = super().convert(tensors)
        stored = own.get("pos_embed")
        if stored is not None and stored.dim() == 3 and stored.shape[2] == self.pos_embed.shape[2]:
            side = round(max(stored.shape[1] - self.prefix, 0) ** 0.5)
            if side and side**2 == stored.shape[1] - self.prefix:
                own["pos_embed"] = self._positions(stored.float(), (side, side), (self.grid, self.grid))
        return own


def deit_base(size: int, position_resize: str) -> VisionTransformer:
    """Build DeiT-base with distillation token; token maps after blocks 4, 8 and 12 at 1/16."""
    backbone = VisionTransformer(
        size=size, patch=16, width=768, depth=12, heads=12, prefix=2, position_resize=position_resize
    )
    backbone.published = "deit_base_distilled_patch16_384.fb_in1k"
    return backbone


def tiny_vit(size: int, position_resize: str) -> VisionTransformer:
    """Build six blocks of width 64 on 8x8 patches, 0.3 M parameters; token maps after blocks 2, 4 and 6 at 1/8."""
    return VisionTransformer(size=size, patch=8, width=64, depth=6, heads=2, position_resize=position_resize)
