"""What each idea of the evidence engine is worth: ``python -m benchmarks.ablation``.

Every variant leaves out or exchanges one thing. Seeds 0-4, on which settings were chosen; those
reported are 100-119 (`benchmarks.accuracy`). Mean and standard error over seeds of the targets'
average precision with 10 and 3 rows, of the expected SHD and of the edges' average precision.
Before that, how much of the evidence of the true graph's mechanisms two kinds of features reach.
About half an hour on two cores.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import torch

from benchmarks.accuracy.worlds import draw_problem
from pyro_metacadi import MetaCaDI, metrics
from pyro_metacadi.data import representation
from pyro_metacadi.inference import empirical_bayes, evidence, library
from pyro_metacadi.models import evidence as scoring
from pyro_metacadi.models.families import families_of
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.law import InterventionLaw

WORLDS = ("gp", "nn", "sergio_ko", "sergio_kd", "sergio_kd_trajectory", "sergio_ko_10x")
SCORES = ("intv_ap", "intv_ap_3", "e_shd", "edge_ap")
TRANSFORMED = representation._transformed


def only_generic(law: Callable[..., InterventionLaw]) -> Callable[..., InterventionLaw]:
    """No shared law: each task has its own mean and variance."""

    def learned(*args: Any, **kwargs: Any) -> InterventionLaw:
        found = law(*args, **kwargs)
        weight = torch.full_like(found.weight, 1e-200)
        weight[-1] = 1
        return replace(found, weight=weight)

    return learned


def shares(values: Any, kind: Any) -> Any:
    """Counts divided by the row's total, the depth as covariate as before."""
    if kind != "counts":
        return TRANSFORMED(values, kind)
    depth = values.sum(1, keepdims=True)
    return np.hstack([np.log1p(values / np.maximum(depth, 1) * 1e4), np.log1p(depth)])


def without_depth(values: Any, kind: Any) -> Any:
    """Logarithms of counts, no covariate."""
    return np.log1p(values) if kind == "counts" else TRANSFORMED(values, kind)


def without_shift(law: Callable[..., Any]) -> Callable[..., Any]:
    """Laws to begin with whose tasks do not differ; they stay so."""
    return lambda slope, intercept, scale, shift, **options: law(
        slope, intercept, scale, 0.0, **options
    )


def prior_odds(scored: Any, families: Any) -> Any:
    """Odds of the targets that ignore the task's other variables."""
    return scored.prior_log_odds


GAUSSIAN = tuple(kernel for kernel in empirical_bayes.KERNELS if not kernel.long_share)

Patch = tuple[Any, str, Any]
VARIANTS: dict[str, tuple[dict[str, Any], list[Patch]]] = {
    "default": ({}, []),
    "rows independent": ({}, [(evidence, "row_correlation", lambda *_: 0.0)]),
    "rows nearly independent at best": ({}, [(empirical_bayes, "SMALLEST_CORRELATION", 0.0)]),
    "correlation not lowered for chance": ({}, [(empirical_bayes, "MEDIANS_ERROR", 0.0)]),
    "hits alike in all tasks": (
        {},
        [(empirical_bayes, "_law", without_shift(empirical_bayes._law))],
    ),
    "number of targets not learned": (
        {},
        [
            (evidence, "target_counts", lambda *_: None),
            (evidence, "odds_beside_others", prior_odds),
        ],
    ),
    "graphs scored without it": ({}, [(evidence, "odds_beside_others", prior_odds)]),
    "no shared law": ({}, [(evidence, "best_law", only_generic(empirical_bayes.best_law))]),
    "targets independent with rate 1 / d": ({"target_prior": 0.05}, []),
    "coarse mechanisms for graphs": ({}, [(evidence, "LAST_RESOLUTION", 1.0)]),
    "coarse mechanisms for targets": ({}, [(library, "FINE", 1.0)]),
    "zeros as other values": ({}, [(evidence, "has_zeros", lambda *_: False)]),
    "one length-scale for all parents": ({}, [(empirical_bayes, "KERNELS", GAUSSIAN)]),
    "one kernel": ({}, [(evidence, "best_kernel", lambda e, _: e.hyperparameters)]),
    "sparser graphs": ({"graph_prior": 0.03}, []),
    "no transformation": ({"sampling": evidence.Sampling(representation="identity")}, []),
    "counts as shares": ({}, [(representation, "_transformed", shares)]),
    "counts without depth": ({}, [(representation, "_transformed", without_depth)]),
}
ONLY_COUNTS = ("counts as shares", "counts without depth", "zeros as other values")


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """With these attributes replaced."""
    with ExitStack() as stack:
        for target, name, value in patches:
            stack.enter_context(mock.patch.object(target, name, value))
        yield


