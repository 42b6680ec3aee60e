"""DP-DAG: the variational posterior over orders and edges (Section 4.1)."""

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_metacadi.distributions import StraightThroughBernoulli, edge_probability
from pyro_metacadi.ops.graphs import check_dag, topological_order

__all__ = ["DAGGuide", "known_graph"]


class DAGGuide(PyroModule):
    r"""q(order_score) = Gumbel(ψ, 1) and q(edge) = Bernoulli(σ(φ)).

    Args:
        num_variables: d.
        temperature: Of the edges' straight-through relaxation.
        edge_logit: Initial value of every φ.

    Source: Charpentier, Kibler and Günnemann 2022.
    """

    def __init__(
        self, num_variables: int, *, temperature: float = 1.0, edge_logit: float = 0.0
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.order_loc = nn.Parameter(torch.zeros(num_variables))
        self.edge_logits = nn.Parameter(torch.full((num_variables, num_variables), edge_logit))

    def order(self) -> dist.TorchDistribution:
        """Law of the order scores, event shape ``[variable]``."""
        loc = self.order_loc
        return dist.Gumbel(loc, torch.ones_like(loc)).to_event(1)

    def edge(self) -> dist.TorchDistribution:
        """Law of the edge indicators, event shape ``[parent, child]``, the diagonal masked out."""
        logits = self.edge_logits
        off_diagonal = ~torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        law = StraightThroughBernoulli(logits, temperature=self.temperature)
        return law.mask(off_diagonal).to_event(2)

    def edge_probability(self) -> Float[Tensor, "parent child"]:
        """Exact posterior probability of every edge X_parent -> X_child."""
        return edge_probability(self.order_loc, self.edge_logits)


def known_graph(adjacency: Tensor) -> dict[str, Tensor]:
    """Values of `order_score` and `edge` that make the model's graph the given one.

    Args:
        adjacency: A DAG; ``adjacency[i, j] = 1`` is X_i -> X_j.

    Returns:
        Site values, for ``pyro.condition(model, values)`` and ``guide.given(values)``.

    Raises:
        GraphError: If `adjacency` is not a binary acyclic square matrix.
    """
    check_dag(adjacency)
    order = topological_order(adjacency).to(adjacency.device)
    score = torch.empty(len(order), device=adjacency.device)
    score[order] = -torch.arange(len(order), dtype=score.dtype, device=adjacency.device)
    return {"order_score": score, "edge": adjacency.to(score.dtype)}
