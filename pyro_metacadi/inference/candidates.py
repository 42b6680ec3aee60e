"""Which parents are worth considering, and the scores of sets of them."""

from collections.abc import Sequence

import torch

from pyro_metacadi.inference.graph_score import GraphScore
from pyro_metacadi.models.families import Family, members
from pyro_metacadi.ops.subsets import ScoreTable

__all__ = ["score_table"]

MOST_CANDIDATES = 8
MOST_CHANGES = 3

FEW_VARIABLES = 5
"""With so few, nothing is left out."""

NEGLIGIBLE = -6.0
"""Nats: what makes a graph e^6 times less probable wherever it was tried is left out."""


def score_table(
    families: Sequence[Family],
    score: GraphScore,
    *,
    explored: GraphScore | None = None,
    tier: Sequence[int] | None = None,
) -> ScoreTable:
    """Scores of subsets of each variable's candidate parents: those near the graph given.

    A candidate is a parent in the graph given, or a variable that would cost the graph little (or
    would gain) as a further parent or in the place of one, were there no order to respect.

    Args:
        families: A graph of high score: the family of every variable.
        score: Of families.
        explored: A cheaper score, such as that of the search, by which parents are exchanged. What
            a further one adds is always asked of `score`: coarse mechanisms of many parents lose
            more by another input than they gain, and would miss hundreds of nats.
        tier: Of each variable, see `ScoreTable`.
    """
    d, exchanged = len(families), explored or score
    candidates = [_candidates(family, score, exchanged, num_variables=d) for family in families]
    subsets = [
        [_subset(child, chosen, number) for number in range(1 << len(chosen))]
        for child, chosen in enumerate(candidates)
    ]
    entries = [
        family
        for best, group in zip(families, subsets, strict=True)
        for family in group
        if score.allows(family) and (d <= FEW_VARIABLES or _within_reach(family, best))
    ]
    value = score(entries)
    table = [
        torch.tensor([value.get(family, -torch.inf) for family in group], dtype=torch.float64)
        for group in subsets
    ]
    return ScoreTable(candidates, table, tier)


def _within_reach(family: Family, best: Family) -> bool:
    """Whether few changes lead from one parent set to the other, or it lacks some parents only."""
    changes = family.parents ^ best.parents
    return changes.bit_count() <= MOST_CHANGES or not family.parents & ~best.parents


def _subset(child: int, candidates: Sequence[int], number: int) -> Family:
    chosen = (1 << parent for k, parent in enumerate(candidates) if number >> k & 1)
    return Family(child, sum(chosen))


def _candidates(
    family: Family, added: GraphScore, exchanged: GraphScore, *, num_variables: int
) -> list[int]:
    best: dict[int, float] = {}
    for score, near in (
        (added, added.near([family])[family]),
        (exchanged, exchanged.exchanged([family])[family]),
    ):
        value = score([family, *near])
        for other in near:
            gain = value[other] - value[family]
            for j in members(other.parents & ~family.parents):
                best[j] = max(gain, best.get(j, gain))
    parents = list(members(family.parents))
    least = NEGLIGIBLE if num_variables > FEW_VARIABLES else -torch.inf
    further = sorted((j for j in best if best[j] > least), key=lambda j: -best[j])
    return [*parents, *further[: max(0, MOST_CANDIDATES - len(parents))]]
