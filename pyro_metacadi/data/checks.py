"""What `fit` and `adapt` ask of their data, and what they warn of."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.names import listed
from pyro_metacadi.data.ondisk import on_each
from pyro_metacadi.data.scaling import moments, rounding
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import DataError, MetaCaDIWarning

__all__ = ["REACH", "STANDARD_DEVIATIONS", "check_tasks", "warn_about", "within_reach"]

REACH = 1e6
"""Standard deviations from the training data at which float32 arithmetic is still safe."""

STANDARD_DEVIATIONS = "standard deviations of the training data"


def check_tasks(tasks: Any) -> TaskDataset:
    """Return `tasks` if they are a dataset.

    Raises:
        DataError: They are something else; says how to make a dataset of it.
    """
    if isinstance(tasks, TaskDataset):
        return tasks
    fix = "Use TaskDataset.from_arrays, .from_dataframe or .from_csv."
    if isinstance(getattr(tasks, "tasks", None), TaskDataset):
        fix = "Pass its .tasks."
    raise DataError(f"tasks: expected a TaskDataset, got {type(tasks).__name__}. {fix}")


def within_reach(
    standardised: Sequence[Float[np.ndarray, "_ column"]],
    tasks: TaskDataset,
    *,
    reach: float = REACH,
    reach_in: str = STANDARD_DEVIATIONS,
) -> Sequence[Float[np.ndarray, "_ column"]]:
    """Cut values that are so far from the training data that sums would overflow.

    Args:
        standardised: Rows of each task, in the units of the model.
        tasks: The same tasks, for their names.
        reach: Where to cut.
        reach_in: What it is counted in, for the message.

    Warns:
        MetaCaDIWarning: A value was cut; names at most five tasks and columns.
    """
    names = [f"column {name!r}" for name in tasks.variables]
    places = [
        f"task {task!r}, {names[column] if column < len(names) else 'a covariate'}"
        for task, rows in zip(tasks.tasks, standardised, strict=True)
        for column in np.flatnonzero(np.abs(rows).max(axis=0) > reach).tolist()
    ]
    if places:
        warnings.warn(
            f"rows: expected values within {reach:g} {reach_in}, got others at "
            f"{listed(places, separator='; ')}. They were cut: check the units.",
            MetaCaDIWarning,
            stacklevel=4,  # the line that called `adapt` or `fit`
        )
    return on_each(standardised, lambda rows: np.clip(rows, -reach, reach))


def warn_about(tasks: TaskDataset) -> None:
    """Warn once for each way in which these tasks cannot tell what is asked of them.

    These are a variable constant over all tasks, up to rounding (within one task it is an ordinary
    knock-out), tasks of one row, a single task, a single variable, and covariates that are
    constant, copy a variable, or tell every task from all others.

    Args:
        tasks: The training tasks.

    Warns:
        MetaCaDIWarning: Names at most five variables or tasks of each kind.
    """
    mean, deviation = moments(tasks.values)
    constant = deviation <= rounding(mean)
    names = [repr(name) for name, same in zip(tasks.variables, constant, strict=True) if same]
    short = [repr(tasks.tasks[position]) for position in np.flatnonzero(tasks.num_rows == 1)]
    messages = []
    if names:
        messages.append(
            f"variables: expected values that vary over the tasks, got a constant at column "
            f"{listed(names)}. Nothing can be learned about it: ignore it when reading, or "
            f".select(...) others."
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
    messages += _about_covariates(tasks)
    for message in messages:
        warnings.warn(message, MetaCaDIWarning, stacklevel=3)  # the line that called `fit`


def _about_covariates(tasks: TaskDataset) -> Iterator[str]:
    columns = {name: column.tolist() for name, column in tasks.covariates.items()}
    constant = [repr(name) for name, column in columns.items() if len(set(column)) == 1]
    if constant:
        yield (
            f"covariates: expected values that vary, got a constant at {listed(constant)}. It says "
            f"nothing: leave it out."
        )
    copied = [
        f"{name!r} (of {variable!r})"
        for name, column in tasks.covariates.items()
        for variable, values in zip(tasks.variables, tasks.values.T, strict=True)
        if column.dtype.kind == "f" and np.array_equal(column, values)
    ]
    if copied:
        yield (
            f"covariates: expected others than the variables, got a copy, {listed(copied)}. "
            f"Nothing is left of it to explain: leave the covariate out."
        )
    texts = {n: column for n, column in columns.items() if isinstance(column[0], str)}
    if len(texts) > 1:
        columns[" with ".join(texts)] = list(zip(*texts.values(), strict=True))
    telling = [repr(name) for name, column in columns.items() if _tells(column, tasks)]
    if telling:
        yield (
            f"covariates: expected some that tasks share, got what tells them apart, "
            f"{telling[0]}. What an intervention does is taken for its effect: leave it out."
        )


def _tells(column: Sequence[Any], tasks: TaskDataset) -> bool:
    """Whether a covariate has one value in each task, and another in every other."""
    ends = np.cumsum(tasks.num_rows)
    values = [set(column[end - n : end]) for end, n in zip(ends, tasks.num_rows, strict=True)]
    return len(tasks) > 1 and len(set.union(*values)) == len(tasks) == sum(map(len, values))
