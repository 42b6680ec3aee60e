"""Priors over the edges of the graph."""

from typing import Protocol, runtime_checkable

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.errors import ConfigError

__all__ = ["GraphPrior", "SparseGraphPrior"]


@runtime_checkable
class GraphPrior(Protocol):
    """What the model asks of a graph prior: called without arguments, the law of `edge`."""

    def __call__(self) -> TorchDistributionMixin:
        """A distribution with event shape ``[parent, child]`` over 0/1 edge indicators."""
        ...


class SparseGraphPrior(PyroModule):
    r"""Independent edges: ``edge[i, j] ~ Bernoulli(p_ij)``, the diagonal masked out.

    The order is uniform, so an indicator counts in half of all orders: the prior probability of
    X_i -> X_j is p_ij / 2.

    Args:
        num_variables: d.
        probability: p, one number or a matrix ``[parent, child]`` with values in (0, 1). Default:
            half an expected parent per variable (fewer if d < 3), ``min(1/2, 1 / (d - 1))``.

    Raises:
        ConfigError: If a probability lies outside (0, 1) or the matrix has another shape.
    """

    probability: Tensor

    def __init__(self, num_variables: int, *, probability: float | ArrayLike | None = None) -> None:
        super().__init__()
        if probability is None:
            probability = min(0.5, 1 / max(1, num_variables - 1))
        matrix = _probability_matrix(probability, num_variables)
        self.register_buffer("probability", matrix, persistent=False)

    @property
    def off_diagonal(self) -> Tensor:
        """Mask of the pairs that may be edges."""
        d = self.probability.shape[0]
        return ~torch.eye(d, dtype=torch.bool, device=self.probability.device)

    def forward(self) -> TorchDistributionMixin:
        """The law of `edge`, event shape ``[parent, child]``."""
        return dist.Bernoulli(self.probability).mask(self.off_diagonal).to_event(2)


def _probability_matrix(
    probability: float | ArrayLike, num_variables: int
) -> Float[Tensor, "parent child"]:
    values = np.asarray(probability, dtype=float)
    shape = (num_variables, num_variables)
    if values.shape not in ((), shape):
        raise ConfigError(
            f"graph_prior: expected one probability or a matrix {list(shape)} [parent, child], got "
            f"shape {list(values.shape)}. Pass one row and one column per variable."
        )
    matrix = torch.as_tensor(np.broadcast_to(values, shape).copy(), dtype=torch.float32)
    inside = (matrix > 0) & (matrix < 1) | torch.eye(num_variables, dtype=torch.bool)
    if not inside.all():
        i, j = torch.nonzero(~inside)[0].tolist()
        raise ConfigError(
            f"graph_prior: expected probabilities strictly between 0 and 1, got "
            f"{matrix[i, j].item():g} at [{i}, {j}]. Use 0.001 or 0.999 for near certainty."
        )
    return matrix.fill_diagonal_(0.5)
