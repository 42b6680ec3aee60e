"""`World`: tasks together with the truth that they were drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.simulators._arguments import check_count, draw_targets, per_task, random_stream

__all__ = ["System", "World", "draw_world"]


@runtime_checkable
class System(Protocol):
    """What a simulator provides; everything else about a world is drawn here.

    A system with a density also has ``log_prob_terms(rows [sample, variable], intervention_targets
    [variable], *, task)``, the log density of every variable given its parents.
    """

    @property
    def adjacency(self) -> Int[Tensor, "parent child"]:
        """The graph; ``adjacency[i, j] = 1`` means X_i -> X_j."""

    def for_tasks(self, num_tasks: int, *, generator: torch.Generator) -> Any:
        """Return the system with all that is new in each task, such as redrawn functions."""

    def sample(
        self,
        intervention_targets: Int[Tensor, "task variable"],
        *,
        num_samples: Sequence[int],
        generator: torch.Generator,
    ) -> list[Tensor]:
        """Draw rows ``[sample, variable]`` for each task."""


@dataclass(frozen=True, eq=False)
class World:
    """Tasks and the truth behind them.

    Attributes:
        tasks: The rows, as a user would have measured them.
        intervention_targets: 1 where the variable was intervened on in the task.
        system: Graph, mechanisms and noise, shared by all tasks.
    """

    tasks: TaskDataset
    intervention_targets: Int[np.ndarray, "task variable"]
    system: System

    @property
    def adjacency(self) -> Int[np.ndarray, "parent child"]:
        """The true graph, 0/1; ``adjacency[i, j] = 1`` means X_i -> X_j."""
        return self.system.adjacency.clone().numpy()

    def log_prob(
        self, rows: Any, intervention_targets: Any, *, task: int | None = None
    ) -> Float[np.ndarray, " sample"]:
        """Log density of `rows` if the targets were these: the true interventional law.

        A variable held at a constant has no density. The result is then the density of the others,
        and -inf for rows in which it differs from the constant.

        Args:
            rows: Shape ``[sample, variable]``, in the units of `tasks`.
            intervention_targets: 0/1, shape ``[variable]``.
            task: Position of a task of this world. Needed where targets get functions of that
                task's own (``intervention="mechanism"``), otherwise without effect.

        Raises:
            DataError: `rows` or `intervention_targets` has another shape or impossible values.
            ConfigError: The world has no density, there is no such task, or it is needed.
        """
        return self.log_prob_terms(rows, intervention_targets, task=task).sum(axis=1)

    def log_prob_terms(
        self, rows: Any, intervention_targets: Any, *, task: int | None = None
    ) -> Float[np.ndarray, "sample variable"]:
        """Log density of every variable given its parents; `log_prob` is the sum over variables.

        Args:
            rows: As for `log_prob`.
            intervention_targets: As for `log_prob`.
            task: As for `log_prob`.

        Raises:
            DataError: As for `log_prob`.
            ConfigError: As for `log_prob`.
        """
        if not hasattr(self.system, "log_prob_terms"):
            name = type(self.system).__name__
            raise ConfigError(
                f"log_prob: expected a world with a density, got {name}. Use one such as gp_anm."
            )
        if task is not None and not 0 <= task < len(self.tasks):
            raise ConfigError(
                f"task: expected a position from 0 to {len(self.tasks) - 1}, got {task}. "
                "Pass the position of one of this world's tasks."
            )
        table = _checked_rows(rows, num_variables=len(self.tasks.variables))
        targets = _checked_targets(intervention_targets, num_variables=table.shape[1])
        return self.system.log_prob_terms(table, targets, task=task).numpy()

    def sample_tasks(
        self, num_tasks: int, num_samples: Any, *, seed: int, targets_per_task: Any = 1
    ) -> "World":
        """Draw new tasks, named new1, new2, ..., from the same graph, functions and noise.

        Args:
            num_tasks: At least 1.
            num_samples: Rows of every task, or a sequence with one number per task.
            seed: Non-negative; the same seed as the world's is independent of it.
            targets_per_task: Targets of every task, or a sequence with one number per task; 0
                leaves a task observational.

        Raises:
            ConfigError: A size is out of range, or a sequence of another length.
        """
        return draw_world(
            self.system,
            self.tasks.variables,
            num_tasks=num_tasks,
            num_samples=num_samples,
            targets_per_task=targets_per_task,
            task_stem="new",
            generator=random_stream(seed, "new tasks"),
        )


def draw_world(
    system: System,
    variables: Sequence[str],
    *,
    num_tasks: int,
    num_samples: Any,
    targets_per_task: Any,
    task_stem: str,
    generator: torch.Generator,
) -> World:
    """Draw targets, what is new in each task, and rows; tasks are named by stem and number.

    Raises:
        ConfigError: A size is out of range, or a sequence of another length than `num_tasks`.
    """
    check_count("num_tasks", num_tasks)
    rows_per_task = per_task("num_samples", num_samples, num_tasks=num_tasks, minimum=1)
    num_targets = per_task(
        "targets_per_task",
        targets_per_task,
        num_tasks=num_tasks,
        minimum=0,
        maximum=len(variables),
    )
    targets = draw_targets(num_targets, num_variables=len(variables), generator=generator)
    system = system.for_tasks(num_tasks, generator=generator)
    rows = system.sample(targets, num_samples=rows_per_task, generator=generator)
    tasks = TaskDataset.from_arrays(
        [table.numpy() for table in rows],
        variables=list(variables),
        tasks=[f"{task_stem}{number + 1}" for number in range(num_tasks)],
    )
    return World(tasks, targets.numpy(), system)


def _checked_rows(rows: Any, *, num_variables: int) -> Float[Tensor, "sample variable"]:
    table = np.asarray(rows, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != num_variables:
        raise DataError(
            f"rows: expected shape [sample, {num_variables}], one column per variable, got "
            f"{list(table.shape)}. Pass one row as rows[None]."
        )
    if not np.isfinite(table).all():
        raise DataError("rows: expected finite numbers, got NaN or infinity. Leave such rows out.")
    return torch.tensor(table)


def _checked_targets(targets: Any, *, num_variables: int) -> Int[Tensor, " variable"]:
    array = np.asarray(targets)
    if array.shape != (num_variables,) or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"intervention_targets: expected {num_variables} entries 0 or 1, shape "
            f"[{num_variables}], got {array.tolist()}. Pass one row of intervention_targets."
        )
    return torch.tensor(array.astype(np.int64))
