r"""Graphs of the evidence engine's prior, before any data.

The prior of an order o and a graph G that it allows is proportional to the odds of the graph's
edges, so that an order counts by the graphs it allows, :math:`\prod_{i\,before\,j} (1 + b_{ij})`.
Orders start from random ones that honour tiers and required edges, and variables are put elsewhere
one after the other (Gibbs); edges then follow independently. Graphs above a limit of parents are
drawn again.
"""

import torch
from jaxtyping import Float, Int, Int8
from torch import Tensor

from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.inference.graph_score import CERTAIN, GraphOdds
from pyro_metacadi.inference.seeds import isolated, stream_seed
from pyro_metacadi.ops.graphs import topological_order

__all__ = ["prior_graphs"]

SWEEPS = 10
"""How often every variable is put elsewhere. Swaps of neighbours would need many more."""

MOST_ROUNDS = 200
"""Of draws, of which those above the limit of parents are left out."""


def prior_graphs(
    odds: GraphOdds, num_draws: int, *, seed: int
) -> Int8[Tensor, "draw parent child"]:
    """Independent graphs of the prior; ``adjacency[:, i, j] = 1`` is X_i -> X_j.

    Args:
        odds: The prior.
        num_draws: How many.
        seed: The same seed gives the same graphs.

    Raises:
        MetaCaDIError: Hardly a graph has as few parents as the prior demands.
    """
    with isolated(stream_seed(seed, "prior graphs")), torch.no_grad():
        if odds.structured is not None:
            return odds.structured.sample(num_draws)
        found: list[Tensor] = []
        for _ in range(MOST_ROUNDS):
            graphs = _graphs(odds, num_draws)
            if odds.max_indegree is not None:
                graphs = graphs[(graphs.sum(1) <= odds.max_indegree).all(-1)]
            found.append(graphs)
            if sum(map(len, found)) >= num_draws:
                return torch.cat(found)[:num_draws]
    raise MetaCaDIError(
        f"prior: expected graphs of at most {odds.max_indegree} parents, got "
        f"{sum(map(len, found))} in {MOST_ROUNDS * num_draws} draws. Make edges less probable."
    )


def _graphs(odds: GraphOdds, num_draws: int) -> Int8[Tensor, "draw parent child"]:
    log_odds = torch.tensor(odds.edge_log_odds, dtype=torch.float64).fill_diagonal_(-CERTAIN)
    order = _orders(odds, log_odds, num_draws)
    place = order.argsort(-1)
    forward = place.unsqueeze(-1) < place.unsqueeze(-2)
    edge = torch.rand(forward.shape, dtype=torch.float64) < torch.sigmoid(log_odds)
    return (edge & forward).to(torch.int8)


def _orders(
    odds: GraphOdds, log_odds: Float[Tensor, "parent child"], num_draws: int
) -> Int[Tensor, "draw variable"]:
    d = len(log_odds)
    gain = torch.nn.functional.softplus(log_odds)
    demands = log_odds >= CERTAIN
    if odds.tier is not None:
        tier = torch.tensor(odds.tier)
        later = tier.unsqueeze(-1) > tier
        gain, demands = gain - CERTAIN * later, demands | later.T
    order = torch.rand(num_draws, d).argsort(-1)
    if demands.any():
        order = torch.stack([_allowed(shuffled, demands.long()) for shuffled in order])
    for step in range(SWEEPS * d):
        order = _relocated(order, gain, step % d)
    return order


def _allowed(
    shuffled: Int[Tensor, " variable"], demands: Int[Tensor, "parent child"]
) -> Int[Tensor, " variable"]:
    return shuffled[topological_order(demands[shuffled][:, shuffled])]


def _relocated(
    order: Int[Tensor, "draw variable"], gain: Float[Tensor, "parent child"], variable: int
) -> Int[Tensor, "draw variable"]:
    """One variable taken out and put before, between or behind the others, as the prior has it."""
    others = order[order != variable].view(len(order), -1)
    passing = gain[others, variable] - gain[variable, others]  # by each other that comes before it
    log_weight = torch.nn.functional.pad(passing.cumsum(-1), (1, 0))
    place = torch.distributions.Categorical(logits=log_weight).sample().unsqueeze(-1)
    others_place = torch.arange(others.shape[-1]).expand_as(others) + 0.5
    every = torch.cat([others, torch.full_like(place, variable)], -1)
    return every.gather(-1, torch.cat([others_place, place], -1).argsort(-1))
