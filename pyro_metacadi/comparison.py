"""Comparing models by what they predict of tasks left out, as ArviZ compares models."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from pyro_metacadi.checks import check_count, check_seed
from pyro_metacadi.data.checks import check_tasks
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.arviz_tables import compared
from pyro_metacadi.left_out import check_comparable, dealt, left_out_rows
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    import pandas

__all__ = ["compare", "left_out_scores"]


def compare(
    models: Mapping[str, MetaCaDI],
    tasks: TaskDataset,
    *,
    folds: int = 3,
    support_size: int = 10,
    num_steps: int | None = None,
    num_graphs: int = 32,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> "pandas.DataFrame":
    """Compare models by leave-task-out prediction.

    The tasks are dealt into folds; of each task left out, some rows are shown to a model that was
    fitted to the other folds, and the rest is predicted (see `pyro_metacadi.tuning.tune`). All
    models see the same rows.

    >>> compare({"gaussian": MetaCaDI(engine="svi", noise=LearnedGaussianNoise),
    ...          "heteroscedastic": MetaCaDI(engine="svi", noise=HeteroscedasticNoise)}, tasks)
    ... # doctest: +SKIP

    Args:
        models: By name, two or more, fitted or not; they are left as they are.
        tasks: Two or more of them with two rows or more. Rows on disk are read to memory.
        folds: At most as many as there are tasks.
        support_size: Rows shown of a task that was left out; half of its rows if it has few.
        num_steps: As in `MetaCaDI.fit`.
        num_graphs: Graphs of each chain that predictions average over.
        seed: Of folds, rows and fits.
        device: As in `MetaCaDI.fit`.
        progress: Whether to show a bar.

    Returns:
        The table of ``arviz.compare``, the best model first: ``elpd``, the log density of the rows
        predicted, in nats of the user's units (of counts, their probability), and ``se``;
        ``elpd_diff``, how much less than the best's, and ``dse``, its standard error; ``weight``,
        in how many bootstraps it is the best. A task is one observation. Differences of less than
        two ``dse`` say little.

    Raises:
        DataError: `tasks` are no dataset, or fewer than two of them have two rows or more.
        ConfigError: Fewer than two models, or some that do not compare.
    """
    scores = left_out_scores(
        models,
        tasks,
        folds=folds,
        support_size=support_size,
        num_steps=num_steps,
        num_graphs=num_graphs,
        seed=seed,
        device=device,
        progress=progress,
    )
    return compared(scores)


def left_out_scores(
    models: Mapping[str, MetaCaDI],
    tasks: TaskDataset,
    *,
    folds: int = 3,
    support_size: int = 10,
    num_steps: int | None = None,
    num_graphs: int = 32,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Array]:
    """Log density of the rows predicted of every task, by model; arguments as in `compare`.

    Returns:
        Of each model an array ``[task]``, in nats of the user's units, of the tasks of two rows or
        more, fold after fold.
    """
    check_tasks(tasks)
    copies = {name: copy.copy(model) for name, model in _checked(models).items()}
    check_comparable(tasks, list(copies.values()))
    parts = dealt(tasks, check_count("folds", folds, minimum=2), support_size, check_seed(seed))
    scores = {}
    with tqdm(total=len(copies) * len(parts), disable=not progress, desc="compare") as bar:
        for name, model in copies.items():
            rows = left_out_rows(
                model,
                parts,
                num_steps=num_steps,
                num_graphs=num_graphs,
                seed=seed,
                device=device,
                bar=bar,
            )
            scores[name] = np.array([part.sum() for part in rows])
    return scores


def _checked(models: Any) -> Mapping[str, MetaCaDI]:
    usable = isinstance(models, Mapping) and all(isinstance(m, MetaCaDI) for m in models.values())
    if not usable or len(models) < 2:
        got = list(models) if isinstance(models, Mapping) else type(models).__name__
        raise ConfigError(
            f"models: expected two or more, as name -> MetaCaDI, got {got}. Pass a dict such as "
            f"{{'a': MetaCaDI(), 'b': MetaCaDI.paper()}}."
        )
    return models
