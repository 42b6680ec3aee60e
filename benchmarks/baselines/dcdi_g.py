"""DCDI-G, targets unknown: edges and targets are probabilities that gradient steps push to 0 or 1.

Each variable has a network of its parents, whose Gaussian noise has a learned scale, and each task
a Gaussian of its own for each variable, which it follows where the task hits it: interventions are
perfect, so that of its network nothing but a constant would be left. With M the edges and R the
targets, independent Bernoulli variables, and f, f' the two densities, steps maximise

    E_M E_R [mean over rows of sum_j (1 - R_kj) log f_j(x_j | M_j x) + R_kj log f'_kj(x_j)]
        - lambda (expected edges) - lambda_R (expected targets),    no cycles in P(M),

by an augmented Lagrangian. One M is drawn for each row, straight through backwards. R enters
linearly, so that its expectation is exact and needs no draw.

Differences from the authors' code, so that its figures are not theirs: there R gets a gradient
through the mask of the parents only, of which a variable without parents has none, as the choice
between f and f' has no gradient; it is the paper's score, as here, that weighs them by how likely
they make the rows. There a variable that is hit keeps the scale of its noise; here each hit has its
own. There the first regime has to be observational; here those that are declared so have no
targets, and without any all may have some: the penalty on R settles what is the mechanism and what
a hit. Cycles are measured by a logarithm, whose range does not explode with the number of
variables; those left at the end lose their weakest edges, where the authors raise a threshold until
there are none. Rows are standardised. All rows train: none are held out to say when to stop, the
number of steps is fixed, and the optimiser goes on where penalties are updated, which there starts
anew. Probabilities are means over resamples, which are trained side by side. Of few variables these
may end with an edge turned, or none.

Cost: 20 variables and 40 tasks, 5 resamples: about a minute on one core, whatever the rows;
more with the square of variables.

Source:
    Brouillard, Lachapelle, Lacoste, Lacoste-Julien and Drouin, Differentiable causal discovery from
    interventional data (NeurIPS 2020).
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributions import Normal
from torch.nn import Parameter, ParameterList
from torch.nn.functional import leaky_relu

from benchmarks.baselines.acyclic import cyclicity, strongest_dag
from benchmarks.baselines.bootstrap import resample
from benchmarks.baselines.controls import controls
from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.ops.relax import straight_through

__all__ = ["fit"]

# The authors':
TARGET_LOGIT = -3.0  # at the start: no targets
BATCH_ROWS = 64  # of each step
PENALTY_GROWTH, ENOUGH_PROGRESS = 2.0, 0.9  # it grows where a round leaves more of the cycles
NUM_DRAWS = 5  # as BaCaDI's authors give DCDI-G
# Our choice, tuned on the tuning seeds 0-9 of benchmarks.paper, which judge nothing; on which of
# its worlds was not noted down, but later on gp of ten variables (seeds 0, 1) other target costs
# were no better. The authors tune costs for each data set, have two layers, a tenth of the rate and
# up to a million steps.
HIDDEN = (16,)  # units of each network's layers: tasks have few rows
EDGE_COST, TARGET_COST = 20.0, 10.0  # in nats of the log density of all rows together
EDGE_LOGIT = 0.0  # at the start. Theirs is 5, all edges: a child's hits may look like one's own
LEARNING_RATE = 1e-2
NUM_ROUNDS, STEPS_PER_ROUND = 80, 100
FIRST_PENALTY, LARGEST_PENALTY = 1e-3, 1e6
FINAL_STEPS = 1000  # with the graph fixed
LEAST_SCALE = 0.05  # of noise, in standard deviations over all rows


def fit(
    tasks: TaskDataset, *, seed: int, num_draws: int = NUM_DRAWS, num_rounds: int | None = None
) -> BaselineResult:
    """Find graph and targets in resamples; target probabilities are averaged over them.

    Args:
        tasks: Any; controls hit nothing.
        seed: Of the bootstrap, and of all that training draws.
        num_draws: Resamples.
        num_rounds: Between which the penalty of cycles grows; `NUM_ROUNDS` by default.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    rows = Rows.of([resample(tasks, rng) for _ in range(num_draws)])
    model = DCDI(rows, generator)
    search_graphs(model, rows, generator, num_rounds=num_rounds or NUM_ROUNDS)
    probs = model.edge_probs().detach().numpy()
    graphs = np.stack([strongest_dag(one - 0.5) for one in probs])
    model.fix_graphs(torch.tensor(graphs))
    refit(model, rows, generator)
    target_probs = model.target_probs().detach().mean(0).numpy()
    return BaselineResult.of(tasks, graphs=graphs, target_probs=target_probs)


class Rows(NamedTuple):
    """What training reads.

    Attributes:
        values: Of each resample, standardised over all its rows.
        task: Of each row.
        may_be_hit: Whether each task may have targets.
    """

    values: Float[Tensor, "draw row variable"]
    task: Int[Tensor, " row"]
    may_be_hit: Bool[Tensor, " task"]

    @classmethod
    def of(cls, resamples: list[TaskDataset]) -> "Rows":
        """Stack resamples of the same tasks."""
        values = np.stack([tasks.values for tasks in resamples])
        scale = values.std(1, keepdims=True)
        scaled = (values - values.mean(1, keepdims=True)) / np.where(scale > 0, scale, 1)
        tasks = resamples[0]
        return cls(
            torch.tensor(scaled, dtype=torch.float32),
            torch.tensor(np.repeat(np.arange(len(tasks)), tasks.num_rows)),
            torch.tensor(~controls(tasks)),
        )


