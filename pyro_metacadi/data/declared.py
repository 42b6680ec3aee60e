"""What is known of tasks' targets before their rows are seen: a matrix of 1, 0 and -1.

Nothing here knows `TaskDataset`: these functions take the matrix and the names it is about.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int8

from pyro_metacadi.data.names import did_you_mean, listed
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = [
    "HIT",
    "NOT_HIT",
    "UNKNOWN",
    "Names",
    "as_known",
    "declared",
    "joined_known",
    "same_known",
    "summary",
]

HIT, NOT_HIT, UNKNOWN = 1, 0, -1

Known = Int8[np.ndarray, "task variable"]


class Names(NamedTuple):
    """What the rows and the columns of a matrix are called."""

    tasks: Sequence[str]
    variables: Sequence[str]

    def place(self, at: Sequence[Any]) -> str:
        """Where an element is, in words."""
        return f"task {self.tasks[int(at[0])]!r}, column {self.variables[int(at[1])]!r}"


def as_known(values: Any, names: Names) -> Known | None:
    """Return a read-only copy of what is known; None if that is nothing.

    Args:
        values: Matrix ``[task, variable]`` of 1 (hit), 0 (not hit) and -1 (unknown), or None.
        names: Of its rows and columns.

    Raises:
        DataError: Another shape, or other values; names the first place.
    """
    if values is None:
        return None
    try:
        matrix = np.asarray(values)
    except (RuntimeError, TypeError, ValueError):
        matrix = np.asarray(None)
    shape = len(names.tasks), len(names.variables)
    if matrix.dtype.kind not in "biuf" or matrix.shape != shape:
        got = f"{matrix.dtype} of shape {list(matrix.shape)}"
        raise DataError(
            f"known_targets: expected numbers of shape [task, variable] = {list(shape)}, got "
            f"{got}. Pass one row for each task, or name targets with .declare(...)."
        )
    wrong = ~np.isin(matrix, (HIT, NOT_HIT, UNKNOWN))
    if wrong.any():
        at = np.argwhere(wrong)[0]
        raise DataError(
            f"known_targets: expected 1 (hit), 0 (not hit) or -1 (unknown), got "
            f"{matrix[tuple(at)]} at {names.place(at)}. Write -1 for what is unknown."
        )
    return None if (matrix == UNKNOWN).all() else _frozen(matrix.astype(np.int8))


def declared(
    known: Known | None,
    names: Names,
    *,
    at: Sequence[int],
    hit: Any,
    not_hit: Any,
    exactly: Any,
) -> Known | None:
    """Return what is known after one more declaration, of some tasks.

    Args:
        known: Before it.
        names: Of tasks and variables.
        at: Positions of the tasks.
        hit: Names of variables that they hit.
        not_hit: Names of variables that they did not hit.
        exactly: Names of all variables that they hit; None if others may be.

    Raises:
        DataError: Names that are no variables, nothing declared, `exactly` beside others, or a
            variable both hit and not hit.
    """
    said = np.full(len(names.variables), UNKNOWN, dtype=np.int8)
    yes, no = _columns("hit", hit, names), _columns("not_hit", not_hit, names)
    if exactly is None:
        _refuse_unless_said(yes, no, names)
        said[yes], said[no] = HIT, NOT_HIT
    elif yes or no:
        raise DataError(
            f"declaration: expected exactly= alone, got {names.variables[(yes + no)[0]]!r} in hit= "
            f"or not_hit= as well. Leave it out: what is not in exactly= is not hit."
        )
    else:
        said[:] = NOT_HIT
        said[_columns("exactly", exactly, names)] = HIT
    return _joined(known, said, names, at=at)


def joined_known(parts: Sequence[tuple[Known | None, int]], width: int) -> Known | None:
    """Return what is known of tasks that follow one another.

    Args:
        parts: What is known of some tasks, and how many these are.
        width: How many variables there are.
    """
    if all(known is None for known, _ in parts):
        return None
    nothing = np.full(width, UNKNOWN, dtype=np.int8)
    return np.concatenate(
        [np.tile(nothing, (size, 1)) if known is None else known for known, size in parts]
    )


def same_known(known: Known | None, other: Known | None) -> bool:
    """Whether the two say the same of as many tasks and variables."""
    if known is None or other is None:
        return known is other
    return np.array_equal(known, other)


def summary(known: Known | None) -> str:
    """How much is known, for a dataset's repr; empty if nothing is."""
    if known is None:
        return ""
    some = (known != UNKNOWN).any(axis=1).sum()
    return f"; targets declared in {some} of {len(known)} tasks"


def _joined(
    known: Known | None, said: Int8[np.ndarray, " variable"], names: Names, *, at: Sequence[int]
) -> Known | None:
    shape = len(names.tasks), len(names.variables)
    after = np.full(shape, UNKNOWN, dtype=np.int8) if known is None else known.copy()
    for task in at:
        before = after[task]
        both = (before != UNKNOWN) & (said != UNKNOWN) & (before != said)
        where = f" at task {names.tasks[task]!r}"
        _refuse_both([names.variables[column] for column in np.flatnonzero(both).tolist()], where)
        after[task] = np.where(said == UNKNOWN, before, said)
    return _frozen(after)


def _columns(what: str, variables: Any, names: Names) -> list[int]:
    """Positions of named variables; all unknown names are listed at once."""
    if isinstance(variables, str) or not isinstance(variables, Iterable):
        raise DataError(
            f"{what}: expected a list of variables, got {variables!r}. Put a single one "
            f"into a list."
        )
    wanted = list(variables)
    known = set(names.variables)
    unknown = [name for name in wanted if not isinstance(name, str) or name not in known]
    if unknown:
        raise DataError(
            f"{what}: expected names of variables, got {listed(map(repr, unknown))}. "
            f"{did_you_mean(unknown[0], names.variables)}"
        )
    return [names.variables.index(name) for name in wanted]


def _refuse_unless_said(yes: Sequence[int], no: Sequence[int], names: Names) -> None:
    if not yes and not no:
        raise DataError(
            "declaration: expected variables that are hit or not hit, got none. Use exactly=[] for "
            "tasks that hit nothing."
        )
    _refuse_both([names.variables[column] for column in yes if column in no], "")


def _refuse_both(variables: Sequence[str], where: str) -> None:
    if variables:
        raise DataError(
            f"declaration: expected variables that are either hit or not, got "
            f"{listed(map(repr, variables))} declared as both{where}. Say one of the two; "
            f".with_known_targets(None) forgets all that was declared."
        )


def _frozen(matrix: Array) -> Known:
    matrix.flags.writeable = False
    return matrix
