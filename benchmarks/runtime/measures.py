"""What is measured: each returns seconds, and seconds of the arithmetic alone where it is known."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.runtime.clock import seconds
from benchmarks.runtime.floors import scoring_floor, step_floor
from pyro_metacadi import MetaCaDI, TaskDataset, metrics, simulators
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference.evidence import Sampling, evidence_of
from pyro_metacadi.inference.training import isolated, train
from pyro_metacadi.models.evidence import BATCH_FLOATS, Family

__all__ = ["MEASURES", "Found", "Size"]

NUM_SAMPLES = 110
NUM_PARENTS = 3
NEW_ROWS = 10


@dataclass(frozen=True)
class Size:
    """Of a problem: variables, tasks of 110 rows, and where it is computed."""

    num_variables: int
    num_tasks: int
    device: str = "cpu"


@dataclass(frozen=True)
class Found:
    """Seconds, those of the floor (None if there is none), and remarks such as accuracies."""

    seconds: float
    floor: float | None = None
    note: str = ""


def svi_step(size: Size, *, budget: float) -> Found:
    """A gradient step of the paper's configuration."""
    tasks = _noise(size)
    components = MetaCaDI.paper().components
    with isolated(0, torch.device(size.device)):
        chain = components.build(size.num_variables).to(torch.device(size.device))
        batch = TaskBatch.from_arrays(tasks.arrays, device=size.device)
        objective: Any = components.build_objective()
        ticks: list[float] = []
        options = replace(components.training, num_steps=40, patience=None)
        watch = partial(_tick, ticks, time.perf_counter() + budget)
        with suppress(_Enough):
            train(
                chain.model, chain.guide, batch, objective=objective, options=options,
                callbacks=[watch],
            )  # fmt: skip
    own = float(np.median(np.diff(ticks)))
    floor = step_floor(
        num_variables=size.num_variables,
        num_tasks=size.num_tasks,
        support=options.support_size,
        query=options.query_size or NUM_SAMPLES,
        hsic_rows=objective.residual_rows or NUM_SAMPLES,
        width=chain.model.mechanisms.num_features - 1,
        num_parameters=sum(p.numel() for p in chain.model.parameters()),
        device=torch.device(size.device),
    )
    return Found(own, seconds(floor, budget=budget / 3))


def thousand_scores(size: Size, *, budget: float) -> Found:
    """A thousand sets of three parents, each scored once."""
    tasks = _noise(size)
    evidence = evidence_of(
        tasks, Representation.fit(tasks, kind="identity"), target_prior=0.05, device=size.device
    )
    generator = np.random.default_rng(0)
    num_features = len(evidence.landmarks_of([_random_family(generator, size.num_variables)])) + 1
    at_once = max(1, BATCH_FLOATS // (NUM_SAMPLES * size.num_tasks * num_features))
    families = [_random_family(generator, size.num_variables) for _ in range(at_once)]
    own = seconds(lambda: evidence.with_resolution(1.0).scores(families), budget=budget)
    floor = scoring_floor(
        num_sets=at_once,
        num_tasks=size.num_tasks,
        num_samples=NUM_SAMPLES,
        num_inputs=NUM_PARENTS + 2,  # and the squares of both sides
        num_features=num_features,
        device=torch.device(size.device),
    )
    thousand = 1000 / at_once
    return Found(own * thousand, seconds(floor, budget=budget / 3) * thousand)


def adaptation(size: Size, *, budget: float, num_new: int = 1) -> Found:
    """Target probabilities of new tasks of ten rows, the graph known."""
    world = _world(size)
    sampling = Sampling(num_draws=32, warmup=0, num_chains=4)
    model = MetaCaDI(graph_prior=world.adjacency, sampling=sampling)
    model.fit(world.tasks, progress=False, device=size.device)
    new = world.sample_tasks(num_new, NEW_ROWS, seed=1).tasks
    return Found(seconds(lambda: model.adapt(new).target_probs, budget=budget / 3))


def fit(size: Size, *, budget: float) -> Found:
    """The default fit of a world of Gaussian processes, and how good it is."""
    world = _world(size)
    start = time.perf_counter()
    model = MetaCaDI().fit(world.tasks, progress=False, device=size.device)
    own = time.perf_counter() - start
    new = world.sample_tasks(20, NEW_ROWS, seed=1)
    scores = metrics.evaluate(
        model.adapt(new.tasks),
        adjacency=new.adjacency,
        intervention_targets=new.intervention_targets,
    )
    return Found(own, note=f"edge AP {scores['edge_ap']:.3f}, target AP {scores['intv_ap']:.3f}")


MEASURES: dict[str, Callable[..., Found]] = {
    "svi_step": svi_step,
    "1000 scores": thousand_scores,
    "adapt 1": adaptation,
    "adapt 20": partial(adaptation, num_new=20),
    "fit": fit,
}


class _Enough(Exception):
    """Raised to end training."""


def _tick(ticks: list[float], end: float, step: int, terms: dict[str, torch.Tensor]) -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    ticks.append(time.perf_counter())
    if ticks[-1] > end and step > 1:
        raise _Enough


def _noise(size: Size) -> TaskDataset:
    """Rows that mean nothing: time does not depend on them."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(size.num_tasks, NUM_SAMPLES, size.num_variables))
    return TaskDataset.from_arrays(list(rows))


def _world(size: Size) -> Any:
    return simulators.gp_anm(
        num_variables=size.num_variables, num_tasks=size.num_tasks, num_samples=NUM_SAMPLES, seed=0
    )


def _random_family(generator: np.random.Generator, num_variables: int) -> Family:
    child, *parents = generator.choice(num_variables, NUM_PARENTS + 1, replace=False).tolist()
    return Family(child, sum(1 << parent for parent in parents))
