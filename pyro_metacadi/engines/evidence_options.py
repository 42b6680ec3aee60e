"""The evidence engine's options, checked when they are given."""

import reprlib
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import torch

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.graph_score import CERTAIN
from pyro_metacadi.ops.graphs import find_cycle
from pyro_metacadi.typing import Array

__all__ = ["EvidenceOptions"]

EXPECTED_PARENTS = 1.0
"""A priori, of a variable, unless the user says otherwise."""


@dataclass(frozen=True)
class EvidenceOptions:
    """Choices of the evidence engine.

    Attributes:
        graph_prior: Probability of an edge that the order allows, one number or a matrix
            ``[parent, child]`` in which 0 forbids and 1 requires an edge; None for one expected
            parent per variable. With a matrix, graphs have the odds of their edges.
        target_prior: Probability of a task hitting a variable, whatever others it hits; None learns
            it, and how many it hits.
        sampling: Representation of the data, chains and draws.
    """

    graph_prior: float | list[list[float]] | None = None
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
                f"sampling: expected a Sampling, got {sampling!r}. Use Sampling(num_draws=1000)."
            )
        prior = None if graph_prior is None else _probabilities(graph_prior)
        rate = None if target_prior is None else _probability(target_prior)
        return cls(prior, rate, sampling or Sampling())

    def edge_log_odds(self, num_variables: int) -> Array:
        """Log prior odds of every edge ``[parent, child]``.

        Raises:
            ConfigError: The matrix has another shape.
        """
        prior = self.graph_prior
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


def _probability(target_prior: Any) -> float:
    if not isinstance(target_prior, Real) or not 0 < float(target_prior) < 1:
        raise ConfigError(
            f"target_prior: expected a probability between 0 and 1, got {target_prior!r}. One "
            f"target among d variables is 1 / d."
        )
    return float(target_prior)


def _probabilities(graph_prior: Any) -> float | list[list[float]]:
    try:
        values = np.asarray(graph_prior)
    except (RuntimeError, TypeError, ValueError):
        values = np.asarray(None)
    if values.dtype.kind not in "biuf":
        raise ConfigError(
            f"graph_prior: expected a probability or a matrix [parent, child] of them, got "
            f"{reprlib.repr(graph_prior)}. Pass a number such as 0.1, or engine='svi' with a class."
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
