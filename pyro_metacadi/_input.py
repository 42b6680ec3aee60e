"""Tables of experiments, as the commands read them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_metacadi.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pyro_metacadi.data.tasks import TaskDataset

__all__ = ["read_tasks"]


def read_tasks(
    path: Path,
    *,
    task: str,
    covariates: Sequence[str] = (),
    groups: Sequence[str] = (),
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
    if stream:
        return TaskDataset.open(path, task=task, covariates=covariates, groups=groups)
    tasks = TaskDataset.from_csv(path, task=task, covariates=covariates, groups=groups)
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
