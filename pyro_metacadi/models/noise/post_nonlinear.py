"""Variables seen through an increasing function of their own."""

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import constraints
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import functional

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.gaussian import LOG_LIMIT
from pyro_metacadi.models.noise.protocol import bounded
from pyro_metacadi.ops.warp import Warp

__all__ = ["PostNonlinearNoise"]

LOG_STEEPNESS_LIMIT = 2.0
FIRST_HEIGHT = -3.0
"""Bumps begin with heights of softplus(-3) = 0.05: g is nearly the identity."""


class PostNonlinearNoise(PyroModule):
    r"""Distortions after noise: :math:`x_i = g_i(f_i + \epsilon_i), \epsilon_i \sim N(0, s_i^2)`.

    What is learned of the increasing g is its inverse, the sum of a line and some tanh steps (see
    `Warp`), which maps -1 to -1 and 1 to 1: so that the scale s is identified. Predictions, and the
    ridge problem of a task, are in the units of :math:`z = g^{-1}(x)`, in which noise is additive.
    The density of x is exact, :math:`N(g^{-1}(x); f, s^2)\, |dz / dx|`; to sample, g is computed to
    float precision.

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused.
        num_steps: tanh steps of each variable's function.

    Raises:
        ConfigError: `num_steps` is less than 1.

    Source: Zhang and Hyvärinen, On the identifiability of the post-nonlinear causal model, UAI
    2009; the function is that of Snelson, Rasmussen and Ghahramani, Warped Gaussian processes, NIPS
    2003.
    """

    reads_features = False

    def __init__(self, num_variables: int, num_features: int, *, num_steps: int = 5) -> None:
        super().__init__()
        if num_steps < 1:
            raise ConfigError(f"num_steps: expected at least 1, got {num_steps}. Try 5.")
        shape = (num_variables, num_steps)
        self.log_scale = torch.nn.Parameter(torch.zeros(num_variables))
        self.raw_height = torch.nn.Parameter(torch.full(shape, FIRST_HEIGHT))
        self.log_steepness = torch.nn.Parameter(torch.zeros(shape))
        spread = torch.linspace(-2, 2, num_steps + 2)[1:-1]
        self.centre = torch.nn.Parameter(spread.repeat(num_variables, 1))

    @property
    def scale(self) -> Float[Tensor, " variable"]:
        """s, in units of z: as a standard deviation of x for the identity g."""
        return bounded(self.log_scale, LOG_LIMIT).exp()

    @property
    def inverse(self) -> Warp:
        """The inverse of g: from x to z."""
        return Warp(
            height=functional.softplus(self.raw_height),
            steepness=bounded(self.log_steepness, LOG_STEEPNESS_LIMIT).exp(),
            centre=self.centre,
        )

    def linearize(self, x: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """z and its precision 1 / s_i² (see `Noise.linearize`); exact."""
        return self.inverse(x), self.scale.pow(-2).expand_as(x)

    def forward(self, loc: Tensor, features: Tensor) -> TorchDistributionMixin:
        """Law of g(z), z ~ Normal(loc, s)."""
        return dist.TransformedDistribution(dist.Normal(loc, self.scale), [_Unwarp(self.inverse)])


class _Unwarp(dist.transforms.Transform):
    """g, given its inverse."""

    domain = codomain = constraints.real
    bijective, sign = True, 1

    def __init__(self, inverse: Warp) -> None:
        super().__init__()
        self._inverse_map = inverse

    def _call(self, x: Tensor) -> Tensor:
        return self._inverse_map.solve(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._inverse_map(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self._inverse_map.log_slope(y)
