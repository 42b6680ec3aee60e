"""The svi engine's units: standardised values, or counts as they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from pyro_metacadi.data.checks import REACH, STANDARD_DEVIATIONS
from pyro_metacadi.data.counts import CountUnits, check_counts
from pyro_metacadi.data.names import listed
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import DataError, ModelFileError
from pyro_metacadi.inference.storage import refuse_unless
from pyro_metacadi.typing import Array

__all__ = ["CountScaling", "SVIScaling", "StandardScaling"]

FARTHEST = 1000


@dataclass(frozen=True)
class StandardScaling:
    """A `Standardizer` as a `Scaling`."""

    reach: ClassVar[float] = REACH
    reach_in: ClassVar[str] = STANDARD_DEVIATIONS
    units: Standardizer

    def transform(self, tasks: TaskDataset) -> Sequence[Array]:
        """Each task's rows, standardised; those on disk when they are asked for.

        Raises:
            DataError: The tasks have covariates.
        """
        return self.units.transform(_without_covariates(tasks))

    def tensors(self) -> dict[str, Tensor]:
        """Mean and scale."""
        return {name: torch.tensor(getattr(self.units, name)) for name in ("mean", "scale")}

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], *, variables: tuple[str, ...]
    ) -> "StandardScaling":
        """The inverse of `tensors`, of names that start with ``scaling.``; errors as `Engine`."""
        return cls(Standardizer(*_mean_and_scale(tensors, len(variables)), variables))


@dataclass(frozen=True)
class CountScaling:
    """Counts as they are, and the `CountUnits` in which mechanisms read them, as a `Scaling`."""

    reach_in: ClassVar[str] = f"counts, {FARTHEST} times the total of a usual row in training"
    units: CountUnits

    @property
    def reach(self) -> float:
        """Larger counts belong to no depth that the training rows let expect."""
        return FARTHEST * self.units.total

    def transform(self, tasks: TaskDataset) -> Sequence[Array]:
        """Each task's rows as they are; those on disk are checked, and read when asked for.

        Raises:
            DataError: A value is no count, or the tasks have covariates.
        """
        return self.of_counts(check_counts(tasks))

    def of_counts(self, tasks: TaskDataset) -> Sequence[Array]:
        """`transform` of what is known to be counts."""
        return _without_covariates(tasks).align(self.units.variables).arrays

    def tensors(self) -> dict[str, Tensor]:
        """Mean and scale, and the total of a row of size 1."""
        units = self.units
        total = torch.tensor(units.total, dtype=torch.float64)
        return {
            "mean": torch.tensor(units.mean),
            "scale": torch.tensor(units.scale),
            "total": total,
        }

    @classmethod
    def restore(
        cls, tensors: Mapping[str, Tensor], *, variables: tuple[str, ...]
    ) -> "CountScaling":
        """The inverse of `tensors`, of names that start with ``scaling.``; errors as `Engine`."""
        total = tensors.get("scaling.total")
        if total is None:
            raise ModelFileError(
                "tensor 'scaling.total': expected the total of a model of counts, got none. Pass a "
                "noise model of values if it was fitted with one, or save or copy the model again."
            )
        positive = total.dtype == torch.float64 and total.shape == () and 0 < total < math.inf
        refuse_unless(bool(positive), "scaling.total", total.tolist())
        return cls(CountUnits(float(total), *_mean_and_scale(tensors, len(variables)), variables))


SVIScaling: TypeAlias = StandardScaling | CountScaling


def _without_covariates(tasks: TaskDataset) -> TaskDataset:
    if tasks.covariates:
        raise DataError(
            f"covariates: expected none with engine='svi', whose mechanisms read variables "
            f"only, got {listed(map(repr, tasks.covariates))}. Use engine='evidence'."
        )
    return tasks


def _mean_and_scale(tensors: Mapping[str, Tensor], num_variables: int) -> tuple[Array, Array]:
    mean, scale = tensors["scaling.mean"], tensors["scaling.scale"]
    for name, values in {"scaling.mean": mean, "scaling.scale": scale}.items():
        refuse_unless(values.dtype == torch.float64, name, values.dtype)
        fits = values.shape == (num_variables,) and bool(values.isfinite().all())
        refuse_unless(fits, name, values.tolist())
    refuse_unless(bool((scale > 0).all()), "scaling.scale", scale.tolist())
    return mean.numpy(), scale.numpy()