class DCDI(torch.nn.Module):
    """Edges, targets, networks and the tasks' own Gaussians, of all resamples side by side."""

    may_be_hit: Tensor
    no_loop: Tensor

    def __init__(self, rows: Rows, generator: torch.Generator) -> None:
        super().__init__()
        draws, _, d = rows.values.shape
        own = (draws, len(rows.may_be_hit), d)
        self.edge_logits = Parameter(torch.full((draws, d, d), EDGE_LOGIT))
        self.target_logits = Parameter(torch.full(own, TARGET_LOGIT))
        layers = list(pairwise((d, *HIDDEN, 1)))
        self.weights = ParameterList(
            torch.randn(draws, d, *layer, generator=generator) / layer[0] ** 0.5 for layer in layers
        )
        self.biases = ParameterList(torch.zeros(draws, d, 1, width) for _, width in layers)
        self.log_scale = Parameter(torch.zeros(draws, 1, d))
        self.own_mean, self.own_log_scale = (Parameter(torch.zeros(own)) for _ in range(2))
        self.register_buffer("may_be_hit", rows.may_be_hit[:, None])
        self.register_buffer("no_loop", ~torch.eye(d, dtype=torch.bool))

    def edge_probs(self) -> Float[Tensor, "draw parent child"]:
        """P(M), without loops."""
        return torch.sigmoid(self.edge_logits) * self.no_loop

    def target_probs(self) -> Float[Tensor, "draw task variable"]:
        """P(R), zero in controls."""
        return torch.sigmoid(self.target_logits) * self.may_be_hit

    def loss(self, rows: Rows, generator: torch.Generator) -> Float[Tensor, " draw"]:
        """Less the score of each resample, without the constraint, estimated from random rows."""
        num_rows = len(rows.task)
        at = torch.randint(num_rows, (BATCH_ROWS,), generator=generator)
        x, task = rows.values[:, at], rows.task[at]
        own = _log_density(x, self.own_mean[:, task], self.own_log_scale[:, task])
        free = _log_density(x, self._mean(x, generator), self.log_scale)
        hit = self.target_probs()
        fit = free + hit[:, task] * (own - free)
        cost = EDGE_COST * self.edge_probs().sum((1, 2)) + TARGET_COST * hit.sum((1, 2))
        return cost / num_rows - fit.sum(2).mean(1)

    def _mean(
        self, x: Float[Tensor, "draw row variable"], generator: torch.Generator
    ) -> Float[Tensor, "draw row variable"]:
        """Each variable's network of the parents drawn for each row."""
        hidden = x[:, None] * self._draw_parents(x.shape[1], generator)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = leaky_relu(hidden @ weight + bias)
        return (hidden @ self.weights[-1] + self.biases[-1])[..., 0].mT

    def _draw_parents(
        self, num_rows: int, generator: torch.Generator
    ) -> Float[Tensor, "draw child row parent"]:
        logits = self.edge_logits.mT[:, :, None]
        draws, d, _, _ = logits.shape
        uniform = torch.rand(draws, d, num_rows, d, generator=generator)
        noisy = logits + torch.logit(uniform, eps=1e-6)
        return straight_through(noisy > 0, torch.sigmoid(noisy)) * self.no_loop[:, None]

    def fix_graphs(self, graphs: Int[Tensor, "draw parent child"]) -> None:
        """Make the edges of `graphs` certain."""
        self.edge_logits = Parameter(
            torch.where(graphs == 1, torch.inf, -torch.inf), requires_grad=False
        )


def _log_density(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    scale = LEAST_SCALE + log_scale.exp()
    return Normal(mean, scale, validate_args=False).log_prob(x)


def log_cyclicity(probs: Float[Tensor, "draw parent child"]) -> Float[Tensor, " draw"]:
    """log (1 + c / d), with c `cyclicity` in double precision: zero only of what has no cycles."""
    return torch.log1p(cyclicity(probs.double()) / probs.shape[-1])


def search_graphs(model: DCDI, rows: Rows, generator: torch.Generator, *, num_rounds: int) -> None:
    """Maximise the score under the augmented Lagrangian, which makes the edges acyclic."""
    optimiser = _optimiser(model)
    before = log_cyclicity(model.edge_probs()).detach()
    multiplier, penalty = torch.zeros_like(before), torch.full_like(before, FIRST_PENALTY)
    for _ in range(num_rounds):
        for _ in range(STEPS_PER_ROUND):
            cycles = log_cyclicity(model.edge_probs())
            constraint = (multiplier + penalty / 2 * cycles) * cycles
            _step(optimiser, model.loss(rows, generator) + constraint)
        cycles = log_cyclicity(model.edge_probs()).detach()
        multiplier = multiplier + penalty * cycles
        growth = torch.where(cycles > ENOUGH_PROGRESS * before, PENALTY_GROWTH, 1.0)
        penalty, before = (growth * penalty).clamp(max=LARGEST_PENALTY), cycles


def refit(model: DCDI, rows: Rows, generator: torch.Generator) -> None:
    """Go on with the graphs fixed, for the targets' sake."""
    optimiser = _optimiser(model)
    for _ in range(FINAL_STEPS):
        _step(optimiser, model.loss(rows, generator))


def _optimiser(model: DCDI) -> torch.optim.Optimizer:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.RMSprop(learned, LEARNING_RATE)


def _step(optimiser: torch.optim.Optimizer, losses: Float[Tensor, " draw"]) -> None:
    optimiser.zero_grad()
    losses.sum().backward()
    optimiser.step()
