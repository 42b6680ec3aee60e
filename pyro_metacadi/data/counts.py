"""Counts of sequencing become comparable between cells."""

import warnings
from typing import Any

import numpy as np

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIWarning
from pyro_metacadi.typing import Array

__all__ = ["log_normalise"]


def log_normalise(tasks: TaskDataset, *, total: float | int = 10_000) -> TaskDataset:
    """Scale each cell's counts to the same total, and take log(1 + x).

    A cell's depth says more about the sequencing than about the cell. The total is a constant, so
    that a new task of a few cells is treated as the training tasks were. A cell without any count
    stays 0.

    Args:
        tasks: Counts, rows are cells.
        total: Counts per cell after scaling; 1e6 gives log counts per million.

    Returns:
        The same tasks and variables, values in natural logarithms.

    Raises:
        DataError: A value is negative.
        ConfigError: `total` is not a positive number.

    Warns:
        MetaCaDIWarning: A value is not a whole number, as after an earlier normalisation.
    """
    if not (np.isfinite(total) and total > 0):
        raise ConfigError(f"total: expected a positive number, got {total}. Pass one, such as 1e4.")
    _check_counts(tasks)
    depth = tasks.values.sum(axis=1, keepdims=True)
    # Divided first: a count times the total could overflow.
    values = np.log1p(tasks.values / np.where(depth > 0, depth, 1.0) * total)
    pieces: list[Any] = np.split(values, np.cumsum(tasks.num_rows)[:-1])
    return TaskDataset.from_arrays(
        pieces,
        variables=tasks.variables,
        tasks=tasks.tasks,
        covariates=tasks.covariates,
        known_targets=tasks.known_targets,
    )


def _check_counts(tasks: TaskDataset) -> None:
    for name, rows in zip(tasks.tasks, tasks.arrays, strict=True):
        negative = np.argwhere(rows < 0)
        if len(negative):
            row, column = negative[0]
            raise DataError(
                f"counts: expected numbers of at least 0, got {rows[row, column]} at task "
                f"{name!r}, column {tasks.variables[column]!r}. Pass raw counts."
            )
    fractional = _first_fraction(tasks.values)
    if fractional is not None:
        warnings.warn(
            f"counts: expected whole numbers, got {fractional}. Pass raw counts, not values that "
            "have been normalised before.",
            MetaCaDIWarning,
            stacklevel=3,
        )


def _first_fraction(values: Array) -> float | None:
    fractional = values[values != np.floor(values)]
    return float(fractional[0]) if len(fractional) else None
