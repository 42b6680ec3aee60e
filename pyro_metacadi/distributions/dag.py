"""The law over DAGs that Gumbel order scores and independent edges imply (DP-DAG)."""

import itertools
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_metacadi.distributions.bernoulli import StraightThroughBernoulli
from pyro_metacadi.distributions.order import PlackettLuce
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.graphs import order_ranks, precedence
from pyro_metacadi.ops.relax import adjacency_from_order

__all__ = ["OrderedDAG", "edge_probability"]

LARGEST_ENUMERABLE = 4


def edge_probability(
    order_loc: Float[Tensor, "*draw variable"], edge_logits: Float[Tensor, "*draw parent child"]
) -> Float[Tensor, "*draw parent child"]:
    r"""Exact probability of every edge X_i -> X_j.

    A difference of Gumbels is logistic, so i comes before j with probability
    :math:`\sigma(\psi_i - \psi_j)`, independently of the edge's own indicator:

    .. math:: P(A_{ij} = 1) = \sigma(\psi_i - \psi_j)\,\sigma(\phi_{ij}), \quad i \ne j

    Args:
        order_loc: Locations ψ of the order scores.
        edge_logits: Log-odds φ of the edge indicators; the diagonal is ignored.

    Returns:
        Probabilities ``[parent, child]`` with a zero diagonal.
    """
    before = torch.sigmoid(order_loc.unsqueeze(-1) - order_loc.unsqueeze(-2))
    off_diagonal = 1 - torch.eye(order_loc.shape[-1], dtype=before.dtype, device=before.device)
    return before * torch.sigmoid(edge_logits) * off_diagonal


class OrderedDAG(TorchDistribution):
    r"""Law of ``adjacency[i, j] = edge[i, j] * [i before j]``; a row is a cause.

    Args:
        order_loc: Locations ψ ``[variable]`` of the Gumbel order scores.
        edge_logits: Log-odds φ ``[parent, child]`` of the edges; the diagonal is ignored.
        temperature: τ of the gradients' relaxation.

    Source: Section 4.1; Charpentier, Kibler and Günnemann 2022.
    """

    arg_constraints = {  # noqa: RUF012
        "order_loc": constraints.real_vector,
        "edge_logits": constraints.independent(constraints.real, 2),
    }
    support = constraints.independent(constraints.boolean, 2)
    has_rsample = True

    def __init__(
        self,
        order_loc: Tensor,
        edge_logits: Tensor,
        *,
        temperature: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.order_loc, self.edge_logits, self.temperature = order_loc, edge_logits, temperature
        super().__init__(torch.Size(), edge_logits.shape, validate_args=validate_args)

    @property
    def edge_mean(self) -> Float[Tensor, "parent child"]:
        """Exact marginal probability of every edge, see `edge_probability`."""
        return edge_probability(self.order_loc, self.edge_logits)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw adjacency matrices of shape ``sample_shape + [parent, child]``."""
        shape = torch.Size(sample_shape)
        scores = dist.Gumbel(self.order_loc, 1.0).rsample(shape)
        edges = StraightThroughBernoulli(self.edge_logits, temperature=self.temperature)
        return adjacency_from_order(scores, edges.rsample(shape), temperature=self.temperature)

    def log_prob(self, value: Float[Tensor, "*sample parent child"]) -> Float[Tensor, "*sample"]:
        r"""Log mass of DAGs, summed over all d! orders; for d <= 4 only.

        An order allows a graph if no edge points backwards; the indicators of backward pairs are
        unseen and sum to one.

        Raises:
            ConfigError: If there are more than four variables.
        """
        orders = self._orders()
        log_order = PlackettLuce(self.order_loc).log_prob(orders)
        forward = precedence(torch.argsort(orders, dim=-1)).to(value.dtype)
        graph = value.unsqueeze(-3)
        log_edges = dist.Bernoulli(logits=self.edge_logits, validate_args=False).log_prob(graph)
        log_mass = log_order + (log_edges * forward).sum((-1, -2))
        allowed = (graph * (1 - forward)).sum((-1, -2)) == 0
        return log_mass.masked_fill(~allowed, -torch.inf).logsumexp(-1)

    def enumerate_support(self, expand: bool = True) -> Float[Tensor, "dag parent child"]:
        """All DAGs over d <= 4 variables: 1, 3, 25 or 543 of them.

        Raises:
            ConfigError: If there are more than four variables.
        """
        d = self.event_shape[-1]
        forward = precedence(order_ranks(-torch.arange(d)))
        pairs = torch.nonzero(forward)
        choices = list(itertools.product([0.0, 1.0], repeat=len(pairs)))
        upper = self.edge_logits.new_zeros(len(choices), d, d)
        upper[:, pairs[:, 0], pairs[:, 1]] = upper.new_tensor(choices)
        relabelled = [upper[:, order][:, :, order] for order in self._orders()]
        return torch.unique(torch.cat(relabelled), dim=0)

    def _orders(self) -> Tensor:
        d = self.event_shape[-1]
        if d > LARGEST_ENUMERABLE:
            raise ConfigError(
                f"OrderedDAG: expected at most {LARGEST_ENUMERABLE} variables to enumerate, got "
                f"{d}. Use `edge_mean` or draws instead."
            )
        return torch.tensor(list(itertools.permutations(range(d))), device=self.order_loc.device)
