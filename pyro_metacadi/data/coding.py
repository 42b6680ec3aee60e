"""Covariates as numbers, for models and for files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.covariates import Covariates, aligned
from pyro_metacadi.data.names import listed
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["CovariateCoding", "from_codes"]


@dataclass(frozen=True)
class CovariateCoding:
    """How covariates become numbers: quantities are, groups are indicators.

    Attributes:
        groups: Name -> the groups seen in training, sorted; None for a quantity.
    """

    groups: Mapping[str, tuple[str, ...] | None]

    @classmethod
    def of(cls, covariates: Covariates) -> "CovariateCoding":
        """The coding that training data ask for."""
        return cls(
            {
                name: None if _is_quantity(column) else tuple(np.unique(column).tolist())
                for name, column in covariates.items()
            }
        )

    def codes(self, covariates: Covariates) -> Float[np.ndarray, "row covariate"]:
        """One column for each covariate, groups as their position; see `from_codes`."""
        columns = [
            covariates[name] if groups is None else np.searchsorted(groups, covariates[name])
            for name, groups in self.groups.items()
        ]
        return np.stack(columns, axis=1).astype(float)

    @property
    def is_indicator(self) -> list[bool]:
        """Of each column of `columns`."""
        widths = [(groups is not None, len(groups or "1")) for groups in self.groups.values()]
        return [one for one, width in widths for _ in range(width)]

    def columns(self, tasks: TaskDataset) -> Float[np.ndarray, "row column"]:
        """One column for each quantity, one of 0 and 1 for each group.

        Raises:
            DataError: A covariate is missing or unknown, or a group is, or is a number.
        """
        covariates, parts = aligned(tasks.covariates, list(self.groups)), []
        for name, groups in self.groups.items():
            column = covariates[name]
            if _is_quantity(column) != (groups is None):
                raise DataError(
                    f"covariates: expected {'numbers' if groups is None else 'text'} as in "
                    f"training, got {column[0].item()!r} at {name!r}. Write groups as text, "
                    f"quantities as numbers."
                )
            if groups is None:
                parts.append(column[:, None])
                continue
            _check_known(column, groups, name, tasks)
            parts.append((column[:, None] == np.array(groups)).astype(float))
        return np.hstack(parts) if parts else np.empty((len(tasks.values), 0))


def from_codes(
    codes: Float[np.ndarray, "row covariate"], groups: Mapping[str, Sequence[str] | None]
) -> Covariates:
    """The inverse of `CovariateCoding.codes`, of what a file says.

    Raises:
        ValueError, TypeError: The two do not fit.
    """
    if codes.ndim != 2 or codes.shape[1] != len(groups):
        raise ValueError(f"{len(groups)} covariates, got shape {list(codes.shape)}")
    if not np.isfinite(codes).all():
        raise ValueError("finite covariates, got NaN or infinity")
    columns = {}
    for column, (name, names) in zip(codes.T, groups.items(), strict=True):
        columns[name] = column
        if names is not None:
            if ((column != np.floor(column)) | (column < 0) | (column >= len(names))).any():
                raise ValueError(f"positions among the groups of covariate {name!r}")
            columns[name] = np.array(names)[column.astype(int)]
    return columns


def _check_known(column: Array, groups: Sequence[str], name: str, tasks: TaskDataset) -> None:
    unknown = ~np.isin(column, groups)
    if unknown.any():
        task = np.repeat(tasks.tasks, tasks.num_rows)[unknown.argmax()]
        raise DataError(
            f"covariates: expected groups of the training tasks ({listed(map(repr, groups))}), "
            f"got {column[unknown][0].item()!r} at task {str(task)!r}, covariate {name!r}. Leave "
            f"these rows out, or fit again with such rows."
        )


def _is_quantity(column: Array) -> bool:
    return column.dtype.kind == "f"
