"""Noise models: how an observation scatters around its mechanism's prediction.

A noise model is a module with two methods. ``linearize`` turns observations into a weighted linear
regression, so that adapting to a task stays closed-form; ``forward`` gives the law of x.
"""

from typing import Protocol, runtime_checkable

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.errors import ConfigError

__all__ = ["GaussianNoise", "Noise"]


@runtime_checkable
class Noise(Protocol):
    """What the model asks of a noise model; built as ``cls(num_variables, num_features)``."""

    def linearize(
        self,
        x: Float[Tensor, "task sample variable"],
        features: Float[Tensor, "*draw task variable sample feature"],
    ) -> tuple[
        Float[Tensor, "*draw task sample variable"],
        Float[Tensor, "*draw task sample variable"] | None,
    ]:
        """Return ``(response, precision)`` so that response = f(parents) + noise / sqrt(precision).

        A precision of None is 1 everywhere.
        """
        ...

    def __call__(
        self,
        loc: Float[Tensor, "*draw task sample variable"],
        features: Float[Tensor, "*draw task variable sample feature"],
    ) -> TorchDistributionMixin:
        """Law of x ``[*draw, task, sample, variable]`` around the prediction `loc`."""
        ...


class GaussianNoise(PyroModule):
    r"""Additive noise :math:`\epsilon_i \sim N(0, s^2)`; s = 1 in standardised units is Eq. 2's.

    Args:
        num_variables: d; unused, every variable has the same scale.
        num_features: Features of a mechanism; unused.
        scale: s, in standard deviations of the pooled training data.

    Raises:
        ConfigError: `scale` is not positive.
    """

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
