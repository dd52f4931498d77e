"""Where a decoder's codes come from when they are not N(0, I): a Gaussian or a Gaussian mixture fitted to codes.

Ghose et al. 2020 (EAE) and Ghosh et al. 2020 (RAE, arXiv 1903.12436) report both beside N(0, I).
"""

import torch
from torch import Tensor, nn


class CodeSampler(nn.Module):
    """A mixture of Gaussians with full covariances over codes of d dimensions; N(0, I) until it is fitted.

    Args:
        dimensions: d.
        components: 1 for a single Gaussian.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, dimensions: int, components: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, dimensions))
        self.register_buffer("factors", torch.eye(dimensions).repeat(components, 1, 1))

    @torch.no_grad()
    def fit(self, codes: Tensor) -> None:
        """Fit to codes (n, d) by scikit-learn's expectation maximization, the same way at each call.

        Raises:
            ValueError: fewer codes than components.
        """
        # Costs a second, and most runs don't need it.
        from sklearn.mixture import GaussianMixture

        if len(codes) < len(self.weights):
            raise ValueError(f"{len(codes)} codes are too few for {len(self.weights)} components")
        mixture = GaussianMixture(len(self.weights), random_state=0).fit(codes.double().cpu().numpy())
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.factors.copy_(torch.linalg.cholesky(torch.from_numpy(mixture.covariances_)))

    @torch.no_grad()
    def forward(self, n: int) -> Tensor:
        """``n`` codes (n, d), drawn from torch's random state."""
        component = torch.multinomial(self.weights, n, replacement=True)
        noise = torch.randn(n, self.means.shape[1], device=self.means.device, dtype=self.means.dtype)
        return self.means[component] + (self.factors[component] @ noise[:, :, None]).squeeze(2)
