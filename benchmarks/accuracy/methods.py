"""The methods compared: each learns from a problem's training tasks, then judges others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.accuracy.ceilings import ceiling, ceiling_counted, simulation_bound
from benchmarks.accuracy.worlds import Kind, Problem
from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.data import log_normalise, mean_shift, variance_ratio
from pyro_metacadi.typing import Array

__all__ = ["DEFAULT_METHODS", "METHODS", "Judge", "Method"]

Judge = Callable[[TaskDataset], Any]
"""Makes of tasks a `Posterior`, or an array of scores ``[task, variable]``."""


@dataclass(frozen=True)
class Method:
    """How to learn, and what of the outcome is scored.

    Attributes:
        fit: Learns from the training tasks; whoever is no contender may look at the truth.
        probabilities: Whether target scores are probabilities.
        edges: Whether the graph is its own finding.
        suits: Whether it can be run on a kind of world.
        num_seeds: Run on the first so many seeds only; None for all.
    """

    fit: Callable[[Problem], Judge]
    probabilities: bool = True
    edges: bool = False
    suits: Callable[[Kind], bool] = lambda kind: True
    num_seeds: int | None = None


def chance(problem: Problem) -> Judge:
    """Give every variable the probability 1 / d."""
    return lambda tasks: np.full((len(tasks), len(tasks.variables)), 1 / len(tasks.variables))


def without_model(problem: Problem, *, rule: Callable[..., Array]) -> Judge:
    """Score by `rule` against the reference rows."""
    show = log_normalise if problem.kind.counts else _as_they_are
    return lambda tasks: rule(show(tasks), reference=show(problem.reference))


def model(problem: Problem, *, build: Callable[[], MetaCaDI]) -> Judge:
    """Fit a MetaCaDI model; counts are given to it as they are."""
    return build().fit(problem.world.tasks, seed=problem.seed, device="cpu", progress=False).adapt


def true_graph(problem: Problem) -> Judge:
    """Fit the default model, its mechanisms that is, with the true graph given."""
    return model(problem, build=lambda: MetaCaDI(graph_prior=problem.world.adjacency))


def _as_they_are(tasks: TaskDataset) -> TaskDataset:
    return tasks


METHODS = {
    "chance": Method(chance),
    "mean_shift": Method(partial(without_model, rule=mean_shift), probabilities=False),
    "variance_ratio": Method(partial(without_model, rule=variance_ratio), probabilities=False),
    "paper": Method(partial(model, build=MetaCaDI.paper), edges=True, num_seeds=5),
    "metacadi": Method(partial(model, build=MetaCaDI), edges=True),
    "true_graph": Method(true_graph),
    "ceiling": Method(ceiling, suits=lambda kind: kind.ceiling == "exact"),
    "ceiling_counted": Method(ceiling_counted, suits=lambda kind: kind.ceiling == "exact"),
    "simulation_bound": Method(simulation_bound, suits=lambda kind: kind.ceiling == "simulated"),
}
DEFAULT_METHODS = tuple(METHODS)
