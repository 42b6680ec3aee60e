"""Rows that stay on disk until they are asked for, a few tasks or rows at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Float, Int

from pyro_metacadi.typing import Array

__all__ = ["RowsOnDisk", "blocks", "on_each"]

BLOCK = 2**21
"""Values of a block: 16 MiB of float64."""


def blocks(
    rows: Float[np.ndarray, "rows variable"],
) -> Iterator[Float[np.ndarray, "some variable"]]:
    """The same rows, some at a time."""
    step = max(1, BLOCK // max(1, rows.shape[1]))
    return (np.asarray(rows[start : start + step]) for start in range(0, len(rows), step))


@dataclass(frozen=True, eq=False)
class RowsOnDisk(Sequence[Array]):
    """The rows of every task, each read, and changed as models need them, when it is asked for.

    Attributes:
        values: All rows, in the user's units: a memory map.
        starts: First row of each task.
        num_rows: Rows of each task.
        change: Of rows ``[..., variable]``, each apart from the others.
    """

    values: Float[np.ndarray, "rows variable"]
    starts: Int[np.ndarray, " task"]
    num_rows: Int[np.ndarray, " task"]
    change: Callable[[Array], Array]

    @classmethod
    def of(
        cls, values: Float[np.ndarray, "rows variable"], num_rows: Int[np.ndarray, " task"]
    ) -> "RowsOnDisk":
        """Rows as they are, task after task."""
        return cls(values, np.cumsum(num_rows) - num_rows, num_rows, lambda rows: rows)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, at: int) -> Array: ...
    @overload
    def __getitem__(self, at: slice) -> "RowsOnDisk": ...
    def __getitem__(self, at: int | slice) -> "Array | RowsOnDisk":
        """The rows of a task, ``[rows, variable]``, or some of the tasks."""
        if isinstance(at, slice):
            return self.chosen(np.arange(len(self))[at])
        start = self.starts[at]
        return self.change(np.asarray(self.values[start : start + self.num_rows[at]]))

    def chosen(self, tasks: Int[np.ndarray, " chosen"]) -> "RowsOnDisk":
        """Some of the tasks, in this order."""
        return RowsOnDisk(self.values, self.starts[tasks], self.num_rows[tasks], self.change)

    def take(self, rows: Int[np.ndarray, " taken"]) -> Float[np.ndarray, "taken variable"]:
        """Rows by their numbers in `values`."""
        return self.change(np.asarray(self.values[rows]))

    def changed(self, change: Callable[[Array], Array]) -> "RowsOnDisk":
        """The same, changed once more."""
        before = self.change
        return RowsOnDisk(
            self.values, self.starts, self.num_rows, lambda rows: change(before(rows))
        )


def on_each(arrays: Sequence[Array], change: Callable[[Array], Array]) -> Sequence[Array]:
    """Change the rows of each task: those in memory at once, those on disk when they are read."""
    if isinstance(arrays, RowsOnDisk):
        return arrays.changed(change)
    return [change(rows) for rows in arrays]
