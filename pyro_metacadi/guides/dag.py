"""DP-DAG: the variational posterior over orders and edges (Section 4.1)."""

import pyro.distributions as dist
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_metacadi.distributions import FewParents, StraightThroughBernoulli, edge_probability
from pyro_metacadi.ops.constraints import GraphConstraints
from pyro_metacadi.ops.graphs import check_dag, topological_order

__all__ = ["DAGGuide", "known_graph"]


class DAGGuide(PyroModule):
    r"""q(order_score) = Gumbel(ψ, 1) and q(edge) = Bernoulli(σ(φ)).

    Args:
        num_variables: d.
        temperature: Of the edges' straight-through relaxation.
        edge_logit: Initial value of every φ.
        constraints: Of the graph prior. Edges that they decide are masked out; a limit of parents
            makes q(edge) that of independent edges given the limit, see `FewParents`.

    Source: Charpentier, Kibler and Günnemann 2022.
    """

    def __init__(
        self,
        num_variables: int,
        *,
        temperature: float = 1.0,
        edge_logit: float = 0.0,
        constraints: GraphConstraints | None = None,
    ) -> None:
        super().__init__()
        self.temperature, self.constraints = temperature, constraints
        loc = torch.zeros(num_variables) if constraints is None else constraints.order_loc
        self.order_loc = nn.Parameter(loc.clone())
        self.edge_logits = nn.Parameter(torch.full((num_variables, num_variables), edge_logit))

    def order(self) -> dist.TorchDistribution:
        """Law of the order scores, event shape ``[variable]``."""
        loc = self.order_loc
        return dist.Gumbel(loc, torch.ones_like(loc)).to_event(1)

    def edge(
        self, order_score: Float[Tensor, "*draw variable"] | None = None
    ) -> dist.TorchDistribution:
        """Law of the edge indicators ``[parent, child]``; the diagonal is masked out.

        Args:
            order_score: Given which; needed where there is a limit of parents, and only there.
        """
        demands = self.constraints
        if demands is not None and demands.room is not None and order_score is not None:
            return FewParents(
                self.edge_logits,
                counts=demands.forward_pairs(order_score),
                free=demands.free,
                room=demands.room,
                temperature=self.temperature,
            )
        law = StraightThroughBernoulli(self.edge_logits, temperature=self.temperature)
        return law.mask(self._free).to_event(2)

    def most_probable_edges(
        self, order_score: Float[Tensor, "*draw variable"]
    ) -> Float[Tensor, "*draw parent child"]:
        """The mode of `edge`: where there is a limit of parents, the most probable so many."""
        demands, logits = self.constraints, self.edge_logits
        likely = logits > 0
        if demands is not None and demands.room is not None:
            counts = demands.forward_pairs(order_score)
            place = logits.masked_fill(~counts, -torch.inf).argsort(-2, descending=True)
            likely = likely & (~counts | (place.argsort(-2) < demands.room))
        return likely.to(logits.dtype)

    def sample(
        self, num_draws: int
    ) -> tuple[Float[Tensor, "draw variable"], Float[Tensor, "draw parent child"]]:
        """Draw order scores and edges."""
        shape = torch.Size([num_draws])
        order_score = self.order().sample(shape)
        law = self.edge(order_score)
        return order_score, law.sample(shape if not law.batch_shape else torch.Size())

    @property
    def probability_is_exact(self) -> bool:
        """Whether `edge_probability` is; otherwise probabilities are means over draws."""
        demands = self.constraints
        return demands is None or (demands.room is None and demands.order_is_simple)

    def edge_probability(self) -> Float[Tensor, "parent child"]:
        """Exact posterior probability of every edge X_parent -> X_child.

        Right only if `probability_is_exact`: if no two variables that may come either way wait for
        different ones, and parents have no limit.
        """
        free = edge_probability(self.order_loc, self.edge_logits)
        demands = self.constraints
        if demands is None:
            return free
        if demands.prescribed is not None:
            certain = torch.sigmoid(self.edge_logits) * demands.prescribed.before
            free = torch.where(demands.prescribed.settled, certain, free)
        return torch.where(demands.required, 1.0, free * demands.free)

    @property
    def _free(self) -> Tensor:
        if self.constraints is not None:
            return self.constraints.free
        return ~torch.eye(len(self.order_loc), dtype=torch.bool, device=self.order_loc.device)


def known_graph(
    adjacency: ArrayLike | Tensor, *, constraints: GraphConstraints | None = None
) -> dict[str, Tensor]:
    """Values of `order_score` and `edge` that make the model's graph the given one.

    Args:
        adjacency: A DAG, as a tensor or array; ``adjacency[i, j] = 1`` is X_i -> X_j.
        constraints: Of the model's graph prior, if it has any.

    Returns:
        Site values, for ``pyro.condition(model, values)`` and ``guide.given(values)``.

    Raises:
        GraphError: If `adjacency` is not a binary acyclic square matrix, or not as demanded.
    """
    adjacency = torch.as_tensor(adjacency)
    check_dag(adjacency)
    relation = adjacency != 0
    if constraints is not None:
        constraints.check(adjacency)
        if constraints.prescribed is not None:
            relation = relation | constraints.prescribed.before.to(relation.device)
    order = topological_order(relation).to(adjacency.device)
    score = torch.empty(len(order), device=adjacency.device)
    score[order] = -torch.arange(len(order), dtype=score.dtype, device=adjacency.device)
    return {"order_score": score, "edge": adjacency.to(score.dtype)}
