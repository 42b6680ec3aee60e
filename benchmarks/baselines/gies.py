"""GIES: greedy search for the graph of linear-Gaussian mechanisms, with the targets known.

The code is that of the package `gies` (Gamella's port of pcalg's). It is told who was hit, which no
other baseline is: a reference for graphs, not a contender. Rows are centred within each task, so
that a shift of a mean says nothing.

Cost: 20 variables and 40 tasks, 20 resamples: one to three minutes on one core.

Source:
    Hauser and Buehlmann, Characterization and greedy learning of interventional Markov equivalence
    classes of directed acyclic graphs, Journal of Machine Learning Research 13 (2012).
"""

from functools import partial
from typing import Any

import numpy as np

from benchmarks.baselines.bootstrap import NUM_DRAWS, Estimate, bootstrap
from benchmarks.baselines.extras import imported
from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.errors import DataError

__all__ = ["fit"]


def fit(tasks: TaskDataset, *, seed: int, num_draws: int = NUM_DRAWS) -> BaselineResult:
    """Find the graph, given ``tasks.known_targets``, and how often resamples agree.

    Target probabilities are what was told. What is not known of a task must be nothing. A variable
    that every task hits has no mechanism to learn, and is refused.

    Args:
        tasks: All targets declared.
        seed: Of the bootstrap.
        num_draws: Resamples.

    Raises:
        DataError: A target is not known, or a variable is hit in every task.
        ModuleNotFoundError: The package is not installed.
    """
    known = tasks.known_targets
    if known is None or (known == -1).any():
        unknown = tasks.tasks[0 if known is None else int(np.argmax((known == -1).any(1)))]
        raise DataError(
            f"gies: expected the targets of every task, got unknown ones in task {unknown!r}. "
            "Declare them: tasks.with_known_targets(...)."
        )
    if known.all(0).any():
        name = tasks.variables[int(np.argmax(known.all(0)))]
        raise DataError(
            f"gies: expected a task that leaves each variable alone, got none for {name!r}. "
            "Add an observational task, or leave the variable out."
        )
    package = imported("gies", method="gies", extra="baselines")
    return bootstrap(partial(_estimate, package), tasks, seed=seed, num_draws=num_draws)


def _estimate(package: Any, tasks: TaskDataset, rng: np.random.Generator) -> Estimate:
    hits = np.asarray(tasks.known_targets, dtype=float)
    scale = tasks.values.std(0)
    arrays = [rows / np.where(scale > 0, scale, 1) for rows in tasks.arrays]
    graph, _ = package.fit_bic(arrays, [np.flatnonzero(row).tolist() for row in hits])
    return Estimate(graph.astype(int), hits)