def run(world: str, variant: str, *, seed: int) -> dict[str, Any]:
    """Scores of one variant on one world."""
    torch.set_num_threads(1)
    options, patches = VARIANTS[variant]
    problem = draw_problem(world, seed)
    truth = {
        "adjacency": problem.world.adjacency,
        "intervention_targets": problem.new.intervention_targets,
    }
    with patched(patches):
        model = MetaCaDI(**options).fit(problem.world.tasks, seed=seed, progress=False)
        ten = metrics.evaluate(model.adapt(problem.few_rows(10)), **truth)
        three = model.adapt(problem.few_rows(3)).target_probs
    found = metrics.target_scores(three, truth["intervention_targets"])
    scores = {**ten, "intv_ap_3": found["intv_ap"]}
    return {"world": world, "variant": variant, **{name: scores[name] for name in SCORES}}


def features_table(seeds: Sequence[int]) -> Any:
    """Log evidence of the true graph's mechanisms, by features, less that of 400 landmarks."""
    lines = []
    for seed in seeds:
        problem = draw_problem("gp", seed)
        units = representation.Representation.fit(problem.world.tasks)
        families = families_of(torch.tensor(problem.world.adjacency))
        for count in (100, 200, 400):
            for kind in ("nystroem", "fourier"):
                score = _evidence(problem, units, families, count=count, kind=kind)
                lines.append({"features": count, "kind": kind, "seed": seed, "score": score})
    table = pd.DataFrame(lines).groupby(["kind", "features"])["score"].mean()
    return (table - table["nystroem"].max()).round(0)


def _evidence(problem: Any, units: Any, families: Any, *, count: int, kind: str) -> float:
    with patched([(evidence, "NUM_LANDMARKS", count), (scoring, "num_landmarks", _always(count))]):
        scored = evidence.evidence_of(problem.world.tasks, units, target_prior=0.05)
        scored = scored.with_hyperparameters(
            replace(scored.hyperparameters, kernel=Kernel(1.0, 1.0))
        )
        change = [(scoring, "mechanism_features", fourier_features)] if kind == "fourier" else []
        with patched(change):
            return sum(scored.scores(families))


def _always(count: int) -> Callable[..., int]:
    return lambda *_, **__: count


def fourier_features(
    x: torch.Tensor,
    landmarks: torch.Tensor,
    inputs: torch.Tensor,
    kernel: Kernel,
) -> torch.Tensor:
    """Random Fourier features, as many as there are landmarks (Rahimi and Recht 2007)."""
    generator = torch.Generator().manual_seed(0)
    size = len(landmarks)
    frequency = torch.randn(x.shape[1], size, generator=generator) / kernel.length_scale
    phase = torch.rand(size, generator=generator) * 2 * torch.pi
    wave = torch.cos(x @ (inputs.to(x.dtype).unsqueeze(-1) * frequency) + phase)
    wave = wave * (2 * kernel.amplitude / size) ** 0.5 * inputs.any(-1).view(-1, 1, 1)
    constant = wave.new_full((*wave.shape[:-1], 1), 3.0)
    return torch.cat([wave, constant], -1)


def printed(table: pd.DataFrame) -> str:
    """Mean and standard error of every score by world and variant."""
    groups = table.groupby(["world", "variant"], sort=False)[list(SCORES)]
    mean, error = groups.mean(), groups.sem()
    cells = mean.map("{:.3f}".format) + " ±" + error.map("{:.3f}".format)
    return cells.to_string()


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="worlds of each kind; default: 5")
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--variants", default=",".join(VARIANTS), help="names, with commas between")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    print("Log evidence of the true mechanisms (gp), less that of 400 landmarks, in nats")
    print(features_table(range(arguments.seeds)).to_string(), flush=True)
    jobs = [
        partial(run, world, variant, seed=seed)
        for world in arguments.worlds.split(",")
        for variant in arguments.variants.split(",")
        if "10x" in world or variant not in ONLY_COUNTS
        for seed in range(arguments.seeds)
    ]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        lines = list(pool.map(_call, jobs))
    print(printed(pd.DataFrame(lines)))


def _call(job: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return job()


if __name__ == "__main__":
    main()
