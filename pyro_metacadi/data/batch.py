"""Tasks of unequal size as padded tensors, split into support and query rows."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from pyro_metacadi.errors import ConfigError

__all__ = ["RowSplit", "TaskBatch", "split_rows"]

TENSORS = ("x", "mask", "support", "support_mask")


@dataclass(frozen=True)
class TaskBatch:
    """What the model and the guide are given: the rows of several tasks, in standardised units.

    Where the noise model is one of counts, they are counts as they are.

    The guide adapts to the *support* rows; the model scores the *query* rows `x`. Outside training
    both are all rows of the task.

    Attributes:
        x: Query rows, zero where padded.
        mask: Which query rows exist.
        support: Support rows, zero where padded.
        support_mask: Which support rows exist.
        known: Which targets are known: 1 hit, 0 not hit, -1 unknown; None if none is.
        population: Number of tasks that these were drawn from; None if these are all.
        at_once: How many tasks are computed at once, so that memory suffices; None for all.
    """

    x: Float[Tensor, "task sample variable"]
    mask: Bool[Tensor, "task sample"]
    support: Float[Tensor, "task support variable"]
    support_mask: Bool[Tensor, "task support"]
    known: Int8[Tensor, "task variable"] | None = None
    population: int | None = None
    at_once: int | None = None

    @classmethod
    def from_arrays(
        cls,
        arrays: Sequence[Float[np.ndarray, "rows variable"]],
        *,
        known: Int8[np.ndarray, "task variable"] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> "TaskBatch":
        """Pad standardised arrays ``[rows, variable]``; every row is support and query."""
        rows = [len(array) for array in arrays]
        x = np.zeros((len(arrays), max(rows), arrays[0].shape[1]))
        for padded, array in zip(x, arrays, strict=True):
            padded[: len(array)] = array
        mask = torch.arange(max(rows)) < torch.tensor(rows).unsqueeze(-1)
        data = torch.as_tensor(x, dtype=dtype, device=device)
        mask = mask.to(device)
        targets = None if known is None else torch.tensor(known, device=device)
        return cls(data, mask, data, mask, targets)

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return self.x.shape[0]

    @property
    def num_samples(self) -> int:
        """Number of query rows of the largest task: the size of the `samples` plate."""
        return self.x.shape[1]

    @property
    def num_variables(self) -> int:
        """Number of variables."""
        return self.x.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.x.device

    def to(self, device: torch.device | str) -> "TaskBatch":
        """The same batch on another device."""
        return self._changed(lambda tensor: tensor.to(device))

    def choose(self, index: Int[Tensor, " chosen"]) -> "TaskBatch":
        """Some of the tasks, which stand for all: sums over tasks are scaled up to those."""
        if self.device.type == "cuda" and index.device.type == "cpu":
            # From pinned memory the host need not wait for the device.
            index = index.pin_memory().to(self.device, non_blocking=True)
        chosen = self._changed(lambda tensor: tensor[index])
        return replace(chosen, population=self.population or self.num_tasks)

    def tensors(self) -> list[Tensor]:
        """All tensors, in one order."""
        known = [] if self.known is None else [self.known]
        return [getattr(self, name) for name in TENSORS] + known

    def copied(self) -> "TaskBatch":
        """The same in memory of its own."""
        return self._changed(torch.clone)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> "TaskBatch":
        """With every tensor changed."""
        known = None if self.known is None else change(self.known)
        tensors: dict[str, Any] = {name: change(getattr(self, name)) for name in TENSORS}
        return replace(self, **tensors, known=known)

    def split(
        self,
        support_size: int,
        *,
        query_size: int | None = None,
        generator: torch.Generator | None = None,
    ) -> "TaskBatch":
        """Draw disjoint support and query rows anew for every task.

        A task gives `support_size` rows to its support, or half of its rows if it has fewer than
        twice as many (one of two to three, two of four to five, ...). A task of one row keeps it as
        support and has no query row, hence no part in the reconstruction.

        Args:
            support_size: Support rows per task, the paper's N_s.
            query_size: At most so many of the other rows are query rows; None takes all.
            generator: Source of randomness on the batch's device; default torch's own.

        Raises:
            ConfigError: If a size is less than 1.
        """
        drawn = split_rows(self.mask, support_size, query_size=query_size, generator=generator)
        return replace(
            self,
            x=self.gather(drawn.query, drawn.query_mask),
            mask=drawn.query_mask,
            support=self.gather(drawn.support, drawn.support_mask),
            support_mask=drawn.support_mask,
        )

    def gather(
        self, position: Int[Tensor, "task some"], mask: Bool[Tensor, "task some"]
    ) -> Float[Tensor, "task some variable"]:
        """The query rows of each task at these positions; zeros where the mask is not set."""
        index = position.unsqueeze(-1).expand(-1, -1, self.num_variables)
        return self.x.gather(1, index) * mask.unsqueeze(-1)

    def without(self, hidden: Bool[Tensor, "task sample"]) -> "TaskBatch":
        """The batch with query rows left out."""
        return replace(self, mask=self.mask & ~hidden)

    def parts(self) -> Iterator["TaskBatch"]:
        """All tasks, at once: they are in memory anyway (compare `LazyBatch`)."""
        yield self

    def read(self) -> "TaskBatch":
        """The batch itself (compare `LazyBatch`)."""
        return self


class RowSplit(NamedTuple):
    """Positions of support and query rows within their tasks; a mask says which of them exist."""

    support: Int[Tensor, "task support"]
    support_mask: Bool[Tensor, "task support"]
    query: Int[Tensor, "task query"]
    query_mask: Bool[Tensor, "task query"]


def split_rows(
    mask: Bool[Tensor, "task sample"],
    support_size: int,
    *,
    query_size: int | None = None,
    generator: torch.Generator | None = None,
) -> RowSplit:
    """Draw disjoint support and query rows among those that a mask allows.

    See `TaskBatch.split`, of which these are the arguments and errors.
    """
    for name, size in {"support_size": support_size, "query_size": query_size}.items():
        if size is not None and size < 1:
            raise ConfigError(f"{name}: expected at least 1, got {size}. Try 10.")
    num_samples = mask.shape[1]
    rows = mask.sum(-1)
    num_support = torch.minimum((rows // 2).clamp(min=1), torch.full_like(rows, support_size))
    key = torch.rand(mask.shape, generator=generator, device=mask.device)
    shuffled = key.masked_fill(~mask, torch.inf).argsort(-1)
    width = min(support_size, max(1, num_samples // 2))
    queries = min(query_size or num_samples, max(1, num_samples - width))
    position = torch.arange(num_samples, device=mask.device).expand_as(shuffled)
    first = num_support.unsqueeze(-1)
    return RowSplit(
        *_at(shuffled, position[:, :width], end=first),
        *_at(shuffled, position[:, :queries] + first, end=rows.unsqueeze(-1)),
    )


def _at(
    shuffled: Int[Tensor, "task all"], place: Int[Tensor, "task some"], *, end: Tensor
) -> tuple[Int[Tensor, "task some"], Bool[Tensor, "task some"]]:
    """What is in these places of the shuffled order; masked from `end` on."""
    index = shuffled.gather(-1, place.clamp(max=shuffled.shape[-1] - 1))
    return index, place < end
