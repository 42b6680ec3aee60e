"""Greedy search for the graph with the highest score: where chains start."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pyro_metacadi.models.evidence import Family
from pyro_metacadi.typing import Array

__all__ = ["CERTAIN", "GraphScore", "adjacency_of", "climb", "neighbours", "reachable"]

MOST_PARENTS = 8
"""Families with more parents are not scored: their functions need more rows than there are."""

SMALLEST_GAIN = 1e-6

CERTAIN = 1e5
"""Nats of an edge that is required or (negative) forbidden; more than any data can say."""


@dataclass(frozen=True)
class GraphScore:
    """Log evidence plus log prior of families.

    Attributes:
        evidence: Log evidence of many families at once.
        edge_log_odds: Log prior odds of every edge ``[parent, child]``, within +-`CERTAIN`.
    """

    evidence: Callable[[Sequence[Family]], list[float]]
    edge_log_odds: Array

    def __call__(self, families: Sequence[Family]) -> dict[Family, float]:
        """Score of each family, by family."""
        found = self.evidence(families)
        return {
            family: value + self.log_prior(family)
            for family, value in zip(families, found, strict=True)
        }

    def log_prior(self, family: Family) -> float:
        """Sum of the log odds of the family's edges, against those of the required edges alone."""
        column = self.edge_log_odds[:, family.variable]
        required = column[column >= CERTAIN].sum()
        return float(column[list(_bits(family.parents))].sum() - required)

    def allows(self, family: Family) -> bool:
        """Whether the family has all required and no forbidden edges."""
        return self.log_prior(family) > -CERTAIN / 2


@dataclass(frozen=True)
class _Step:
    gain: float
    changed: tuple[Family, ...]


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
    families = list(start)
    while True:
        step = _best_step(families, score, exchange=False)
        step = step or _best_step(families, score, exchange=True)
        if step is None:
            return families
        for family in step.changed:
            families[family.variable] = family


def neighbours(family: Family, *, num_variables: int, exchange: bool) -> Iterator[Family]:
    """Families with one parent more or fewer, or (`exchange`) with one exchanged for another."""
    variable, parents = family
    others = [j for j in range(num_variables) if j != variable]
    if not exchange:
        for j in others:
            toggled = parents ^ (1 << j)
            if toggled.bit_count() <= MOST_PARENTS:
                yield Family(variable, toggled)
        return
    for k in _bits(parents):
        for j in others:
            if not parents >> j & 1:
                yield Family(variable, parents ^ (1 << k) ^ (1 << j))


def adjacency_of(families: Sequence[Family]) -> Bool[np.ndarray, "parent child"]:
    """The graph of the families; ``adjacency[i, j]`` means X_i -> X_j."""
    adjacency = np.zeros((len(families), len(families)), dtype=bool)
    for child, parents in families:
        adjacency[list(_bits(parents)), child] = True
    return adjacency


def reachable(
    adjacency: Bool[np.ndarray, "parent child"],
) -> Bool[np.ndarray, "variable variable"]:
    """Whether there is a path from the row's variable to the column's; to itself there is."""
    closure = adjacency | np.eye(len(adjacency), dtype=bool)
    for _ in range(max(1, int(np.ceil(np.log2(len(adjacency) + 1))))):
        closure = closure @ closure
    return closure


def _best_step(families: Sequence[Family], score: GraphScore, *, exchange: bool) -> _Step | None:
    d = len(families)
    near = [
        other
        for family in families
        for other in neighbours(family, num_variables=d, exchange=exchange)
        if score.allows(other)
    ]
    value = score([*families, *near])
    adjacency = adjacency_of(families)
    path = reachable(adjacency)
    best = _Step(SMALLEST_GAIN, ())
    for other in near:
        gain = value[other] - value[families[other.variable]]
        added = [j for j in _bits(other.parents) if not adjacency[j, other.variable]]
        if gain > best.gain and not any(path[other.variable, j] for j in added):
            best = _Step(gain, (other,))
        if not exchange and not added:
            best = max(best, _reversal(other, families, value, path=path, gain=gain), key=_gain)
    return best if best.changed else None


def _reversal(
    without: Family,
    families: Sequence[Family],
    value: dict[Family, float],
    *,
    path: Array,
    gain: float,
) -> _Step:
    """The step that turns round the edge that `without` lacks, or none where it makes a cycle."""
    child = without.variable
    (parent,) = _bits(families[child].parents ^ without.parents)
    turned = Family(parent, families[parent].parents | 1 << child)
    # Another way from the parent to the child would close a cycle.
    detour = any(path[parent, k] for k in _bits(without.parents))
    if turned not in value or detour:
        return _Step(0.0, ())
    return _Step(gain + value[turned] - value[families[parent]], (without, turned))


def _gain(step: _Step) -> float:
    return step.gain


def _bits(mask: int) -> Iterator[int]:
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
