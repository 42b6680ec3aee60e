"""Target scores that need no model: what a causal method has to beat."""

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.scaling import moments
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.typing import Array

__all__ = ["mean_shift", "variance_ratio"]

_LARGEST_SHIFT = 1e12
_LARGEST_RATIO = 1e12


def mean_shift(tasks: TaskDataset, *, reference: TaskDataset) -> Float[np.ndarray, "task variable"]:
    """Score how far each task's mean is from the reference's, in standard errors.

    ``z = |mean_t - mean_ref| / (sd_ref / sqrt(n_t))``, with the population standard deviation of
    the reference rows and n_t the rows of the task. Where the reference is constant the score is 0
    for an equal mean, else 1e12, which is also the largest score.

    Args:
        tasks: The tasks to score.
        reference: Over the same variables; the rows of all its tasks are pooled.

    Returns:
        Scores of shape [task, variable], columns as in `tasks`; larger is more suspicious.

    Raises:
        DataError: The variables differ (their order may).
    """
    mean, deviation = moments(reference.align(tasks.variables).values)
    means = np.stack([moments(rows)[0] for rows in tasks.arrays])
    shift = np.abs(means - mean)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        score = np.sqrt(tasks.num_rows)[:, None] * (shift / deviation)
    return np.where(shift == 0, 0.0, np.minimum(score, _LARGEST_SHIFT))


def variance_ratio(
    tasks: TaskDataset, *, reference: TaskDataset
) -> Float[np.ndarray, "task variable"]:
    """Score how much each task's variance differs from the reference's, as a log ratio.

    ``|log(var_t / var_ref)|``, with unbiased variances (n - 1) and the ratio held within 1e-12 and
    1e12: 0 where both are zero, 27.6 where one is. One row has no variance, so a task or a
    reference of one row scores 0.

    Args:
        tasks: The tasks to score.
        reference: Over the same variables; the rows of all its tasks are pooled.

    Returns:
        Scores of shape [task, variable], columns as in `tasks`; larger is more suspicious.

    Raises:
        DataError: The variables differ (their order may).
    """
    pooled = reference.align(tasks.variables).values
    score = np.zeros((len(tasks), len(tasks.variables)))
    if len(pooled) == 1:
        return score
    deviation = _unbiased_deviation(pooled)
    for position, rows in enumerate(tasks.arrays):
        if len(rows) > 1:
            score[position] = _log_ratio(_unbiased_deviation(rows), deviation)
    return score


def _unbiased_deviation(rows: Array) -> Array:
    return moments(rows)[1] * np.sqrt(len(rows) / (len(rows) - 1))


def _log_ratio(deviation: Array, reference: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        ratio = (deviation / reference) ** 2
    # 0 / 0 compares two constants: no difference.
    ratio = np.where((deviation == 0) & (reference == 0), 1.0, ratio)
    return np.abs(np.log(np.clip(ratio, 1 / _LARGEST_RATIO, _LARGEST_RATIO)))
