"""One measurement a process, and the file that they are kept in: one row each."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.processes import Failed, apart, provenance
from benchmarks.runtime.clock import peak_megabytes
from benchmarks.runtime.measures import MEASURES, RECORDED, Size

__all__ = ["ANCHOR", "AXES", "COLUMNS", "KEYS", "Cell", "append", "plan", "read", "run", "run_here"]

KEYS = ("measure", "num_variables", "num_tasks", "device", "threads")
"""The fields of a `Cell`."""

COLUMNS = (
    *KEYS,
    "seconds",
    "floor",
    "megabytes",
    "note",
    "machine",
    "torch",
    "python",
)
AXES = {
    "num_variables": (10, 20, 50, 100, 200, 500, 1000),
    "num_tasks": (20, 200, 2000, 10_000),
}
ANCHOR = 20
"""Tasks where the variables grow, and variables where the tasks do."""


@dataclass(frozen=True)
class Cell:
    """A measure at a size."""

    measure: str
    num_variables: int
    num_tasks: int
    device: str
    threads: int

    @property
    def line(self) -> tuple[str, str, int, bool]:
        """What cells that differ in their size along one axis only have in common."""
        return self.measure, self.device, self.threads, self.num_tasks != ANCHOR


def plan(measures: Iterable[str], devices: Sequence[str], threads: Sequence[int]) -> list[Cell]:
    """Both axes of every measure, the smallest sizes first."""
    sizes = [(d, ANCHOR) for d in AXES["num_variables"]]
    sizes += [(ANCHOR, t) for t in AXES["num_tasks"] if t != ANCHOR]
    return [
        Cell(measure, d, t, device, number)
        for device in devices
        for number in (threads if device == "cpu" else (1,))
        for measure in measures
        if device == "cuda" or measure != RECORDED
        for d, t in sizes
    ]


def run(cell: Cell, *, limit: float) -> dict[str, Any]:
    """Measure in a process of its own, which is stopped after `limit` seconds.

    Returns:
        A row of the file. Without `seconds` if it took too long or failed; `note` says which.
    """
    row = {**vars(cell), **provenance(cell.device)}
    arguments = ["--one", json.dumps(vars(cell)), "--limit", str(limit)]
    try:
        return {**row, **apart("benchmarks.runtime", arguments, limit=limit, threads=cell.threads)}
    except Failed as error:
        return {**row, "note": str(error)}


def run_here(text: str, *, limit: float) -> str:
    """Measure the cell that `run` wrote down; returns what it reads."""
    cell = Cell(**json.loads(text))
    torch.set_num_threads(cell.threads)
    size = Size(cell.num_variables, cell.num_tasks, cell.device)
    found = MEASURES[cell.measure](size, budget=limit / 4)
    return json.dumps({**vars(found), "megabytes": peak_megabytes()})


def read(path: Path) -> pd.DataFrame:
    """The last row of every cell in the file."""
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.read_csv(path, keep_default_na=True)
    return table.drop_duplicates(list(KEYS), keep="last").reset_index(drop=True)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as handle:
        writer = csv.DictWriter(handle, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow({name: row.get(name, "") for name in COLUMNS})
