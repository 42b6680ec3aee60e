"""Directed graphs and orders as tensors. Everywhere ``adjacency[i, j] = 1`` means X_i -> X_j.

Acyclicity is decided on integers (Kahn 1962). Floating-point characterisations, such as the trace
of a matrix exponential, call long cycles acyclic because their contribution underflows.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from pyro_metacadi.errors import GraphError

__all__ = [
    "check_dag",
    "descendants",
    "find_cycle",
    "is_dag",
    "levels",
    "order_ranks",
    "precedence",
    "topological_order",
]


def order_ranks(score: Float[Tensor, "*draw variable"]) -> Int[Tensor, "*draw variable"]:
    """Rank of every variable in the order of descending `score`; 0 comes first.

    Ties go to the lower index, so the ranks are a permutation whatever the scores' precision.
    """
    order = torch.argsort(score, dim=-1, descending=True, stable=True)
    return torch.argsort(order, dim=-1)


def precedence(rank: Int[Tensor, "*draw variable"]) -> Bool[Tensor, "*draw parent child"]:
    """Whether i comes before j: a strict total order, hence acyclic and with a False diagonal."""
    return rank.unsqueeze(-1) < rank.unsqueeze(-2)


def topological_order(adjacency: Tensor) -> Int[Tensor, " visited"]:
    """Variables of a graph, parents before children (Kahn 1962).

    Args:
        adjacency: ``[parent, child]``, any dtype; non-zero at ``[i, j]`` means X_i -> X_j.

    Returns:
        All variables if the graph is acyclic; otherwise only those that no cycle leads to.
    """
    present = (adjacency != 0).cpu()
    indegree = present.sum(0)
    ready = [int(i) for i in torch.nonzero(indegree == 0).flatten()]
    visited: list[int] = []
    while ready:
        parent = ready.pop()
        visited.append(parent)
        children = torch.nonzero(present[parent]).flatten()
        indegree[children] -= 1
        ready.extend(int(j) for j in children if indegree[j] == 0)
    return torch.tensor(visited, dtype=torch.long)


def levels(
    adjacency: Num[Tensor, "*draw parent child"] | Bool[Tensor, "*draw parent child"],
) -> Int[Tensor, "*draw variable"]:
    """Edges on the longest path to every variable of DAGs: 0 without parents, and so on.

    Variables of one level do not depend on each other.
    """
    present = adjacency != 0
    level = present.new_zeros(present.shape[:-1], dtype=torch.long)
    for _ in range(present.shape[-1]):
        after = ((level + 1).unsqueeze(-1) * present).amax(-2)
        if torch.equal(after, level):
            break
        level = after
    return level


def descendants(
    adjacency: Num[Tensor, "*draw parent child"] | Bool[Tensor, "*draw parent child"],
) -> Bool[Tensor, "*draw ancestor descendant"]:
    """Whether a directed path leads from one variable to another; one of no edges to itself."""
    reached = (adjacency != 0).float() + torch.eye(adjacency.shape[-1], device=adjacency.device)
    for _ in range((adjacency.shape[-1] - 1).bit_length()):
        reached = (reached @ reached).clamp(max=1)  # paths of up to twice the length
    return reached > 0


def is_dag(adjacency: Tensor) -> bool:
    """Whether the graph ``[parent, child]`` has no directed cycle (a self-loop is one)."""
    return len(topological_order(adjacency)) == adjacency.shape[-1]


def find_cycle(adjacency: Tensor) -> list[int] | None:
    """One directed cycle as ``[a, b, ..., a]`` with an edge between neighbours, or None."""
    present = (adjacency != 0).cpu()
    inside = torch.ones(present.shape[-1], dtype=torch.bool)
    inside[topological_order(present)] = False
    if not inside.any():
        return None
    # Every variable left has a parent that is left: walking backwards must return.
    walk = [int(torch.nonzero(inside)[0])]
    while walk[-1] not in walk[:-1]:
        parents = present[:, walk[-1]] & inside
        walk.append(int(torch.nonzero(parents)[0]))
    return walk[walk.index(walk[-1]) :][::-1]


def check_dag(adjacency: Tensor, *, variables: Sequence[str] | None = None) -> None:
    """Refuse an `adjacency` ``[parent, child]`` that is not a binary, acyclic square matrix.

    Raises:
        GraphError: Naming the shape, the first offending entry, or the cycle by `variables`.
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise GraphError(
            f"adjacency: expected a square matrix [parent, child], got shape "
            f"{list(adjacency.shape)}. Pass one row and one column per variable."
        )
    wrong = torch.nonzero((adjacency != 0) & (adjacency != 1))
    if len(wrong):
        i, j = wrong[0].tolist()
        raise GraphError(
            f"adjacency: expected entries 0 or 1, got {adjacency[i, j].item()} at [{i}, {j}]. "
            f"Threshold it first."
        )
    cycle = find_cycle(adjacency)
    if cycle is not None:
        names = [variables[i] if variables else f"X{i + 1}" for i in cycle]
        raise GraphError(
            f"adjacency: expected a directed acyclic graph, got the cycle {' -> '.join(names)}. "
            f"Rows are causes and columns effects: remove or turn one of these edges."
        )
