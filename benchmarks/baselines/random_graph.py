"""Random graphs and random suspects: what chance reaches."""

import numpy as np

from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.simulators.graphs import erdos_renyi

__all__ = ["fit"]

NUM_GRAPHS = 100  # our choice, as is the law: two edges per variable, as many as the worlds have


def fit(tasks: TaskDataset, *, seed: int) -> BaselineResult:
    """Graphs of two edges per variable in a random order, and uniform scores, from `seed` alone."""
    rng = np.random.default_rng(seed)
    d = len(tasks.variables)
    seeds = rng.integers(2**31, size=NUM_GRAPHS)
    graphs = np.stack([erdos_renyi(d, seed=int(one)) for one in seeds])
    return BaselineResult.of(tasks, graphs=graphs, target_probs=rng.random((len(tasks), d)))
