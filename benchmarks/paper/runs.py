"""Runs, one a process, and the file of each."""

import json
import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.paper.methods import METHODS, Found, Method
from benchmarks.paper.worlds import KINDS, Problem, draw_problem
from benchmarks.processes import Failed, apart, provenance
from pyro_metacadi import metrics
from pyro_metacadi.errors import UndefinedMetricWarning

__all__ = [
    "COLUMNS",
    "SCORES",
    "Cell",
    "failed",
    "measure",
    "missing",
    "plan",
    "read",
    "run",
    "write",
]

EDGES = ("e_shd", "e_sid", "empty_shd", "edge_auroc", "edge_ap")
TARGETS = ("intv_auroc", "intv_ap", "intv_top1")
GROUPS = ("large", "small")
IN_GROUPS = tuple(f"{score}_{group}" for group in GROUPS for score in ("intv_auroc", "intv_ap"))
SCORES = (*EDGES, *TARGETS, *IN_GROUPS, "fit_seconds", "adapt_seconds")
COLUMNS = (
    "world", "seed", "method", *SCORES, "error", "commit", "machine", "torch", "python", "date",
)  # fmt: skip

FEW_SEEDS = 5
"""Where a run takes minutes."""

# glibc gives large blocks back to the system at once and gets them anew, zeroed, with the next
# step: of BaCaDI's that was more than a third of the time.
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**36)}


class Cell(NamedTuple):
    """One run: a method on a world."""

    world: str
    seed: int
    method: str
    smoke: bool = False

    def file(self, folder: Path) -> Path:
        """Where its outcome is kept."""
        return folder / self.world / f"{self.method}-{self.seed}.json"


def plan(
    worlds: Iterable[str], methods: Sequence[str], seeds: Sequence[int], *, smoke: bool = False
) -> list[Cell]:
    """All runs asked for; the first seeds of all methods come before the next."""
    return [
        Cell(world, seed, name, smoke)
        for world in worlds
        for position, seed in enumerate(seeds)
        for name in methods
        if METHODS[name].suits(KINDS[world])
        and (position < FEW_SEEDS or world not in METHODS[name].long)
    ]


def missing(cells: Iterable[Cell], folder: Path, *, retry: bool) -> list[Cell]:
    """Those without an outcome; with `retry` also those that failed or took too long."""

    def lacks(cell: Cell) -> bool:
        row = read(cell.file(folder))
        return row is None or (retry and bool(row["error"]))

    return [cell for cell in cells if lacks(cell)]


def read(file: Path) -> dict[str, Any] | None:
    """The outcome in a file; None if there is none. One that cannot be read is reported."""
    try:
        row = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        row, fault = None, str(error)
    else:
        fault = _fault(row, file)
    if fault:
        print(f"{file}: expected a run's outcome, got {fault}. It counts as not run.", flush=True)
        return None
    found: dict[str, Any] = row
    return found


def _fault(row: Any, file: Path) -> str:
    """What in a file is not what `run` returns; empty if nothing is."""
    if not isinstance(row, dict) or set(row) - set(COLUMNS):
        return f"other fields: {row!r:.60}"
    scores = {name: row[name] for name in SCORES if row.get(name) is not None}
    for name, value in scores.items():
        if type(value) not in (int, float) or not np.isfinite(value):
            return f"{name} = {value!r:.60}"
    for name in set(COLUMNS) - set(SCORES):
        wanted = int if name == "seed" else str
        if type(row.get(name)) is not wanted:
            return f"{name} = {row.get(name)!r:.60}"
    if file.parts[-2:] != Cell(row["world"], row["seed"], row["method"]).file(Path()).parts:
        return f"the run {row['world']} {row['seed']} {row['method']}"
    return "" if scores or row["error"] else "neither scores nor an error"


def write(file: Path, row: dict[str, Any]) -> None:
    """Keep an outcome, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False) as part:
        json.dump(row, part)
    os.replace(part.name, file)


def run(cell: Cell, *, limit: float) -> dict[str, Any]:
    """Run a cell in a process of its own, which is stopped after `limit` seconds.

    Returns:
        A row: its scores, or what went wrong as ``error``.
    """
    origin = _origin()  # of the code that runs, whatever is committed meanwhile
    try:
        scores = apart(
            "benchmarks.paper", ["--one", json.dumps(cell)], limit=limit, environment=KEPT_MEMORY
        )
    except Failed as error:
        return {**failed(cell, str(error)), **origin}
    return {**failed(cell, ""), **scores, **origin}


def failed(cell: Cell, error: str) -> dict[str, Any]:
    """Row without scores."""
    keys = {"world": cell.world, "seed": cell.seed, "method": cell.method}
    return {**keys, "error": " ".join(error.split())[:300], **_origin()}


def measure(cell: Cell) -> dict[str, float]:
    """Scores of one run, in this process; those that are not defined are left out."""
    torch.set_num_threads(1)
    method, problem = METHODS[cell.method], draw_problem(cell.world, cell.seed, smoke=cell.smoke)
    found = method.find(problem, cell.smoke)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        scores = _scores(found, problem, method=method)
    seconds = {"fit_seconds": found.fit_seconds, "adapt_seconds": found.adapt_seconds}
    return {
        name: float(f"{value:.6g}")
        for name, value in (scores | seconds).items()
        if value is not None and np.isfinite(value)
    }


def _scores(found: Found, problem: Problem, *, method: Method) -> dict[str, float]:
    truth = problem.intervention_targets
    edges = metrics.evaluate(
        found.result, adjacency=problem.world.adjacency, intervention_targets=truth
    )
    scores = {name: edges[name] for name in EDGES if method.edges}
    if method.targets:
        scores |= {name: edges[name] for name in TARGETS}
        for group, tasks in problem.groups.items():
            probs = found.result.target_probs.isel(task=tasks)
            part = metrics.target_scores(probs, truth[tasks])
            scores |= {f"{name}_{group}": part[name] for name in ("intv_auroc", "intv_ap")}
    return scores


def _origin() -> dict[str, str]:
    """Commit of the code, machine and versions, and the time (UTC)."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    folder = Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        commit = done.stdout.strip()
    except OSError:  # no git
        commit = ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return {"commit": commit or "unknown", **provenance(), "date": when}
