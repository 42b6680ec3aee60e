"""Simulation-based calibration: worlds of known truth, fitted again, and where the truth falls."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import kstest
from tqdm.auto import tqdm

from pyro_metacadi.checks import check_count, check_seed
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.typing import Array

__all__ = ["calibrate", "coverage", "uniformity"]

RANKS = {"edge": "edge_rank", "target": "target_rank", "num_edges": "num_edges_rank"}


def calibrate(
    model: MetaCaDI,
    simulator: Callable[[int], Any],
    *,
    num_worlds: int = 20,
    num_draws: int = 200,
    seed: int = 0,
    progress: bool = True,
    **fit: Any,
) -> xr.Dataset:
    """Fit worlds of known truth, and say where in each posterior the truth lies.

    If worlds are drawn as the model assumes and fits are exact, ranks are uniform on [0, 1]
    (`uniformity`). Worlds of a `simulator` test the model's assumptions as well as the fitting.

    >>> calibrate(MetaCaDI(), lambda seed: simulators.gp_anm(                  # doctest: +SKIP
    ...     num_variables=5, num_tasks=10, num_samples=50, seed=seed))

    Args:
        model: Its options are those of the fits; it stays as it is.
        simulator: Seed -> a `World`, or what has its ``tasks``, ``adjacency`` and
            ``intervention_targets``, all worlds of one size.
        num_worlds: How many.
        num_draws: Draws of each chain, for the number of edges.
        seed: Of worlds, fits and draws.
        progress: Whether to show a bar.
        fit: Further arguments of `MetaCaDI.fit`, such as ``num_steps``.

    Returns:
        Dims (world, parent, child, task, variable): ``adjacency`` and ``intervention_target``, the
        truth; ``edge_prob`` and ``target_prob``, what the fits say; and ranks. Of a 0/1 quantity of
        probability p the rank is uniform on [1 - p, 1] if it is 1, on [0, 1 - p] if it is 0;
        ``num_edges_rank`` (world) is the share of draws with fewer edges than there are, ties
        broken at random. The diagonal of ``edge_rank`` is NaN.

    Raises:
        ConfigError: A number is none, or worlds differ in size, or are none.

    Source: Talts, Betancourt, Simpson, Vehtari and Gelman 2018; Modrák et al. 2023 for ties.
    """
    num_worlds, seed = check_count("num_worlds", num_worlds), check_seed(seed)
    generator = np.random.default_rng(stream_seed(seed, "ranks"))
    found = []
    for number in tqdm(range(num_worlds), disable=not progress, desc="calibrate"):
        world = _checked(simulator(stream_seed(seed, "world", number) % 2**31))
        again = model.copy().fit(world.tasks, seed=seed + number, progress=False, **fit)
        found.append(_ranked(again, world, num_draws=num_draws, generator=generator))
        if found[-1].sizes != found[0].sizes:
            raise ConfigError(
                f"simulator: expected worlds of one size, got {dict(found[0].sizes)} and then "
                f"{dict(found[-1].sizes)}. Fix num_variables and num_tasks."
            )
    return xr.concat(found, dim="world", join="override")


def uniformity(ranks: xr.Dataset) -> xr.Dataset:
    """Test whether the ranks of `calibrate` are uniform.

    Ranks of edges of one world, and of targets of one task, are not independent; of each world one
    edge and one target are tested, those that the world's number selects.

    Returns:
        ``edge``, ``target`` and ``num_edges``: p-values of Kolmogorov and Smirnov's test. Below
        0.01: probabilities do not keep their word.
    """
    return xr.Dataset({name: kstest(one, "uniform").pvalue for name, one in _one_each(ranks)})


def coverage(ranks: xr.Dataset, levels: Any = (0.5, 0.8, 0.9)) -> xr.Dataset:
    """How often central intervals of the posterior hold the truth, by the ranks of `calibrate`.

    Args:
        ranks: What `calibrate` returned.
        levels: Probabilities that intervals promise.

    Returns:
        ``edge``, ``target`` and ``num_edges`` (level): shares over all worlds, which should be near
        the level; lower means too sure.

    Raises:
        ConfigError: A level is not between 0 and 1.
    """
    level = np.atleast_1d(np.asarray(levels, dtype=float))
    if not ((level > 0) & (level < 1)).all():
        raise ConfigError(f"levels: expected numbers between 0 and 1, got {levels!r}. Try 0.9.")
    shares = {}
    for name, variable in RANKS.items():
        values = ranks[variable].values.ravel()
        off_centre = np.abs(values[np.isfinite(values)] - 0.5)
        shares[name] = ("level", (off_centre[:, None] <= level / 2).mean(0))
    return xr.Dataset(shares, coords={"level": level})


def _checked(world: Any) -> Any:
    """A world whose truth fits its tasks."""
    names = ("tasks", "adjacency", "intervention_targets")
    tasks, *truth = (getattr(world, name, None) for name in names)
    shapes = [np.asarray(part).shape for part in truth]
    if isinstance(tasks, TaskDataset):
        d = len(tasks.variables)
        if shapes == [(d, d), (len(tasks), d)]:
            return world
    raise ConfigError(
        f"simulator: expected a world of tasks, an adjacency [parent, child] and intervention "
        f"targets [task, variable], got {type(world).__name__} with shapes {shapes}. Return what "
        f"simulators.gp_anm(..., seed=seed) returns."
    )


def _one_each(ranks: xr.Dataset) -> list[tuple[str, Array]]:
    chosen = []
    for name, variable in RANKS.items():
        values = ranks[variable].values.reshape(ranks.sizes["world"], -1)
        values = values[:, np.isfinite(values).all(0)]
        at = np.arange(len(values)) % values.shape[1]
        chosen.append((name, values[np.arange(len(values)), at]))
    return chosen


def _ranked(
    model: MetaCaDI, world: Any, *, num_draws: int, generator: np.random.Generator
) -> xr.Dataset:
    posterior = model.posterior
    graphs = posterior.sample_graphs(num_draws).values
    edge, target = posterior.edge_probs.values, posterior.target_probs.values
    adjacency, hit = np.asarray(world.adjacency), np.asarray(world.intervention_targets)
    edge_rank = _binary_rank(edge, adjacency, generator)
    np.fill_diagonal(edge_rank, np.nan)
    counts, truth = graphs.sum((-1, -2)).ravel(), adjacency.sum()
    below, equal = (counts < truth).sum(), (counts == truth).sum()
    both, where = ("parent", "child"), ("task", "variable")
    return xr.Dataset(
        {
            "adjacency": (both, adjacency.astype(np.int8)),
            "edge_prob": (both, edge),
            "edge_rank": (both, edge_rank),
            "intervention_target": (where, hit.astype(np.int8)),
            "target_prob": (where, target),
            "target_rank": (where, _binary_rank(target, hit, generator)),
            "num_edges_rank": (below + generator.random() * (equal + 1)) / (len(counts) + 1),
        },
        coords=posterior.edge_probs.coords | posterior.target_probs.coords,
    )


def _binary_rank(probability: Array, truth: Array, generator: np.random.Generator) -> Array:
    uniform = generator.random(probability.shape)
    ones: Array = np.where(
        truth == 1, 1 - probability + uniform * probability, uniform * (1 - probability)
    )
    return ones
