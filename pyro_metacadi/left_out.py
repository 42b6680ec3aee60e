"""Tasks left out: dealt into folds, and predicted by models that were fitted to the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from pyro_metacadi.checks import check_count
from pyro_metacadi.components import Components
from pyro_metacadi.data.checks import within_reach
from pyro_metacadi.data.names import listed
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, DataError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.predictive import log_derivative, row_log_density
from pyro_metacadi.models.noise.counts import reads_counts
from pyro_metacadi.typing import Array

__all__ = ["Fold", "check_comparable", "dealt", "left_out_rows", "row_scores"]


@dataclass(frozen=True)
class Fold:
    """Tasks to learn from, and of others a few rows to adapt to and the rows to predict."""

    training: TaskDataset
    support: TaskDataset
    query: TaskDataset


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
