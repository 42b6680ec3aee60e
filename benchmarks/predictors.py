"""Whether a network beside the evidence finds more targets: ``python -m benchmarks.predictors``.

The evidence gives the posterior of a new task's targets in closed form, right where the model is.
A predictor shared across variables may correct it where the model is wrong: its inputs are the nine
blocks of `pyro_metacadi.guides.features` and the evidence's log odds, its output is added to them.
It learns from

* *wake*: few rows of the training tasks, whose targets all their rows tell;
* *sleep*: tasks dreamt from the fitted model, whose targets are known;
* *both*.

*chosen* is what predicts the targets of training tasks left out best (log score, four folds), so
that nobody has to know the world. All of them, the evidence too, see the most probable graph only.
The last column is the default model, which averages over graphs. Seeds 0-4, on which settings are
chosen. About ten minutes on two cores.
"""

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.accuracy.worlds import draw_problem
from pyro_metacadi import MetaCaDI, metrics
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.guides.features import NUM_BLOCKS
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.models.families import Family, families_of
from pyro_metacadi.ops.target_counts import CountedTargets

WORLDS = ("gp", "sergio_kd", "sergio_kd_trajectory")
WAKE_SAMPLES, SLEEP_BATCHES, DREAMS_AT_ONCE = 24, 12, 40
STEPS, LEARNING_RATE, WEIGHT_DECAY = 300, 3e-3, 1e-3
LARGEST = 30.0
FOLDS = 4

Batch = tuple[Tensor, Tensor, Tensor]
"""Blocks ``[task, row, block, variable]``, log odds and targets ``[task, variable]``."""


