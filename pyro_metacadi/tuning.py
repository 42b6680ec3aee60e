"""Choosing options by what they predict of tasks left out: no truth is needed, no new task seen."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from pyro_metacadi.checks import check_count, check_seed
from pyro_metacadi.data.checks import check_tasks
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.objective import PaperObjective
from pyro_metacadi.left_out import check_comparable, dealt, left_out_rows
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    import pandas

__all__ = ["GRIDS", "estimator_with", "tune"]

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "evidence": {"graph_prior": (None, 0.05, 0.2)},
    "svi": {"target_weight": (5e-5, 5e-4, 5e-3), "graph_weight": (0.005, 0.02)},
}
"""What is tried unless the user says otherwise, by engine."""

OPTIONS = {
    "evidence": ("graph_prior", "target_prior", "representation"),
    "svi": ("target_weight", "residual_weight", "graph_weight", "target_prior"),
}
WEIGHTS = ("target_weight", "residual_weight", "graph_weight")


def tune(
    tasks: TaskDataset,
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    engine: str = "evidence",
    folds: int = 3,
    support_size: int = 10,
    num_steps: int | None = None,
    num_graphs: int = 32,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    **choices: Any,
) -> "pandas.DataFrame":
    """Score every combination of options by leave-task-out prediction.

    The tasks are dealt into folds. Of each fold's tasks, `support_size` random rows (half of the
    rows if there are fewer than twice as many) are shown to a model that was fitted to the other
    tasks, and the rest is predicted (see `pyro_metacadi.inference.predictive`). All combinations
    see the same rows.

    Args:
        tasks: Training tasks, two or more.
        grid: Option -> values to try. evidence: ``graph_prior``, ``target_prior``,
            ``representation``; svi: ``target_weight``, ``residual_weight``, ``graph_weight`` (λ_I,
            λ_H, λ_G of Eq. 7), ``target_prior``. By default, `GRIDS`.
        engine: As in `MetaCaDI`.
        folds: At most as many as there are tasks.
        support_size: Rows shown of a task that was left out.
        num_steps: As in `MetaCaDI.fit`.
        num_graphs: Graphs of each chain that predictions average over.
        seed: Of folds, rows and fits.
        device: As in `MetaCaDI.fit`.
        progress: Whether to show a bar.
        choices: Other options of `MetaCaDI`, the same for all.

    Returns:
        One row per combination, the best first. Columns: the options; ``score``, the mean log
        density per row of the tasks left out, in nats of the user's units, averaged over tasks;
        ``se``, its standard error over tasks; ``behind`` and ``behind_se``, how much less than the
        best's, task by task. Differences of less than two ``behind_se`` say little.

    Raises:
        DataError: `tasks` are no dataset, or fewer than two of them have two rows or more.
        ConfigError: An option is unknown, or not what it should be; or representations are compared
            of which only some are ``counts``, which is told a row's total.
    """
    import pandas as pd

    check_tasks(tasks)
    settings = _combinations(grid, engine)
    models = [estimator_with(engine, setting, **choices) for setting in settings]
    check_comparable(tasks, models)
    parts = dealt(tasks, check_count("folds", folds, minimum=2), support_size, check_seed(seed))
    scores = []
    with tqdm(total=len(models) * len(parts), disable=not progress, desc="tune") as bar:
        for model in models:
            rows = left_out_rows(
                model,
                parts,
                num_steps=num_steps,
                num_graphs=num_graphs,
                seed=seed,
                device=device,
                bar=bar,
            )
            scores.append([float(part.mean()) for part in rows])
    return _summary(pd.DataFrame(settings), np.array(scores))


def estimator_with(engine: str, setting: Mapping[str, Any], **choices: Any) -> MetaCaDI:
    """An unfitted model with one combination of a grid's options, beside other `choices`.

    Raises:
        ConfigError: An option is bad.
    """
    weights = {name: value for name, value in setting.items() if name in WEIGHTS}
    others = {name: value for name, value in setting.items() if name not in WEIGHTS}
    if "representation" in others:
        sampling = choices.get("sampling") or Sampling()
        choices["sampling"] = replace(sampling, representation=others.pop("representation"))
    if weights:
        choices["objective"] = partial(choices.get("objective") or PaperObjective, **weights)
    return MetaCaDI(engine=engine, **{**choices, **others})


def _combinations(grid: Mapping[str, Sequence[Any]] | None, engine: str) -> list[dict[str, Any]]:
    if engine not in tuple(OPTIONS):
        expected = " or ".join(map(repr, OPTIONS))
        raise ConfigError(f"engine: expected {expected}, got {engine!r}. Leave it out.")
    grid = GRIDS[engine] if grid is None else grid
    if not isinstance(grid, Mapping) or not grid:
        raise ConfigError(
            f"grid: expected option names with lists of values, got {grid!r}. Try {GRIDS[engine]}."
        )
    for name, values in grid.items():
        if name not in OPTIONS[engine]:
            raise ConfigError(
                f"grid: expected some of {', '.join(OPTIONS[engine])} for engine {engine!r}, got "
                f"{name!r}. Leave it out or correct the name."
            )
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ConfigError(
                f"grid: expected a list of values of {name}, got {values!r}. Put a single value "
                f"into a list."
            )
        for value in values if name in WEIGHTS else ():
            if (
                isinstance(value, bool)
                or not isinstance(value, Real)
                or not 0 <= float(value) < np.inf
            ):
                raise ConfigError(
                    f"grid: expected numbers of at least 0 of {name}, got {value!r}. The default "
                    f"of Eq. 7's weights is in PaperObjective."
                )
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _summary(table: "pandas.DataFrame", scores: Array) -> "pandas.DataFrame":
    """The table with means of `scores` ``[combination, task]``, best first."""
    best = scores[scores.mean(1).argmax()]

    def error(values: Array) -> Array:
        return values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])

    table = table.assign(
        score=scores.mean(1),
        se=error(scores),
        behind=(best - scores).mean(1),
        behind_se=error(best - scores),
    )
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
