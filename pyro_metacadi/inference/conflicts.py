"""Declared targets that the rows speak against."""

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.declared import HIT, NOT_HIT, UNKNOWN
from pyro_metacadi.data.names import listed
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import MetaCaDIWarning

__all__ = ["STRONG", "Conflict", "find_conflicts", "warn_of"]

STRONG = 10.0
"""Nats against a declaration from which on it is reported: odds of 22,000 to 1."""


class Conflict(NamedTuple):
    """A declaration that the rows speak against.

    Attributes:
        task: Name of the task.
        variable: Name of the variable.
        declared: ``"hit"`` or ``"not hit"``.
        against: Nats by which the rows speak for the contrary.
    """

    task: str
    variable: str
    declared: str
    against: float


def find_conflicts(
    tasks: TaskDataset, evidence: Float[np.ndarray, "task variable"]
) -> list[Conflict]:
    """Declarations of the tasks against which there are 10 nats or more, the worst first.

    Args:
        tasks: With what was declared.
        evidence: Nats by which the rows speak for a hit.
    """
    known = tasks.known_targets
    if known is None:
        return []
    against = np.select([known == HIT, known == NOT_HIT], [-evidence, evidence], -np.inf)
    found = [
        Conflict(
            tasks.tasks[task],
            tasks.variables[variable],
            "hit" if known[task, variable] == HIT else "not hit",
            float(against[task, variable]),
        )
        for task, variable in np.argwhere((known != UNKNOWN) & (against >= STRONG)).tolist()
    ]
    return sorted(found, key=lambda one: -one.against)


def warn_of(conflicts: Sequence[Conflict], *, stacklevel: int) -> None:
    """Warn of conflicts, if there are any; `stacklevel` as if the caller warned."""
    if not conflicts:
        return
    said = [
        f"{one.variable!r} declared {one.declared} at task {one.task!r} ({one.against:.0f} nats "
        f"against it)"
        for one in conflicts
    ]
    warnings.warn(
        f"targets: expected declarations that the rows do not contradict, got "
        f"{listed(said, separator='; ')}. Check them, or leave them out.",
        MetaCaDIWarning,
        stacklevel=stacklevel + 1,
    )
