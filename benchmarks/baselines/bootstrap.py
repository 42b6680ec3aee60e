"""The bootstrap: probabilities, from methods that give one graph and one set of targets."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from benchmarks.baselines.dag_extension import dag_extension
from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.typing import Array

__all__ = ["NUM_DRAWS", "Estimate", "Estimator", "bootstrap", "resample"]

NUM_DRAWS = 20  # as BaCaDI's authors give JCI-PC and UT-IGSP


class Estimate(NamedTuple):
    """One guess.

    Attributes:
        graph: 0/1; an edge without direction is 1 both ways.
        targets: Whether each task hit each variable: 0, 1 or a probability.
    """

    graph: Int[Array, "parent child"]
    targets: Float[Array, "task variable"]


Estimator = Callable[[TaskDataset, np.random.Generator], Estimate]


def bootstrap(
    estimate: Estimator, tasks: TaskDataset, *, seed: int, num_draws: int = NUM_DRAWS
) -> BaselineResult:
    """Estimate from `num_draws` resamples; probabilities are shares of them.

    An edge without direction is given one at random in every draw, so that its two directions share
    its probability. An estimator's error ends it all: no resample is quietly left out.

    Args:
        estimate: Takes tasks and a generator for choices of its own.
        tasks: All of them; rows are resampled within each.
        seed: Of everything.
        num_draws: At least 1; probabilities are multiples of one in so many.

    Source:
        Friedman, Goldszmidt and Wyner, Data analysis with Bayesian networks: a bootstrap approach
        (UAI 1999).
    """
    rng = np.random.default_rng(seed)
    guesses = [estimate(resample(tasks, rng), rng) for _ in range(num_draws)]
    return BaselineResult.of(
        tasks,
        graphs=np.stack([dag_extension(guess.graph, rng) for guess in guesses]),
        target_probs=np.mean([guess.targets for guess in guesses], axis=0),
    )


def resample(tasks: TaskDataset, rng: np.random.Generator) -> TaskDataset:
    """Draw as many rows of each task as it has, with replacement; what is known stays known."""
    arrays = [rows[rng.integers(len(rows), size=len(rows))] for rows in tasks.arrays]
    return TaskDataset.from_arrays(
        arrays, variables=tasks.variables, tasks=tasks.tasks, known_targets=tasks.known_targets
    )
