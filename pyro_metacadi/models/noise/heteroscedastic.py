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
    r"""Additive noise :math:`\epsilon_i \sim N(0, s_i^2)`, :math:`\log s_i = b_i + v_i^\top h`.

    h are the interventional mechanisms' features of the parents; b and v are learned with
    everything else. Scales begin with 1 and stay within exp(±`limit`) standard deviations of the
    pooled training data. The ridge problem of a task is weighted, and stays closed-form.

    Scales take features, and the graph behind them, as given: they give neither a gradient, and
    what depends on the parents is learned at `rate` of the speed of the rest. Otherwise values that
    a wrong graph predicts badly are soon explained as noise, and edges and targets are worse, not
    better, than with noise of one scale (docs/accuracy.md). Gradient steps of an adaptation
    (`MAMLAdaptation`) take scales as given, too.

    Args:
        num_variables: d.
        num_features: Features of a mechanism.
        limit: Largest absolute log scale.
        rate: Factor of v.

    Raises:
        ConfigError: `limit` or `rate` is not positive.

    Source: Goldberg, Williams and Bishop, Regression with input-dependent noise, NIPS 1997, of
    which this is the parametric form.
    """

    def __init__(
        self, num_variables: int, num_features: int, *, limit: float = 3.0, rate: float = 0.3
    ) -> None:
        super().__init__()
        for name, value, default in (("limit", limit, 3.0), ("rate", rate, 0.3)):
            if not value > 0:
                raise ConfigError(f"{name}: expected a number > 0, got {value}. Try {default}.")
        self.limit, self.rate = limit, rate
        self.base = torch.nn.Parameter(torch.zeros(num_variables))
        self.weight = torch.nn.Parameter(torch.zeros(num_variables, num_features))

    def log_scale(
        self, features: Float[Tensor, "*draw task variable sample feature"]
    ) -> Float[Tensor, "*draw task sample variable"]:
        """Log scale of every value."""
        varying = (features.detach() @ self.weight.unsqueeze(-1)).squeeze(-1)
        log_scale = self.base.unsqueeze(-1) + self.rate * varying
        return bounded(log_scale, self.limit).transpose(-1, -2)

    def linearize(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The observations themselves, with precision 1 / s_i² (see `Noise.linearize`); exact."""
        return x, torch.exp(-2 * self.log_scale(features))

    def forward(self, loc: Tensor, features: Tensor) -> TorchDistributionMixin:
        """Normal(loc, s)."""
        return dist.Normal(loc, self.log_scale(features).exp())
