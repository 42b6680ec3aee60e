"""Tasks that are declared to hit nothing: all that most baselines may know of targets."""

import numpy as np
from jaxtyping import Bool

from pyro_metacadi import TaskDataset
from pyro_metacadi.typing import Array

__all__ = ["blind", "controls"]


def controls(tasks: TaskDataset) -> Bool[Array, " task"]:
    """Whether each task is declared to hit nothing (`TaskDataset.declare_observational`)."""
    if tasks.known_targets is None:
        return np.zeros(len(tasks), dtype=bool)
    mask: Array = (tasks.known_targets == 0).all(1)
    return mask


def blind(tasks: TaskDataset) -> TaskDataset:
    """Forget all that is known of targets, but for which tasks are controls."""
    known = np.where(controls(tasks), 0, -1)
    return tasks.with_known_targets(np.repeat(known[:, None], len(tasks.variables), axis=1))