class Corrected(nn.Module):
    """Log odds of the evidence, scaled, plus what a shared predictor makes of the task."""

    def __init__(self, num_variables: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.predictor = SharedDeepSets(
            num_variables, num_blocks=NUM_BLOCKS + 1, embedding=16, hidden=32, probability=0.5
        )
        nn.init.zeros_(self.predictor.decode[-1].weight)  # at first, the evidence as it is

    def forward(self, blocks: Tensor, log_odds: Tensor) -> Tensor:
        """Corrected log odds."""
        mask = torch.ones(blocks.shape[:2], dtype=torch.bool)
        return self.scale * log_odds + self.predictor(blocks, mask)


@dataclass(frozen=True, eq=False)
class Judge:
    """A fitted model's most probable graph and its mechanisms."""

    library: MechanismLibrary
    adjacency: np.ndarray
    families: list[Family]

    @classmethod
    def of(cls, model: MetaCaDI) -> "Judge":
        """That of the chain that found the highest score."""
        chain: Any = max(model._fitted().chains, key=lambda one: float(one.log_score.max()))
        adjacency = chain.adjacency[chain.log_score.argmax()]
        return cls(chain.library, adjacency.numpy(), families_of(adjacency))

    @property
    def targets(self) -> CountedTargets:
        """Law of a task's targets."""
        law = self.library.evidence.hyperparameters.targets
        assert isinstance(law, CountedTargets)
        return law

    def predictions(self, arrays: Sequence[np.ndarray]) -> tuple[Tensor, ...]:
        """Values, predictions, those if hit ``[variable, row]``, and noise ``[variable, 1]``."""
        evidence = self.library.evidence
        tasks = self.library.prepare(arrays)
        found: list[Any] = [None] * len(self.families)
        for batch in evidence.batches(self.families, num_rows=len(tasks.rows.x)):
            made = self.library.mechanisms.predict(tasks.rows, [batch], row_by_row=True)
            parts = zip(batch, made.values.x, made.weights.mean, made.noise_variance, strict=True)
            for family, x, mean, variance in parts:
                found[family.variable] = (x, mean, variance.sqrt())
        x, mean, noise = (torch.stack(part) for part in zip(*found, strict=True))
        law, scale, offset = evidence.hyperparameters.law, evidence.scale, evidence.offset
        units = mean * scale.unsqueeze(-1) + offset.unsqueeze(-1)
        hit = law.slope[0] * units + law.intercept[0] - offset.unsqueeze(-1)
        return x, mean, hit / scale.unsqueeze(-1), noise.unsqueeze(-1)

    def batch(self, arrays: Sequence[np.ndarray], targets: Any) -> Batch:
        """What a predictor sees of tasks of equally many rows."""
        tasks, size = self.library.prepare(arrays), len(arrays[0])
        ratio = self.library.log_ratio(tasks, self.families).mT
        log_odds = self.targets.posterior_log_odds(ratio)
        x, free, hit, noise = (
            part.unflatten(1, (-1, size)) if part.shape[1] > 1 else part.unsqueeze(-1)
            for part in self.predictions(arrays)
        )
        from_free, from_hit = (x - free) / noise, (x - hit) / noise
        spread = x.std(-1, keepdim=True, correction=0).expand_as(x)
        evidence = (log_odds / 10).mT.unsqueeze(-1).expand_as(x)
        blocks = [x, free, from_free, from_free**2, hit, from_hit, from_hit**2]
        blocks += [x.mean(-1, keepdim=True).expand_as(x), spread, evidence]
        stacked = torch.stack(blocks, -1).clamp(-LARGEST, LARGEST)
        return (
            stacked.permute(1, 2, 3, 0).float(),
            log_odds.float(),
            torch.as_tensor(targets).float(),
        )

    def dream(self, num_tasks: int, size: int, *, generator: torch.Generator) -> Batch:
        """Tasks from the model: targets, then every variable after its parents."""
        evidence, law = self.library.evidence, self.library.evidence.hyperparameters.law
        d = len(self.families)
        counts = torch.multinomial(
            self.targets.count_probability.float(), num_tasks, True, generator=generator
        )
        ranks = torch.rand(num_tasks, d, generator=generator).argsort(1).argsort(1)
        targets = ranks < counts.unsqueeze(1)
        component = torch.multinomial(law.weight.float(), num_tasks * d, True, generator=generator)
        x = np.zeros((num_tasks * size, evidence.rows.inputs.shape[1]))
        low, high = evidence.rows.x.amin(0), evidence.rows.x.amax(0)
        graph = nx.from_numpy_array(self.adjacency, create_using=nx.DiGraph)
        for i in nx.topological_sort(graph):
            _, free, hit, noise = (part[i] for part in self.predictions(np.split(x, num_tasks)))
            noise_of_rows, own = self._noise(num_tasks, size, generator=generator)
            unit = torch.where(law.relative[0], noise, 1 / evidence.scale[i])
            shared = hit.view(-1, size) + unit * (law.shift[0] * own + law.scale[0] * noise_of_rows)
            generic = 2 * own + noise_of_rows
            which = component.view(num_tasks, d)[:, i : i + 1]
            struck = torch.where(which == 0, shared, generic)
            value = torch.where(
                targets[:, i : i + 1], struck, free.view(-1, size) + noise * noise_of_rows
            )
            x[:, i] = value.clamp(float(low[i]) - 2, float(high[i]) + 2).flatten().numpy()
        return self.batch(np.split(x, num_tasks), targets)

    def _noise(
        self, num_tasks: int, size: int, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Of rows that resemble each other, with variance one; and one number for each task."""
        correlation = self.library.evidence.hyperparameters.correlation
        common, own, shift = (
            torch.randn(num_tasks, n, generator=generator).double() for n in (1, size, 1)
        )
        return correlation**0.5 * common + (1 - correlation) ** 0.5 * own, shift


def trained(batches: Sequence[Batch], *, seed: int) -> Corrected:
    """A network that was shown the batches in turn."""
    torch.manual_seed(seed)
    network = Corrected(batches[0][1].shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for step in range(STEPS):
        blocks, log_odds, targets = batches[step % len(batches)]
        loss = log_loss(network(blocks, log_odds), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network


def log_loss(log_odds: Tensor, targets: Tensor) -> Tensor:
    """Mean over tasks and variables, in nats."""
    return nn.functional.binary_cross_entropy_with_logits(log_odds, targets)


def part_of(batch: Batch, tasks: np.ndarray) -> Batch:
    """Some of the tasks."""
    blocks, log_odds, targets = batch
    return blocks[tasks], log_odds[tasks], targets[tasks]


@torch.no_grad()
def loss_of(network: Corrected | None, batch: Batch) -> float:
    """Log loss of a network, or of the evidence."""
    blocks, log_odds, targets = batch
    return float(log_loss(log_odds if network is None else network(blocks, log_odds), targets))


def held_out(wake: Sequence[Batch], sleep: Sequence[Batch], *, seed: int) -> dict[str, float]:
    """Log loss of every way on tasks left out."""
    losses = dict.fromkeys(("evidence", "wake", "sleep", "both"), 0.0)
    asleep, size = trained(sleep, seed=seed), len(wake[0][1])
    for out in np.array_split(np.random.default_rng(seed).permutation(size), FOLDS):
        shown = [part_of(batch, np.setdiff1d(np.arange(size), out)) for batch in wake[::2]]
        networks = {"evidence": None, "sleep": asleep}
        networks |= {
            "wake": trained(shown, seed=seed),
            "both": trained([*shown, *sleep], seed=seed),
        }
        for name, network in networks.items():
            losses[name] += sum(loss_of(network, part_of(batch, out)) for batch in wake[1::2])
    return losses


def run(world: str, seed: int) -> list[dict[str, Any]]:
    """Average precision of every way, for new tasks of 10 and of 3 rows."""
    torch.set_num_threads(1)
    problem = draw_problem(world, seed)
    model = MetaCaDI().fit(problem.world.tasks, seed=seed, progress=False)
    transform, judge = model._fitted().scaling.transform, Judge.of(model)
    known = model.posterior.target_probs.values
    generator = torch.Generator().manual_seed(seed)
    lines = []
    for size in (10, 3):
        few = [problem.world.tasks.take_rows(size, seed=at) for at in range(WAKE_SAMPLES)]
        wake = [judge.batch(transform(tasks), known) for tasks in few]
        sleep = [
            judge.dream(DREAMS_AT_ONCE, size, generator=generator) for _ in range(SLEEP_BATCHES)
        ]
        losses = held_out(wake, sleep, seed=seed)
        seen, truth = problem.few_rows(size), problem.new.intervention_targets
        blocks, log_odds, _ = judge.batch(transform(seen), truth)
        ways = {"wake": wake, "sleep": sleep, "both": [*wake, *sleep]}
        found = {"evidence": log_odds}
        with torch.no_grad():
            for name, batches in ways.items():
                with torch.enable_grad():
                    network = trained(batches, seed=seed)
                found[name] = network(blocks, log_odds)
        found["chosen"] = found[min(losses, key=losses.__getitem__)]
        scores = {name: _precision(value, truth) for name, value in found.items()}
        default = metrics.target_scores(model.adapt(seen).target_probs, truth)["intv_ap"]
        lines.append({"world": world, "rows": size, **scores, "default": default})
    return lines


def _precision(log_odds: Float[Tensor, "task variable"], truth: np.ndarray) -> float:
    return metrics.target_scores(torch.sigmoid(log_odds).numpy(), truth)["intv_ap"]


def main(argv: Sequence[str] | None = None) -> None:
    """Print mean and standard error over seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="worlds of each kind; default: 5")
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args(argv)
    pairs = [(w, s) for w in arguments.worlds.split(",") for s in range(arguments.seeds)]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        lines = [line for found in pool.map(partial(_call, run), pairs) for line in found]
    groups = pd.DataFrame(lines).groupby(["world", "rows"], sort=False)
    cells = groups.mean().map("{:.3f}".format) + " ±" + groups.sem().map("{:.3f}".format)
    print(cells.to_string())


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    return function(*arguments)


if __name__ == "__main__":
    main()
