"""A mechanism along values of one parent: as it is, and in the tasks that hit it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from numpy.typing import ArrayLike

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.data.names import position_of
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.inference.doing import Held, Options, warn_of_always_hit
from pyro_metacadi.inference.hit_curves import Asked, hit_curve
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.inference.simulated import simulate
from pyro_metacadi.inference.surroundings import Surroundings, Trained
from pyro_metacadi.inference.user_units import to_model, to_user
from pyro_metacadi.typing import Array

__all__ = ["Curves"]

NUM_VALUES, RANGE = 21, (1.0, 99.0)
"""Values of the parent unless told otherwise, between these percentiles of the training rows."""

NUM_HIT_GRAPHS = 16
"""Of each chain, for tasks that hit the child: what they say hardly depends on the graph."""


class Curves:
    """What a posterior says of single mechanisms; a base class of `Posterior`."""

    tasks: TaskDataset
    _chains: Sequence[Any]
    _trained: Trained | None

    if TYPE_CHECKING:

        @property
        def target_probs(self) -> xr.DataArray:
            """Of every variable in every task."""

    def mechanism_curves(
        self,
        parent: str,
        child: str,
        *,
        values: ArrayLike | None = None,
        num_graphs: int = 20,
        num_rows: int = 200,
        most_tasks: int = 3,
        seed: int = 0,
        interval: float = 0.9,
    ) -> xr.Dataset:
        """The mean of a variable along the values of another, all else as it was measured.

        It is the child's own mechanism that is looked at (partial dependence): other parents have
        the values of random training rows, whatever the parent's value, so that what the parent
        does through them is left out. In graphs without the edge the curve is flat.

        Args:
            parent: Is held at the `values`.
            child: Is drawn from its mechanism.
            values: In the units of the data; by default 21 that span the training rows.
            num_graphs: Drawn from each chain, with weights of the mechanism (evidence).
            num_rows: Training rows that each graph's mean is over. What they and their noise add to
                the means' variance is taken out of the interval, as far as so many graphs tell.
            most_tasks: Tasks of this posterior that have a curve of their own, at most: those that
                most probably hit the child, with 1/2 or more.
            seed: Of graphs, weights, rows and noise.
            interval: Probability of the mean to lie between ``lower`` and ``upper``.

        Returns:
            ``parent_value`` (value); ``mean``, ``lower`` and ``upper`` (value) of the observational
            mechanism; ``interventional`` (task, value), the mean expected in a task that hit the
            child, given its rows (at most thirty of them with the engine evidence), with all else
            as in the mean of these rows.

        Raises:
            DataError: A variable is unknown.
            ConfigError: An argument is out of range, or `parent` is the `child`.

        Warns:
            MetaCaDIWarning: Every training task hit the child, or a value is beyond all their rows.

        Source: Friedman, Greedy function approximation, Annals of Statistics 2001.
        """
        options, trained = Options(seed, interval), self._trained
        if trained is None:
            raise MetaCaDIError(
                "mechanism_curves: expected a posterior that knows the model's training tasks, got "
                "one without. Take that of a fitted MetaCaDI."
            )
        variables = trained.tasks.variables
        cause = position_of(parent, among=variables, what="parent")
        effect = position_of(child, among=variables, what="child")
        if cause == effect:
            raise ConfigError(f"child: expected another than the parent, got {child!r} twice.")
        shape = check_count("num_graphs", num_graphs), check_count("num_rows", num_rows)
        along = _values(values, parent, trained)
        warn_of_always_hit(trained, drawn=[effect])
        drawn = [
            _means(chain, index, trained, along, cause, effect, shape=shape, seed=seed)
            for index, chain in enumerate(self._chains)
        ]
        means, errors = (np.concatenate(part) for part in zip(*drawn, strict=True))
        hit = self._hits(child, check_count("most_tasks", most_tasks, minimum=0))
        curves = [self._hit_curve(task, trained, along, cause, effect, seed=seed) for task in hit]
        found = {
            "parent_value": (("value",), along),
            **options.summary(_of_all_rows(means, errors), ("value",), over=(0,)),
            "interventional": (("task", "value"), np.reshape(curves, (len(hit), len(along)))),
        }
        attrs = {"parent": parent, "child": child, **options.attrs}
        return xr.Dataset(found, coords={"task": np.array(hit, dtype=str)}, attrs=attrs)

    def _hits(self, child: str, most: int) -> list[str]:
        """Tasks that probably hit the child, the most probable first."""
        probs = self.target_probs.sel(variable=child)
        order = np.argsort(-probs.values, kind="stable")[:most]
        return [self.tasks.tasks[at] for at in order if probs.values[at] >= 0.5]

    def _hit_curve(
        self, task: str, trained: Trained, along: Array, parent: int, child: int, *, seed: int
    ) -> Float[np.ndarray, " value"]:
        units, own = trained.units, self.tasks[task]
        rows = own.values if isinstance(units, CountUnits) else units.transform(own)[0]
        asked = Asked(np.asarray(rows), parent, child, _standard(along, parent, trained), units)
        curves = [
            hit_curve(
                chain, chain.draw_graphs(NUM_HIT_GRAPHS, seed=stream_seed(seed, index)), asked
            )
            for index, chain in enumerate(self._chains)
        ]
        return np.mean(curves, axis=0)


def _values(values: ArrayLike | None, parent: str, trained: Trained) -> Float[np.ndarray, " value"]:
    column = trained.tasks.variables.index(parent)
    if values is None:
        low, high = np.percentile(trained.tasks.values[:, column], RANGE)
        values = np.linspace(low, high, NUM_VALUES)
    return Held.of({parent: values}, trained).values[:, column]


def _standard(along: Array, parent: int, trained: Trained) -> Float[np.ndarray, " value"]:
    every = np.full((len(along), len(trained.tasks.variables)), np.nan)
    every[:, parent] = along
    return to_model(trained.units, every)[:, parent]


def _means(
    chain: Any,
    index: int,
    trained: Trained,
    along: Array,
    parent: int,
    child: int,
    *,
    shape: tuple[int, int],
    seed: int,
) -> tuple[Float[np.ndarray, "draw value"], Float[np.ndarray, "draw value"]]:
    """Of the child over rows, for every graph: all others are held where they were measured.

    And the variance that each mean has because it is over a few rows only.
    """
    seed = stream_seed(seed, "curve", index)
    graphs = chain.draw_graphs(shape[0], seed=seed)
    at = np.random.default_rng(seed).integers(len(trained.tasks.values), size=shape)
    measured = to_model(trained.units, trained.tasks.values[at.ravel()])
    rows = torch.as_tensor(measured).view(*shape, 1, -1)
    held = {other: rows[..., other] for other in range(rows.shape[-1]) if other != child}
    held[parent] = torch.as_tensor(_standard(along, parent, trained))
    beside = Surroundings.of_rows(trained, at, covariates=None, total=None)
    x = simulate(chain, graphs, held=held, beside=beside, num_settings=len(along), seed=seed)
    drawn = to_user(trained.units, x.cpu().numpy())[..., child]
    return drawn.mean(axis=1), drawn.var(axis=1) / max(1, shape[1] - 1)


def _of_all_rows(
    means: Float[np.ndarray, "draw value"], errors: Float[np.ndarray, "draw value"]
) -> Float[np.ndarray, "draw value"]:
    """Means drawn together to the variance that those over all rows would have.

    Otherwise graphs and weights that agree would seem to differ, by their rows and noise. As the
    variance of so many means is itself uncertain, a standard error of it is left.
    """
    center, variance = means.mean(axis=0), means.var(axis=0)
    added = errors.mean(axis=0) / np.maximum(variance, np.finfo(float).tiny)
    kept = np.clip(1 - added + np.sqrt(2 / len(means)), 0, 1)
    return np.asarray(center + np.sqrt(kept) * (means - center))
