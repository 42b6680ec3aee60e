"""What makes rows usable: two-dimensional, numeric and finite. Errors say where they are not.

Nothing here knows `TaskDataset`: these functions take the raw arrays and names it is built from.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.names import listed
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["Cells", "as_numbers", "as_table", "as_tasks", "check_columns"]


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
    cells = Cells(variables)
    numbers = [cells.numbers(rows, task=name) for rows, name in zip(tables, tasks, strict=True)]
    cells.check(dict(zip(tasks, map(len, tables), strict=True)))
    return numbers


class Cells:
    """Makes tables numeric one by one, and says in the end where they were not, of all of them.

    Args:
        variables: Names of the columns, for the message.
    """

    def __init__(self, variables: Sequence[str]) -> None:
        self.variables = variables
        self._found: list[Counter[tuple[str, int]]] = [Counter() for _ in _WRONG]

    def numbers(self, table: Array, *, task: str) -> Float[np.ndarray, "rows variable"]:
        """Return rows of a task as float64; `check` refuses those that are not finite numbers.

        Args:
            table: Shape [rows, variable], numeric or of dtype object.
            task: Whose rows these are, or some of them.
        """
        numbers = table
        if table.dtype.kind == "O":
            cells = [_as_float(cell) if _is_number(cell) else np.nan for cell in table.flat]
            numbers = np.array(cells).reshape(table.shape)
        if table is numbers and np.isfinite(numbers).all():
            return numbers
        for found, (is_wrong, of_cells, _, _) in zip(self._found, _WRONG, strict=True):
            counts = is_wrong(table if of_cells else numbers).sum(axis=0)
            for column in np.flatnonzero(counts).tolist():
                found[task, column] += int(counts[column])
        return numbers

    def check(self, num_rows: Mapping[str, int]) -> None:
        """Refuse what was not a finite number.

        Args:
            num_rows: Of every task by its name, in order.

        Raises:
            DataError: Names the tasks and columns of the first kind of wrong cells.
        """
        order = {task: at for at, task in enumerate(num_rows)}
        for found, (_, _, got, fix) in zip(self._found, _WRONG, strict=True):
            if found:
                places = [
                    f"task {task!r}, column {self.variables[column]!r} "
                    f"({found[task, column]} of {num_rows[task]} rows)"
                    for task, column in sorted(found, key=lambda at: (order[at[0]], at[1]))
                ]
                where = listed(places, separator="; ")
                raise DataError(f"rows: expected finite numbers, got {got} at {where}. {fix}")


def _as_float(cell: Any) -> float:
    """Return a cell as a float: None and pandas' NA are missing, what overflows is infinite."""
    if cell is None or type(cell).__name__ in ("NAType", "NaTType"):
        return float("nan")
    try:
        return float(cell)
    except OverflowError:
        return float("inf")


def _is_number(cell: Any) -> bool:
    """Whether a float can hold the cell."""
    try:
        _as_float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _not_numbers(table: Array) -> Array:
    """Mark the cells of an object array that no float can hold."""
    return _marked(table, lambda cell: not _is_number(cell))


def _strings(table: Array) -> Array:
    """Mark the cells of an object array that are text."""
    return _marked(table, lambda cell: isinstance(cell, str | bytes))


def _marked(table: Array, is_wrong: Callable[[Any], bool]) -> Array:
    if table.dtype.kind != "O":
        return np.zeros(table.shape, dtype=bool)
    return np.array([is_wrong(cell) for cell in table.flat], dtype=bool).reshape(table.shape)


_DROP = "Drop or impute these rows."
# What marks wrong cells, whether of those that were passed or of the floats they became, what to
# call them, and the fix. The first kind that there is is the one that is told.
_WRONG: tuple[tuple[Callable[[Array], Array], bool, str, str], ...] = (
    (
        _not_numbers,
        True,
        "values that are no numbers",
        "Ignore the column when reading, write it in numbers, or name it among the groups.",
    ),
    (
        _strings,
        True,
        "numbers written as strings",
        "Convert them, with pandas.to_numeric.",
    ),
    (np.isnan, False, "NaN", _DROP),
    (np.isinf, False, "infinite values", _DROP),
)
