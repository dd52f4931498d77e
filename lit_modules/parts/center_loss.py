"""Center loss: a loss on an intermediate layer, with parameters of its own.

Source: Wen, Zhang, Li and Qiao, "A discriminative feature learning approach for deep face recognition", ECCV 2016.
Here, as in the series of article 4, the centers are parameters that the model's optimizer learns.
"""

import torch
from torch import Tensor, nn

from lit_modules.parts.added_losses import add_loss


class CenterLoss(nn.Module):
    """Pulls features to the center of their class, E 0.5 |f - c_y|^2, wherever a model has it: it adds its own loss.

    Args:
        classes: number of classes.
        features: numbers d in a feature.
        weight: of the loss.
    """

    def __init__(self, classes: int, features: int, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.centers = nn.Parameter(torch.zeros(classes, features))

    def forward(self, f: Tensor, y: Tensor) -> Tensor:
        """Features (B, d), as they are, of classes (B,)."""
        add_loss("center", 0.5 * (f - self.centers[y]).square().sum(dim=1).mean(), weight=self.weight)
        return f
