"""Which rows of a task to keep: pieces of a given size, or a random few."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from pyro_metacadi.data.names import listed
from pyro_metacadi.errors import ConfigError, DataError

__all__ = ["pieces", "random_rows"]


RowNumbers = list[Int[np.ndarray, " kept"]]


def pieces(
    numbers: RowNumbers, tasks: Sequence[str], *, size: int, seed: Any, drop_remainder: bool
) -> tuple[RowNumbers, list[str]]:
    """Cut the rows of each task, given by number, into pieces of `size`, and name them.

    See `TaskDataset.split_rows`, of which these are the arguments and errors.
    """
    size = _positive_int(size, what="rows_per_task")
    if drop_remainder:
        _expect_rows(size, numbers, tasks, "Select larger tasks, or pass drop_remainder=False.")
    generator = None if seed is None else _generator(seed)
    cut, names = [], []
    for task, rows in zip(tasks, numbers, strict=True):
        rows = rows if generator is None else generator.permutation(rows)
        end = len(rows) - len(rows) % size if drop_remainder else len(rows)
        starts = range(0, end, size)
        cut += [rows[start : min(start + size, end)] for start in starts]
        names += [f"{task}/{number}" for number in range(1, len(starts) + 1)]
    return cut, names


def random_rows(numbers: RowNumbers, tasks: Sequence[str], *, n: int, seed: Any) -> RowNumbers:
    """Keep `n` random rows of each task, given by number, in their order.

    See `TaskDataset.take_rows`, of which these are the arguments and errors.
    """
    n = _positive_int(n, what="n")
    _expect_rows(n, numbers, tasks, "Select larger tasks, or take fewer rows.")
    generator = _generator(seed)
    return [rows[np.sort(generator.choice(len(rows), n, replace=False))] for rows in numbers]


def _expect_rows(n: int, numbers: RowNumbers, tasks: Sequence[str], fix: str) -> None:
    short = [
        f"{len(rows)} at task {task!r}"
        for task, rows in zip(tasks, numbers, strict=True)
        if len(rows) < n
    ]
    if short:
        raise DataError(f"rows: expected at least {n}, got {listed(short)}. {fix}")


def _positive_int(value: Any, *, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{what}: expected a whole number >= 1, got {value!r}. Pass 1 or more.")
    return int(value)


def _generator(seed: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"seed: expected a whole number >= 0 or a numpy Generator, got {seed!r}. Pass seed=0."
        ) from error
