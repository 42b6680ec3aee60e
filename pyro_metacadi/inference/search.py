"""Greedy search for the graph with the highest score: where chains start."""

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from pyro_metacadi.inference.graph_score import (
    MOST_PARENTS,
    GraphScore,
    adjacency_of,
    with_parent,
)
from pyro_metacadi.models.families import Family, members
from pyro_metacadi.typing import Array

__all__ = ["climb", "reachable"]

SMALLEST_GAIN = 1e-6


def climb(start: Sequence[Family], score: GraphScore) -> list[Family]:
    """Take the best single change of the graph until none helps.

    A change adds, removes or reverses an edge; where none of these helps, a parent may be
    exchanged for another variable.

    Args:
        start: The family of every variable; acyclic.
        score: Of families.

    Returns:
        The family of every variable at a local maximum.
    """
    state = _State(start, score)
    while True:
        path = reachable(state.adjacency)
        step = max(state.toggle(path), state.reversal(path))
        if step.gain <= SMALLEST_GAIN:
            step = state.exchange(path)
        if step.gain <= SMALLEST_GAIN:
            return state.families
        state.take(step)


def reachable(
    adjacency: Bool[np.ndarray, "parent child"],
) -> Bool[np.ndarray, "variable variable"]:
    """Whether a path leads from the row's variable to the column's; one to itself does.

    Args:
        adjacency: An acyclic graph.
    """
    path = np.eye(len(adjacency), dtype=bool)
    children: dict[int, list[int]] = {
        i: np.flatnonzero(row).tolist() for i, row in enumerate(adjacency)
    }
    for i in TopologicalSorter(children).static_order():  # children first
        path[i] |= path[children[i]].any(0)
    return path


class _Step(NamedTuple):
    gain: float
    changed: tuple[Family, ...]


NOWHERE = _Step(-np.inf, ())


class _State:
    """A graph, and what each change of it would gain: kept, for few change with a step.

    Attributes:
        families: Of every variable.
        adjacency: Of the same graph.
        gain: Of adding the edge or, where it is there, of removing it; -inf where that is not
            to be tried.
    """

    def __init__(self, families: Sequence[Family], score: GraphScore) -> None:
        self.families, self.score = list(families), score
        self.adjacency = adjacency_of(families)
        self.gain: Float[np.ndarray, "parent child"] = np.full(self.adjacency.shape, -np.inf)
        self._exchanges: dict[int, tuple[Array, Array, list[Family]]] = {}
        self._learn(families)

    def take(self, step: _Step) -> None:
        """Change the graph."""
        for family in step.changed:
            self.families[family.variable] = family
            self.adjacency[:, family.variable] = False
            self.adjacency[list(members(family.parents)), family.variable] = True
            self._exchanges.pop(family.variable, None)
        self._learn(step.changed)

    def toggle(self, path: Bool[np.ndarray, "variable variable"]) -> _Step:
        """The best edge to add or remove."""
        # A path from the child to the parent would close a cycle.
        gain = np.where(self.adjacency | ~path.T, self.gain, -np.inf)
        parent, child = np.unravel_index(gain.argmax(), gain.shape)
        return _Step(float(gain[parent, child]), (self._toggled(int(parent), int(child)),))

    def reversal(self, path: Bool[np.ndarray, "variable variable"]) -> _Step:
        """The best edge to turn round."""
        parent, child = np.nonzero(self.adjacency)
        if not len(parent):
            return NOWHERE
        # Another way from the parent to the child would close a cycle.
        others = self.adjacency[:, child].T.copy()
        others[np.arange(len(parent)), parent] = False
        detour = (path[parent] & others).any(1)
        gain = np.where(detour, -np.inf, self.gain[parent, child] + self.gain[child, parent])
        best = gain.argmax()
        i, j = int(parent[best]), int(child[best])
        return _Step(float(gain[best]), (self._toggled(i, j), self._toggled(j, i)))

    def exchange(self, path: Bool[np.ndarray, "variable variable"]) -> _Step:
        """The best parent to exchange for another variable."""
        self._learn_exchanges()
        best = NOWHERE
        for child, (added, gain, families) in self._exchanges.items():
            possible = np.where(path[child, added], -np.inf, gain)
            if len(possible) and possible.max() > best.gain:
                best = _Step(float(possible.max()), (families[possible.argmax()],))
        return best

    def _toggled(self, parent: int, child: int) -> Family:
        return Family(child, self.families[child].parents ^ 1 << parent)

    def _learn(self, changed: Sequence[Family]) -> None:
        """Gains of the edges to the variables of these families, and of turning those there are."""
        near = self.score.near(changed)
        for family in changed:
            self.gain[:, family.variable] = -np.inf
        for family in self._turned(changed):
            own = self.families[family.variable]
            if family not in near.setdefault(own, []):
                near[own].append(family)
        value = self.score([*near, *(other for others in near.values() for other in others)])
        for family, others in near.items():
            for other in others:
                at = (other.parents ^ family.parents).bit_length() - 1
                self.gain[at, family.variable] = value[other] - value[family]

    def _turned(self, changed: Sequence[Family]) -> list[Family]:
        """Families of parents that get their child as a parent, of edges from or to these.

        Turning an edge is to be tried even where adding it the other way would not be.
        """
        edges = [(parent, f.variable) for f in changed for parent in members(f.parents)]
        edges += [
            (f.variable, int(child))
            for f in changed
            for child in np.flatnonzero(self.adjacency[f.variable])
        ]
        families = [
            with_parent(self.families[parent], child)
            for parent, child in edges
            if self.gain[child, parent] == -np.inf
            and self.families[parent].parents.bit_count() < MOST_PARENTS
        ]
        return [family for family in families if self.score.allows(family)]

    def _learn_exchanges(self) -> None:
        """Gains of exchanging parents, where they are not known."""
        unknown = [family for family in self.families if family.variable not in self._exchanges]
        near = self.score.exchanged(unknown)
        value = self.score([*near, *(other for others in near.values() for other in others)])
        for family, others in near.items():
            new = [(other.parents & ~family.parents).bit_length() - 1 for other in others]
            gain = [value[other] - value[family] for other in others]
            parts = np.array(new, dtype=int), np.array(gain, dtype=float), others
            self._exchanges[family.variable] = parts
