"""The units in which additive noise of one size per variable is the least wrong."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.coding import CovariateCoding
from pyro_metacadi.data.scaling import deviations, moments
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.typing import Array

__all__ = ["REPRESENTATIONS", "Representation"]

Kind = Literal["identity", "sqrt", "log", "counts"]
REPRESENTATIONS: tuple[Kind, ...] = ("identity", "sqrt", "log", "counts")

LAW_REACH = 1e50
"""Largest scale and mean of a variable in the intervention law's units."""

LARGEST_LEVEL = 9
"""Whole numbers up to this may be levels; counts have larger ones."""

SMALLEST_WITHOUT_FRACTION = 2.0**53
"""From here on floats have no fractions, and that a value is whole says nothing."""


@dataclass(frozen=True, eq=False)
class Representation:
    """A transformation of all values, then standardisation of each column.

    ``identity`` and ``log`` (positive data) are what they say; ``sqrt`` (non-negative data) makes
    the variance of values whose variance grows with their mean constant; ``counts`` takes
    log(1 + x) and adds the logarithm of the row's total (its depth) as a covariate that every
    mechanism may read. (Dividing by the depth instead ties all variables together: a share grows
    where another falls.)

    The dataset's own covariates are covariates as well: quantities standardised, groups as
    indicators of 0 and 1, so that a mechanism in one group says much about it in another.

    Attributes:
        kind: See above.
        mean: Of each column after the transformation: variables, then covariates.
        scale: Population standard deviations; 1 for a constant column.
        variables: Names, in order.
        coding: Of the dataset's own covariates, the last columns.
    """

    kind: Kind
    mean: Float[np.ndarray, " column"]
    scale: Float[np.ndarray, " column"]
    variables: tuple[str, ...]
    coding: CovariateCoding

    @classmethod
    def fit(cls, tasks: TaskDataset, *, kind: str = "auto") -> "Representation":
        """Choose a transformation, unless one is given, and measure means and scales.

        Whole numbers are counts (of several variables: of one alone the depth says all). Of the
        powers that other data allow, the one is chosen under which all variables together are most
        nearly normal, by the Box-Cox likelihood.

        Raises:
            ConfigError: `kind` is unknown, or not for data of this sign.
        """
        chosen = _chosen(tasks.values) if kind == "auto" else _checked(kind, tasks.values)
        coding = CovariateCoding.of(tasks.covariates)
        columns = np.hstack([_transformed(tasks.values, chosen), coding.columns(tasks)])
        mean, deviation = moments(columns)
        scale = deviations(mean, deviation)
        scale[len(scale) - len(coding.is_indicator) :][coding.is_indicator] = 1.0
        return cls(chosen, mean, scale, tasks.variables, coding)

    @property
    def num_covariates(self) -> int:
        """How many columns follow the variables."""
        return len(self.mean) - len(self.variables)

    def transform(self, tasks: TaskDataset) -> list[Array]:
        """Each task's rows in these units, float64 ``[rows, column]``, covariates last.

        Values below what the transformation is for are raised to it: to 0, and for ``log`` to the
        smallest normal float. Those too large become infinite.

        Raises:
            DataError: A variable, covariate or group is missing or unknown.
        """
        values, beside = tasks.align(self.variables).values, self.coding.columns(tasks)
        with np.errstate(over="ignore"):
            columns = np.hstack([_transformed(values, self.kind), beside])
            # Halved, because the difference of two floats may be larger than the largest float.
            standard = (columns / 2 - self.mean / 2) / self.scale * 2
        return np.split(standard, np.cumsum(tasks.num_rows)[:-1])

    @property
    def law_units(self) -> tuple[Float[np.ndarray, " variable"], Float[np.ndarray, " variable"]]:
        """Scale and mean of each variable in the intervention law's units, common to all.

        One is the median deviation. Scales and means of other orders of magnitude are cut, so that
        their squares are floats.
        """
        d = len(self.variables)
        unit = np.median(self.scale[:d])
        with np.errstate(over="ignore"):
            scale, mean = self.scale[:d] / unit, self.mean[:d] / unit
        return np.clip(scale, 1 / LAW_REACH, LAW_REACH), np.clip(mean, -LAW_REACH, LAW_REACH)


def _transformed(values: Array, kind: Kind) -> Array:
    if kind == "sqrt":
        return np.sqrt(np.maximum(values, 0))
    if kind == "log":
        return np.log(np.maximum(values, np.finfo(float).tiny))
    if kind == "counts":
        values = np.maximum(values, 0)
        with np.errstate(over="ignore"):
            depth = np.minimum(values.sum(axis=1, keepdims=True), np.finfo(float).max)
        return np.hstack([np.log1p(values), np.log1p(depth)])
    return values


def _chosen(values: Array) -> Kind:
    if (values < 0).any() or values.shape[1] == 0:
        return "identity"
    whole = (values == np.floor(values)).all()
    counted = LARGEST_LEVEL < values.max() < SMALLEST_WITHOUT_FRACTION
    if whole and counted and values.shape[1] > 1:
        return "counts"
    powers: dict[Kind, float] = {"identity": 1.0, "sqrt": 0.5}
    if (values > 0).all():
        powers["log"] = 0.0
    likelihood = {kind: _box_cox_log_likelihood(values, power) for kind, power in powers.items()}
    return max(likelihood, key=likelihood.__getitem__)


def _box_cox_log_likelihood(values: Array, power: float) -> float:
    """Profile log-likelihood of normality after a power; values of exactly 0 say nothing.

    Source: Box and Cox 1964.
    """
    total = 0.0
    for column in values.T:
        positive = column[column > 0]
        if len(positive) < 2:
            continue
        # Relative to the largest value, which keeps squares finite.
        logarithm = np.log(positive) - np.log(positive.max())
        # Less the constant 1 / power: values that hardly differ keep their digits.
        image = np.expm1(power * logarithm) / power if power else logarithm
        variance = moments(image[:, None])[1][0] ** 2
        if variance > 0:
            jacobian = (power - 1) * logarithm.sum()
            total += jacobian - len(positive) / 2 * np.log(variance)
    return total


def _checked(kind: str, values: Array) -> Kind:
    for known in REPRESENTATIONS:
        if kind == known:
            smallest = np.finfo(float).smallest_subnormal
            lowest = {"identity": -np.inf, "log": smallest}.get(known, 0.0)
            if values.min() < lowest:
                raise ConfigError(
                    f"representation: expected values for {kind!r} of "
                    f"{'more than' if known == 'log' else 'at least'} 0, got {values.min():g}. "
                    f"Use 'identity'."
                )
            return known
    raise ConfigError(
        f"representation: expected 'auto' or one of {', '.join(map(repr, REPRESENTATIONS))}, got "
        f"{kind!r}. Use 'auto' if in doubt."
    )
