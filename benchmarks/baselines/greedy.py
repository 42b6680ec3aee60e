"""Greedy search for the graph of the highest score, by adding, removing and turning edges."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Int

from pyro_metacadi.typing import Array

__all__ = ["greedy_dag"]

FamilyScores = Callable[[int, Bool[Array, "candidate variable"]], Float[Array, " candidate"]]
"""Scores of a variable with each of these sets of parents; a graph's score is the families' sum."""


def greedy_dag(family_scores: FamilyScores, num_variables: int) -> Int[Array, "parent child"]:
    """Climb from the empty graph, each time by the best change, until none gains.

    Args:
        family_scores: Called with a child and sets of parents; must be deterministic.
        num_variables: Of the graph.

    Returns:
        A directed acyclic graph, 0/1, whose score no single change improves.
    """
    graph = np.zeros((num_variables, num_variables), dtype=bool)
    gain = np.stack([_toggled(family_scores, graph, j) for j in range(num_variables)], axis=1)
    while True:
        single, turn = _allowed(graph)
        toggle_gain = np.where(single, gain, -np.inf)
        turn_gain = np.where(turn, gain + gain.T, -np.inf)  # one edge away, and one the other way
        best = max(toggle_gain.max(), turn_gain.max())
        if best <= 1e-9:  # a change and its reverse must not take turns
            return graph.astype(int)
        turned = turn_gain.max() == best
        i, j = np.unravel_index((turn_gain if turned else toggle_gain).argmax(), gain.shape)
        for parent, child in [(i, j), (j, i)][: 1 + turned]:
            graph[parent, child] ^= True
        for child in (j, i)[: 1 + turned]:
            gain[:, child] = _toggled(family_scores, graph, int(child))


def _toggled(
    family_scores: FamilyScores, graph: Bool[Array, "parent child"], child: int
) -> Float[Array, " parent"]:
    """Gain of adding each variable to the child's parents or, where it is one, of removing it."""
    toggled = graph[:, child] ^ np.eye(len(graph), dtype=bool)
    toggled[child] = graph[:, child]  # a variable is no parent of its own: nothing changes
    scores = family_scores(child, np.concatenate([graph[None, :, child], toggled]))
    return scores[1:] - scores[0]


def _allowed(
    graph: Bool[Array, "parent child"],
) -> tuple[Bool[Array, "parent child"], Bool[Array, "parent child"]]:
    """Which edges may be added or removed, and which turned, without a cycle."""
    reach = graph.copy()
    for middle in range(len(graph)):  # Warshall
        reach |= reach[:, [middle]] & reach[[middle]]
    longer = (graph[:, :, None] & reach[None]).any(1)  # paths of two edges or more
    no_loop = ~np.eye(len(graph), dtype=bool)
    return no_loop & (graph | ~reach.T), graph & ~longer
