"""Targets as well as they can be told: exactly, or learned from simulations of the same system.

What the classifier of simulations is, was chosen on 400 fresh tasks of the worlds 0 and 1 of SERGIO
knock-downs. Average precision at 10 rows: pooled features instead of summed logits differ by .01 at
most, and three times the steps alone help nowhere. On the mean, deviation and extremes of each
gene, multinomial regression gives .920 on one run's cells and .741 on counts, boosted trees .914
and .690, this .933 and .725 (half responses there were the world's). The bound is loose: five times
the tasks with four times the steps, in a minute or two, raise it by .01 on independent cells,
.03-.04 on one run's (.05 at 3 rows), .06-.07 on its counts.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.special import expit, logit
from torch import Tensor

from benchmarks.accuracy.worlds import Problem
from pyro_metacadi import TaskDataset
from pyro_metacadi.ops.target_counts import CountedTargets
from pyro_metacadi.simulators import World
from pyro_metacadi.typing import Array

__all__ = ["ceiling", "ceiling_counted", "simulation_bound"]

SEED_OF_FRESH_TASKS = 1_000_000  # beyond any world's, whose own new tasks have its seed
NUM_FRESH_TASKS = 1000
NUM_STEPS = 1000
BATCH_SIZE = 128
NUM_HIDDEN = 128
LEARNING_RATE = 4e-3
SET_SIZES = (10, 10, 3)  # rows of the tasks trained on, in turn


def ceiling(problem: Problem) -> Callable[[TaskDataset], Array]:
    """Exact posterior of every target, given graph, mechanisms, noise and intervention law.

    Whether a variable is a target is then independent of whether another is, and its log-odds are
    those of its own density given its parents, summed over rows. A priori, each variable is one
    with probability 1 / d: that there is exactly one is not known.
    """

    def judge(tasks: TaskDataset) -> Array:
        return np.stack([target_probs(problem.world, rows) for rows in tasks.arrays])

    return judge


def target_probs(
    world: World, rows: Float[np.ndarray, "sample variable"]
) -> Float[np.ndarray, " variable"]:
    """Posterior probability that each variable was hit in a task with these rows."""
    return expit(logit(1 / rows.shape[1]) + log_ratio(world, rows))


def log_ratio(
    world: World, rows: Float[np.ndarray, "sample variable"]
) -> Float[np.ndarray, " variable"]:
    """Log density of each variable's values if it was hit, over that if it was not."""
    d = rows.shape[1]
    hit, free = (world.log_prob_terms(rows, np.full(d, value)).sum(0) for value in (1, 0))
    return hit - free


def ceiling_counted(problem: Problem) -> Callable[[TaskDataset], Array]:
    """As `ceiling`, and it is known how many targets tasks have: those of training, in truth."""
    counts = torch.tensor(problem.world.intervention_targets.sum(1))
    law = torch.bincount(counts).double() / len(counts)

    def judge(tasks: TaskDataset) -> Array:
        ratio = np.stack([log_ratio(problem.world, rows) for rows in tasks.arrays])
        log_odds = CountedTargets(law).posterior_log_odds(torch.tensor(ratio).clamp(-30, 30))
        return torch.sigmoid(log_odds).numpy()

    return judge


def simulation_bound(problem: Problem) -> Callable[[TaskDataset], Array]:
    """Posterior of the one target, by a classifier of 1000 fresh simulated tasks of known target.

    Logits are a sum over cells of what a network makes of each, which is the form of the exact
    posterior where cells are independent. It knows that there is exactly one target. A better
    classifier may exist, for this bounds the Bayes ceiling from below.
    """
    generator = torch.Generator().manual_seed(problem.seed)
    fresh = _fresh_tasks(problem)
    cells = cell_features(fresh.tasks, counts=problem.kind.counts)
    loc, scale = cells.mean((0, 1)), cells.std((0, 1)) + 1e-6
    targets = torch.tensor(fresh.intervention_targets)
    network = train(((cells - loc) / scale).float(), targets, generator=generator)

    def judge(tasks: TaskDataset) -> Array:
        few = cell_features(tasks, counts=problem.kind.counts)
        with torch.no_grad():
            logits = network(((few - loc) / scale).float()).sum(1)
        return logits.double().softmax(-1).numpy()

    return judge


def _fresh_tasks(problem: Problem) -> World:
    """Tasks of known target, as large as the new ones and independent of them."""
    num_rows = int(problem.new.tasks.num_rows[0])
    seed = SEED_OF_FRESH_TASKS + problem.seed
    return problem.world.sample_tasks(NUM_FRESH_TASKS, num_rows, seed=seed)


def cell_features(tasks: TaskDataset, *, counts: bool) -> Float[Tensor, "task cell feature"]:
    """Every gene's expression with its variance stabilised, and whether it is 0; of counts more."""
    rows = torch.tensor(np.stack(tasks.arrays))
    zero: Bool[Tensor, "task cell variable"] = rows == 0
    if not counts:
        return torch.cat([rows.sqrt(), zero], dim=-1)
    depth = rows.sum(-1, keepdim=True)
    share = (100 * rows / depth.clamp(min=1)).log1p()
    return torch.cat([rows.log1p(), share, zero, depth.log1p()], dim=-1)


def train(
    cells: Float[Tensor, "task cell feature"],
    intervention_targets: Int[Tensor, "task variable"],
    *,
    generator: torch.Generator,
) -> torch.nn.Module:
    """Train a network of cells; its outputs, summed over a task's, are the logits of the target."""
    num_tasks, num_cells, num_features = cells.shape
    target, num_variables = intervention_targets.argmax(1), intervention_targets.shape[1]
    network = _network(num_features, num_variables, generator=generator)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=NUM_STEPS)
    for step in range(NUM_STEPS):
        num_rows = min(SET_SIZES[step % len(SET_SIZES)], num_cells)
        task = torch.randint(num_tasks, (BATCH_SIZE,), generator=generator)
        row = torch.rand(BATCH_SIZE, num_cells, generator=generator).argsort(1)[:, :num_rows]
        logits = network(cells[task[:, None], row]).sum(1)
        loss = torch.nn.functional.cross_entropy(logits, target[task])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network


def _network(
    num_features: int, num_outputs: int, *, generator: torch.Generator
) -> torch.nn.Sequential:
    sizes = (num_features, NUM_HIDDEN, NUM_HIDDEN, num_outputs)
    layers: list[torch.nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        linear = torch.nn.Linear(fan_in, fan_out)
        bound = fan_in**-0.5
        torch.nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        torch.nn.init.zeros_(linear.bias)
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])
