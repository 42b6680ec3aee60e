"""Graph priors that are no product over families: graphs of a product near them, weighed anew."""

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_metacadi.errors import ConfigError, MetaCaDIWarning
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.models.priors import GraphPrior, constraints_of
from pyro_metacadi.typing import Array

__all__ = ["StructuredPrior"]

NUM_PRIOR_DRAWS, LEAST_SHARE = 2000, 0.01
"""Of the prior, whose edges' shares, kept so far from 0 and 1, are the product's probabilities."""

NUM_COMPLETIONS = 32
"""Of every graph by indicators of edges against its order, which the prior speaks of as well."""

FEW_GRAPHS = 20
"""Graphs that count, of a chain's draws, from which on it says something."""


class StructuredPrior:
    r"""A law of all edge indicators E together, of which an order o lets those forward count.

    Chains have orders and graphs (o, G) under independent edges of odds b. With indicators against
    the order drawn from the product q that b means, draws are weighed by

    .. math:: w = p(E \mid o) \Big/ \Big(\prod_{(i, j) \in G} b_{ij}\; q(E_{\text{backward}})\Big),

    averaged over the latter, which makes them draws under the prior p (Rubin 1987).

    Args:
        prior: Of the graph. Its parameters stay as they are.
        num_variables: d.

    Raises:
        ConfigError: It has latent sites of its own.
    """

    def __init__(self, prior: GraphPrior, num_variables: int) -> None:
        latent = poutine.trace(prior).get_trace().stochastic_nodes
        if latent:
            raise ConfigError(
                f"graph_prior: expected a law of edges alone with engine='evidence', got the "
                f"latent sites {', '.join(map(repr, latent))} of {type(prior).__name__}. Train it "
                f"by Pyro's means (docs/extending.md)."
            )
        self._prior = prior
        demands = constraints_of(prior)
        off = ~torch.eye(num_variables, dtype=torch.bool)
        self._free = off if demands is None else off & demands.free.cpu()
        self._probability = self._edge_shares(num_variables)

    @property
    def edge_log_odds(self) -> Array:
        """b, shape ``[parent, child]``."""
        odds: Array = torch.logit(self._probability).numpy()
        return odds

    def resampled(self, draws: Mapping[str, Tensor], *, seed: int) -> dict[str, Tensor]:
        """Draws of chains under b, made draws under the prior; some are then there several times.

        Args:
            draws: Of `pyro_metacadi.inference.order_mcmc.sample_graphs`.
            seed: Of completions and of the resampling.

        Warns:
            MetaCaDIWarning: Few graphs of a chain carry most of the weight.
        """
        with torch.no_grad(), _seeded(stream_seed(seed, "structured prior")):
            weight = self._log_weight(draws["order_score"], draws["adjacency"])
            chosen = torch.stack([_systematic(row.softmax(-1)) for row in weight])
        share = weight.softmax(-1)
        effective = float((1 / share.square().sum(-1)).min())
        if effective < min(FEW_GRAPHS, weight.shape[-1] / 2):
            warnings.warn(
                f"graph_prior: expected {FEW_GRAPHS} graphs or more that count in every chain, got "
                f"{effective:.0f} of {weight.shape[-1]}: the prior is far from independent edges. "
                f"Pass a larger num_steps, or use engine='svi'.",
                MetaCaDIWarning,
                stacklevel=2,
            )
        chain = torch.arange(len(chosen)).unsqueeze(-1)
        kept = {name: value[chain, chosen] for name, value in draws.items()}
        return {**kept, "log_score": kept["log_score"] + weight[chain, chosen]}

    def _log_weight(
        self, order_score: Float[Tensor, "chain draw variable"], adjacency: Tensor
    ) -> Float[Tensor, "chain draw"]:
        """Log w of every draw."""
        graph = adjacency.to(self._probability)
        forward = order_score.unsqueeze(-1) > order_score.unsqueeze(-2)
        odds = torch.logit(self._probability)
        base = (graph * odds * self._free).sum((-1, -2))
        law, backward = self._law(order_score), self._free & ~forward
        chance = self._probability.expand(graph.shape)
        total = torch.full_like(base, -math.inf)
        for _ in range(NUM_COMPLETIONS):
            other = torch.bernoulli(chance)
            edges = torch.where(backward, other, graph)
            log_q = torch.where(backward, other * odds + torch.log1p(-chance), 0.0).sum((-1, -2))
            log_p = law.log_prob(edges.to(order_score.dtype)).double()
            total = torch.logaddexp(total, log_p - base - log_q)
        return total - math.log(NUM_COMPLETIONS)

    def _edge_shares(self, num_variables: int) -> Float[Tensor, "parent child"]:
        with torch.no_grad(), _seeded(0):
            law = self._law(torch.rand(NUM_PRIOR_DRAWS, num_variables))
            many = () if law.batch_shape else (NUM_PRIOR_DRAWS,)
            share = law.sample(many).double().mean(0)
        return share.clamp(LEAST_SHARE, 1 - LEAST_SHARE).fill_diagonal_(0.5)

    def _law(self, order_score: Tensor) -> TorchDistributionMixin:
        given_order = getattr(self._prior, "given_order", None)
        law: TorchDistributionMixin = (
            self._prior() if given_order is None else given_order(order_score.float())
        )
        return law


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
