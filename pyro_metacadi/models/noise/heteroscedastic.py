"""Gaussian noise whose scale depends on the parents."""

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.protocol import bounded

__all__ = ["HeteroscedasticNoise"]


class HeteroscedasticNoise(PyroModule):
    r"""Additive noise :math:`\epsilon_i \sim N(0, s_i^2)`, :math:`\log s_i = v_i^\top h(parents)`.

    h are the interventional mechanisms' features, of which the last is constant; v is learned with
    everything else. Scales begin with 1 and stay within exp(±`limit`) standard deviations of the
    pooled training data. The ridge problem of a task is weighted, and stays closed-form.

    Args:
        num_variables: d.
        num_features: Features of a mechanism.
        limit: Largest absolute log scale.

    Raises:
        ConfigError: `limit` is not positive.

    Source: Goldberg, Williams and Bishop, Regression with input-dependent noise, NIPS 1997, of
    which this is the parametric form.
    """

    def __init__(self, num_variables: int, num_features: int, *, limit: float = 3.0) -> None:
        super().__init__()
        if not limit > 0:
            raise ConfigError(f"limit: expected a number > 0, got {limit}. Try 3.0.")
        self.limit = limit
        self.weight = torch.nn.Parameter(torch.zeros(num_variables, num_features))

    def log_scale(
        self, features: Float[Tensor, "*draw task variable sample feature"]
    ) -> Float[Tensor, "*draw task sample variable"]:
        """Log scale of every value."""
        linear = (features @ self.weight.unsqueeze(-1)).squeeze(-1)
        return bounded(linear, self.limit).transpose(-1, -2)

    def linearize(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The observations themselves, with precision 1 / s_i² (see `Noise.linearize`); exact."""
        return x, torch.exp(-2 * self.log_scale(features))

    def forward(self, loc: Tensor, features: Tensor) -> TorchDistributionMixin:
        """Normal(loc, s)."""
        return dist.Normal(loc, self.log_scale(features).exp())
