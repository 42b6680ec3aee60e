"""What rows have beside their variables, where none was measured: covariates, and how deep."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pyro_metacadi.data.names import position_of
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.user_units import Units, counts_rows

__all__ = ["Surroundings", "Trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a model was fitted to.

    Attributes:
        tasks: In the user's units.
        units: The map to the model's.
        target_probs: Asks for the probability that each task hit each variable.
    """

    tasks: TaskDataset
    units: Units
    target_probs: Callable[[], Float[np.ndarray, "task variable"]]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Of rows to be drawn; they are no variables, and no intervention moves them.

    Attributes:
        covariates: In the model's units, the depth of counts among them.
        total: Of a row's counts, or 1 for rows that are no counts.
    """

    covariates: Float[np.ndarray, "*row covariate"]
    total: Float[np.ndarray, "*row"]

    @classmethod
    def of_rows(
        cls, trained: Trained, at: Int[np.ndarray, "*row"], *, covariates: Any, total: Any
    ) -> "Surroundings":
        """Those of training rows, but for what is given.

        Where the rows are random, averages over them are averages over covariates as they are
        distributed in training.

        Args:
            trained: The model's training tasks and units.
            at: Positions of the rows, all tasks pooled.
            covariates: Name -> the value that all rows have.
            total: Of every row's counts.

        Raises:
            DataError: A covariate is unknown, or has no such value.
            ConfigError: `covariates` are no such mapping, or `total` is no positive number, or is
                given for rows that are no counts.
        """
        tasks, units, shape = trained.tasks, trained.units, at.shape
        fixed = _checked_covariates(covariates, tasks)
        size = _checked_total(total, units)
        if not tasks.covariates and not counts_rows(units):
            return cls(np.empty((*shape, 0)), np.ones(shape))
        at = at.ravel()
        beside = {name: column[at] for name, column in tasks.covariates.items()}
        beside |= {name: np.repeat(value, len(at)) for name, value in fixed.items()}
        rows = TaskDataset.from_arrays(
            [tasks.values[at]], variables=tasks.variables, covariates=beside
        )
        totals = rows.values.sum(axis=1) if size is None else np.full(len(at), size)
        columns = np.empty((len(at), 0))
        if isinstance(units, Representation):
            columns = np.array(units.transform(rows)[0][:, len(tasks.variables) :])
            if units.kind == "counts":
                d = len(tasks.variables)
                columns[:, 0] = (np.log1p(totals) - units.mean[d]) / units.scale[d]
        return cls(columns.reshape(*shape, -1), totals.reshape(shape))


def _checked_covariates(covariates: Any, tasks: TaskDataset) -> Mapping[str, Any]:
    if covariates is None:
        return {}
    if not isinstance(covariates, Mapping) or not covariates:
        raise ConfigError(
            f"covariates: expected a dict such as {{'batch': 'b1'}}, got {covariates!r}. Leave it "
            f"out to average over those of the training rows."
        )
    if not tasks.covariates:
        raise ConfigError(
            f"covariates: expected none for a model that was fitted without any, got "
            f"{next(iter(covariates))!r}. Leave them out."
        )
    for name, value in covariates.items():
        position_of(name, among=list(tasks.covariates), what="covariates")
        if np.ndim(value) != 0:
            raise ConfigError(
                f"covariates: expected one value at {name!r}, got {value!r}. Call once for each."
            )
    return covariates


def _checked_total(total: Any, units: Units) -> float | None:
    if total is None:
        return None
    if not counts_rows(units):
        raise ConfigError(
            f"total: expected none for a model of values that are no counts, got {total!r}. Leave "
            f"it out."
        )
    if isinstance(total, bool) or not isinstance(total, Real) or not 0 < float(total) < np.inf:
        raise ConfigError(
            f"total: expected the positive number of counts of a row, got {total!r}. Leave it out "
            f"for those of the training rows."
        )
    return float(total)
