"""What a graph must and must not have: required and forbidden edges, tiers, few parents."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pyro_metacadi.errors import ConfigError, GraphError
from pyro_metacadi.ops.graphs import find_cycle, order_ranks, precedence
from pyro_metacadi.ops.precedence import Precedence
from pyro_metacadi.ops.relax import adjacency_from_order

__all__ = ["GraphConstraints", "constrained_adjacency"]

Pair = tuple[int, int]


class GraphConstraints(nn.Module):
    """Demands on a graph, checked against each other.

    Args:
        variables: Names, in the order of the adjacency matrix.
        required: Edges ``(parent, child)`` that are there, as positions.
        forbidden: Edges that are not.
        tiers: Positions of every variable in exactly one tier; those of a tier have no causes in
            later ones. None if all are in one.
        max_indegree: Most parents of a variable; None for any number.

    Attributes:
        required: ``[parent, child]``.
        free: Pairs ``[parent, child]`` of which the data decide whether there is an edge.
        order_loc: Locations of Gumbel order scores ``[variable]`` under which all orders that are
            allowed are equally probable, if each variable has at most one parent required within
            its tier (that nothing else requires); else nearly so.
        prescribed: Which variables come before which; None if any may.
        tier: Of each variable.

    Raises:
        ConfigError: Demands contradict each other; names the variables.
    """

    required: Tensor
    free: Tensor
    order_loc: Tensor

    def __init__(
        self,
        variables: Sequence[str],
        *,
        required: Iterable[Pair] = (),
        forbidden: Iterable[Pair] = (),
        tiers: Sequence[Sequence[int]] | None = None,
        max_indegree: int | None = None,
    ) -> None:
        super().__init__()
        self.variables, d = tuple(variables), len(variables)
        needed, banned = _matrix(d, required), _matrix(d, forbidden)
        self.tier = _tiers(d, tiers)
        tier = torch.tensor(self.tier)
        earlier = tier.unsqueeze(-1) < tier
        _check(variables, needed, banned, later=earlier.mT, max_indegree=max_indegree)
        self.max_indegree = None if max_indegree is None or max_indegree >= d - 1 else max_indegree
        ordered = Precedence(needed | earlier)
        self.prescribed = ordered if ordered.depth else None
        never = needed | banned | ordered.before.mT | torch.eye(d, dtype=torch.bool)
        descendants = (ordered.before & (tier.unsqueeze(-1) == tier)).sum(-1)
        self.register_buffer("required", needed, persistent=False)
        self.register_buffer("free", ~never, persistent=False)
        self.register_buffer("order_loc", (1.0 + descendants).log(), persistent=False)

    @property
    def room(self) -> Float[Tensor, " child"] | None:
        """How many free parents each variable may have; None for any number."""
        if self.max_indegree is None:
            return None
        return self.max_indegree - self.required.sum(0).to(self.order_loc.dtype)

    @property
    def order_is_simple(self) -> bool:
        """Whether any two variables that may come either way wait for the same variables."""
        if self.prescribed is None:
            return True
        before, either = self.prescribed.before, ~self.prescribed.settled
        same = (before.unsqueeze(-1) == before.unsqueeze(-2)).all(0)
        return bool((same | ~either).all())

    def check(self, adjacency: Tensor) -> None:
        """Refuse a 0/1 `adjacency` ``[parent, child]`` that is not as demanded.

        Raises:
            GraphError: Names the edge, or the variable with too many parents.
        """
        present = adjacency.to(self.free.device) != 0
        for wrong, what in (
            (self.required & ~present, "lacks the required"),
            (present & ~self.required & ~self.free, "has the forbidden"),
        ):
            if wrong.any():
                parent, child = (self.variables[i] for i in torch.nonzero(wrong)[0].tolist())
                raise GraphError(
                    f"adjacency: expected a graph that honours the prior, got one that {what} edge "
                    f"{parent!r} -> {child!r}. Change the graph or the demand."
                )
        many = present.sum(0)
        if self.max_indegree is not None and many.max() > self.max_indegree:
            raise GraphError(
                f"adjacency: expected at most {self.max_indegree} parents of a variable, got "
                f"{many.max()} of {self.variables[many.argmax()]!r}. Raise max_indegree."
            )

    def forward_pairs(
        self, order_score: Float[Tensor, "*draw variable"]
    ) -> Bool[Tensor, "*draw parent child"]:
        """Free pairs whose edge points forwards in the order."""
        score = order_score.detach()
        rank = order_ranks(score) if self.prescribed is None else self.prescribed.ranks(score)
        return precedence(rank) & self.free

    def adjacency(
        self,
        order_score: Float[Tensor, "*draw variable"],
        edge: Float[Tensor, "*draw parent child"],
        *,
        temperature: float = 1.0,
    ) -> Float[Tensor, "*draw parent child"]:
        """The DAG of an order and a set of edges: `edge` where it is free, and required edges."""
        edge = edge * self.free + self.required
        return adjacency_from_order(
            order_score, edge, temperature=temperature, prescribed=self.prescribed
        )


def constrained_adjacency(
    constraints: GraphConstraints | None,
    order_score: Float[Tensor, "*draw variable"],
    *,
    edge: Float[Tensor, "*draw parent child"],
    temperature: float = 1.0,
) -> Float[Tensor, "*draw parent child"]:
    """`GraphConstraints.adjacency`, or `adjacency_from_order` where nothing is demanded."""
    if constraints is None:
        return adjacency_from_order(order_score, edge, temperature=temperature)
    return constraints.adjacency(order_score, edge, temperature=temperature)


def _matrix(size: int, pairs: Iterable[Pair]) -> Bool[Tensor, "parent child"]:
    matrix = torch.zeros(size, size, dtype=torch.bool)
    for parent, child in pairs:
        matrix[parent, child] = True
    return matrix


def _tiers(size: int, tiers: Sequence[Sequence[int]] | None) -> tuple[int, ...]:
    """The tier of every variable."""
    if tiers is None:
        return (0,) * size
    of = {variable: number for number, tier in enumerate(tiers) for variable in tier}
    return tuple(of[variable] for variable in range(size))


def _check(
    variables: Sequence[str],
    required: Bool[Tensor, "parent child"],
    forbidden: Bool[Tensor, "parent child"],
    *,
    later: Bool[Tensor, "parent child"],
    max_indegree: int | None,
) -> None:
    for against, what in ((forbidden, "forbidden as well"), (later, "from a later tier")):
        both = torch.nonzero(required & against)
        if len(both):
            parent, child = (variables[i] for i in both[0].tolist())
            raise ConfigError(
                f"required: expected edges that may be, got {parent!r} -> {child!r}, which is "
                f"{what}. Drop one of the two demands."
            )
    cycle = find_cycle(required)
    if cycle is not None:
        raise ConfigError(
            f"required: expected edges without a cycle, got "
            f"{' -> '.join(variables[i] for i in cycle)}. Drop one of them."
        )
    most = int(required.sum(0).max())
    if max_indegree is not None and most > max_indegree:
        child = variables[int(required.sum(0).argmax())]
        raise ConfigError(
            f"max_indegree: expected at least the {most} required parents of {child!r}, got "
            f"{max_indegree}. Raise it, or require fewer."
        )
