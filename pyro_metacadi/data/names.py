"""Names of variables and tasks: what they must be, and how a key picks among them."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence, Set
from typing import Any

import numpy as np

from pyro_metacadi.errors import DataError

__all__ = [
    "check_names",
    "did_you_mean",
    "listed",
    "position_of",
    "positions",
]

_SHOWN = 5
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")


def listed(parts: Iterable[str], *, separator: str = ", ") -> str:
    """Join at most five `parts`, then say how many more there are."""
    parts = list(parts)
    rest = f" and {len(parts) - _SHOWN} more" if len(parts) > _SHOWN else ""
    return separator.join(parts[:_SHOWN]) + rest


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """Return the fix to offer for an unknown `name`: the nearest known names, else a few."""
    near = difflib.get_close_matches(str(name), known, n=3)
    if near:
        return f"Did you mean {listed(map(repr, near))}?"
    return f"Use one of {listed(map(repr, known))}."


def check_names(
    names: Any, *, what: str, count: int | None = None, default: str = ""
) -> tuple[str, ...]:
    """Return distinct names as strings.

    Args:
        names: Labels of any type, or None for `default` followed by 1, 2, ...
        what: ``"variables"`` or ``"tasks"``, for the message.
        count: How many there must be, if that is known.
        default: Stem of the default names.

    Raises:
        DataError: Not a sequence (sets have no order), the wrong number, two labels that read the
            same, or one that is blank or that files cannot hold (NUL, half a surrogate pair).
    """
    if names is None and count is not None:
        return tuple(f"{default}{number}" for number in range(1, count + 1))
    if isinstance(names, str | Set) or not isinstance(names, Iterable):
        raise DataError(
            f"{what}: expected a sequence of names, got {names!r}. Pass a list of strings."
        )
    labels = tuple(str(name) for name in names)
    if count is not None and len(labels) != count:
        raise DataError(
            f"{what}: expected {count} names, got {len(labels)} ({listed(map(repr, labels))}). "
            f"Name each of the {count} {what} once."
        )
    unfit = [repr(label) for label in labels if not label.strip() or _UNWRITABLE.search(label)]
    if unfit:
        raise DataError(
            f"{what}: expected names of visible text that files can hold, got {listed(unfit)}. "
            "Rename them."
        )
    twice = [repr(label) for label, times in Counter(labels).items() if times > 1]
    if twice:
        raise DataError(
            f"{what}: expected distinct names, got {listed(twice)} more than once. Rename them."
        )
    return labels


def position_of(name: Any, *, among: Sequence[str], what: str) -> int:
    """Return the position of `name`.

    Raises:
        DataError: It is not among them; offers the nearest names.
    """
    if not isinstance(name, str) or name not in among:
        raise DataError(f"{what}: expected a known name, got {name!r}. {did_you_mean(name, among)}")
    return among.index(name)


def positions(key: Any, *, tasks: Sequence[str]) -> list[int]:
    """Return the positions in `tasks` that `key` picks.

    Args:
        key: A name, a position, a slice, a sequence of names or positions, or a boolean mask.
        tasks: The names to pick from.

    Raises:
        DataError: An unknown name or position, a slice by name, a mask of the wrong length, or
            nothing picked.
    """
    if isinstance(key, slice):
        chosen = _slice(key, tasks)
    elif isinstance(key, str) or not isinstance(key, Iterable):
        chosen = [_position(key, tasks)]
    else:
        chosen = _many_positions(list(key), tasks)
    if not chosen:
        raise DataError(
            f"selection of tasks: expected at least one of {len(tasks)}, got none from {key!r}. "
            f"Choose among {listed(map(repr, tasks))}."
        )
    return chosen


def _slice(key: slice, tasks: Sequence[str]) -> list[int]:
    try:
        return list(range(len(tasks)))[key]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"slice of tasks: expected positions and a step other than 0, got {key!r}. "
            f"To choose by name pass a list, such as [{tasks[0]!r}]."
        ) from error


def _many_positions(keys: list[Any], tasks: Sequence[str]) -> list[int]:
    if not keys or not all(isinstance(key, bool | np.bool_) for key in keys):
        return [_position(key, tasks) for key in keys]
    if len(keys) != len(tasks):
        raise DataError(
            f"mask of tasks: expected {len(tasks)} values, got {len(keys)}. Give one for each task."
        )
    return [position for position, keep in enumerate(keys) if keep]


def _position(key: Any, tasks: Sequence[str]) -> int:
    if isinstance(key, int | np.integer) and not isinstance(key, bool):
        if -len(tasks) <= key < len(tasks):
            return int(key) % len(tasks)
        raise DataError(
            f"task: expected a position from {-len(tasks)} to {len(tasks) - 1}, got {key}. "
            f"Positions count from 0."
        )
    return position_of(key, among=tasks, what="task")
