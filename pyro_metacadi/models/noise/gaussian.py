"""Gaussian noise, of one fixed scale or of a learned scale for each variable."""

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.protocol import bounded

__all__ = ["GaussianNoise", "LearnedGaussianNoise"]

LOG_LIMIT = 5.0
"""Scales stay within exp(±5) standard deviations: that of a constant would shrink for ever."""


class GaussianNoise(PyroModule):
    r"""Additive noise :math:`\epsilon_i \sim N(0, s^2)`; s = 1 in standardised units is Eq. 2's.

    Args:
        num_variables: d; unused, every variable has the same scale.
        num_features: Features of a mechanism; unused.
        scale: s, in standard deviations of the pooled training data.

    Raises:
        ConfigError: `scale` is not positive.
    """

    reads_features = False
    scale: Tensor

    def __init__(self, num_variables: int, num_features: int, *, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ConfigError(f"scale: expected a number > 0, got {scale}. Try 1.0.")
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    def linearize(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The observations themselves, with precision 1 / s² (see `Noise.linearize`)."""
        return x, self.scale.pow(-2).expand_as(x)

    def forward(self, loc: Tensor, features: Tensor) -> TorchDistributionMixin:
        """Normal(loc, s)."""
        return dist.Normal(loc, self.scale)


class LearnedGaussianNoise(PyroModule):
    r"""Additive noise :math:`\epsilon_i \sim N(0, s_i^2)`, s_i learned with everything else.

    The scales begin with 1 standard deviation of the pooled training data, which is Eq. 2's.

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused.
    """

    reads_features = False

    def __init__(self, num_variables: int, num_features: int) -> None:
        super().__init__()
        self.log_scale = torch.nn.Parameter(torch.zeros(num_variables))

    @property
    def scale(self) -> Float[Tensor, " variable"]:
        """s, in standard deviations of the pooled training data."""
        return bounded(self.log_scale, LOG_LIMIT).exp()

    def linearize(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The observations themselves, with precision 1 / s_i² (see `Noise.linearize`)."""
        return x, self.scale.pow(-2).expand_as(x)

    def forward(self, loc: Tensor, features: Tensor) -> TorchDistributionMixin:
        """Normal(loc, s)."""
        return dist.Normal(loc, self.scale)
