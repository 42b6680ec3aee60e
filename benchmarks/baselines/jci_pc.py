"""JCI-PC: the PC algorithm on variables and, beside them, a column for each task.

Task columns are causes only, and edges between them are not looked for, so that edges from a task
to a variable are its targets, and variables that they meet get directions (Joint Causal Inference,
assumptions 1-3). Tests are those of causal-learn; the package has no JCI of its own. Differences
from the R code that BaCaDI and MetaCaDI compare with: conditioning sets are bounded, edges that
conflict are not forced into a graph, and alpha is a number, where it seems to be text there (see
`benchmarks.paper.published`).

Cost: 20 variables and 40 tasks, 20 resamples: up to two minutes on one core, up to four on gene
expression, where most depends on most; more with the square of variables and tasks together. The
kernel test takes the cube of rows: it is for small data only.

Source:
    Mooij, Magliacane and Claassen, Joint causal inference from multiple contexts, Journal of
    Machine Learning Research 21 (2020). Spirtes and Glymour (1991) for PC.
"""

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

ALPHA = 0.01  # the R code's default
MAX_CONDITIONING = 3  # variables in a conditioning set; our choice, for time
MAX_KERNEL_ROWS = 300  # our choice: seconds for each graph of a few variables


def fit(
    tasks: TaskDataset, *, seed: int, test: str = "fisherz", num_draws: int = NUM_DRAWS
) -> BaselineResult:
    """Find graph and targets, and how often resamples agree.

    Controls have no column. Without a control no column is left out: they are linearly dependent
    then, which shows only where all others are conditioned on, and no set is as large as that.

    Args:
        tasks: At least three, or a control and another.
        seed: Of the bootstrap.
        test: Of independence: ``"fisherz"`` (linear) or ``"kci"`` (kernels, 300 rows at most).
        num_draws: Resamples.

    Raises:
        DataError: Too few tasks, or too many rows for kernels.
        ModuleNotFoundError: causal-learn is not installed.
    """
    if test == "kci" and len(tasks.values) > MAX_KERNEL_ROWS:
        raise DataError(
            f"jci_pc: expected at most {MAX_KERNEL_ROWS} rows for the kernel test, got "
            f"{len(tasks.values)}. Use jci_pc without kernels, or tasks.take_rows(...)."
        )
    contexts = np.flatnonzero(~controls(tasks))
    largest = _largest_set(tasks, num_contexts=len(contexts))
    search = imported("causallearn.search.ConstraintBased.PC", method="jci_pc", extra="baselines")
    estimate = partial(_estimate, search.pc, contexts=contexts, test=test, largest=largest)
    return bootstrap(estimate, tasks, seed=seed, num_draws=num_draws)


def _largest_set(tasks: TaskDataset, *, num_contexts: int) -> int:
    """How many variables a conditioning set may have."""
    num_controls = len(tasks) - num_contexts
    largest = MAX_CONDITIONING if num_controls else min(MAX_CONDITIONING, num_contexts - 2)
    if largest < 1 or not num_contexts:
        raise DataError(
            f"jci_pc: expected three tasks, or a control and another, got {len(tasks)} with "
            f"{num_controls} controls. Add tasks, or declare_observational(...) one."
        )
    return largest


def _estimate(
    pc: Any,
    tasks: TaskDataset,
    rng: np.random.Generator,
    *,
    contexts: Array,
    test: str,
    largest: int,
) -> Estimate:
    d, count = len(tasks.variables), len(contexts)
    targets = np.zeros((len(tasks), d))
    varying = np.flatnonzero(
        np.ptp(tasks.values, axis=0) > 0
    )  # no test knows what to say of others
    columns = np.hstack([tasks.values[:, varying], _indicators(tasks)[:, contexts]])
    names = [f"X{at}" for at in varying] + [f"C{at}" for at in contexts]
    found = pc(
        columns,
        ALPHA,
        test,
        background_knowledge=_knowledge(names, num_contexts=count),
        node_names=names,
        max_k=largest,
        show_progress=False,
    ).G.graph
    # -1 at [i, j] is a tail at i: directed, undirected, but no edges with two heads.
    marked = (found == -1) & (found.T != 0)
    targets[np.ix_(contexts, varying)] = marked[-count:, :-count]
    graph = np.zeros((d, d), dtype=int)
    graph[np.ix_(varying, varying)] = marked[:-count, :-count]
    return Estimate(graph, targets)


def _indicators(tasks: TaskDataset) -> Float[Array, "rows task"]:
    indicators: Array = np.repeat(np.eye(len(tasks)), tasks.num_rows, axis=0)
    return indicators


def _knowledge(names: list[str], *, num_contexts: int) -> Any:
    """Contexts come before variables, and are not joined with each other."""
    graph_node = imported("causallearn.graph.GraphNode", method="jci_pc", extra="baselines")
    module = "causallearn.utils.PCUtils.BackgroundKnowledge"
    knowledge = imported(module, method="jci_pc", extra="baselines").BackgroundKnowledge()
    for at, name in enumerate(names):
        tier = 0 if at >= len(names) - num_contexts else 1
        knowledge.add_node_to_tier(graph_node.GraphNode(name), tier)
    knowledge.forbid_within_tier(0)
    return knowledge
