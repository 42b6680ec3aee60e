"""Mean shift and variance ratio: target scores that need no model, beside the empty graph."""

from collections.abc import Callable

import numpy as np

from benchmarks.baselines.controls import controls
from benchmarks.baselines.result import BaselineResult
from benchmarks.naive import guess
from pyro_metacadi import TaskDataset
from pyro_metacadi.typing import Array

__all__ = ["fit"]


def fit(tasks: TaskDataset, *, seed: int, rule: Callable[..., Array]) -> BaselineResult:
    """Score tasks against the controls; without any, each task against all others.

    Scores s >= 0 are told as s / (1 + s): in the same order, and no probabilities. Milliseconds.

    Args:
        tasks: At least two, unless there are controls.
        seed: Of no consequence.
        rule: `pyro_metacadi.data.mean_shift` or `variance_ratio`.

    Raises:
        DataError: There is nothing to compare a task with.
    """
    known = controls(tasks)
    score = guess(rule, tasks, reference=tasks[known] if known.any() else None)
    d = len(tasks.variables)
    return BaselineResult.of(
        tasks, graphs=np.zeros((1, d, d), dtype=int), target_probs=score / (1 + score)
    )
