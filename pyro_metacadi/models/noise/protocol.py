"""What the model asks of a noise model."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

__all__ = ["Noise", "bounded"]


def bounded(value: Tensor, limit: float) -> Tensor:
    """Bend `value` softly to within `limit` of 0; near 0 it stays as it is."""
    return limit * torch.tanh(value / limit)


@runtime_checkable
class Noise(Protocol):
    """What the model asks of a noise model; built as ``cls(num_variables, num_features)``.

    One with ``reads_features = False`` is given features of width 0, which saves memory.

    The values x are standardised, unless it has ``response = "counts"``: then they are raw counts,
    predictions and the response are in the standardised units in which mechanisms read them,
    methods are told the rows' sizes as well, and residuals are the law's (see `CountNoise`, which
    such a model extends). Otherwise residuals are those of `linearize`.
    """

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
