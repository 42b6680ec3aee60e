"""What makes rows usable: two-dimensional, numeric and finite. Errors say where they are not.

Nothing here knows `TaskDataset`: these functions take the raw arrays and names it is built from.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pyro_metacadi.data.names import listed
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["as_numbers", "as_table", "as_tasks", "check_columns"]


def as_tasks(arrays: Any) -> list[Any]:
    """Return the elements of a sequence of tasks.

    Raises:
        DataError: Not a sequence of arrays (a data frame, a dict, a string), or an empty one.
    """
    got = None
    if hasattr(arrays, "columns"):
        got, fix = "a data frame", "Use TaskDataset.from_dataframe."
    elif isinstance(arrays, Mapping):
        got, fix = "a dict", "Pass list(d.values()) and tasks=list(d)."
    elif _is_no_sequence(arrays):
        got, fix = f"{arrays!r:.40}", "Pass a list of numpy arrays, one for each task."
    if got:
        raise DataError(f"arrays: expected a sequence of 2-D arrays, got {got}. {fix}")
    parts = list(arrays)
    if not parts:
        raise DataError("arrays: expected at least one task, got none. Pass one array for each.")
    return parts


def _is_no_sequence(arrays: Any) -> bool:
    """Also of a 0-dimensional array, which has an iterator only in name."""
    if isinstance(arrays, str | bytes) or not isinstance(arrays, Iterable):
        return True
    return getattr(arrays, "ndim", None) == 0


def check_columns(
    parts: Sequence[Any], tables: Sequence[Array], *, tasks: Sequence[str], variables: Sequence[str]
) -> None:
    """Check that every table has the columns `variables`.

    Args:
        parts: What the caller passed for each task; data frames have names to compare.
        tables: The same as arrays of shape [rows, variable].
        tasks: Their names, for the message.
        variables: Names of the columns.

    Raises:
        DataError: A task has more or fewer columns, or its data frame others; says which.
    """
    uneven = [
        f"{table.shape[1]} at task {task!r}"
        for task, table in zip(tasks, tables, strict=True)
        if table.shape[1] != len(variables)
    ]
    if uneven:
        raise DataError(
            f"columns: expected {len(variables)} in every task, as in task {tasks[0]!r}, got "
            f"{listed(uneven)}. Pass the same variables in the same order for every task."
        )
    for task, part in zip(tasks, parts, strict=True):
        columns = [str(name) for name in getattr(part, "columns", variables)]
        if columns != list(variables):
            raise DataError(
                f"columns: expected {listed(map(repr, variables))}, got "
                f"{listed(map(repr, columns))} at task {task!r}. Reorder or rename the columns."
            )


def as_table(rows: Any, *, task: str) -> Array:
    """Return `rows` as a two-dimensional array, of dtype object where it is not plainly numeric.

    Raises:
        DataError: Not an array of shape [rows, variable], or one without rows or variables.
    """
    try:
        table = np.asarray(rows)
        if table.dtype.kind not in "biuf":
            # numpy turns [["a", 1.0]] into strings; objects keep what the caller wrote.
            table = np.asarray(rows, dtype=object)
    except DataError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(
            f"rows: expected an array of shape [rows, variable], got {type(rows).__name__} "
            f"({error}) at task {task!r}. Pass a numpy array with rows of equal length."
        ) from error
    if table.ndim != 2:
        raise DataError(
            f"rows: expected an array of shape [rows, variable], got shape {table.shape} at task "
            f"{task!r}. Pass one 2-D array for each task, also where it has one row or column."
        )
    for axis, name in enumerate(("row", "variable")):
        if table.shape[axis] == 0:
            raise DataError(
                f"rows: expected at least one {name}, got shape {table.shape} at task {task!r}. "
                f"Leave the task out or add a {name}."
            )
    return _numeric(rows, table)


def _numeric(rows: Any, table: Array) -> Array:
    """Return a fresh C-ordered float64 copy of `table`, or `table` itself if it holds objects."""
    if table.dtype.kind == "O":
        return table
    with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused by name
        numbers = np.array(table, dtype=np.float64, order="C")
    if isinstance(rows, np.ma.MaskedArray):  # np.asarray would show what lies under the mask
        numbers[np.ma.getmaskarray(rows)] = np.nan
    return numbers


def as_numbers(
    tables: Sequence[Array], *, tasks: Sequence[str], variables: Sequence[str]
) -> list[Array]:
    """Return the tables as float64, all of whose values are finite.

    Args:
        tables: Arrays of shape [rows, variable], numeric or of dtype object.
        tasks: Their names, for the message.
        variables: Names of the columns, for the message.

    Raises:
        DataError: A value is not a number, missing or infinite; names the tasks and columns.
    """

    def refuse(
        is_wrong: Callable[[Array], Array], within: Sequence[Array], got: str, fix: str
    ) -> None:
        places = list(_places(is_wrong, within, tasks, variables))
        if places:
            where = listed(places, separator="; ")
            raise DataError(f"rows: expected finite numbers, got {got} at {where}. {fix}")

    drop = "Drop or impute these rows."
    refuse(
        _not_numbers,
        tables,
        "values that are no numbers",
        "Leave the column out, write it in numbers, or name it in groups=.",
    )
    refuse(_strings, tables, "numbers written as strings", "Convert them, with pandas.to_numeric.")
    numbers = [
        np.array([_as_float(cell) for cell in table.flat]).reshape(table.shape)
        if table.dtype.kind == "O"
        else table
        for table in tables
    ]
    refuse(np.isnan, numbers, "NaN", drop)
    refuse(np.isinf, numbers, "infinite values", drop)
    return numbers


def _places(
    is_wrong: Callable[[Array], Array],
    tables: Sequence[Array],
    tasks: Sequence[str],
    variables: Sequence[str],
) -> Iterable[str]:
    """Say in which task and column `is_wrong` holds, and in how many rows."""
    for task, table in zip(tasks, tables, strict=True):
        counts = is_wrong(table).sum(axis=0)
        for column in np.flatnonzero(counts):
            name = variables[int(column)]
            yield f"task {task!r}, column {name!r} ({counts[column]} of {len(table)} rows)"


def _as_float(cell: Any) -> float:
    """Return a cell as a float: None and pandas' NA are missing, what overflows is infinite."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return float("nan")
    try:
        return float(cell)
    except OverflowError:
        return float("inf")


def _not_numbers(table: Array) -> Array:
    """Mark the cells of an object array that no float can hold."""

    def is_wrong(cell: Any) -> bool:
        try:
            _as_float(cell)
        except (TypeError, ValueError):
            return True
        return False

    return _marked(table, is_wrong)


def _strings(table: Array) -> Array:
    """Mark the cells of an object array that are text."""
    return _marked(table, lambda cell: isinstance(cell, str | bytes))


def _marked(table: Array, is_wrong: Callable[[Any], bool]) -> Array:
    if table.dtype.kind != "O":
        return np.zeros(table.shape, dtype=bool)
    return np.array([is_wrong(cell) for cell in table.flat], dtype=bool).reshape(table.shape)
