"""The score of a graph, family by family, and the families near one."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pyro_metacadi.models.evidence import Family
from pyro_metacadi.typing import Array

__all__ = ["CERTAIN", "GraphScore", "adjacency_of", "members", "neighbours"]

MOST_PARENTS = 8
"""Families with more parents are not scored: their functions need more rows than there are."""

CERTAIN = 1e5
"""Nats of an edge that is required or (negative) forbidden; more than any data can say."""


IMPOSSIBLE = -1e12
"""Less than any score: what is no number would be taken for the best."""


@dataclass(frozen=True)
class GraphScore:
    """Log evidence plus log prior of families.

    Attributes:
        evidence: Log evidence of many families at once.
        edge_log_odds: Log prior odds of every edge ``[parent, child]``, within +-`CERTAIN`.
        screened: Edges worth trying; None for all.
    """

    evidence: Callable[[Sequence[Family]], list[float]]
    edge_log_odds: Array
    screened: Bool[np.ndarray, "parent child"] | None = None

    def __call__(self, families: Sequence[Family]) -> dict[Family, float]:
        """Score of each family, by family; of one that cannot be computed, `IMPOSSIBLE`."""
        found = self.evidence(families)
        return {
            family: value + self.log_prior(family) if math.isfinite(value) else IMPOSSIBLE
            for family, value in zip(families, found, strict=True)
        }

    def log_prior(self, family: Family) -> float:
        """Sum of the log odds of the family's edges, against those of the required edges alone."""
        column = self.edge_log_odds[:, family.variable]
        required = column[column >= CERTAIN].sum()
        return float(column[list(members(family.parents))].sum() - required)

    def allows(self, family: Family) -> bool:
        """Whether the family has all required and no forbidden edges."""
        return self.log_prior(family) > -CERTAIN / 2

    def near(self, family: Family, *, exchange: bool) -> list[Family]:
        """Those `neighbours` that are worth trying."""
        worth = np.ones(len(self.edge_log_odds), dtype=bool)
        if self.screened is not None:
            worth = self.screened[:, family.variable].copy()
        worth[family.variable] = False
        others = [int(j) for j in np.flatnonzero(worth)]
        return [
            other for other in neighbours(family, others, exchange=exchange) if self.allows(other)
        ]


def neighbours(family: Family, others: Sequence[int], *, exchange: bool) -> Iterator[Family]:
    """Families with one parent more or fewer, or (`exchange`) with one exchanged for another.

    Args:
        family: Whose neighbours.
        others: Variables that may become parents.
        exchange: Which kind of neighbours.
    """
    variable, parents = family
    new = [j for j in others if not parents >> j & 1]
    if exchange:
        for k in members(parents):
            yield from (Family(variable, parents ^ (1 << k) ^ (1 << j)) for j in new)
        return
    if parents.bit_count() < MOST_PARENTS:
        yield from (Family(variable, parents | 1 << j) for j in new)
    yield from (Family(variable, parents ^ (1 << k)) for k in members(parents))


def members(mask: int) -> Iterator[int]:
    """The set bits, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest


def adjacency_of(families: Sequence[Family]) -> Bool[np.ndarray, "parent child"]:
    """The graph of the families; ``adjacency[i, j]`` means X_i -> X_j."""
    adjacency = np.zeros((len(families), len(families)), dtype=bool)
    for child, parents in families:
        adjacency[list(members(parents)), child] = True
    return adjacency
