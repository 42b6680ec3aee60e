"""`World`: tasks together with the truth that they were drawn from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators._arguments import (
    check_count,
    check_rows,
    check_targets,
    draw_targets,
    per_task,
    random_stream,
)
from pyro_metacadi.simulators.origin import Origin
from pyro_metacadi.simulators.rebuild import TablesOnly, rebuilt_world
from pyro_metacadi.simulators.storage import read_world, write_world

__all__ = ["System", "World", "assemble_world", "draw_world"]


@runtime_checkable
class System(Protocol):
    """What a simulator provides; everything else about a world is drawn here.

    A system in which some targets bring others along also has ``with_off_targets(targets [task,
    variable])``, all that are hit if these are intended. One with a density also has
    ``log_prob_terms(rows [sample, variable], intervention_targets
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
        origin: The call that made this world; None if it was put together by hand.
    """

    tasks: TaskDataset
    intervention_targets: Int[np.ndarray, "task variable"]
    system: System
    origin: Origin | None = None

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
        if task is not None and check_count("task", task, minimum=0) >= len(self.tasks):
            raise ConfigError(
                f"task: expected a position from 0 to {len(self.tasks) - 1}, got {task}. "
                "Pass the position of one of this world's tasks."
            )
        table = check_rows(rows, num_variables=len(self.tasks.variables))
        targets = check_targets(intervention_targets, num_variables=table.shape[1])
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
        world = draw_world(
            self.system,
            self.tasks.variables,
            num_tasks=num_tasks,
            num_samples=num_samples,
            targets_per_task=targets_per_task,
            task_stem="new",
            generator=random_stream(seed, "new tasks"),
        )
        if self.origin is None:
            return world
        call = {"num_tasks": num_tasks, "num_samples": num_samples, "seed": seed}
        origin = self.origin.with_new_tasks({**call, "targets_per_task": targets_per_task})
        return replace(world, origin=origin)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tables that any program can open, the truth beside them, to a folder.

        ``tasks.csv`` has a column ``task``, then the variables; ``adjacency.csv`` is the graph, its
        rows are causes; ``intervention_targets.csv`` has a row per task; ``world.json`` is the call
        that made the world. The folder is replaced as a whole, or not at all.

        Raises:
            DataError: The folder holds something else, or cannot be written.
        """
        write_world(
            folder,
            self.tasks,
            adjacency=self.adjacency,
            intervention_targets=self.intervention_targets,
            origin=self.origin,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "World":
        """Read a world that `save` wrote: its tables, and its system by making it once more.

        Raises:
            DataError: A file is missing, damaged or does not fit the others; names it.

        Warns:
            MetaCaDIWarning: The system cannot be made again, or makes other tasks. The world then
                has its tables only: no `sample_tasks`, no `log_prob`.
        """
        saved = read_world(folder)
        world = rebuilt_world(saved)
        if world is not None:
            return replace(world, tasks=saved.tasks)
        system = TablesOnly(torch.tensor(saved.adjacency))
        return cls(saved.tasks, saved.intervention_targets, system, saved.origin)


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
    num_targets = per_task(
        "targets_per_task",
        targets_per_task,
        num_tasks=num_tasks,
        minimum=0,
        maximum=len(variables),
    )
    targets = draw_targets(num_targets, num_variables=len(variables), generator=generator)
    if hasattr(system, "with_off_targets"):
        targets = system.with_off_targets(targets)
    return assemble_world(
        system,
        variables,
        intervention_targets=targets,
        num_samples=num_samples,
        task_stem=task_stem,
        generator=generator,
    )


def assemble_world(
    system: System,
    variables: Sequence[str],
    *,
    intervention_targets: Int[Tensor, "task variable"],
    num_samples: Any,
    task_stem: str,
    generator: torch.Generator,
) -> World:
    """Draw what is new in each task, and rows; the targets are given.

    Raises:
        ConfigError: A size is out of range, or a sequence of another length than there are tasks.
    """
    num_tasks = len(intervention_targets)
    rows_per_task = per_task("num_samples", num_samples, num_tasks=num_tasks, minimum=1)
    system = system.for_tasks(num_tasks, generator=generator)
    rows = system.sample(intervention_targets, num_samples=rows_per_task, generator=generator)
    tasks = TaskDataset.from_arrays(
        [table.numpy() for table in rows],
        variables=list(variables),
        tasks=[f"{task_stem}{number + 1}" for number in range(num_tasks)],
    )
    return World(tasks, intervention_targets.numpy(), system)
