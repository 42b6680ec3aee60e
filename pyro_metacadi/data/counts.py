"""Counts of sequencing, checked, and made comparable between cells."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.ondisk import blocks
from pyro_metacadi.data.representation import SMALLEST_WITHOUT_FRACTION
from pyro_metacadi.data.scaling import deviations, moments
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIWarning
from pyro_metacadi.typing import Array

__all__ = ["CountUnits", "check_counts", "log_normalise"]


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
    _refuse(tasks, lambda rows: rows < 0, rule="numbers of at least 0", fix="Pass raw counts.")
    _warn_of_fractions(tasks.values)
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


def check_counts(tasks: TaskDataset) -> TaskDataset:
    """Return `tasks` if all values are counts; rows on disk are read once, a task at a time.

    Raises:
        DataError: A value is negative, has a fraction, or is 2^53 or more: too large to have one.
    """
    _refuse(
        tasks,
        lambda rows: (rows < 0) | (rows != np.floor(rows)) | (rows >= SMALLEST_WITHOUT_FRACTION),
        rule="whole numbers from 0 to below 2^53",
        fix="Pass raw counts, or use a noise model of other values.",
    )
    return tasks


@dataclass(frozen=True, eq=False)
class CountUnits:
    """What mechanisms read of counts: log(1 + count / size), standardised.

    A row's size is its total, relative to that of the median row: how deep it was measured.

    Attributes:
        total: Median of the training rows' totals, those without any count left out; where rows
            have no sizes, it says which counts are out of all proportion.
        mean: Of log(1 + count / size) over all training rows, shape [variable].
        scale: Its population standard deviation, shape [variable]; 1 where it is constant.
        variables: Their names, in order.
    """

    total: float
    mean: Float[np.ndarray, " variable"]
    scale: Float[np.ndarray, " variable"]
    variables: tuple[str, ...]

    @classmethod
    def fit(cls, tasks: TaskDataset, *, library_size: bool = True) -> "CountUnits":
        """Measure them over all tasks, in which each row counts once.

        Args:
            tasks: Counts (see `check_counts`).
            library_size: Whether rows have sizes; otherwise every size is 1.
        """
        values = tasks.values
        totals = np.concatenate([block.sum(axis=1) for block in blocks(values)])
        total = float(np.median(totals[totals > 0])) if totals.any() else 1.0

        def logarithm(rows: Array) -> Array:
            size = np.maximum(rows.sum(axis=1, keepdims=True), 1.0) / total
            return np.log1p(rows / size if library_size else rows)

        mean, deviation = moments(values, change=logarithm)
        return cls(total, mean, deviations(mean, deviation), tasks.variables)


def _refuse(tasks: TaskDataset, wrong: Callable[[Array], Array], *, rule: str, fix: str) -> None:
    """Raise where a value is `wrong`, naming the first by task and column."""
    for name, rows in zip(tasks.tasks, tasks.arrays, strict=True):
        found = np.argwhere(wrong(rows))
        if len(found):
            row, column = found[0]
            raise DataError(
                f"counts: expected {rule}, got {rows[row, column]} at task {name!r}, column "
                f"{tasks.variables[column]!r}. {fix}"
            )


def _warn_of_fractions(values: Array) -> None:
    fractional = values[values != np.floor(values)]
    if len(fractional):
        warnings.warn(
            f"counts: expected whole numbers, got {fractional[0]}. Pass raw counts, not values "
            "that have been normalised before.",
            MetaCaDIWarning,
            stacklevel=3,
        )
