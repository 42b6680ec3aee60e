"""Whether a user's graph prior is what the engines can use, said before anything is computed."""

import inspect
import reprlib
from typing import Any

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.priors import (
    FamilyGraphPrior,
    GraphPrior,
    constraints_of,
    law_given_order,
)
from pyro_metacadi.ops.constraints import GraphConstraints

__all__ = ["check_law", "checked_odds", "refuse_latent_sites", "says_odds"]


def check_law(prior: GraphPrior, num_variables: int) -> None:
    """Draw edges once, whatever the caller's random state, which stays as it is.

    Raises:
        ConfigError: The prior's law is none of 0/1 edges of so many variables.
    """
    name = f"graph_prior {type(prior).__name__}"
    demands = constraints_of(prior)
    if demands is not None and not isinstance(demands, GraphConstraints):
        raise ConfigError(
            f"{name}: expected constraints, a GraphConstraints, got {reprlib.repr(demands)}. Build "
            f"one of pyro_metacadi.ops.constraints."
        )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        law: Any = law_given_order(prior, torch.rand(num_variables))
        _check_shape(law, name, num_variables)
        try:
            edges = law.sample()
        except (NotImplementedError, RuntimeError) as error:
            raise ConfigError(
                f"{name}: expected a law that can be sampled, got {type(law).__name__} "
                f"({type(error).__name__} {error}). Write `sample`, or correct the probabilities."
            ) from error
        values = torch.as_tensor(law.log_prob(edges))
    if not ((edges == 0) | (edges == 1)).all():
        raise ConfigError(
            f"{name}: expected a law of 0/1 edges, got draws such as {float(edges.max()):g}. Use a "
            f"Bernoulli."
        )
    if values.shape or not values.isfinite():
        raise ConfigError(
            f"{name}: expected log_prob of a draw, one finite number, got "
            f"{reprlib.repr(values.tolist())}. Sum over all edges, and mask those that are fixed."
        )


def _check_shape(law: Any, name: str, num_variables: int) -> None:
    if not isinstance(law, TorchDistributionMixin):
        raise ConfigError(
            f"{name}: expected to return a law of pyro.distributions, got "
            f"{type(law).__module__}.{type(law).__name__}. Return the law, not a draw."
        )
    wanted = [num_variables, num_variables]
    if law.batch_shape or list(law.event_shape) != wanted:
        raise ConfigError(
            f"{name}: expected a law with event shape {wanted} [parent, child] and no batch shape, "
            f"got {list(law.event_shape)} and {list(law.batch_shape)}. End with .to_event(2)."
        )


def refuse_latent_sites(prior: GraphPrior, num_variables: int) -> None:
    """For engines that have no guide for them.

    Raises:
        ConfigError: The prior has latent sites of its own.
    """
    with torch.random.fork_rng(devices=[]):
        trace = poutine.trace(law_given_order).get_trace(prior, torch.rand(num_variables))
    if trace.stochastic_nodes:
        raise ConfigError(
            f"graph_prior: expected a law of edges alone with engine='evidence', got the latent "
            f"sites {', '.join(map(repr, trace.stochastic_nodes))} of {type(prior).__name__}. "
            f"Train it by Pyro's means (docs/extending.md)."
        )


def says_odds(prior: GraphPrior) -> bool:
    """Whether the prior has `edge_log_odds`, be it that reading them fails."""
    written = inspect.getattr_static(type(prior), "edge_log_odds", None) is not None
    return written or isinstance(prior, FamilyGraphPrior)


def checked_odds(prior: Any, num_variables: int) -> Tensor:
    """`edge_log_odds` of a prior that has them.

    Raises:
        ConfigError: They are no finite matrix, where the data decide.
    """
    name, shape = type(prior).__name__, [num_variables, num_variables]
    try:
        odds = prior.edge_log_odds
    except AttributeError as error:
        raise ConfigError(
            f"graph_prior: expected edge_log_odds of {name}, got AttributeError ({error}). Correct "
            f"a name in it, or in what it calls."
        ) from error
    if not isinstance(odds, Tensor) or list(odds.shape) != shape:
        raise ConfigError(
            f"graph_prior: expected edge_log_odds, a tensor {shape}, got {reprlib.repr(odds)} of "
            f"{name}. Make it a property."
        )
    demands, odds = constraints_of(prior), odds.detach().double().cpu()
    free = ~torch.eye(num_variables, dtype=torch.bool)
    bad = (free if demands is None else demands.free.cpu()) & ~odds.isfinite()
    if bad.any():
        i, j = torch.nonzero(bad)[0].tolist()
        raise ConfigError(
            f"graph_prior: expected finite edge_log_odds, got {float(odds[i, j])} at [{i}, {j}] of "
            f"{name}. Say in `constraints` which edges must or must not be there."
        )
    return odds
