"""Sums over and draws of subsets, and the tables of parent-set scores that they are for.

A subset of at most K things is the integer whose bit k says whether thing k is in it, so that a
function of subsets is a tensor ``[2**K]`` and looking it up is indexing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int8, Int64
from torch import Tensor

from pyro_metacadi.errors import ConfigError

__all__ = [
    "MOST_CANDIDATES",
    "ScoreTable",
    "random_orders",
    "sample_subsets",
    "subset_levels",
    "subset_logsumexp",
]

MOST_CANDIDATES = 16


def subset_levels(
    table: Float64[Tensor, "*batch subset"],
) -> Float64[Tensor, "level *batch subset"]:
    r"""All partial zeta transforms of log values, in O(K 2^K).

    .. math:: Z_k[U] = \log \sum_S e^{t[S]},
        \quad S \subseteq U, \; S \text{ and } U \text{ agree from bit } k \text{ on}

    Args:
        table: Log values t ``[*batch, 2**K]``; -inf where a subset has none.

    Returns:
        Levels k = 0 (the table itself) to K (the sum over all subsets of U), ``K + 1`` of them.

    Source: Yates 1937; Koivisto and Sood 2004, Section 3.
    """
    batch, size = table.shape[:-1], table.shape[-1]
    levels = [table]
    for k in range(size.bit_length() - 1):
        halves = levels[-1].reshape(*batch, size >> (k + 1), 2, 1 << k)
        without, within = halves[..., 0, :], halves[..., 1, :]
        summed = torch.stack([without, torch.logaddexp(without, within)], dim=-2)
        levels.append(summed.reshape(table.shape))
    return torch.stack(levels)


def subset_logsumexp(
    table: Float64[Tensor, "*batch subset"],
) -> Float64[Tensor, "*batch subset"]:
    """The zeta transform: log of the sum of ``exp(table[S])`` over subsets S of each bitmask U."""
    return subset_levels(table)[-1]


def sample_subsets(
    levels: Float64[Tensor, "level variable subset"],
    allowed: Int64[Tensor, "*draw variable"],
    *,
    generator: torch.Generator,
) -> Int64[Tensor, "*draw variable"]:
    """Draw a subset S of each `allowed` U with probability proportional to ``exp(table[S])``.

    Bits are decided from the highest to the lowest, each by the sums over what is left to decide:
    exact, with K lookups a draw.

    Args:
        levels: `subset_levels` of tables ``[variable, 2**K]``.
        allowed: Bitmasks U, one for each variable in every draw.
        generator: Where the random numbers come from.

    Returns:
        Bitmasks S, each a subset of its U.

    Raises:
        ConfigError: No subset of some U has a finite log value.
    """
    num_levels, num_variables, size = levels.shape
    row = torch.arange(num_variables) * size
    flat = levels.reshape(num_levels, -1)
    if not flat[-1][row + allowed].isfinite().all():
        raise ConfigError(
            "allowed: expected sets with a subset of finite log score, got one without. Allow "
            "more, or score the empty set."
        )
    subset = allowed.clone()
    for k in reversed(range(num_levels - 1)):
        without = subset & ~(1 << k)
        log_odds = flat[k][row + (without | (1 << k))] - flat[k][row + without]
        # Where U lacks the bit it stays unset; a NaN of two impossible sets is of that case only.
        uniform = torch.rand(allowed.shape, dtype=levels.dtype, generator=generator)
        keep = (uniform < torch.sigmoid(log_odds)) & (subset != without)
        subset = torch.where(keep, subset, without)
    return subset


def random_orders(
    zeta: Float64[Tensor, "child subset"],
    bits: Int64[Tensor, "child parent"],
    *,
    num_orders: int,
    generator: torch.Generator,
) -> Int64[Tensor, "order variable"]:
    """Draw orders of finite weight; uniform over all orders if every empty set is scored.

    Each position goes to a variable drawn from those that what precedes it suffices for. More
    predecessors never hurt, so this finds an order wherever there is one.

    Args:
        zeta: Transformed tables of every variable, see `subset_logsumexp`.
        bits: See `ScoreTable.bits`.
        num_orders: How many to draw.
        generator: Where the random numbers come from.

    Returns:
        Variables in order, causes first.

    Raises:
        ConfigError: No order allows a graph that is scored.
    """
    num_variables, size = zeta.shape
    key = (torch.arange(num_variables) * size).repeat(num_orders, 1)
    free = torch.ones(num_orders, num_variables, dtype=torch.bool)
    order = []
    for _ in range(num_variables):
        possible = free & (zeta.reshape(-1)[key] > -torch.inf)
        if not possible.any(-1).all():
            raise ConfigError(
                "log_score: expected tables that some order has a finite score in, got none. Score "
                "the empty set of every variable."
            )
        uniform = torch.rand(possible.shape, generator=generator)
        order.append(uniform.masked_fill(~possible, -1).argmax(-1))
        free[torch.arange(num_orders), order[-1]] = False
        key = key + bits.T[order[-1]]
    return torch.stack(order, dim=-1)


@dataclass(frozen=True)
class ScoreTable:
    """Log scores of the parent sets of every variable: a decomposable score of DAGs.

    The law they define is over orders and parent sets together, p(order, A) proportional to
    ``[parents come before children] * prod_i exp(log_score[i][parents of i])``, with orders uniform
    beforehand. A DAG thus counts once for each order that allows it.

    Attributes:
        candidates: For each variable the variables that may be its parents, at most 16.
        log_score: For each variable a float tensor ``[2**K_i]``: the log score, with the log prior
            of the edges, of the set in whose bitmask bit k stands for ``candidates[i][k]``; -inf
            where a set was not scored. The empty set is number 0.
        tier: Of each variable; orders that do not put earlier tiers first have no probability. None
            for one tier.

    Raises:
        ConfigError: Names the variable whose candidates or scores cannot be used.

    Source: Friedman and Koller 2003; Kuipers and Moffa 2017 for restricted candidates.
    """

    candidates: Sequence[Sequence[int]]
    log_score: Sequence[Tensor]
    tier: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.candidates) == len(self.log_score):
            raise ConfigError(
                f"log_score: expected a tensor for each variable, got {len(self.log_score)} for "
                f"{len(self.candidates)} lists of candidates. Pass one of each per variable."
            )
        for i in range(self.num_variables):
            self._check_candidates(i)
            self._check_scores(i)

    @property
    def num_variables(self) -> int:
        """How many variables there are."""
        return len(self.candidates)

    def bits(self) -> Int64[Tensor, "child parent"]:
        """``1 << k`` where the column is the row's candidate k, 0 where it is none."""
        bits = torch.zeros(self.num_variables, self.num_variables, dtype=torch.int64)
        for child, candidates in enumerate(self.candidates):
            for k, parent in enumerate(candidates):
                bits[child, parent] = 1 << k
        return bits

    def settled_bits(self) -> Int64[Tensor, " child"]:
        """Bitmask of each variable's candidates of earlier tiers."""
        if self.tier is None:
            return torch.zeros(self.num_variables, dtype=torch.int64)
        tier = torch.tensor(self.tier)
        return (self.bits() * (tier < tier.unsqueeze(-1))).sum(-1)

    def padded(self) -> Float64[Tensor, "variable subset"]:
        """The tables at their largest size; -inf for sets with candidates that are not there."""
        size = max(len(scores) for scores in self.log_score)
        table = torch.full((self.num_variables, size), -torch.inf, dtype=torch.float64)
        for row, scores in zip(table, self.log_score, strict=True):
            row[: len(scores)] = scores.detach()
        return table

    def adjacency(
        self, parent_set: Int64[Tensor, "*draw variable"]
    ) -> Int8[Tensor, "*draw parent child"]:
        """Graphs in which every variable has the candidates of this subset for parents."""
        shape = (*parent_set.shape[:-1], self.num_variables, self.num_variables)
        graphs = torch.zeros(shape, dtype=torch.int8)
        for child, candidates in enumerate(self.candidates):
            for k, parent in enumerate(candidates):
                graphs[..., parent, child] = (parent_set[..., child] >> k & 1).to(torch.int8)
        return graphs

    def log_prob(
        self, adjacency: Float64[Tensor, "*draw parent child"]
    ) -> Float64[Tensor, "*draw"]:
        """Unnormalised log probability of 0/1 graphs with any one order that allows them."""
        present = adjacency.mT != 0
        bits = self.bits()
        subset = (bits * present).sum(-1)
        chosen = self.padded()[torch.arange(self.num_variables), subset].sum(-1)
        return chosen.masked_fill((present & (bits == 0)).any(-1).any(-1), -torch.inf)

    def _check_candidates(self, i: int) -> None:
        found = list(self.candidates[i])
        others = set(range(self.num_variables)) - {i}
        if not set(found) <= others or len(set(found)) < len(found):
            raise ConfigError(
                f"candidates: expected distinct variables other than {i} itself for variable {i}, "
                f"got {found}. Count variables from 0 to {self.num_variables - 1}."
            )
        if len(found) > MOST_CANDIDATES:
            raise ConfigError(
                f"candidates: expected at most {MOST_CANDIDATES} for variable {i}, got "
                f"{len(found)}. Keep those with the best scores."
            )

    def _check_scores(self, i: int) -> None:
        scores, size = self.log_score[i], 2 ** len(self.candidates[i])
        if scores.shape != (size,) or not scores.is_floating_point():
            raise ConfigError(
                f"log_score: expected {size} floats for the {len(self.candidates[i])} candidates "
                f"of variable {i}, got {scores.dtype} of shape {list(scores.shape)}. Score every "
                f"subset; -inf leaves one out."
            )
        if scores.isnan().any() or (scores == torch.inf).any():
            raise ConfigError(
                f"log_score: expected finite values or -inf, got NaN or +inf at variable {i}. "
                f"Give sets without a score -inf."
            )
