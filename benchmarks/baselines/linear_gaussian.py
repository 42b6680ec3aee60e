"""A linear-Gaussian reference: straight lines, and targets unknown and summed out.

In a task that leaves variable j alone, x_j is a line of its parents plus Gaussian noise, the same
in all tasks; in a task that hits j, x_j follows a normal law of the task's own, integrated over a
conjugate prior, whatever its parents are. Hits are independent with probability 1 / (d + 1).
Weights are fitted by expectation maximisation, and families scored by the likelihood less BIC's
penalty; the graph is the best that greedy search finds. All of it is our choice: it shows how far
straight lines go.

Cost: 20 variables and 40 tasks, 20 resamples: five to twenty seconds on one core.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, gammaln, logit

from benchmarks.baselines.bootstrap import NUM_DRAWS, Estimate, bootstrap
from benchmarks.baselines.controls import controls
from benchmarks.baselines.greedy import greedy_dag
from benchmarks.baselines.result import BaselineResult
from pyro_metacadi import TaskDataset
from pyro_metacadi.typing import Array

__all__ = ["fit"]

NUM_EM_STEPS = 10
LEAST_VARIANCE = 1e-4  # of noise, in units of a variable's variance over all rows
# The own law of a hit, in standard deviations: its mean has the variance v / MEAN_ROWS, its
# variance v is inverse gamma.
MEAN_ROWS, SHAPE, RATE = 0.5, 1.0, 0.5


def fit(tasks: TaskDataset, *, seed: int, num_draws: int = NUM_DRAWS) -> BaselineResult:
    """Find graph and target probabilities, and average them over resamples.

    Args:
        tasks: Any; controls hit nothing.
        seed: Of the bootstrap.
        num_draws: Resamples.
    """
    return bootstrap(_estimate, tasks, seed=seed, num_draws=num_draws)


class Moments(NamedTuple):
    """All that is read of the rows, standardised together.

    Attributes:
        gram: Sums over each task's rows of products, of a constant 1 and the variables.
        num_rows: Of each task.
        log_odds: A priori, that a task hit any one variable.
    """

    gram: Float[Array, "task column column"]
    num_rows: Float[Array, " task"]
    log_odds: Float[Array, " task"]

    @classmethod
    def of(cls, tasks: TaskDataset) -> "Moments":
        """Sum up the rows of every task."""
        scale = tasks.values.std(0)
        scaled = (tasks.values - tasks.values.mean(0)) / np.where(scale > 0, scale, 1)
        columns = np.hstack([np.ones((len(scaled), 1)), scaled])
        parts = np.split(columns, np.cumsum(tasks.num_rows)[:-1])
        chance = np.where(controls(tasks), 0.0, 1 / (len(tasks.variables) + 1))
        gram = np.stack([part.T @ part for part in parts])
        return cls(gram, tasks.num_rows.astype(float), logit(chance))


def _estimate(tasks: TaskDataset, rng: np.random.Generator) -> Estimate:
    moments, d = Moments.of(tasks), len(tasks.variables)
    graph = greedy_dag(lambda j, parents: family_scores(moments, j, parents)[0], d)
    hit = [family_scores(moments, j, graph[None, :, j] == 1)[1][0] for j in range(d)]
    return Estimate(graph, np.stack(hit, axis=1))


def family_scores(
    moments: Moments, child: int, parents: Bool[Array, "candidate variable"]
) -> tuple[Float[Array, " candidate"], Float[Array, "candidate task"]]:
    """Log-likelihood less BIC's penalty of each set of parents, and who was hit.

    Returns:
        Scores, and the probability that each task hit the child.
    """
    own = own_law(moments, child)
    used = np.hstack([np.ones((len(parents), 1), dtype=bool), parents])
    hit = np.zeros((len(parents), len(own)))
    for _ in range(NUM_EM_STEPS):
        law = _line(moments, child, used, weights=1 - hit)
        hit = expit(moments.log_odds + own - law)
    log_free = np.logaddexp(0, moments.log_odds)  # less the log probability of no hit
    likelihood = (np.logaddexp(law, moments.log_odds + own) - log_free).sum(1)
    penalty = (used.sum(1) + 1) * np.log(moments.num_rows.sum()) / 2
    return likelihood - penalty, hit


def own_law(moments: Moments, child: int) -> Float[Array, " task"]:
    """Log density of each task's values of the child under a normal law of the task's own."""
    n = moments.num_rows
    total, squares = moments.gram[:, 0, child + 1], moments.gram[:, child + 1, child + 1]
    rows, shape = MEAN_ROWS + n, SHAPE + n / 2
    rate = RATE + (squares - total**2 / rows) / 2
    constant = SHAPE * np.log(RATE) - gammaln(SHAPE) - n * np.log(2 * np.pi) / 2
    evidence: Array = (
        constant + gammaln(shape) - shape * np.log(rate) + np.log(MEAN_ROWS / rows) / 2
    )
    return evidence


def _line(
    moments: Moments,
    child: int,
    used: Bool[Array, "candidate column"],
    *,
    weights: Float[Array, "candidate task"],
) -> Float[Array, "candidate task"]:
    """Log density of each task's values of the child, given the line that fits weighted tasks."""
    gram = np.einsum("ct,tab->cab", weights, moments.gram)
    both = used[:, :, None] & used[:, None, :]
    # Columns that are not used have an equation of their own: weight zero. The little ridge decides
    # where tasks have too few rows, or none count.
    system = np.where(both, gram, 0.0) + np.eye(used.shape[1]) * np.where(used, 1e-6, 1)[:, None]
    line = np.linalg.solve(system, (used * gram[:, :, child + 1])[..., None])[..., 0]
    residual = -line
    residual[:, child + 1] += 1  # the child less its line, as a sum of columns
    squares = np.einsum("ca,tab,cb->ct", residual, moments.gram, residual, optimize=True)
    rows = (weights * moments.num_rows).sum(1)
    variance = ((weights * squares).sum(1) + LEAST_VARIANCE) / (rows + 1)
    variance = np.maximum(variance, LEAST_VARIANCE)[:, None]
    return -(moments.num_rows * np.log(2 * np.pi * variance) + squares / variance) / 2
