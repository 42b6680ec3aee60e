"""What is allowed but likely to mislead: warnings that `fit` gives about its data."""

import warnings

import numpy as np

from pyro_metacadi.data.names import listed
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import MetaCaDIWarning

__all__ = ["warn_about"]


def warn_about(tasks: TaskDataset) -> None:
    """Warn once for each way in which these tasks cannot tell what is asked of them.

    These are a variable constant over all tasks (within one task it is an ordinary knock-out),
    tasks of one row, a single task and a single variable.

    Args:
        tasks: The training tasks.

    Warns:
        MetaCaDIWarning: Names at most five variables or tasks of each kind.
    """
    constant = tasks.values.min(axis=0) == tasks.values.max(axis=0)
    names = [repr(name) for name, same in zip(tasks.variables, constant, strict=True) if same]
    short = [repr(tasks.tasks[position]) for position in np.flatnonzero(tasks.num_rows == 1)]
    messages = []
    if names:
        messages.append(
            f"variables: expected values that vary over the tasks, got a constant at column "
            f"{listed(names)}. Nothing can be learned about it: choose others with .select(...)."
        )
    if short:
        messages.append(
            f"rows: expected two or more in each task, got one at task {listed(short)}. "
            f"Join tasks that share an intervention."
        )
    if len(tasks) == 1:
        messages.append(
            f"tasks: expected two or more, got one, {tasks.tasks[0]!r}. An intervention shows by "
            f"contrast: add a task under another condition."
        )
    if len(tasks.variables) == 1:
        messages.append(
            f"variables: expected two or more, got one, {tasks.variables[0]!r}. A graph over one "
            f"variable has no edges: add variables."
        )
    for message in messages:
        warnings.warn(message, MetaCaDIWarning, stacklevel=3)  # the line that called `fit`
