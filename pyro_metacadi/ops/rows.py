"""The rows of tasks of unequal size, without padding: sums and Gram matrices for each task."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["TaskRows", "equal_runs", "joined"]


@dataclass(frozen=True, eq=False)
class TaskRows:
    """Rows of all tasks, one task after the other, in the units of the model.

    Attributes:
        x: All rows.
        covariates: What every mechanism may read beside its parents.
        sizes: Rows of each task.
    """

    x: Float[Tensor, "row variable"]
    covariates: Float[Tensor, "row covariate"]
    sizes: tuple[int, ...]

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[Float[np.ndarray, "_ column"]],
        *,
        num_covariates: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "TaskRows":
        """Join the tasks' arrays, whose last `num_covariates` columns are covariates."""
        joined = torch.as_tensor(np.concatenate(arrays), dtype=dtype, device=device)
        d = joined.shape[1] - num_covariates
        return cls(joined[:, :d], joined[:, d:], tuple(len(array) for array in arrays))

    def pieces(self, most_rows: int) -> list["TaskRows"]:
        """Consecutive tasks together, of up to `most_rows` rows, or one task of more: views."""
        groups: list[list[int]] = []
        lengths: list[int] = []
        for size in self.sizes:
            if not groups or lengths[-1] + size > most_rows:
                groups.append([])
                lengths.append(0)
            groups[-1].append(size)
            lengths[-1] += size
        parts = zip(self.x.split(lengths), self.covariates.split(lengths), groups, strict=True)
        return [TaskRows(x, covariates, tuple(group)) for x, covariates, group in parts]

    @property
    def num_rows(self) -> Float[Tensor, " task"]:
        """Rows of each task, as float64."""
        return torch.tensor(self.sizes, dtype=torch.float64, device=self.x.device)

    @property
    def inputs(self) -> Float[Tensor, "row input"]:
        """Variables, then covariates: all that a mechanism may read."""
        if self.covariates.shape[1] == 0:
            return self.x
        return torch.cat([self.x, self.covariates], -1)

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.sizes)

    def sum(self, values: Float[Tensor, "*set row"]) -> Float[Tensor, "*set task"]:
        """Sum over the rows of each task, in float64."""
        parts = [part.double().sum(-1) for part in self.runs(values, dim=-1)]
        return joined(parts, dim=-1)

    def gram(
        self, left: Float[Tensor, "set row a"], right: Float[Tensor, "set row b"]
    ) -> Float[Tensor, "set task a b"]:
        """Sum of the outer products of `left` and `right` over the rows of each task."""
        pairs = zip(self.runs(left, dim=-2), self.runs(right, dim=-2), strict=True)
        return joined([a.mT @ b for a, b in pairs], dim=1)

    def spread(self, values: Float[Tensor, "*set task"]) -> Float[Tensor, "*set row"]:
        """Give every row the value of its task."""
        counts = torch.tensor(self.sizes, device=values.device)
        return values.repeat_interleave(counts, -1, output_size=sum(self.sizes))

    def runs(self, values: Tensor, *, dim: int) -> Iterator[Tensor]:
        """Runs of tasks of equal size, with `dim` split into tasks and rows: one product each."""
        first = 0
        for size, count in equal_runs(self.sizes):
            run = values.narrow(dim, first, size * count)
            yield run.unflatten(dim, (count, size))
            first += size * count


def joined(parts: Sequence[Tensor], *, dim: int) -> Tensor:
    """The parts in one tensor, without a copy where there is one only."""
    return torch.cat(list(parts), dim) if len(parts) > 1 else parts[0]


def equal_runs(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes in sequence with how often each is repeated: ``[5, 5, 2]`` is ``[(5, 2), (2, 1)]``."""
    runs: list[tuple[int, int]] = []
    for size in sizes:
        if runs and runs[-1][0] == size:
            runs[-1] = (size, runs[-1][1] + 1)
        else:
            runs.append((size, 1))
    return runs
