"""What was measured beside the variables in every row: cell type, batch, dose."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Int

from pyro_metacadi.data.names import check_names, listed
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["Covariates", "aligned", "as_column", "as_covariates", "as_text", "joined", "taken"]

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
    if not isinstance(table, Mapping) and not _is_frame(table):
        raise DataError(
            f"covariates: expected a dict or data frame, got {type(table).__name__}. Pass one "
            f"value for each row, such as {{'batch': [...]}}."
        )
    names = check_names(list(table.keys()), what="covariates")
    twice = [repr(name) for name in names if name in variables]
    if twice:
        raise DataError(
            f"covariates: expected others than the variables, got {listed(twice)}. Leave "
            f"them out of one of the two."
        )
    columns = zip(names, table.keys(), strict=True)
    return _fixed({name: _column(table[key], name, num_rows) for name, key in columns})


def _is_frame(table: Any) -> bool:
    import pandas as pd

    return isinstance(table, pd.DataFrame)


def taken(covariates: Covariates, rows: Int[np.ndarray, " kept"] | slice) -> Covariates:
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
            f"covariates: expected {listed(map(repr, names)) or 'none'}, got "
            f"{listed(missing) or 'none'} missing and {listed(unknown) or 'none'} unknown. Name "
            f"the same covariates everywhere."
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

    array = as_column(values, name)
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
        check_names(dict.fromkeys(array.tolist()), what=f"groups of covariate {name!r}")
        return array.astype(str)
    numbers = np.array([_number(value) for value in array.tolist()])
    if not np.isfinite(numbers).all():
        value = array[np.flatnonzero(~np.isfinite(numbers))[0]]
        raise DataError(
            f"covariates: expected finite numbers (a quantity) or text (groups) throughout, got "
            f"{str(value)[:40]!r} at {name!r}. Write all values as numbers, or all as text."
        )
    return numbers


def as_column(values: Any, name: str) -> Array:
    """Numbers as such, all else as objects; what is masked is missing, categories are text."""
    try:
        if isinstance(values, np.ma.MaskedArray):
            array = np.array(values.data, dtype=object)
            array[np.ma.getmaskarray(values)] = None
            return array
        array = np.asarray(values)
        if array.dtype.kind not in "biuf":
            # numpy turns [1, "a"] into strings and dates into numbers.
            array = np.array([*values], dtype=object)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"covariates: expected a sequence of values at {name!r}, one for each row of all "
            f"tasks, got {type(values).__name__} ({' '.join(str(error).split())}). Pass them task "
            f"after task."
        ) from error
    return as_text(array) if str(getattr(values, "dtype", "")) == "category" else array


def as_text(values: Any) -> Array:
    """Labels as they are written; what is missing stays so."""
    import pandas as pd

    labels = [None if pd.isna(value) else str(value) for value in values]
    return np.array(labels, dtype=object)


def _number(value: Any) -> float:
    """NaN for what is none: text, and dates, which numpy would count from 1970."""
    if isinstance(value, str | bytes | np.datetime64 | np.timedelta64):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return np.nan
