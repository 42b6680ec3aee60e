"""What was measured beside the variables in every row: cell type, batch, dose."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from pyro_metacadi.data.names import check_names, listed
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["Covariates", "aligned", "as_covariates", "joined", "taken"]

Covariates = Mapping[str, Array]
"""Name -> value of each row: read-only, float64 (a quantity) or strings (groups)."""


def as_covariates(table: Any, *, num_rows: int = 0, variables: Sequence[str] = ()) -> Covariates:
    """Check covariates, and copy them.

    Args:
        table: Name -> one number or text for each row; a dict or a data frame. None for none.
        num_rows: Rows of all tasks.
        variables: Names that are taken.

    Raises:
        DataError: Not such a table; a name of a variable; the wrong number of values, or one that
            is missing, infinite or neither number nor text.
    """
    if table is None:
        return MappingProxyType({})
    if not isinstance(table, Mapping) and not hasattr(table, "columns"):
        raise DataError(
            f"covariates: expected a dict or data frame, got {type(table).__name__}. Pass one "
            f"value for each row, such as {{'batch': [...]}}."
        )
    names = check_names(list(table.keys()), what="covariates")
    taken_names = [repr(name) for name in names if name in variables]
    if taken_names:
        raise DataError(
            f"covariates: expected others than the variables, got {listed(taken_names)}. Leave "
            f"them out of one of the two."
        )
    columns = zip(names, table.keys(), strict=True)
    return _fixed({name: _column(table[key], name, num_rows) for name, key in columns})


def taken(covariates: Covariates, rows: Int[np.ndarray, " kept"]) -> Covariates:
    """The covariates of some rows, by position."""
    return _fixed({name: column[rows] for name, column in covariates.items()})


def aligned(covariates: Covariates, names: Sequence[str]) -> Covariates:
    """The same covariates in this order.

    Raises:
        DataError: The sets of names differ; says which are missing and which unknown.
    """
    missing = [repr(name) for name in names if name not in covariates]
    unknown = [repr(name) for name in covariates if name not in names]
    if missing or unknown:
        raise DataError(
            f"covariates: expected the same {len(names)} names, got {listed(missing) or 'none'} "
            f"missing and {listed(unknown) or 'none'} unknown. Pass covariates= as in training."
        )
    return _fixed({name: covariates[name] for name in names})


def joined(parts: Sequence[Covariates]) -> Covariates:
    """The rows of all parts, one after the other.

    Raises:
        DataError: The names differ, or a covariate is a quantity here and names groups there.
    """
    columns, parts = {}, [aligned(part, list(parts[0])) for part in parts]
    for name in parts[0]:
        pieces = [part[name] for part in parts]
        if len({piece.dtype.kind for piece in pieces}) > 1:
            raise DataError(
                f"covariates: expected numbers or text, got both at {name!r}. Write groups as text."
            )
        columns[name] = np.concatenate(pieces)
    return _fixed(columns)


def _fixed(columns: dict[str, Array]) -> Covariates:
    for column in columns.values():
        column.flags.writeable = False
    return MappingProxyType(columns)


def _column(values: Any, name: str, num_rows: int) -> Array:
    import pandas as pd

    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        # numpy turns [1, "a"] into strings; objects keep what the caller wrote.
        array = np.asarray(values, dtype=object)
    if array.shape != (num_rows,):
        raise DataError(
            f"covariates: expected {num_rows} values at {name!r}, one for each row of all tasks, "
            f"got shape {list(array.shape)}. Pass them task after task."
        )
    missing = pd.isna(array)
    if missing.any():
        raise DataError(
            f"covariates: expected a value in every row, got {missing.sum()} of {num_rows} missing "
            f"at {name!r}. Fill them in (a group may be called 'unknown') or drop these rows."
        )
    if all(isinstance(value, str) for value in array.tolist()):
        text = array.astype(str)
        check_names(np.unique(text), what=f"groups of covariate {name!r}")
        return text
    try:
        numbers = np.array([float(value) for value in array.tolist() if not _is_text(value)])
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if len(numbers) != num_rows or not np.isfinite(numbers).all():
        raise DataError(
            f"covariates: expected finite numbers (a quantity) or text (groups), got something "
            f"else at {name!r}. Convert it, with .astype(str) or .astype(float)."
        )
    return numbers


def _is_text(value: Any) -> bool:
    return isinstance(value, str | bytes)
