"""The evidence engine's options, checked when they are given."""

import reprlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch

from pyro_metacadi.checks import refuse_labels
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.graph_score import CERTAIN, GraphOdds
from pyro_metacadi.inference.structured_prior import StructuredPrior
from pyro_metacadi.models.prior_checks import (
    check_law,
    checked_odds,
    refuse_latent_sites,
    says_odds,
)
from pyro_metacadi.models.priors import GraphPrior, constraints_of
from pyro_metacadi.ops.graphs import find_cycle
from pyro_metacadi.ops.subsets import MOST_CANDIDATES
from pyro_metacadi.parts import Factory, build_part, check_factory, describe, plain
from pyro_metacadi.typing import Array

__all__ = ["EvidenceOptions"]

EXPECTED_PARENTS = 1.0
"""A priori, of a variable, unless the user says otherwise."""


@dataclass(frozen=True)
class EvidenceOptions:
    """Choices of the evidence engine.

    Attributes:
        graph_prior: Probability of an edge that the order allows, one number or a matrix
            ``[parent, child]`` in which 0 forbids and 1 requires an edge; or a factory of a
            `GraphPrior`; None for one expected parent per variable. Unless it is one number,
            graphs have the odds of their edges.
        target_prior: Probability of a task hitting a variable, whatever others it hits; None learns
            it, and how many it hits.
        sampling: Representation of the data, chains and draws.
    """

    graph_prior: float | list[list[float]] | Factory | None = None
    target_prior: float | None = None
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def checked(cls, graph_prior: Any, target_prior: Any, sampling: Any) -> "EvidenceOptions":
        """Options of the user, None meaning the default.

        Raises:
            ConfigError: A value is no such option, or required edges form a cycle.
        """
        if sampling is not None and not isinstance(sampling, Sampling):
            raise ConfigError(
                f"sampling: expected a Sampling, got {sampling!r}. Use "
                f"pyro_metacadi.inference.Sampling(num_draws=1000)."
            )
        prior = graph_prior
        if callable(prior):
            check_factory("graph_prior", prior)
        elif prior is not None:
            prior = _probabilities(prior)
        rate = None if target_prior is None else _probability(target_prior)
        return cls(prior, rate, sampling or Sampling())

    def to_json(self) -> dict[str, Any]:
        """The options as plain data.

        Raises:
            ConfigError: One cannot be written down.
        """
        prior: Any = self.graph_prior
        prior = describe(prior) if callable(prior) else plain("graph_prior", prior)
        return {
            "graph_prior": prior,
            "target_prior": self.target_prior,
            "sampling": asdict(self.sampling),
        }

    def graph_odds(self, variables: Sequence[str]) -> GraphOdds:
        """What the prior says of every edge.

        Raises:
            ConfigError: The matrix has another shape, or the prior has latent sites.
        """
        if callable(self.graph_prior):
            odds = _odds_of(self.graph_prior, variables)
        else:
            odds = GraphOdds(self._edge_log_odds(len(variables)))
        required = (odds.edge_log_odds >= CERTAIN).sum(0)
        if required.max() > MOST_CANDIDATES:
            raise ConfigError(
                f"graph_prior: expected at most {MOST_CANDIDATES} required parents of a variable "
                f"with engine='evidence', got {required.max()} of "
                f"{variables[required.argmax()]!r}. Require fewer, or use engine='svi'."
            )
        return odds

    def _edge_log_odds(self, num_variables: int) -> Array:
        prior: Any = self.graph_prior
        if prior is None:
            prior = min(0.5, 2 * EXPECTED_PARENTS / max(1, num_variables - 1))
        matrix = np.asarray(prior, dtype=float)
        if matrix.shape not in ((), (num_variables, num_variables)):
            raise ConfigError(
                f"graph_prior: expected one probability or a matrix "
                f"{[num_variables, num_variables]} [parent, child], got shape "
                f"{list(matrix.shape)}. Pass one row and one column per variable."
            )
        with np.errstate(divide="ignore"):
            odds = np.log(matrix) - np.log1p(-matrix)
        return np.broadcast_to(np.clip(odds, -CERTAIN, CERTAIN), (num_variables, num_variables))


def _odds_of(factory: Factory, variables: Sequence[str]) -> GraphOdds:
    d = len(variables)
    prior = build_part("graph_prior", factory, GraphPrior, d, variables=variables)
    check_law(prior, d)
    refuse_latent_sites(prior, d)
    structured = None if says_odds(prior) else StructuredPrior(prior, d)
    odds = checked_odds(prior, d).numpy() if structured is None else structured.edge_log_odds
    odds = odds.clip(-CERTAIN, CERTAIN)
    np.fill_diagonal(odds, -CERTAIN)
    demands = constraints_of(prior)
    if demands is None:
        return GraphOdds(odds, structured=structured)
    odds[~demands.free.cpu().numpy()] = -CERTAIN
    odds[demands.required.cpu().numpy()] = CERTAIN
    return GraphOdds(odds, demands.tier, demands.max_indegree, structured)


def _probability(target_prior: Any) -> float:
    if not isinstance(target_prior, Real) or not 0 < float(target_prior) < 1:
        raise ConfigError(
            f"target_prior: expected a probability between 0 and 1, got {target_prior!r}. One "
            f"target among d variables is 1 / d."
        )
    return float(target_prior)


def _probabilities(graph_prior: Any) -> float | list[list[float]]:
    refuse_labels("graph_prior", graph_prior)
    try:
        values = np.asarray(graph_prior)
    except (RuntimeError, TypeError, ValueError):
        values = np.asarray(None)
    if values.dtype.kind not in "biuf":
        raise ConfigError(
            f"graph_prior: expected a probability or a matrix [parent, child] of them, got "
            f"{reprlib.repr(graph_prior)}. Pass a number such as 0.1, or a GraphPrior class."
        )
    if not ((values >= 0) & (values <= 1)).all() or (values.ndim == 0 and values in (0, 1)):
        raise ConfigError(
            f"graph_prior: expected probabilities, got {reprlib.repr(graph_prior)}. Pass a number "
            f"such as 0.1."
        )
    square = values.ndim == 2 and values.shape[0] == values.shape[1]
    cycle = find_cycle(torch.tensor(values == 1)) if square else None
    if cycle is not None:
        raise ConfigError(
            f"graph_prior: expected required edges (of probability 1) without a cycle, got "
            f"{' -> '.join(f'X{i + 1}' for i in cycle)}. Lower one of these probabilities."
        )
    return values.astype(float).tolist()
