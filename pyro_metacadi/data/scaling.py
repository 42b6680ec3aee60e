"""Standardisation with one mean and scale for each variable, pooled over all tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.ondisk import blocks, on_each
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["Standardizer", "deviations", "moments", "rounding"]

ULPS = 4
"""Deviations of up to so many units in the last place of the mean are rounding."""


def moments(
    rows: Float[np.ndarray, "rows variable"],
    *,
    change: Callable[[Array], Array] = lambda rows: rows,
) -> tuple[Float[np.ndarray, " variable"], Float[np.ndarray, " variable"]]:
    """Return the mean and population standard deviation of each column.

    Rows are first mapped to [-1, 1], so that nothing cancels, overflows or vanishes far from zero
    or at extreme scales. A constant column has exactly its value as mean, and a deviation of 0.

    Args:
        rows: Finite values, at least one row. Those on disk are read a block at a time.
        change: What columns are made of: a function of rows, each apart from the others.
    """
    low = np.min([change(block).min(axis=0) for block in blocks(rows)], axis=0)
    high = np.max([change(block).max(axis=0) for block in blocks(rows)], axis=0)
    middle, reach = low / 2 + high / 2, high / 2 - low / 2
    constant = reach == 0
    divisor = np.where(constant, 1.0, reach)

    def average(function: Callable[[Array], Array]) -> Array:
        sums = [function((change(b) - middle) / divisor).sum(axis=0) for b in blocks(rows)]
        return np.sum(sums, axis=0) / len(rows)

    unit_mean = average(lambda unit: unit)
    deviation = np.sqrt(average(lambda unit: np.square(unit - unit_mean)))
    mean = np.where(constant, low, middle + reach * unit_mean)
    return mean, np.where(constant, 0.0, reach * deviation)


def rounding(mean: Float[np.ndarray, " variable"]) -> Float[np.ndarray, " variable"]:
    """Return the standard deviation up to which a column of this mean counts as constant.

    A column that should be constant may differ by rounding (0.3 and 0.1 + 0.2), which must not be
    blown up to a deviation of 1.
    """
    spacing = np.finfo(np.float64)
    return np.maximum(ULPS * spacing.eps * np.abs(mean), spacing.smallest_normal)


def deviations(
    mean: Float[np.ndarray, " variable"], deviation: Float[np.ndarray, " variable"]
) -> Float[np.ndarray, " variable"]:
    """Return what to divide columns of these moments by: for constant ones 1, or their rounding."""
    negligible = rounding(mean)
    return np.where(deviation <= negligible, np.maximum(1.0, negligible), deviation)


@dataclass(frozen=True, eq=False)
class Standardizer:
    """An affine map of each variable to mean 0 and standard deviation 1 over the training rows.

    Attributes:
        mean: In the user's units, shape [variable].
        scale: Population standard deviation in the user's units, shape [variable]; for a variable
            that is constant over all tasks, 1, or its rounding error where that is larger.
        variables: Their names, in order.
    """

    mean: Float[np.ndarray, " variable"]
    scale: Float[np.ndarray, " variable"]
    variables: tuple[str, ...]

    @classmethod
    def fit(cls, tasks: TaskDataset) -> "Standardizer":
        """Measure mean and scale over all tasks, in which each row counts once."""
        mean, deviation = moments(tasks.values)
        return cls(mean, deviations(mean, deviation), tasks.variables)

    def transform(self, tasks: TaskDataset) -> Sequence[Array]:
        """Return each task's rows standardised: float64 arrays of shape [rows, variable].

        Rows on disk are read, and standardised, when they are asked for. A row too far from the
        training data for a float64 becomes infinite.

        Args:
            tasks: Over the same variables; columns in another order are reordered by name.

        Raises:
            DataError: A variable is missing or unknown.
        """
        return on_each(tasks.align(self.variables).arrays, self._standardised)

    def _standardised(self, rows: Array) -> Array:
        with np.errstate(over="ignore"):
            # Halved, because the difference of two floats may be larger than the largest float.
            return (rows / 2 - self.mean / 2) / self.scale * 2

    def inverse(
        self, array: Float[np.ndarray, "*batch columns"]
    ) -> Float[np.ndarray, "*batch columns"]:
        """Return standardised values of shape [..., variable] in the user's units.

        Raises:
            DataError: The last axis is not the variables.
        """
        if array.shape[-1:] != self.mean.shape:
            raise DataError(
                f"array: expected {len(self.variables)} values on the last axis, one for each "
                f"variable, got shape {array.shape}. Keep the order of .variables."
            )
        return array * self.scale + self.mean
