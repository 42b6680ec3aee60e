"""Graph priors that are no product over families: graphs of a product near them, weighed anew."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from pyro_metacadi.errors import ConfigError, MetaCaDIWarning
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.models.priors import (
    GraphPrior,
    constraints_of,
    law_given_order,
    sample_order_and_edges,
)
from pyro_metacadi.ops.constraints import constrained_adjacency
from pyro_metacadi.typing import Array

__all__ = ["StructuredPrior"]

NUM_PRIOR_DRAWS, LEAST_SHARE = 2000, 0.01
"""Of the prior, whose edges' shares, kept so far from 0 and 1, are the product's probabilities."""

NUM_ORDERS, NUM_PASSES = 32, 20
"""Of every graph, over which its weight is averaged, and passes of swaps from one to the next."""

FEW_GRAPHS = 20
"""Graphs that count, of a chain's draws, from which on it says something."""


class StructuredPrior:
    r"""A law of all edge indicators E together, of which an order o lets those forward count.

    Chains have graphs G under independent edges of odds b, whose orders are uniform among those
    that G allows. Weights

    .. math:: w(G) = \operatorname{E}_{o \mid G}[p(G \mid o)] \,/\, \prod_{(i, j) \in G} b_{ij}

    make them draws under the prior p (Rubin 1987). Orders of the mean are sampled. Where the prior
    has no `graph_log_prob`, :math:`p(G \mid o)` is the mean of :math:`p(E \mid o) / q(E)` over
    indicators against the order, drawn from the product q that b means.

    Args:
        prior: Of the graph. Its parameters stay as they are.
        num_variables: d.
    """

    def __init__(self, prior: GraphPrior, num_variables: int) -> None:
        self._prior = prior
        demands = constraints_of(prior)
        off = ~torch.eye(num_variables, dtype=torch.bool)
        self._free = off if demands is None else off & demands.free.cpu()
        self._tier = torch.tensor([0] * num_variables if demands is None else demands.tier)
        self._probability = self._edge_shares(num_variables)
        self._log_odds = torch.logit(self._probability)

    @property
    def edge_log_odds(self) -> Array:
        """b, shape ``[parent, child]``."""
        odds: Array = self._log_odds.numpy()
        return odds

    def sample(self, num_draws: int) -> Int8[Tensor, "draw parent child"]:
        """Graphs of the prior itself, with PyTorch's own generator."""
        zeros, demands = torch.zeros(len(self._log_odds)), constraints_of(self._prior)
        drawn = [sample_order_and_edges(self._prior, zeros) for _ in range(num_draws)]
        graphs = [constrained_adjacency(demands, score, edge=edge) for score, edge in drawn]
        return torch.stack(graphs).to(torch.int8)

    def resampled(self, draws: Mapping[str, Tensor], *, seed: int) -> dict[str, Tensor]:
        """Graphs of chains under b, made draws under the prior: some are then there several times.

        Args:
            draws: Of `pyro_metacadi.inference.order_mcmc.sample_graphs`.
            seed: Of orders and of the resampling.

        Returns:
            ``adjacency`` and ``log_score``, up to a constant.

        Raises:
            ConfigError: The prior allows none of a chain's graphs.

        Warns:
            MetaCaDIWarning: Few graphs of a chain carry most of the weight.
        """
        with torch.no_grad(), _seeded(stream_seed(seed, "structured prior")):
            weight = self._log_weight(draws["order_score"], draws["adjacency"])
            self._check(weight)
            chosen = torch.stack([_systematic(row.softmax(-1)) for row in weight])
        chain = torch.arange(len(chosen)).unsqueeze(-1)
        log_score = draws["log_score"] + weight
        return {
            "adjacency": draws["adjacency"][chain, chosen],
            "log_score": log_score[chain, chosen],
        }

    def _check(self, weight: Float[Tensor, "chain draw"]) -> None:
        """Raise if there is no graph to draw, warn if there are few."""
        if weight.isnan().any() or not weight.isfinite().any(-1).all():
            raise ConfigError(
                f"graph_prior: expected finite log probabilities of graphs that the data suggest, "
                f"got {float(weight.max(-1).values.min())} of {type(self._prior).__name__}. Say in "
                f"`constraints` which edges cannot be, or use engine='svi'."
            )
        effective = float((1 / weight.softmax(-1).square().sum(-1)).min())
        if effective < min(FEW_GRAPHS, weight.shape[-1] / 2):
            warnings.warn(
                f"graph_prior: expected {FEW_GRAPHS} graphs or more that count in every chain, got "
                f"{effective:.0f} of {weight.shape[-1]}: the prior is far from independent edges. "
                f"Pass a larger num_steps, give the prior a graph_log_prob if it has none (see "
                f"GraphPrior), or use engine='svi'.",
                MetaCaDIWarning,
                stacklevel=2,
            )

    def _log_weight(
        self, order_score: Float[Tensor, "chain draw variable"], adjacency: Tensor
    ) -> Float[Tensor, "chain draw"]:
        """Log w of every draw."""
        base = (adjacency * self._log_odds * self._free).sum((-1, -2))
        order, adjacent = order_score.argsort(descending=True), adjacency.bool()
        total = torch.full_like(base, -math.inf)
        for _ in range(NUM_ORDERS):
            score = -order.argsort().to(base)
            total = torch.logaddexp(total, self._graph_log_prob(adjacency, score))
            for first in torch.randint(2, (NUM_PASSES,)).tolist():
                order = self._swapped(order, adjacent, first)
        return total - math.log(NUM_ORDERS) - base

    def _graph_log_prob(
        self, adjacency: Tensor, order_score: Float[Tensor, "chain draw variable"]
    ) -> Float[Tensor, "chain draw"]:
        """Log p(G | o): as the prior knows it, or by one draw of the indicators against o."""
        known = getattr(self._prior, "graph_log_prob", None)
        if known is not None:
            log_prob: Tensor = known(adjacency.float(), order_score.float()).double()
            if log_prob.shape != order_score.shape[:-1]:
                raise ConfigError(
                    f"graph_prior: expected graph_log_prob {list(order_score.shape[:-1])}, one "
                    f"number a graph, got {list(log_prob.shape)} of {type(self._prior).__name__}. "
                    f"Sum over the last axes only."
                )
            return log_prob
        backward = self._free & (order_score.unsqueeze(-1) < order_score.unsqueeze(-2))
        other = torch.bernoulli(self._probability.expand(backward.shape))
        log_q = other * self._log_odds + torch.log1p(-self._probability)
        edges = torch.where(backward, other, adjacency.to(other)).to(torch.float32)
        log_p: Tensor = law_given_order(self._prior, order_score.float()).log_prob(edges).double()
        return log_p - torch.where(backward, log_q, 0.0).sum((-1, -2))

    def _swapped(
        self, order: Int[Tensor, "chain draw variable"], adjacent: Tensor, first: int
    ) -> Int[Tensor, "chain draw variable"]:
        """Neighbours at `first`, `first` + 2, ... and behind, every other pair that may be swapped.

        This leaves orders that are uniform so (Karzanov and Khachiyan 1991).
        """
        last = first + (order.shape[-1] - first) // 2 * 2
        before, after = order[..., first:last:2], order[..., first + 1 : last : 2]
        row = adjacent.gather(-2, before.unsqueeze(-1).expand(*before.shape, order.shape[-1]))
        edge = row.gather(-1, after.unsqueeze(-1)).squeeze(-1)
        swap = ~edge & (self._tier[before] == self._tier[after])
        swap = swap & (torch.rand(swap.shape) < 0.5)
        pair = torch.stack([torch.where(swap, after, before), torch.where(swap, before, after)], -1)
        return torch.cat([order[..., :first], pair.flatten(-2), order[..., last:]], -1)

    def _edge_shares(self, num_variables: int) -> Float[Tensor, "parent child"]:
        with torch.no_grad(), _seeded(0):
            law = law_given_order(self._prior, torch.rand(NUM_PRIOR_DRAWS, num_variables))
            many = () if law.batch_shape else (NUM_PRIOR_DRAWS,)
            share = law.sample(many).double().mean(0)
        return share.clamp(LEAST_SHARE, 1 - LEAST_SHARE).fill_diagonal_(0.5)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Random numbers by the seed alone; the caller's are not moved.

    Not `isolated`, within which a prior must have been built as well.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        yield


def _systematic(weight: Float[Tensor, " draw"]) -> Tensor:
    """As many draws as there are, each about as often as it weighs, in their order."""
    points = (torch.arange(len(weight)) + torch.rand(())) / len(weight)
    return torch.searchsorted(weight.cumsum(0), points.to(weight)).clamp(max=len(weight) - 1)
