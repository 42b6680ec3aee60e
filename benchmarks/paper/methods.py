"""Every method of the table: ours, what one would use instead, floors and ceilings.

Ours learn from the training tasks and judge new ones, each on its own; baselines see all tasks
together (Section 5.2). The default of this package *is* its evidence engine, so that there is no
further row for the latter.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import xarray as xr

from benchmarks import baselines
from benchmarks.accuracy.ceilings import target_probs
from benchmarks.paper.worlds import KINDS, Kind, Problem
from pyro_metacadi import MetaCaDI
from pyro_metacadi.guides import MAMLAdaptation, SharedDeepSets

__all__ = ["DEFAULT", "METHODS", "Found", "Method"]

DEFAULT = "metacadi"
"""With which all others are compared."""


class Found(NamedTuple):
    """What a method says of a problem, and how long it took.

    Attributes:
        result: Has ``edge_probs``, ``target_probs`` of the judged tasks and ``sample``.
        fit_seconds: Of learning, of a baseline of all: of one thread's processor time, which other
            programs beside it do not lengthen as they do that of the clock.
        adapt_seconds: Of judging the new tasks; None if that is part of learning.
    """

    result: Any
    fit_seconds: float
    adapt_seconds: float | None = None


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        title: Its name in pages.
        find: Runs it on a problem; shorter, if the second argument says so.
        kind: ``"ours"``, ``"baseline"``, ``"told"`` (a baseline that knows all targets),
            ``"floor"`` or ``"ceiling"``.
        long: Worlds on which a run takes more than two minutes on the slower of the machines used:
            there it has the first seeds only.
        edges: Whether the graph is its own finding.
        targets: Whether the targets are.
        suits: Whether it can be run on a kind of world.
    """

    title: str
    find: Callable[[Problem, bool], Found]
    kind: str
    long: Collection[str] = ()
    edges: bool = True
    targets: bool = True
    suits: Callable[[Kind], bool] = lambda kind: True


def model(problem: Problem, smoke: bool, *, build: Callable[[Problem], MetaCaDI]) -> Found:
    """Fit a MetaCaDI model, and adapt it to the new tasks, if there are any."""
    options: Mapping[str, Any] = {"num_steps": 30} if smoke else {}
    start = time.process_time()
    fitted = build(problem).fit(
        problem.training, seed=problem.seed, device="cpu", progress=False, **options
    )
    trained = time.process_time()
    if problem.new is None:
        learned = fitted.posterior
        sample = partial(_graphs, learned)
        return Found(_judged(learned, problem, sample=sample), trained - start)
    posterior = fitted.adapt(problem.new)
    _ = posterior.target_probs  # computed when asked for
    return Found(posterior, trained - start, time.process_time() - trained)


def baseline(problem: Problem, smoke: bool, *, name: str) -> Found:
    """Fit a baseline to all tasks."""
    tasks = problem.together
    if baselines.METHODS[name].told:
        tasks = tasks.with_known_targets(problem.all_targets)
    start = time.process_time()
    found = baselines.fit(
        name, tasks, seed=problem.seed, num_draws=2 if smoke else None, few_steps=smoke
    )
    seconds = time.process_time() - start
    return Found(_judged(found, problem, sample=found.sample), seconds)


class Judged(NamedTuple):
    """A result, of whose tasks some are scored."""

    edge_probs: Any
    target_probs: Any
    sample: Callable[..., Any]


def _judged(found: Any, problem: Problem, *, sample: Callable[..., Any]) -> Judged:
    names = list(problem.judged.tasks)
    return Judged(found.edge_probs, found.target_probs.sel(task=names), sample)


def _graphs(posterior: Any, num_draws: int, *, seed: int) -> xr.Dataset:
    """Without targets, which MAML takes many minutes to draw."""
    return xr.Dataset({"adjacency": posterior.sample_graphs(num_draws, seed=seed)})


def ceiling(problem: Problem, smoke: bool) -> Found:
    """The exact posterior of the targets, all else known; the graph is a stand-in."""
    rows = problem.judged
    found = baselines.fit("empty", rows, seed=0)
    start = time.process_time()
    probs = [target_probs(problem.world, one) for one in rows.arrays]
    seconds = time.process_time() - start
    targets = found.target_probs.copy(data=probs)
    return Found(Judged(found.edge_probs, targets, found.sample), 0.0, seconds)


def _ours(title: str, build: Callable[[], MetaCaDI], *, long: Collection[str] = ()) -> Method:
    return Method(title, partial(model, build=lambda problem: build()), "ours", long)


def _baseline(
    name: str, title: str, kind: str = "baseline", *, long: Collection[str] = ()
) -> Method:
    facts = baselines.METHODS[name]
    find = partial(baseline, name=name)
    return Method(title, find, kind, long, edges=facts.edges, targets=facts.targets)


# Chosen on the tuning seeds 0-2 (Intv-MAML, worlds of ten variables, 1000 steps: target AP of .01,
# .1, .3 = .24, .36, .31 on average, ridge .38; Full-MAML on seed 0: .01 .08, .03 .12, .1 diverges;
# a script that is not kept). Gradients were not yet shortened then: elsewhere .03 diverged, too.
INNER_RATES = {"interventional": 0.1, "all": 0.03}


def _maml(title: str, parameters: str) -> Method:
    rate = INNER_RATES[parameters]
    adaptation = partial(MAMLAdaptation, parameters=parameters, learning_rate=rate)
    return _ours(title, lambda: MetaCaDI.paper(adaptation=adaptation), long=KINDS)


SLOW_FOR_GIES = tuple(name for name in KINDS if name != "nn-bacadi")

METHODS: Mapping[str, Method] = {
    DEFAULT: _ours("`MetaCaDI()`", MetaCaDI),
    "paper": _ours("`MetaCaDI.paper()`", MetaCaDI.paper),
    "shared": _ours(
        "`paper()`, one predictor for all variables",
        lambda: MetaCaDI.paper(predictor=SharedDeepSets),
    ),
    "intv_maml": _maml("`paper()`, Intv-MAML", "interventional"),
    "full_maml": _maml("`paper()`, Full-MAML", "all"),
    "jci_pc": _baseline("jci_pc", "JCI-PC", long=["sergio"]),
    "utigsp": _baseline("utigsp", "UT-IGSP"),
    "gies": _baseline("gies", "GIES (is told all targets)", "told", long=SLOW_FOR_GIES),
    "dcdi_g": _baseline("dcdi_g", "DCDI-G"),
    "bacadi": _baseline("bacadi", "BaCaDI", long=KINDS),
    "bacadi_uniform": _baseline("bacadi_uniform", "BaCaDI, particles alike", long=KINDS),
    "linear_gaussian": _baseline("linear_gaussian", "linear-Gaussian"),
    "mean_shift": _baseline("mean_shift", "mean shift", "floor"),
    "variance_ratio": _baseline("variance_ratio", "variance ratio", "floor"),
    "random": _baseline("random", "random graph and targets", "floor"),
    "empty": _baseline("empty", "empty graph", "floor"),
    "true_graph": Method(
        "`MetaCaDI()` that knows the graph",
        partial(model, build=lambda problem: MetaCaDI(graph_prior=problem.world.adjacency)),
        "ceiling",
        edges=False,
    ),
    "ceiling": Method(
        "all known but the targets",
        ceiling,
        "ceiling",
        edges=False,
        suits=lambda kind: kind.density,
    ),
}
