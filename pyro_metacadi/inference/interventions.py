r"""What would happen if: rows under an intervention, and average causal effects.

.. math:: p(x | do(x_i = v)) = E_{g, w} \prod_{j \ne i} p(x_j | x_{pa(j)}, g, w)

averaged over the posterior of the graph g and, in the engine ``evidence``, of the mechanisms'
weights w.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.scaling import moments
from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.inference.doing import (
    Held,
    Options,
    check_causes,
    check_contrast,
    warn_of_always_hit,
    warn_of_far_surroundings,
)
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.inference.simulated import simulate
from pyro_metacadi.inference.surroundings import Surroundings, Trained
from pyro_metacadi.inference.user_units import to_model, to_user
from pyro_metacadi.ops.graphs import descendants

__all__ = ["Interventions"]


class Interventions:
    """What a posterior says of interventions that nobody made; a base class of `Posterior`."""

    _chains: Sequence[Any]
    _trained: Trained | None

    def predict(
        self,
        do: Mapping[str, Any] | None = None,
        *,
        num_draws: int = 1000,
        seed: int = 0,
        interval: float = 0.9,
        covariates: Mapping[str, Any] | None = None,
        total: float | None = None,
    ) -> xr.Dataset:
        """Draw rows of the system in which some variables are held at values.

        Every draw has a graph of the posterior. Variables that are not held are drawn from their
        observational mechanisms, parents first: with noise, and (evidence) with weights drawn from
        their posterior; the svi engine has one value of every parameter. Rows do not depend on the
        tasks of this posterior. The same seed gives the same graphs, weights and noise whatever is
        held, so that two calls differ by the effect, draw by draw (counts: on average).

        Args:
            do: Variable -> a value in the units of the data, or several to scan, as many for each
                variable; None for the system as it is.
            num_draws: Rows of each chain, and graphs.
            seed: Of the draws; the caller's random state is untouched.
            interval: Probability of a row's value to lie between ``lower`` and ``upper``.
            covariates: Name -> the value that every row has. All others are those of random
                training rows, so that results are averages over them.
            total: Counts: how deep every row is measured, by its total; None for the totals of
                random training rows. (A row that is drawn need not add up to it.)

        Returns:
            ``x`` (chain, draw, variable), and over all draws ``mean``, ``lower`` and ``upper``
            (variable): of rows, not of their mean. ``do`` (variable) is what is held, NaN where
            nothing is. A scan has ``setting`` as the first dimension of each. In the units of
            the data; counts of the evidence engine are no whole numbers.

        Raises:
            DataError: A variable or covariate is unknown.
            ConfigError: An argument is out of range, or the noise model cannot be sampled.

        Warns:
            MetaCaDIWarning: A variable is held, or a covariate or the total is, beyond all values
                of the training rows, or a variable that is not held was hit in every training
                task, so that nobody knows its mechanism.
        """
        options = Options(seed, interval, covariates, total)
        num_draws, trained = check_count("num_draws", num_draws), self._known()
        held = Held.of(do, trained)
        free = [at for at in range(len(trained.tasks.variables)) if at not in held.columns]
        warn_of_always_hit(trained, drawn=free)
        drawn = [
            _rows(chain, index, held, trained=trained, shape=(num_draws, 1), options=options)[0]
            for index, chain in enumerate(self._chains)
        ]
        warn_of_far_surroundings(options, trained)
        x, values = np.stack(drawn, 1)[:, :, :, 0], held.values
        leading = ("setting",) if held.is_scan else ()
        if not held.is_scan:
            x, values = x[0], values[0]
        found = {
            "x": ((*leading, "chain", "draw", "variable"), x),
            **options.summary(x, (*leading, "variable"), over=(-3, -2)),
            "do": ((*leading, "variable"), values),
        }
        coords = {"variable": list(trained.tasks.variables)}
        return xr.Dataset(found, coords=coords, attrs=options.attrs)

    def causal_effects(
        self,
        causes: Sequence[str] | None = None,
        *,
        contrast: tuple[float, float] = (0.0, 1.0),
        num_graphs: int = 100,
        num_rows: int = 20,
        seed: int = 0,
        interval: float = 0.9,
        covariates: Mapping[str, Any] | None = None,
        total: float | None = None,
    ) -> xr.Dataset:
        """Average causal effects: how far each variable's mean moves with that of another.

        :math:`E[x_j | do(x_i = m_i + b s_i)] - E[x_j | do(x_i = m_i + a s_i)]`, with m and s mean
        and standard deviation of the pooled training rows. Exactly 0 in graphs without a directed
        path from i to j; of a cause on itself it is the contrast.

        Args:
            causes: Variables that are held, one after the other; None for all.
            contrast: (a, b).
            num_graphs: Drawn from each chain, with weights of the mechanisms (evidence).
            num_rows: Of each graph and weights, over which means are taken; the same noise is in
                both settings, so that few suffice.
            seed, covariates, total: As in `predict`.
            interval: Probability of the effect to lie between ``lower`` and ``upper``, over graphs
                and weights; means of few rows add to it where effects depend on the noise.

        Returns:
            ``mean``, ``lower``, ``upper`` and ``path_prob``, the probability of a directed path
            (cause, effect); ``start`` and ``end`` (cause), where the cause is held; ``deviation``
            (effect), s. In the units of the data.

        Raises:
            DataError, ConfigError: As in `predict`.

        Warns:
            MetaCaDIWarning: As in `predict`.
        """
        options, trained = Options(seed, interval, covariates, total), self._known()
        shape = check_count("num_graphs", num_graphs), check_count("num_rows", num_rows)
        variables = trained.tasks.variables
        at = check_causes(causes, variables)
        warn_of_always_hit(trained)
        mean, deviation = moments(trained.tasks.values)
        ends = np.stack([(mean + step * deviation)[at] for step in check_contrast(contrast)])
        effects, paths = [], []
        for cause, values in zip(at, ends.T, strict=True):
            held = Held.of({variables[cause]: values}, trained)
            drawn = [
                _rows(chain, index, held, trained=trained, shape=shape, options=options)
                for index, chain in enumerate(self._chains)
            ]
            path = np.concatenate([reached[:, cause] for _, reached in drawn])
            low, high = np.concatenate([x.mean(axis=2) for x, _ in drawn], axis=1)
            # Without a path nothing moves; the noise of counts, which depends on rates, might.
            effects.append(np.where(path, high - low, 0.0))
            paths.append(path.mean(axis=0))
        warn_of_far_surroundings(options, trained)
        dims = ("cause", "effect")
        found = {
            **options.summary(np.stack(effects), dims, over=(1,)),
            "path_prob": (dims, np.stack(paths)),
            "start": (dims[:1], ends[0]),
            "end": (dims[:1], ends[1]),
            "deviation": (dims[1:], deviation),
        }
        coords = {"cause": [variables[cause] for cause in at], "effect": list(variables)}
        return xr.Dataset(found, coords=coords, attrs=options.attrs)

    def _known(self) -> Trained:
        if self._trained is None:
            raise MetaCaDIError(
                "predict: expected a posterior that knows the model's training tasks, got one "
                "without. Take that of a fitted MetaCaDI."
            )
        return self._trained


def _rows(
    chain: Any,
    index: int,
    held: Held,
    *,
    trained: Trained,
    shape: tuple[int, int],
    options: Options,
) -> tuple[
    Float[np.ndarray, "setting draw row variable"], Bool[np.ndarray, "draw ancestor descendant"]
]:
    """Rows of a chain in the user's units, and who descends from whom in their graphs."""
    graphs = chain.draw_graphs(shape[0], seed=stream_seed(options.seed, index))
    seed = stream_seed(options.seed, "rows", index)
    at = np.random.default_rng(seed).integers(len(trained.tasks.values), size=shape)
    beside = Surroundings.of_rows(trained, at, covariates=options.covariates, total=options.total)
    standard = torch.as_tensor(to_model(trained.units, held.values))
    values = {at: standard[:, at] for at in held.columns}
    x = simulate(chain, graphs, held=values, beside=beside, num_settings=len(standard), seed=seed)
    rows = to_user(trained.units, x.cpu().numpy())
    rows[..., held.columns] = held.values[:, held.columns]  # as given, without rounding
    return np.moveaxis(rows, 2, 0), descendants(graphs.adjacency).cpu().numpy()
