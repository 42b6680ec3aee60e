"""How much memory a gradient step takes, and how many tasks it may compute at once.

Measured, not derived: parts of the model may be the user's own.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import ref

import numpy as np
import torch
from jaxtyping import Float
from pyro.infer.elbo import ELBOModule
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.lazy_batch import AnyBatch
from pyro_metacadi.errors import ConfigError

__all__ = ["StepMemory", "step_memory"]

OVERHEAD = 1.5
"""Of what a step keeps for its gradients, the peak on the way back."""

TENSOR_BYTES = 4000
"""Of what autograd notes of a tensor that is computed again, beside its values."""

PARAMETER_COPIES = 4
"""Parameters, their gradients, and two moments of the optimiser."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a gradient step takes.

    Attributes:
        fixed: Whatever the number of tasks.
        held: For every task, even where few are computed at once.
        computed: For every task that is computed at once.
        piece: For every group of tasks that is computed at once: what autograd notes of it.
    """

    fixed: float
    held: float
    computed: float
    piece: float

    def least(self, num_tasks: int) -> int:
        """Of a step that computes as many tasks at once as takes the least memory."""
        return min(math.ceil(self._by_number(num_tasks).min()), self.most(num_tasks))

    def most(self, num_tasks: int) -> int:
        """Of a step that computes all tasks at once."""
        return math.ceil(self.fixed + num_tasks * (self.held + self.computed))

    def at_once(self, num_tasks: int, budget: int) -> int | None:
        """How many tasks to compute at once, as many as fit; None for all.

        Raises:
            ConfigError: No number would fit.
        """
        if self.most(num_tasks) <= budget:
            return None
        fitting = np.flatnonzero(self._by_number(num_tasks) <= budget)
        if not len(fitting):
            raise ConfigError(
                f"memory_budget: expected at least {self.least(num_tasks):,} bytes, for a step "
                f"that sees {num_tasks} tasks and computes few of them at a time, got {budget:,}. "
                f"Raise it, or lower Training.tasks_per_step."
            )
        return int(fitting[-1]) + 1

    def _by_number(self, num_tasks: int) -> Float[np.ndarray, " number"]:
        """Of steps that compute one task at a time, two, ..., up to all."""
        number = np.arange(1, num_tasks + 1)
        pieces = self.computed * number + self.piece * np.ceil(num_tasks / number)
        return self.fixed + self.held * num_tasks + pieces


def step_memory(
    loss: ELBOModule,
    batch: AnyBatch,
    *,
    support_size: int,
    query_size: int | None,
) -> StepMemory:
    """Measure what the loss keeps for its gradients, for few tasks.

    Args:
        loss: Of the tasks of a step.
        batch: All rows of all tasks.
        support_size: See `TaskBatch.split`.
        query_size: See `TaskBatch.split`.
    """

    with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
        task = batch.choose(torch.zeros(1, dtype=torch.long, device=batch.device))
        rows = task.split(support_size, query_size=query_size)

        def kept(num_tasks: int, at_once: int | None) -> "_Kept":
            same = rows.choose(torch.zeros(num_tasks, dtype=torch.long, device=batch.device))
            return _kept(loss, replace(same, at_once=at_once))

        one, two = kept(1, None), kept(2, None)
        held = max(0, kept(3, 1).num_bytes - kept(2, 1).num_bytes)
    computed = max(1, two.num_bytes - one.num_bytes - held)
    parameters = sum(p.numel() * p.element_size() for p in loss.parameters())
    fixed = max(0, one.num_bytes - held - computed) * OVERHEAD + PARAMETER_COPIES * parameters
    piece = one.num_tensors * TENSOR_BYTES
    return StepMemory(fixed, held * OVERHEAD, computed * OVERHEAD, piece)


class _Kept(NamedTuple):
    num_bytes: int
    num_tensors: int


def _kept(loss: ELBOModule, batch: TaskBatch) -> _Kept:
    """What the loss keeps once it is known; what gradients inside it kept for a while is let go."""
    packed: list[ref[Tensor]] = []

    def pack(tensor: Tensor) -> Tensor:
        own = tensor.detach()  # an operation that kept its own result would live for ever
        packed.append(ref(own))
        return own

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = loss(batch)
    alive = [own.untyped_storage() for it in packed if (own := it()) is not None]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in alive}
    del value  # which keeps them
    return _Kept(sum(sizes.values()), len(sizes))
