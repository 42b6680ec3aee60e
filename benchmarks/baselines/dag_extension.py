"""A graph without cycles, of one some of whose edges have no direction."""

import numpy as np
from jaxtyping import Bool, Int

from pyro_metacadi.typing import Array

__all__ = ["dag_extension"]


def dag_extension(
    graph: Int[Array, "parent child"], rng: np.random.Generator
) -> Int[Array, "parent child"]:
    """Give every undirected edge a direction, at random where the graph leaves it open.

    Where there is a graph of the same skeleton, directed edges and colliders, one such is returned.
    Tests on few rows contradict each other, so that there may be none: then a collider is added
    or, on a directed cycle, an edge turned. The skeleton stays.

    Args:
        graph: 0/1; an undirected edge is 1 at ``[i, j]`` and at ``[j, i]``.
        rng: Chooses among variables that may come last.

    Source:
        Dor and Tarsi, A simple algorithm to construct a consistent extension of a partially
        oriented graph (1992), which takes away sinks one by one.
    """
    left: Bool[Array, "parent child"] = graph.astype(bool)
    remaining = np.ones(len(graph), dtype=bool)
    dag = np.zeros_like(graph)
    for _ in range(len(graph)):
        last = rng.choice(_best_sinks(left, remaining))
        dag[left[:, last] | left[last], last] = 1
        left = left.copy()
        left[last] = left[:, last] = False
        remaining[last] = False
    return dag


def _best_sinks(left: Bool[Array, "parent child"], remaining: Bool[Array, " variable"]) -> Array:
    """Remaining variables that break fewest rules if all their edges point at them."""
    undirected, joined = left & left.T, left | left.T
    turned = (left & ~left.T).sum(1)  # edges that point away
    unjoined = ~joined & ~np.eye(len(left), dtype=bool)
    # A neighbour by an undirected edge that is not joined with all others would be a new collider.
    colliders = np.array(
        [(unjoined & joined[one] & undirected[one][:, None]).sum() for one in range(len(left))]
    )
    cost = np.where(remaining, turned * (len(left) ** 2 + 1) + colliders, np.inf)
    return np.flatnonzero(cost == cost.min())
