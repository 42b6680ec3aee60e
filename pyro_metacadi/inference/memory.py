"""How much memory a gradient step takes, and how many tasks it may compute at once.

Measured, not derived: parts of the model may be the user's own.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from pyro.infer.elbo import ELBOModule
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.lazy_batch import AnyBatch
from pyro_metacadi.errors import ConfigError

__all__ = ["StepMemory", "step_memory"]

OVERHEAD = 1.5
"""Of what a step keeps for its gradients, the peak on the way back."""

PARAMETER_COPIES = 4
"""Parameters, their gradients, and two moments of the optimiser."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a gradient step takes.

    Attributes:
        fixed: Whatever the number of tasks.
        held: For every task, even where few are computed at once.
        computed: For every task that is computed at once.
    """

    fixed: float
    held: float
    computed: float

    def least(self, num_tasks: int) -> int:
        """Of a step that computes one task at a time."""
        return math.ceil(self.fixed + num_tasks * self.held + self.computed)

    def most(self, num_tasks: int) -> int:
        """Of a step that computes all tasks at once."""
        return math.ceil(self.fixed + num_tasks * (self.held + self.computed))

    def at_once(self, num_tasks: int, budget: int) -> int | None:
        """How many tasks to compute at once; None for all.

        Raises:
            ConfigError: Not even one would fit.
        """
        if self.most(num_tasks) <= budget:
            return None
        fitting = int((budget - self.fixed - num_tasks * self.held) // self.computed)
        if fitting < 1:
            raise ConfigError(
                f"memory_budget: expected at least {self.least(num_tasks):,} bytes, for a step "
                f"that sees {num_tasks} tasks and computes them one at a time, got {budget:,}. "
                f"Raise it, or lower Training.tasks_per_step."
            )
        return fitting


def step_memory(
    loss: ELBOModule,
    batch: AnyBatch,
    *,
    num_features: int,
    support_size: int,
    query_size: int | None,
) -> StepMemory:
    """Measure what the loss keeps for its gradients, for few tasks.

    Args:
        loss: Of the tasks of a step.
        batch: All rows of all tasks.
        num_features: Of a mechanism.
        support_size: See `TaskBatch.split`.
        query_size: See `TaskBatch.split`.
    """

    with torch.random.fork_rng(devices=[batch.device] if batch.device.type == "cuda" else []):
        task = batch.choose(torch.zeros(1, dtype=torch.long, device=batch.device))
        rows = task.split(support_size, query_size=query_size)

        def kept(num_tasks: int, at_once: int | None) -> int:
            same = rows.choose(torch.zeros(num_tasks, dtype=torch.long, device=batch.device))
            return _kept_bytes(loss, replace(same, at_once=at_once))

        one, two = kept(1, None), kept(2, None)
        held = max(0, kept(3, 1) - kept(2, 1))
    computed = max(1, two - one - held)
    parameters = sum(p.numel() * p.element_size() for p in loss.parameters())
    fixed = max(0, one - held - computed) * OVERHEAD + PARAMETER_COPIES * parameters
    # Features of the query rows are handed to the noise, which may not keep them.
    features = rows.x.nbytes * num_features
    return StepMemory(fixed, held * OVERHEAD + features, computed * OVERHEAD)


def _kept_bytes(loss: ELBOModule, batch: TaskBatch) -> int:
    with _kept_for_gradients() as kept:
        value = loss(batch)
    del value
    return sum(kept.values())


@contextmanager
def _kept_for_gradients() -> Iterator[dict[int, int]]:
    """Bytes of every storage that is kept, by its address."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes
