"""Table 7: what each network holds and computes at full size, and the same networks trained at the preset's size.

`networks` are the published ones, for counting. `variants` are the rows as a study trains them: under one recipe, on
the preset's own backbone in place of the ResNet and, where the row has a transformer, on its transformer; every width
is reduced by the factor by which the preset reduces UN-EPT's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.config.fields import did_you_mean
from bench.config.grid import Variant
from bench.config.settings import Settings
from experiments.tables import table5, table6
from unept.config import ModelConfig, paper_profile, released_profile

CONTROL = "Ours"
AXES = ("architecture", "backbone", "width")
PUBLISHED_WIDTH = 512  # width of every published network's public configuration, where UN-EPT's is 256
PUBLISHED_ARCHITECTURES = {
    "PSANet": "psanet",
    "UperNet": "upernet",
    "EncNet": "encnet",
    "CCNet": "ccnet",
    "PointRend": "pointrend",
    "DNLNet": "dnlnet",
    "ANL": "anl",
    "OCRNet": "ocrnet",
    "SETR": "setr_mla",
}
PUBLISHED_BACKBONES = {
    "ocrnet": "hrnet_w48",
    "setr_mla": "vit_large",
    "setr_pup": "vit_large",
    "setr_naive": "vit_large",
}
LARGE_SIZE = (1024, 2048)  # height and width that the paper's tool counts at unless told otherwise


@dataclass(frozen=True, kw_only=True)
class Table7Network:
    """One published network: `quoted` is its row of Table 7, "" for none; `size` where it is not that of the others."""

    name: str
    config: ModelConfig
    quoted: str = ""
    size: tuple[int, int] | None = None


def table7_networks(classes: int = 150) -> tuple[Table7Network, ...]:
    """Return the rows of Table 7, then other forms of them that the paper or its code has, or that explain a figure."""
    released, _ = released_profile()
    written, _ = paper_profile()
    networks = [
        Table7Network(name=n, quoted=n, config=_published_network(a))
        for n, a in PUBLISHED_ARCHITECTURES.items()
        if n != "ANL"
    ]
    networks += [
        Table7Network(name="Ours", quoted="Ours", config=replace(released, backbone="deit_base")),
        Table7Network(name="Ours, ResNet50", config=released),
        Table7Network(name="Ours, paper profile", config=replace(written, backbone="deit_base")),
        Table7Network(name="Ours, ResNet50, paper profile", config=written),
        Table7Network(name="SETR, PUP", config=_published_network("setr_pup")),
        Table7Network(name="SETR, Naive", config=_published_network("setr_naive")),
        Table7Network(name="CCNet, ResNet50", config=_published_network("ccnet", "resnet50")),
        Table7Network(name="ANL", config=_published_network("anl")),
        Table7Network(name="ANL, ResNet50", config=_published_network("anl", "resnet50")),
        Table7Network(name="PointRend, 2048x1024", config=_published_network("pointrend"), size=LARGE_SIZE),
    ]
    return tuple(replace(network, config=replace(network.config, classes=classes)) for network in networks)


def check_network_names(names: Sequence[str]) -> None:
    """Raise ValueError for the first of the names that no network of `table7_networks` has."""
    known = [network.name for network in table7_networks()]
    for name in names:
        if name not in known:
            raise ValueError(f"--network {name}: expected one of {'; '.join(known)}{did_you_mean(name, known)}")


def table7_variants(base: Settings) -> tuple[Variant, ...]:
    """Return the rows of the table, ANL of Table 8, and ours on the base backbone, on top of `base`.

    `base.train.backbone_weights` belong to the base backbone; the others start from scratch.

    Raises:
        ValueError: The architecture is not UN-EPT, or the backbone has no transformer beside it here.
    """
    if base.model.architecture != "unept":
        raise ValueError(f"architecture={base.model.architecture}: Table 7 has a row for each, start from unept")
    if base.model.backbone not in table5.STRONGER:
        known = ", ".join(table5.STRONGER)
        raise ValueError(f"backbone {base.model.backbone!r}: the rows of Table 7 start from {known}")
    whole = table6.table6_cell(base, points=table5.POINTS, levels=3)
    rows = {name: _reduced(whole, architecture) for name, architecture in PUBLISHED_ARCHITECTURES.items()}
    rows["Ours"] = _on(whole, table5.STRONGER[base.model.backbone])
    rows["Ours, convolutional"] = whole
    return tuple(
        Variant(name=name, axes={axis: getattr(settings.model, axis) for axis in AXES}, settings=settings)
        for name, settings in rows.items()
    )


def _published_network(architecture: str, backbone: str = "") -> ModelConfig:
    chosen = backbone or PUBLISHED_BACKBONES.get(architecture, "resnet101")
    return ModelConfig(
        architecture=architecture, backbone=chosen, width=PUBLISHED_WIDTH, spatial=False, queries="embed"
    )


def _reduced(whole: Settings, architecture: str) -> Settings:
    """Return a published network under the recipe of `whole`, with plain and auxiliary cross-entropy."""
    base = whole.model.backbone
    if base == "resnet50":
        backbone = PUBLISHED_BACKBONES.get(architecture, "resnet101")
    else:
        backbone = table5.STRONGER[base] if PUBLISHED_BACKBONES.get(architecture) == "vit_large" else base
    factor = PUBLISHED_WIDTH // ModelConfig().width
    model = replace(
        whole.model,
        architecture=architecture,
        width=factor * whole.model.width,
        spatial=False,
        queries="embed",
    )
    loss = replace(whole.loss, weight_refined=0.0, weight_boundary=0.0, weight_direction=0.0)
    return _on(replace(whole, model=model, loss=loss), backbone)


def _on(settings: Settings, backbone: str) -> Settings:
    """Settings with another backbone, which then starts from scratch."""
    weights = settings.train.backbone_weights if backbone == settings.model.backbone else ""
    return replace(
        settings,
        model=replace(settings.model, backbone=backbone),
        train=replace(settings.train, backbone_weights=weights),
    )
