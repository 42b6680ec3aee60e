"""Tables of experiments, as the commands read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_metacadi.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pyro_metacadi.data.tasks import TaskDataset

__all__ = ["read_tasks", "with_declared"]

COLUMNS = ("task", "variable", "hit")


def read_tasks(
    path: Path,
    *,
    task: str,
    covariates: Sequence[str] = (),
    groups: Sequence[str] = (),
    ignore: Sequence[str] = (),
    log_scale: bool = False,
    stream: bool = False,
) -> "TaskDataset":
    """Tasks of a file, on request the natural logarithms of their values, or left on disk.

    Raises:
        DataError: The file is no such table, or a logarithm does not exist.
        ConfigError: Logarithms of values that are to stay on disk.
    """
    from pyro_metacadi import TaskDataset

    if stream and log_scale:
        raise ConfigError(
            "--stream: expected values that are fitted as they are, got --log-scale as well. "
            "Write their logarithms to the file."
        )
    read = TaskDataset.open if stream else TaskDataset.from_csv
    tasks = read(path, task=task, covariates=covariates, groups=groups, ignore=ignore)
    if not log_scale:
        return tasks
    import numpy as np

    for name, rows in zip(tasks.tasks, tasks.arrays, strict=True):
        for column in np.flatnonzero((rows <= 0).any(axis=0)):
            raise DataError(
                f"file '{path}': expected positive values for --log-scale, got "
                f"{rows[:, column].min():g} at task {name!r}, column {tasks.variables[column]!r}. "
                "Transform the values yourself and fit without --log-scale."
            )
    logs = [np.log(rows) for rows in tasks.arrays]
    return TaskDataset.from_arrays(
        logs, variables=tasks.variables, tasks=tasks.tasks, covariates=tasks.covariates
    )


def with_declared(
    tasks: "TaskDataset", *, observational: Sequence[str], known_targets: Path | None
) -> "TaskDataset":
    """The tasks with what is known of their targets.

    Args:
        tasks: As they were read.
        observational: Names of tasks that hit nothing.
        known_targets: Table with the columns task, variable, and hit, which is 1 or 0.

    Raises:
        DataError: The file is no such table, a name in it is unknown, or it contradicts itself or
            `observational`.
    """
    for name in observational:
        tasks = tasks.declare_observational(name)
    if known_targets is None:
        return tasks
    from pyro_metacadi.data.readers import read_table

    table = read_table(known_targets, task="task", groups=("variable",))
    missing = [repr(name) for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(
            f"file '{known_targets}': expected the columns task, variable and hit, got no "
            f"{missing[0]}. Add it."
        )
    wrong = table[~table["hit"].isin([0, 1])]
    for task, variable, hit in wrong[list(COLUMNS)].itertuples(index=False):
        raise DataError(
            f"file '{known_targets}': expected 1 or 0 in column 'hit', got {hit} at task {task!r}, "
            f"variable {variable!r}. Leave out what is unknown."
        )
    try:
        for task, lines in table.groupby("task", sort=False):
            names = lines["variable"].astype(str)
            hit, not_hit = (names[lines["hit"] == said].tolist() for said in (1, 0))
            tasks = tasks.declare(str(task), hit=hit, not_hit=not_hit)
    except DataError as error:
        raise DataError(f"file '{known_targets}': {error}") from error
    return tasks
