"""Data frames that hold all tasks, and a column that says which row is from which task."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from pandas.api.types import is_complex_dtype, is_numeric_dtype

from pyro_metacadi.data.covariates import as_text
from pyro_metacadi.data.names import check_names, position_of
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["check_labels", "grouped_rows", "joined_frame", "task_codes", "task_column"]


def grouped_rows(
    df: Any, *, task: Any, covariates: Any = (), groups: Any = (), ignore: Any = ()
) -> tuple[list[Array], list[str], list[str], dict[str, Any]]:
    """Group the rows of a DataFrame by its column `task`.

    Returns:
        Arrays of shape [rows, variable], one for each task in order of first appearance; names of
        the variables, which are the columns left; names of the tasks; the covariates by name.

    Raises:
        DataError: Not a DataFrame; a column twice; no such columns; labels missing or unhashable.
    """
    names, at = task_column(df, task=task)
    codes, labels = task_codes(df.iloc[:, at])
    quantities = check_names(covariates, what="covariates")
    labelled = check_names(groups, what="groups")
    others = check_names((*quantities, *labelled), what="covariates")
    ignored = check_names(ignore, what="ignored columns")
    check_names((*others, *ignored), what="covariates and ignored columns")
    beside = _places(others, names, at=at, what="covariate")
    left_out = (at, *beside, *_places(ignored, names, at=at, what="ignored column"))
    order = np.argsort(codes, kind="stable")
    rows = _cells(df.drop(columns=df.columns[list(left_out)]))[order]
    arrays = np.split(rows, np.cumsum(np.bincount(codes))[:-1])
    variables = [name for place, name in enumerate(names) if place not in left_out]
    columns: dict[str, Any] = {names[place]: df.iloc[order, place] for place in beside}
    columns |= {name: as_text(columns[name]) for name in labelled}
    return arrays, variables, labels, columns


def _places(chosen: Sequence[str], names: Sequence[str], *, at: int, what: str) -> list[int]:
    """Where the chosen columns are, of which that of the tasks, `at`, may be none."""
    if names[at] in chosen:
        raise DataError(
            f"{what}s: expected others than the task column, got {names[at]!r}. Leave it out."
        )
    known = [name for name in names if name != names[at]]
    return [names.index(known[position_of(name, among=known, what=what)]) for name in chosen]


def task_column(df: Any, *, task: Any) -> tuple[tuple[str, ...], int]:
    """Return the names of all columns, and where among them that of the tasks is.

    Raises:
        DataError: Not a DataFrame; without rows; a column twice; no column `task`.
    """
    if not isinstance(df, pd.DataFrame):
        raise DataError(
            f"df: expected a pandas DataFrame, got {type(df).__name__}. "
            f"Use TaskDataset.from_arrays for arrays."
        )
    if df.empty:
        raise DataError("rows: expected at least one row, got an empty table. Pass one with rows.")
    names = check_names(df.columns, what="columns")
    return names, task_position(df, names, task=task)


def task_position(df: pd.DataFrame, names: Sequence[str], *, task: Any) -> int:
    """Where among the names of a table's columns that of the tasks is.

    Raises:
        DataError: It is none of them.
    """
    if isinstance(task, str) and task not in names and task in df.index.names:
        raise DataError(
            f"task column: expected a column, got {task!r}, which is the index. Make it one: "
            f"df.reset_index()."
        )
    return position_of(str(task), among=names, what="task column")


def task_codes(column: pd.Series) -> tuple[Array, list[str]]:
    """Number a column's labels by first appearance.

    Returns:
        The number of each row, and the labels as text.

    Raises:
        DataError: Labels are missing or unhashable.
    """
    check_labels(int(column.isna().sum()), num_rows=len(column), column=str(column.name))
    try:
        codes, labels = pd.factorize(column)
    except TypeError as error:
        raise DataError(
            f"task column: expected hashable labels, got {column.iloc[0]!r} at column "
            f"{str(column.name)!r}. Turn them into strings."
        ) from error
    return codes, [str(label) for label in labels]


def check_labels(missing: int, *, num_rows: int, column: str) -> None:
    """Refuse a task column of so many rows in which labels are missing.

    Raises:
        DataError: Some are.
    """
    if missing:
        raise DataError(
            f"task column: expected a label in every row, got {missing} of {num_rows} missing "
            f"at column {column!r}. Fill them in or drop these rows."
        )


def _cells(frame: pd.DataFrame) -> Array:
    """Return the cells as float64 where all columns are numeric (NA is NaN), else as objects."""
    if all(is_numeric_dtype(kind) and not is_complex_dtype(kind) for kind in frame.dtypes):
        with np.errstate(over="ignore"):
            return frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return frame.to_numpy(dtype=object)


def joined_frame(
    values: Float[np.ndarray, "rows variable"],
    num_rows: Int[np.ndarray, " task"],
    *,
    variables: Sequence[str],
    tasks: Sequence[str],
    column: str,
    covariates: Mapping[str, Array],
) -> pd.DataFrame:
    """Return all rows as one DataFrame, whose first `column` holds each row's task.

    Raises:
        DataError: A variable or covariate is called `column`.
    """
    if column in (*variables, *covariates):
        raise DataError(
            f"task column: expected a name that no other column has, got {column!r}. "
            f"Pass another name, such as task='condition'."
        )
    frame = pd.DataFrame(values.copy(), columns=list(variables))
    for at, (name, known) in enumerate(covariates.items()):
        frame.insert(at, name, known)
    frame.insert(0, column, np.repeat(np.array(tasks, dtype=object), num_rows))
    return frame
