"""Runs and the file that they are kept in: one row per world, seed and method."""

import csv
import fcntl
import io
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from benchmarks.accuracy.methods import METHODS, Method
from benchmarks.accuracy.worlds import KINDS, draw_problem
from pyro_metacadi import metrics
from pyro_metacadi.errors import UndefinedMetricWarning
from pyro_metacadi.typing import Array

__all__ = [
    "COLUMNS",
    "SCORES",
    "Cell",
    "append",
    "missing",
    "plan",
    "read",
    "run_cell",
    "run_cells",
]

TARGET_SCORES = ("intv_ap", "intv_ap_3", "intv_auroc", "mean_target", "intv_ece")
EDGE_SCORES = ("edge_ap", "e_shd", "empty_shd", "e_sid", "edge_ece")
SCORES = (*TARGET_SCORES, *EDGE_SCORES, "fit_seconds", "adapt_seconds")
COLUMNS = ("world", "seed", "method", *SCORES, "num_threads", "error")
NUM_THREADS = 1


class Cell(NamedTuple):
    """One run: a method on a world."""

    world: str
    seed: int
    method: str


def plan(worlds: Iterable[str], methods: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """All runs asked for, those on one world together."""
    return [
        Cell(world, seed, name)
        for world in worlds
        for position, seed in enumerate(seeds)
        for name in methods
        if METHODS[name].suits(KINDS[world]) and position < (METHODS[name].num_seeds or len(seeds))
    ]


def missing(cells: Iterable[Cell], path: Path) -> list[Cell]:
    """Those of `cells` that the file has no scores of: never run, or failed."""
    table = read(path)
    done = table[table["error"] == ""]
    there = set(zip(done["world"], done["seed"], done["method"], strict=True))
    return [cell for cell in cells if cell not in there]


def read(path: Path) -> pd.DataFrame:
    """The last row of every run in the file, in the order of `COLUMNS`; empty if there is none.

    Raises:
        ValueError: The file has other columns.
    """
    if not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    table = pd.read_csv(path, dtype={"error": str})
    if tuple(table.columns) != COLUMNS:
        raise ValueError(
            f"{path}: expected the columns {', '.join(COLUMNS)}, got "
            f"{', '.join(map(str, table.columns))}. Write to another file: --out."
        )
    table["error"] = table["error"].fillna("")
    return table.drop_duplicates(list(Cell._fields), keep="last", ignore_index=True)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row, whole or not at all; other processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        if os.fstat(file.fileno()).st_size == 0:
            writer.writeheader()
        writer.writerow(row)
        file.write(text.getvalue().encode())


def run_cells(cells: Sequence[Cell], *, jobs: int) -> Iterator[dict[str, Any]]:
    """Rows of all `cells` as they get ready, `jobs` of them computed at a time."""
    if jobs == 1:
        yield from map(run_cell, cells)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(run_cell, cell): cell for cell in cells}
        for future in as_completed(waiting):
            error = future.exception()  # such as that a process died
            yield future.result() if error is None else _failed(waiting[future], error)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Row of one run: its scores, or what went wrong."""
    torch.set_num_threads(NUM_THREADS)
    try:
        scores = measure(cell)
    except Exception as error:  # one run's failure must not end the others
        return _failed(cell, error)
    rounded = {name: f"{value:.6g}" for name, value in scores.items() if value == value}
    return {**cell._asdict(), **rounded, "num_threads": NUM_THREADS, "error": ""}


def measure(cell: Cell) -> dict[str, float]:
    """Fit, adapt to 10 and to 3 rows of the new tasks, and score."""
    problem, method = draw_problem(cell.world, cell.seed), METHODS[cell.method]
    start = time.perf_counter()
    judge = method.fit(problem)
    fitted = time.perf_counter()
    found = judge(problem.few_rows(10))
    probs = _targets_of(found)
    adapted = time.perf_counter()
    fewer = judge(problem.few_rows(3))
    targets = problem.new.intervention_targets
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)  # no target: NaN, an empty field
        scores = _edge_scores(found, problem.world.adjacency, targets) if method.edges else {}
        scores |= _target_scores(probs, targets, method=method)
        three = metrics.target_scores(_targets_of(fewer), targets)
    seconds = {"fit_seconds": fitted - start, "adapt_seconds": adapted - fitted}
    return {**scores, "intv_ap_3": three["intv_ap"], **seconds}


def _targets_of(found: Any) -> Any:
    """Scores of the targets; a posterior computes them when it is asked for them."""
    return found.target_probs if hasattr(found, "target_probs") else found


def _edge_scores(found: Any, adjacency: Array, targets: Array) -> dict[str, float]:
    scores = metrics.evaluate(found, adjacency=adjacency, intervention_targets=targets)
    return {name: scores[name] for name in EDGE_SCORES}


def _target_scores(probs: Any, targets: Array, *, method: Method) -> dict[str, float]:
    ranked = metrics.target_scores(probs, targets)
    scores = {name: ranked[name] for name in ("intv_ap", "intv_auroc")}
    if not method.probabilities:
        return scores
    held = metrics.calibration(probs, targets)
    return {**scores, "mean_target": held["mean_probability"], "intv_ece": held["ece"]}


def _failed(cell: Cell, error: BaseException) -> dict[str, Any]:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return {**cell._asdict(), "num_threads": NUM_THREADS, "error": text[:300]}
