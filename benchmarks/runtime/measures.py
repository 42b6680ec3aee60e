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
from pyro_metacadi.checks import check_memory
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference.evidence import Sampling, evidence_of
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.training import Callback, Training, train
from pyro_metacadi.models.families import Family

__all__ = ["MEASURES", "RECORDED", "Adaptation", "Found", "Scores", "Size", "Steps"]

NUM_SAMPLES = 110
NUM_PARENTS = 3
NEW_ROWS = 10

FIRST_STEPS, LEAST_STEPS = 5, 8
"""Steps that set up (and record), and the last that is timed whatever time is left."""

RECORDED = "svi_step recorded"
"""As a CUDA graph."""


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


def svi_step(size: Size, *, budget: float, cuda_graphs: bool = False) -> Found:
    """A gradient step of the paper's configuration."""
    run = Steps(size, cuda_graphs=cuda_graphs)
    return Found(run.seconds(budget), seconds(run.floor(), budget=budget / 3))


class Steps:
    """Gradient steps of the paper's configuration, on rows that mean nothing.

    It may have another `adaptation`; further options are those of `Training`.
    """

    def __init__(self, size: Size, *, adaptation: Any = None, **options: Any) -> None:
        device, training = torch.device(size.device), Training(**options)
        self.size = size
        self.components = MetaCaDI.paper(training=training, adaptation=adaptation).components
        self.objective: Any = self.components.build_objective()
        with isolated(0, device):
            self.chain = self.components.build(size.num_variables).to(device)
        self.batch = TaskBatch.from_arrays(_noise(size).arrays, device=device)

    def __call__(self, num_steps: int, *callbacks: Callback) -> None:
        """Train."""
        options = replace(self.components.training, num_steps=num_steps, patience=None)
        with isolated(0, self.batch.device):
            train(
                self.chain.model, self.chain.guide, self.batch, objective=self.objective,
                options=options, memory=check_memory(None, self.batch.device),
                callbacks=callbacks,
            )  # fmt: skip

    def seconds(self, budget: float) -> float:
        """Median time of a step, of as many as fit into `budget` seconds."""
        ticks: list[float] = []
        with suppress(_Enough):
            self(40, partial(_tick, ticks, time.perf_counter() + budget))
        return float(np.median(np.diff(ticks[FIRST_STEPS:])))

    def floor(self) -> Callable[[], object]:
        """The arithmetic of a step alone."""
        mechanisms, options = self.chain.model.mechanisms, self.components.training
        return step_floor(
            num_variables=self.size.num_variables,
            num_tasks=options.tasks_per_step or self.size.num_tasks,
            support=options.support_size,
            query=options.query_size or NUM_SAMPLES,
            hsic_rows=self.objective.residual_rows or NUM_SAMPLES,
            width=mechanisms.num_features - 1,
            num_parameters=sum(p.numel() for p in self.chain.model.parameters()),
            device=self.batch.device,
        )


def thousand_scores(size: Size, *, budget: float) -> Found:
    """A thousand sets of three parents, each scored once."""
    run = Scores(size)
    own = seconds(run, budget=budget)
    floor = scoring_floor(
        num_sets=run.at_once,
        num_tasks=size.num_tasks,
        num_samples=NUM_SAMPLES,
        num_inputs=NUM_PARENTS + 2,  # and the squares of both sides
        num_features=run.num_features,
        device=torch.device(size.device),
    )
    thousand = 1000 / run.at_once
    return Found(own * thousand, seconds(floor, budget=budget / 3) * thousand)


class Scores:
    """One batch of sets of three parents, scored anew each time."""

    def __init__(self, size: Size) -> None:
        tasks, generator = _noise(size), np.random.default_rng(0)
        self.evidence = evidence_of(
            tasks, Representation.fit(tasks, kind="identity"), target_prior=0.05, device=size.device
        )
        one = _random_family(generator, size.num_variables)
        self.num_features = len(self.evidence.landmarks_of([one])) + 1
        rows = NUM_SAMPLES * size.num_tasks
        most = self.evidence.portions.num_sets(self.num_features, num_rows=rows)
        self.at_once = min(most, 1000)
        self.families = [_random_family(generator, size.num_variables) for _ in range(self.at_once)]

    def __call__(self) -> list[float]:
        """Score them; nothing is remembered."""
        return self.evidence.with_resolution(1.0).scores(self.families)


def adaptation(size: Size, *, budget: float, num_new: int = 1) -> Found:
    """Target probabilities of new tasks of ten rows, the graph known."""
    return Found(seconds(Adaptation(size, num_new=num_new), budget=budget / 3))


class Adaptation:
    """Target probabilities of the same new tasks, found anew each time; the graph is known."""

    def __init__(self, size: Size, *, num_new: int) -> None:
        world = _world(size)
        sampling = Sampling(num_draws=32, warmup=0, num_chains=4)
        self.model = MetaCaDI(graph_prior=world.adjacency, sampling=sampling)
        self.model.fit(world.tasks, progress=False, device=size.device)
        self.new = world.sample_tasks(num_new, NEW_ROWS, seed=1).tasks

    def __call__(self) -> object:
        """Find them."""
        return self.model.adapt(self.new).target_probs


def fit(size: Size, *, budget: float) -> Found:
    """The default fit of a world of Gaussian processes, and how good it is."""
    world = _world(size)
    start = time.perf_counter()
    model = MetaCaDI().fit(world.tasks, progress=False, device=size.device)
    own = time.perf_counter() - start
    new = world.sample_tasks(20, NEW_ROWS, seed=1)
    posterior = model.adapt(new.tasks)
    draws = posterior.sample_graphs(100).values
    edges = metrics.edge_scores(posterior.edge_probs, new.adjacency)["edge_ap"]
    targets = metrics.target_scores(posterior.target_probs, new.intervention_targets)["intv_ap"]
    tally = model._fitted().scaling.evidence.cache.tally
    wrong, true = metrics.expected_shd(draws, new.adjacency), int(new.adjacency.sum())
    return Found(
        own,
        note=f"edge AP {edges:.3f}, {wrong:.1f} wrong edges of {true}, target AP {targets:.3f}, "
        f"{tally.asked - tally.there} of {tally.asked} scores computed ({tally.hit_rate:.0%} kept)",
    )


MEASURES: dict[str, Callable[..., Found]] = {
    "svi_step": svi_step,
    RECORDED: partial(svi_step, cuda_graphs=True),
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
    if ticks[-1] > end and step > LEAST_STEPS:
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
