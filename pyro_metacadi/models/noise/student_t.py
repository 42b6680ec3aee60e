"""Heavy-tailed noise."""

import math

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.gaussian import LOG_LIMIT
from pyro_metacadi.models.noise.protocol import bounded

__all__ = ["StudentTNoise"]

LOG_EXCESS_LIMIT = 4.0
"""Degrees of freedom stay between 2 + exp(-4) and 2 + exp(4), where the law is hardly another's."""


class StudentTNoise(PyroModule):
    r"""Additive noise :math:`\epsilon_i \sim s_i\, t_{\nu_i}`, both parameters learned.

    Readouts are adapted by the **best linear estimate**: ridge regression with the noise's variance
    :math:`s_i^2 \nu_i / (\nu_i - 2)` in place of a Gaussian's. It is the posterior mean under a
    Gaussian of matched variance; the exact one, in which outliers weigh less, has no closed form.
    The law of x is exact. That of torch waits for the host: steps on a GPU cannot be recorded
    (`Training.cuda_graphs`).

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused.
        degrees_of_freedom: To begin with; between 2 and 50. Few explain as outliers what edges
            should explain, before there are any. Scales begin with 1.

    Raises:
        ConfigError: `degrees_of_freedom` is out of range.

    Source: Lange, Little and Taylor, Robust statistical modeling using the t distribution, JASA
    1989.
    """

    reads_features = False

    def __init__(
        self, num_variables: int, num_features: int, *, degrees_of_freedom: float = 30.0
    ) -> None:
        super().__init__()
        if not 2 < degrees_of_freedom <= 50:
            raise ConfigError(
                f"degrees_of_freedom: expected a number above 2, up to 50, got "
                f"{degrees_of_freedom}. Try 30.0."
            )
        self.log_scale = torch.nn.Parameter(torch.zeros(num_variables))
        start = max(math.log(degrees_of_freedom - 2) / LOG_EXCESS_LIMIT, -0.999)
        excess = torch.full((num_variables,), LOG_EXCESS_LIMIT * math.atanh(start))
        self.log_excess = torch.nn.Parameter(excess)

    @property
    def scale(self) -> Float[Tensor, " variable"]:
        """s, in standard deviations of the pooled training data; the noise's own is larger."""
        return bounded(self.log_scale, LOG_LIMIT).exp()

    @property
    def degrees_of_freedom(self) -> Float[Tensor, " variable"]:
        """ν."""
        return 2 + bounded(self.log_excess, LOG_EXCESS_LIMIT).exp()

    def linearize(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The observations, with one over the noise's variance as precision (see the class)."""
        df = self.degrees_of_freedom
        return x, ((df - 2) / (df * self.scale.square())).expand_as(x)

    def forward(self, loc: Tensor, features: Tensor) -> TorchDistributionMixin:
        """StudentT(ν, loc, s)."""
        return dist.StudentT(self.degrees_of_freedom, loc, self.scale)
