"""World folders: three tables, and a file that says how to make the world once more."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from pyro_metacadi import __version__
from pyro_metacadi._files import RECORD, checked_path, contents, staged_folder
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import DataError, GraphError
from pyro_metacadi.ops.graphs import check_dag
from pyro_metacadi.simulators.origin import Origin

__all__ = ["GRAPH", "SavedWorld", "read_world", "write_world"]

TASKS, GRAPH, TARGETS = "tasks.csv", "adjacency.csv", "intervention_targets.csv"
CALL = "world.json"


@dataclass(frozen=True, eq=False)
class SavedWorld:
    """What the files of a world say.

    Attributes:
        tasks: Rows of ``tasks.csv``.
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        intervention_targets: 1 where the variable was intervened on in the task.
        origin: The call that made the world, if known.
        version: The version of this package that made it.
    """

    tasks: TaskDataset
    adjacency: Int[np.ndarray, "parent child"]
    intervention_targets: Int[np.ndarray, "task variable"]
    origin: Origin | None
    version: str


def write_world(
    folder: str | os.PathLike[str],
    tasks: TaskDataset,
    *,
    adjacency: Int[np.ndarray, "parent child"],
    intervention_targets: Int[np.ndarray, "task variable"],
    origin: Origin | None,
) -> None:
    """Write the folder of a world; an older world there is replaced.

    Args:
        folder: New, empty, or a world to replace.
        tasks: The rows.
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        intervention_targets: 1 where the variable was intervened on in the task.
        origin: The call that made the world.

    Raises:
        DataError: The folder holds something else, or cannot be written.
    """
    import pandas as pd

    target = checked_path(folder, what="folder", error=DataError)
    names = list(tasks.variables)
    graph = pd.DataFrame(adjacency, index=pd.Index(names, name="parent"), columns=names)
    truth = pd.DataFrame(
        intervention_targets, index=pd.Index(tasks.tasks, name="task"), columns=names
    )
    frame = tasks.to_dataframe(task="task")
    try:
        _check_replaceable(target)
        with staged_folder(target) as fresh:
            frame.to_csv(fresh / TASKS, index=False)
            graph.to_csv(fresh / GRAPH)
            truth.to_csv(fresh / TARGETS)
            (fresh / CALL).write_text(_call_text(origin), encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"folder '{target}': expected a place to write to, got '{error.strerror}'. Choose "
            "another folder or free some space."
        ) from error


def _check_replaceable(target: Path) -> None:
    """Refuse a destination whose replacement would delete anything but an older world."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    others = {target.name}
    if target.is_dir():
        others = contents(target) - (
            {TASKS, GRAPH, TARGETS, CALL, RECORD} if _is_world(target) else set()
        )
    if others:
        raise DataError(
            f"folder '{target}': expected an empty folder or a saved world to replace, got "
            f"something else, '{min(others)}'. Choose another folder."
        )


def _is_world(folder: Path) -> bool:
    try:
        _read_call(folder / CALL)
    except DataError:
        return False
    return True


def read_world(folder: str | os.PathLike[str]) -> SavedWorld:
    """Read what `write_world` wrote.

    Raises:
        DataError: A file is missing, damaged or does not fit the others; names it.
    """
    path = checked_path(folder, what="folder", error=DataError)
    origin, version = _read_call(path / CALL)
    tasks = TaskDataset.from_csv(path / TASKS, task="task")
    names = list(tasks.variables)
    adjacency = _read_truth(path / GRAPH, label="parent", rows=names, columns=names)
    try:
        check_dag(torch.tensor(adjacency), variables=names)
    except GraphError as error:
        raise DataError(f"file '{path / GRAPH}': {error}") from error
    targets = _read_truth(path / TARGETS, label="task", rows=list(tasks.tasks), columns=names)
    return SavedWorld(tasks, adjacency, targets, origin, version)


def _call_text(origin: Origin | None) -> str:
    call: dict[str, Any] = {"simulator": None, "arguments": {}, "new_tasks": None}
    if origin is not None:
        call = asdict(origin)
        if not isinstance(call["arguments"].get("graph"), str | None):
            call["arguments"]["graph"] = GRAPH  # the matrix is there for all to read
    return json.dumps({**call, "version": __version__}, indent=2, allow_nan=False) + "\n"


def _read_call(path: Path) -> tuple[Origin | None, str]:
    try:
        call = json.loads(path.read_text(encoding="utf-8"))
        if call["simulator"] is None:
            return None, str(call["version"])
        arguments, new_tasks = dict(call["arguments"]), call["new_tasks"]
        origin = Origin(str(call["simulator"]), arguments, new_tasks and dict(new_tasks))
        return origin, str(call["version"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(path, error) from error


def _read_truth(
    path: Path, *, label: str, rows: list[str], columns: list[str]
) -> Int[np.ndarray, "_ _"]:
    import pandas as pd

    try:
        table = pd.read_csv(path, dtype={label: str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    labels = list(table[label]) if label in table else []
    if labels != rows or list(table.columns) != [label, *columns]:
        raise DataError(
            f"file '{path}': expected a column {label!r} and then the variables, and a row for "
            f"each {label}, as in {TASKS}, got others. Save or copy the world again."
        )
    values = table[columns].to_numpy()
    if not np.isin(values, (0, 1)).all():
        raise DataError(
            f"file '{path}': expected entries 0 or 1, got others. Save or copy the world again."
        )
    return values.astype(np.int64)


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else f"damage ({error!r})"
    return DataError(
        f"file '{path}': expected a file of a world that World.save wrote, got {reason}. Pass the "
        "folder of such a world, or save it again."
    )
