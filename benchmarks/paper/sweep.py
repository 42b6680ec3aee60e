"""Many runs side by side: processes of this machine, or of a Dask cluster."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

from joblib import Parallel, delayed

from benchmarks.baselines.extras import imported
from benchmarks.paper.runs import Cell, failed, run
from pyro_metacadi.errors import ConfigError

__all__ = ["on_cluster", "on_this_machine"]

PATIENCE = 10
"""Seconds in which a scheduler must answer."""

Outcome = tuple[Cell, dict[str, Any]]


def on_this_machine(cells: Sequence[Cell], *, jobs: int, limit: float) -> Iterator[Outcome]:
    """Run `jobs` cells at a time; outcomes as they get ready."""
    pool = Parallel(n_jobs=jobs, prefer="threads", return_as="generator_unordered")
    yield from pool(delayed(_run)(cell, limit=limit) for cell in cells)


def on_cluster(cells: Sequence[Cell], *, scheduler: str, limit: float) -> Iterator[Outcome]:
    """Run them on the workers of a Dask cluster; each must have this repository installed.

    Raises:
        ConfigError: The scheduler cannot be reached.
        ModuleNotFoundError: `distributed` is not installed.
    """
    distributed = imported("distributed", method="--scheduler", extra="cluster")
    try:
        asyncio.run(_greet(distributed, scheduler))
        client = distributed.Client(scheduler, timeout=PATIENCE)
    except (OSError, TimeoutError, ValueError, TypeError, ImportError) as error:
        got = " ".join(str(error).split())[:200] or "no answer"
        raise ConfigError(
            f"scheduler: expected a Dask scheduler at {scheduler!r}, got: {got}. Start one (dask "
            "scheduler), pass its address."
        ) from error
    with client:
        futures = [client.submit(run, cell, limit=limit, pure=False) for cell in cells]
        cell_of = dict(zip(futures, cells, strict=True))
        for future in distributed.as_completed(futures):
            lost = future.exception()  # such as that workers died, one after the other
            cell = cell_of[future]
            yield cell, failed(cell, f"failed: {lost}") if lost else future.result()


async def _greet(distributed: Any, scheduler: str) -> None:
    """Ask who is there: the client would wait without end for a server that is no scheduler."""
    async with distributed.rpc(scheduler) as remote:
        await asyncio.wait_for(remote.identity(), PATIENCE)


def _run(cell: Cell, *, limit: float) -> Outcome:
    return cell, run(cell, limit=limit)
