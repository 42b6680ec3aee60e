"""The empty graph, and no suspect: the floor of every distance."""

import numpy as np

from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset

__all__ = ["fit"]


def fit(tasks: TaskDataset, *, seed: int) -> BaselineResult:
    """No edges; every variable is a target with probability 1 / d, whatever the rows say."""
    d = len(tasks.variables)
    return BaselineResult.of(
        tasks,
        graphs=np.zeros((1, d, d), dtype=int),
        target_probs=np.full((len(tasks), d), 1 / d),
    )
