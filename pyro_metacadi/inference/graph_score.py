"""The score of a graph, family by family, and the families near one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from pyro_metacadi.inference.structured_prior import StructuredPrior
from pyro_metacadi.models.families import Family, members
from pyro_metacadi.typing import Array

__all__ = [
    "CERTAIN",
    "MOST_PARENTS",
    "GraphOdds",
    "GraphScore",
    "adjacency_of",
    "smaller",
    "with_parent",
]

MOST_PARENTS = 8
"""Families with more parents are not scored: their functions need more rows than there are."""

CERTAIN = 1e5
"""Nats of an edge that is required or (negative) forbidden; more than any data can say."""


IMPOSSIBLE = -1e12
"""Less than any score: what is no number would be taken for the best."""


@dataclass(frozen=True, eq=False)
class GraphOdds:
    """A prior that is a product over variables and their parents, or one near another.

    Attributes:
        edge_log_odds: Log prior odds of every edge ``[parent, child]``, within +-`CERTAIN`.
        tier: Of each variable; those of a later tier come later in every order. None for one tier.
        max_indegree: Most parents of a variable; None for any number.
        structured: The prior that the product is near; None if it is the prior itself.
    """

    edge_log_odds: Array
    tier: Sequence[int] | None = None
    max_indegree: int | None = None
    structured: StructuredPrior | None = None


@dataclass(frozen=True)
class GraphScore:
    """Log evidence plus log prior of families.

    Attributes:
        evidence: Log evidence of many families at once.
        edge_log_odds: Log prior odds of every edge ``[parent, child]``, within +-`CERTAIN`.
        worth: Further parents of families that are worth trying; None for all.
        max_indegree: Families with more parents are impossible; None for any number.
    """

    evidence: Callable[[Sequence[Family]], list[float]]
    edge_log_odds: Array
    worth: Callable[[Sequence[Family]], Mapping[Family, Sequence[int]]] | None = None
    max_indegree: int | None = None

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
        """Whether the family has all required and no forbidden edges, and not too many."""
        if self.max_indegree is not None and family.parents.bit_count() > self.max_indegree:
            return False
        return self.log_prior(family) > -CERTAIN / 2

    def near(self, families: Sequence[Family]) -> dict[Family, list[Family]]:
        """For each family, those with one parent more, if worth trying, or one fewer."""
        larger = self._larger(families)
        return {
            family: [one for one in (*larger[family], *smaller(family)) if self.allows(one)]
            for family in families
        }

    def exchanged(self, families: Sequence[Family]) -> dict[Family, list[Family]]:
        """For each family, those with one parent exchanged for one worth trying in its place."""
        larger = self._larger([less for family in families for less in smaller(family)])
        return {
            family: [
                one
                for less in smaller(family)
                for one in larger[less]
                if one != family and self.allows(one)
            ]
            for family in families
        }

    def _larger(self, families: Sequence[Family]) -> dict[Family, list[Family]]:
        few = [family for family in families if family.parents.bit_count() < MOST_PARENTS]
        every: Sequence[int] = range(len(self.edge_log_odds))
        worth = dict.fromkeys(few, every) if self.worth is None else self.worth(few)
        return {
            family: [
                with_parent(family, j)
                for j in worth.get(family, ())
                if j != family.variable and not family.parents >> j & 1
            ]
            for family in families
        }


def with_parent(family: Family, parent: int) -> Family:
    """The family with one parent more."""
    return Family(family.variable, family.parents | 1 << parent)


def smaller(family: Family) -> list[Family]:
    """Families with one parent fewer."""
    return [Family(family.variable, family.parents ^ 1 << k) for k in members(family.parents)]


def adjacency_of(families: Sequence[Family]) -> Bool[np.ndarray, "parent child"]:
    """The graph of the families; ``adjacency[i, j]`` means X_i -> X_j."""
    adjacency = np.zeros((len(families), len(families)), dtype=bool)
    for child, parents in families:
        adjacency[list(members(parents)), child] = True
    return adjacency
