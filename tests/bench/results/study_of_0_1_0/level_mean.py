import torch
from torch import Tensor, nn


class LevelMean(nn.Module):
    """Every token receives a projection of the mean of its own level."""

    def __init__(self, *, width: int, strength: float = 1.0) -> None:
        super().__init__()
        if strength <= 0:
            raise ValueError(f"strength={strength}: expected more than 0")
        self.strength = strength
        self.project = nn.Linear(width, width)

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: tuple[tuple[int, int], ...]) -> Tensor:
        levels = tokens_BSC.split([height * width for height, width in shapes], dim=1)
        means = [level.mean(dim=1, keepdim=True).expand_as(level) for level in levels]
        return self.strength * self.project(torch.cat(means, dim=1))
