"""Timing of one thing in one process."""

import resource
import statistics
import time
from collections.abc import Callable

import torch

__all__ = ["peak_megabytes", "seconds"]

LEAST_REPEATS, MOST_REPEATS = 3, 50


def seconds(run: Callable[[], object], *, budget: float, warmup: bool = True) -> float:
    """Median time of a call, of as many as fit into `budget` seconds, three at least.

    One call that takes longer than a third of the budget is taken as it is.
    """
    if warmup:
        first = _once(run)
        if first > budget / LEAST_REPEATS:
            return first
    taken: list[float] = []
    while len(taken) < LEAST_REPEATS or (sum(taken) < budget and len(taken) < MOST_REPEATS):
        taken.append(_once(run))
        if taken[0] > budget / LEAST_REPEATS:
            break
    return statistics.median(taken)


def peak_megabytes() -> float:
    """Most memory that this process has held, the device's if there is one in use."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def _once(run: Callable[[], object]) -> float:
    _wait()
    start = time.perf_counter()
    run()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
