"""Choosing options by what they predict of tasks left out: no truth is needed, no new task seen."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from pyro_metacadi.checks import check_count, check_seed
from pyro_metacadi.components import Components
from pyro_metacadi.data.checks import check_tasks, within_reach
from pyro_metacadi.data.names import listed
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.objective import PaperObjective
from pyro_metacadi.inference.predictive import log_derivative, row_log_density
from pyro_metacadi.models.noise.counts import reads_counts
from pyro_metacadi.typing import Array

if TYPE_CHECKING:
    import pandas

__all__ = [
    "GRIDS",
    "Fold",
    "check_comparable",
    "dealt",
    "estimator_with",
    "left_out_rows",
    "row_scores",
    "tune",
]

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


@dataclass(frozen=True)
class Fold:
    """Tasks to learn from, and of others a few rows to adapt to and the rows to predict."""

    training: TaskDataset
    support: TaskDataset
    query: TaskDataset


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


def left_out_rows(
    model: MetaCaDI,
    folds: Sequence[Fold],
    *,
    num_steps: int | None,
    num_graphs: int,
    seed: int,
    device: str,
    bar: tqdm,
) -> list[Array]:
    """Fit `model` without each fold and predict it: `row_scores` of every task, fold after fold."""
    found = []
    for fold in folds:
        model.fit(fold.training, num_steps=num_steps, seed=seed, device=device, progress=False)
        found += row_scores(
            model, fold.query, support=fold.support, num_graphs=num_graphs, seed=seed
        )
        bar.update()
    return found


def row_scores(
    model: MetaCaDI,
    query: TaskDataset,
    *,
    support: TaskDataset,
    num_graphs: int = 32,
    seed: int = 0,
) -> list[Array]:
    """Log density of rows that a fitted model has not seen, given other rows of their tasks.

    Args:
        model: Fitted.
        query: Rows to predict.
        support: Rows of the same tasks, which the model adapts to, and their declared targets.
        num_graphs: Graphs of each chain that densities average over.
        seed: Of these.

    Returns:
        Of each task, an array ``[row]``, in nats of the user's units. A value of 0 counts
        as its probability where zeros are everywhere, and as the smallest positive one of its
        variable in training under a logarithm or a root.

    Raises:
        DataError: The tasks differ, or variables are missing or unknown.
        MetaCaDIError: The model is not fitted.
    """
    fit = model._fitted()
    aligned = [part.align(fit.tasks.variables) for part in (support, query)]
    if support.tasks != query.tasks:
        raise DataError(
            f"support: expected the tasks of the query rows, {', '.join(query.tasks)}, got "
            f"{', '.join(support.tasks)}. Split each task's rows in two."
        )
    scaling: Any = fit.scaling
    seen, asked = (
        within_reach(scaling.transform(part), part, reach=scaling.reach, reach_in=scaling.reach_in)
        for part in aligned
    )
    density = row_log_density(
        fit.chains,
        support=seen,
        query=asked,
        num_graphs=num_graphs,
        seed=seed,
        known=aligned[0].known_targets,
    )
    atom = getattr(scaling, "has_atom", False)
    total = density + log_derivative(
        scaling.units, aligned[1].values, training=fit.tasks.values, atom=atom
    )
    return np.split(total, np.cumsum(query.num_rows)[:-1])


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


def check_comparable(tasks: TaskDataset, models: Sequence[MetaCaDI]) -> None:
    """Refuse models whose predictions are told more than those of others.

    Raises:
        ConfigError: Some, but not all, represent the data as ``counts``, or have noise models of
            counts, or of counts given a row's total.
    """
    scored = {_scored(model.components, len(tasks.variables)): None for model in models}
    if len(scored) > 1:
        raise ConfigError(
            f"noise: expected models that score the same, got some of {' and '.join(scored)}. "
            f"Densities of values, and probabilities of counts that are told more, do not compare."
        )
    samplings = [getattr(model.components, "sampling", None) for model in models]
    # The other engine standardises values as they are.
    wanted = dict.fromkeys("identity" if s is None else s.representation for s in samplings)
    kinds = {Representation.fit(tasks, kind=kind).kind for kind in wanted}
    if len(kinds) > 1 and "counts" in kinds:
        raise ConfigError(
            f"representation: expected 'counts' alone or not at all, got {', '.join(wanted)}. "
            f"Predictions of 'counts' are told a row's total, so that its scores do not compare."
        )


def _scored(components: Any, num_variables: int) -> str:
    """What a model with an engine's options gives a density of."""
    noise = components.build_noise(num_variables) if isinstance(components, Components) else None
    if not reads_counts(noise):
        return "values"
    return "counts given a row's total" if noise.library_size else "counts"


def dealt(tasks: TaskDataset, folds: int, support_size: Any, seed: int) -> list[Fold]:
    """Deal the tasks into folds, and split the rows of each that is left out; see `tune`."""
    support_size = check_count("support_size", support_size)
    if (scorable := int((tasks.num_rows > 1).sum())) < 2:
        raise DataError(
            f"tasks: expected two or more that have two rows or more, got {scorable}. Add tasks to "
            f"leave out, or join tasks that share an intervention."
        )
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(tasks))
    rows = [generator.permutation(numbers) for numbers in tasks._row_numbers]
    shown = [min(support_size, len(array) // 2) for array in rows]
    parts = []
    for out in np.array_split(order, min(folds, len(tasks))):
        scored = [at for at in sorted(out.tolist()) if shown[at]]
        if scored:
            left = tasks[np.setdiff1d(order, out).tolist()]
            names = [tasks.tasks[at] for at in scored]
            _check_groups(left, tasks[names])
            seen = tasks._at([rows[at][: shown[at]] for at in scored], tasks=names)
            asked = tasks._at([rows[at][shown[at] :] for at in scored], tasks=names)
            parts.append(Fold(left, seen, asked))
    return parts


def _check_groups(left: TaskDataset, out: TaskDataset) -> None:
    """Refuse groups of covariates that the tasks left do not have."""
    for name, column in out.covariates.items():
        known = left.covariates[name]
        only = sorted(set(column.tolist()) - set(known.tolist()))
        if known.dtype.kind == "U" and only:
            raise DataError(
                f"covariates: expected groups that occur in the tasks of several folds, got "
                f"{only[0]!r} of {name!r} in {listed(map(repr, out.tasks))} only. Join it "
                f"with another group, or tune without {name!r}."
            )


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
