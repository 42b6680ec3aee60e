"""UT-IGSP: the sparsest permutation whose mechanisms change in fewest tasks, targets unknown.

The code is that of `graphical-model-learning`, with linear-Gaussian tests and no known
intervention: wrappers elsewhere pass the true targets as known ones, which is a leak. Tasks are
compared with an observational sample; where none is declared, with the rows of all tasks together,
most of which leave any one variable alone (our choice; the task itself is among them).

Cost: 20 variables and 40 tasks, 20 resamples: five to fifty seconds on one core.

Source:
    Squires, Wang and Uhler, Permutation-based causal structure learning with unknown intervention
    targets (UAI 2020).
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.baselines.bootstrap import NUM_DRAWS, Estimate, bootstrap
from benchmarks.baselines.controls import controls
from benchmarks.baselines.extras import imported
from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.errors import DataError
from pyro_metacadi.typing import Array

__all__ = ["fit"]

ALPHA = 1e-3  # of independence, and of invariance: as DCDI's and BaCaDI's comparisons
DEPTH, NUM_RUNS = 4, 5  # the package's defaults
JITTER = 1e-3  # noise, in standard deviations, where a task's values are all alike: our choice


def fit(tasks: TaskDataset, *, seed: int, num_draws: int = NUM_DRAWS) -> BaselineResult:
    """Find graph and targets, and how often resamples agree.

    Args:
        tasks: Two of two variables or more; controls are the observational sample.
        seed: Of the bootstrap and of the search.
        num_draws: Resamples.

    Raises:
        DataError: One task or one variable, or controls only.
        ModuleNotFoundError: graphical-model-learning is not installed.
    """
    others = np.flatnonzero(~controls(tasks))
    if len(tasks) < 2 or not len(others) or len(tasks.variables) < 2:
        raise DataError(
            f"utigsp: expected two tasks or more of two variables, one of them no control, got "
            f"{len(tasks)} tasks of {len(tasks.variables)} variables. Add tasks or variables."
        )
    library = imported("graphical_model_learning", method="utigsp", extra="utigsp")
    tests = imported("conditional_independence", method="utigsp", extra="utigsp")
    return bootstrap(
        partial(_estimate, library, tests, others=others), tasks, seed=seed, num_draws=num_draws
    )


def _estimate(
    library: Any, tests: Any, tasks: TaskDataset, rng: np.random.Generator, *, others: Array
) -> Estimate:
    arrays = _standardised(tasks, rng)
    contexts = [arrays[at] for at in others]
    reference = [rows for at, rows in enumerate(arrays) if at not in others]
    pooled = np.concatenate(reference or contexts)
    independence = tests.MemoizedCI_Tester(
        tests.partial_correlation_test, tests.partial_correlation_suffstat(pooled), alpha=ALPHA
    )
    invariance = tests.MemoizedInvarianceTester(
        partial(_invariance_test, tests.gauss_invariance_test),
        {"obs": _sums(pooled), "contexts": [_sums(rows) for rows in contexts]},
        alpha=ALPHA,
    )
    with _python_random(int(rng.integers(2**31))):
        dag, found = library.unknown_target_igsp(
            [{"known_interventions": []}] * len(contexts),
            set(range(len(tasks.variables))),
            independence,
            invariance,
            depth=DEPTH,
            nruns=NUM_RUNS,
        )
    graph = np.zeros((len(tasks.variables),) * 2, dtype=int)
    graph[tuple(np.array(sorted(dag.arcs), dtype=int).reshape(-1, 2).T)] = 1
    targets = np.zeros((len(tasks), len(tasks.variables)))
    for at, hit in zip(others, found, strict=True):
        targets[at, sorted(hit)] = 1
    return Estimate(graph, targets)


def _sums(rows: Float[Array, "rows variable"]) -> dict[str, Array]:
    """What the package's test reads, without the covariance, which one row has not."""
    columns = np.hstack([rows, np.ones((len(rows), 1))])
    return {"samples": columns, "G": columns.T @ columns}


def _invariance_test(
    test: Any, suffstat: Any, context: int, i: int, cond_set: Any = None, **options: Any
) -> dict[str, Any]:
    """Run the package's test, but where a task has too few rows for it: nothing speaks against."""
    samples = suffstat["contexts"][context]["samples"][:, [i, *(cond_set or ())]]
    # A line through as many points has no residuals, which the test would take for a change; drawn
    # with replacement, rows may be the same.
    if len(np.unique(samples, axis=0)) <= samples.shape[1]:
        return {"reject": False}
    with np.errstate(divide="ignore", invalid="ignore"):  # no noise in one sample, or in both
        result: dict[str, Any] = test(suffstat, context, i, cond_set=cond_set, **options)
    return result


def _standardised(
    tasks: TaskDataset, rng: np.random.Generator
) -> Sequence[Float[Array, "rows variable"]]:
    """Standardise all rows together; where a task's values are all alike, add a little noise."""
    scale = tasks.values.std(0)
    arrays = []
    for rows in tasks.arrays:
        scaled = (rows - tasks.values.mean(0)) / np.where(scale > 0, scale, 1)
        constant = np.ptp(scaled, axis=0) == 0
        arrays.append(scaled + JITTER * constant * rng.normal(size=scaled.shape))
    return arrays


@contextmanager
def _python_random(seed: int) -> Iterator[None]:
    """Seed the generator that the package uses, and leave it as it was."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)
