"""Tasks whose rows are on disk, used as a `TaskBatch` is; rows are read when they are split."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch, split_rows
from pyro_metacadi.data.ondisk import RowsOnDisk

__all__ = ["AnyBatch", "LazyBatch", "batch_of"]

PART = 2**19
"""Values of a part, padding included; a task with more is a part of its own."""


@dataclass(frozen=True, eq=False)
class LazyBatch:
    """Standardised rows of several tasks that are on disk; all are as wide as the widest.

    What is random is drawn as `TaskBatch` draws it, so that (on the CPU) both give the same.

    Attributes:
        rows: Of each task.
        width: Rows of the largest task.
        device: Where tensors are made.
        hidden: Rows to be left out, in memory: a byte for each, and for padding; None for none.
        known: As in `TaskBatch`, like the next.
        population: Number of tasks that these were drawn from.
    """

    rows: RowsOnDisk
    width: int
    device: torch.device
    hidden: Bool[Tensor, "task sample"] | None = None
    known: Int8[Tensor, "task variable"] | None = None
    population: int | None = None

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.rows)

    @property
    def num_variables(self) -> int:
        """Number of variables."""
        return self.rows.values.shape[1]

    @property
    def mask(self) -> Bool[Tensor, "task sample"]:
        """Which rows exist and are not hidden."""
        exists = torch.arange(self.width) < torch.tensor(self.rows.num_rows).unsqueeze(-1)
        return (exists if self.hidden is None else exists & ~self.hidden).to(self.device)

    def choose(self, index: Int[Tensor, " chosen"]) -> "LazyBatch":
        """Some of the tasks, as `TaskBatch.choose`."""
        at = index.cpu()
        return replace(
            self,
            rows=self.rows.chosen(at.numpy()),
            hidden=None if self.hidden is None else self.hidden[at],
            known=None if self.known is None else self.known[index],
            population=self.population or self.num_tasks,
        )

    def without(self, hidden: Bool[Tensor, "task sample"]) -> "LazyBatch":
        """The batch with rows left out."""
        return replace(self, hidden=hidden.cpu())

    def split(
        self,
        support_size: int,
        *,
        query_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> TaskBatch:
        """Draw support and query rows as `TaskBatch.split`, and read those only."""
        drawn = split_rows(self.mask, support_size, query_size=query_size, generator=generator)
        return TaskBatch(
            self.gather(drawn.query, drawn.query_mask),
            drawn.query_mask,
            self.gather(drawn.support, drawn.support_mask),
            drawn.support_mask,
            self.known,
            self.population,
        )

    def gather(
        self, position: Int[Tensor, "task some"], mask: Bool[Tensor, "task some"]
    ) -> Float[Tensor, "task some variable"]:
        """Read the rows of each task at these positions; zeros where the mask is not set."""
        numbers = (self.rows.starts[:, None] + position.cpu().numpy())[mask.cpu().numpy()]
        read = torch.as_tensor(self.rows.take(numbers), dtype=torch.float32, device=self.device)
        x = torch.zeros(*mask.shape, self.num_variables, device=self.device)
        x[mask] = read
        return x

    def parts(self) -> Iterator["LazyBatch"]:
        """All tasks, a few at a time."""
        start, widest = 0, 0
        most = max(1, PART // self.num_variables)
        for at, count in enumerate(self.rows.num_rows.tolist()):
            widest = max(widest, count)
            if at > start and (at + 1 - start) * widest > most:
                yield self.choose(torch.arange(start, at))
                start, widest = at, count
        yield self.choose(torch.arange(start, self.num_tasks))

    def read(self) -> TaskBatch:
        """All rows, padded to the largest of these tasks; every row is support and query."""
        batch = TaskBatch.from_arrays(list(self.rows), device=self.device)
        return replace(batch, known=self.known)


AnyBatch: TypeAlias = TaskBatch | LazyBatch


def batch_of(
    standardised: Sequence[Float[np.ndarray, "_ variable"]],
    *,
    known: Int8[np.ndarray, "task variable"] | None = None,
    device: torch.device | str,
) -> AnyBatch:
    """Rows in memory as padded tensors; rows on disk to be read later."""
    if not isinstance(standardised, RowsOnDisk):
        return TaskBatch.from_arrays(standardised, known=known, device=device)
    targets = None if known is None else torch.tensor(known, device=device)
    widest = int(standardised.num_rows.max())
    return LazyBatch(standardised, widest, torch.device(device), known=targets)
