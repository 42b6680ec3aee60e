r"""Closed-form evidence of mechanisms: their weights integrated out, their targets summed out.

A variable's values are explained by Bayesian linear regression on features of its parents,
:math:`x = \Phi w + \epsilon`, w ~ N(0, I), except in the tasks that hit it. Given who was hit, the
weights integrate out. Who was hit is summed out by a mean-field bound: with :math:`r_t` the
probability that task t hit the variable,

.. math:: \log p(x) \ge \log \int p(w) \prod_t p(x_t | w)^{1 - r_t} dw
          + \sum_t r_t \log p_{hit}(x_t) - KL(r_t \,\|\, \pi_t)

It holds at the noise variance that is found. A hit may depend on what the mechanism predicts; its
density then takes the prediction of the mean weights as given.

Everything is batched over `set`, pairs of a variable and a parent set, in one Cholesky call.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pyro_metacadi.ops.design import Design

__all__ = [
    "Mechanism",
    "Regression",
    "fit_mechanism",
    "kish_weight",
    "regress",
]

LOG_2PI = math.log(2 * math.pi)

SMALLEST_NOISE = 1e-3
"""Noise variance below which sums of float32 are not relied on: towards the least that its prior
leaves, their rounding over the noise exceeds the weights' prior precision, and the posterior's is
not positive definite."""

# A priori the noise variance is about the standardised variable's own times 0.05, with the weight
# of two rows: it cannot vanish where a variable is a function of others or constant.
NOISE_PRIOR_ROWS, NOISE_PRIOR_VARIANCE = 2.0, 0.05


class Regression(NamedTuple):
    """Posterior N(mean, covariance) of the weights, and the log evidence.

    Attributes:
        mean: Of the weights.
        covariance: Of the weights.
        prediction: Of every row, by the mean weights.
        square_error: Of the prediction, summed over a task's rows.
        log_evidence: See `regress`.
    """

    mean: Float[Tensor, "set feature"]
    covariance: Float[Tensor, "set feature feature"]
    prediction: Float[Tensor, "set row"]
    square_error: Float[Tensor, "set task"]
    log_evidence: Float[Tensor, " set"]


class Mechanism(NamedTuple):
    """A fitted observational mechanism, and who was hit.

    Attributes:
        score: Lower bound on the log evidence of all tasks, at this noise variance.
        mean: Of the weights.
        covariance: Of the weights.
        noise_variance: Of the residuals.
        target_probability: Of each task having hit the variable.
        log_ratio: Log density of each task's values if it hit the variable, over that if not, which
            `target_probability` follows from.
        free: That log density if it did not.
    """

    score: Float[Tensor, " set"]
    mean: Float[Tensor, "set feature"]
    covariance: Float[Tensor, "set feature feature"]
    noise_variance: Float[Tensor, " set"]
    target_probability: Float[Tensor, "set task"]
    log_ratio: Float[Tensor, "set task"]
    free: Float[Tensor, "set task"]


def kish_weight(num_rows: Float[Tensor, " task"], correlation: float) -> Float[Tensor, " task"]:
    r"""What a row of a task counts where rows of one task resemble each other.

    n rows with intraclass correlation ρ are worth :math:`n / (1 + (n - 1) \rho)` independent ones.

    Source: Kish 1965 (design effect).
    """
    return 1 / (1 + (num_rows - 1) * correlation)


def regress(
    design: Design, weight: Float[Tensor, "set task"], *, noise_variance: Float[Tensor, " set"]
) -> Regression:
    r"""Bayesian linear regression in which each row of task t counts `weight` times.

    The log evidence is :math:`\log \int N(w; 0, I) \prod_n N(x_n; \phi_n^\top w, s^2)^{u_n} dw`
    with u_n the weight of row n's task.
    """
    precision = design.weighted_gram(weight) / noise_variance.view(-1, 1, 1)
    precision.diagonal(dim1=-2, dim2=-1).add_(1.0)
    factor = torch.linalg.cholesky_ex(precision).L
    cross = torch.einsum("st,sta->sa", weight, design.cross) / noise_variance.unsqueeze(-1)
    mean = torch.cholesky_solve(cross.unsqueeze(-1), factor).squeeze(-1)
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    prediction = design.predict(mean)
    square_error = design.rows.sum((design.x - prediction).double().square())
    # The mean minimises the two squares together: what rounding does to it changes their sum in
    # second order only, while their closed form cancels where the noise is small.
    log_evidence = -0.5 * (
        (weight @ design.rows.num_rows) * (LOG_2PI + noise_variance.log())
        + (weight * square_error).sum(-1) / noise_variance
        + mean.square().sum(-1)
        + log_determinant
    )
    return Regression(mean, _inverse(factor), prediction, square_error, log_evidence)


def _inverse(
    factor: Float[Tensor, "set feature feature"],
) -> Float[Tensor, "set feature feature"]:
    """Of L L^T, from L, as two batched calls."""
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    root = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
    return root.mT @ root


HitLaw = Callable[
    [Float[Tensor, "set row"], Float[Tensor, " set"], Float[Tensor, "set task"]],
    Float[Tensor, "set task"],
]
"""(observational prediction, noise variance, `Design.spread`) -> expected log density of each
task's values if it hit the variable."""


EXCEPTIONAL, NUM_WARY = 0.3, 2
"""Largest share of tasks that may hit a variable in the first updates of targets."""


def fit_mechanism(
    design: Design,
    *,
    weight: Float[Tensor, " task"],
    prior_log_odds: Float[Tensor, "set task"],
    hit_law: HitLaw,
    num_iterations: int = 5,
) -> Mechanism:
    """Fit weights, noise variance and targets by coordinate ascent on the bound.

    Ascent includes the noise variance's prior, which the score leaves out, and is sure only where
    the hit law depends on neither predictions nor noise: their updates see the free rows alone.
    Where there is hardly any noise, it starts again with sums of higher precision.

    Args:
        design: Features of the parents and values of the variable.
        weight: What a row of each task counts (see `kish_weight`).
        prior_log_odds: Of each task having hit the variable; infinite where it is known.
        hit_law: Expected log density of a task's values if it hit the variable, already weighted.
        num_iterations: Updates of targets and noise, after one of the noise alone.
    """
    ascend = partial(
        _ascend,
        weight=weight,
        prior_log_odds=prior_log_odds,
        hit_law=hit_law,
        num_iterations=num_iterations,
    )
    found = ascend(design)
    if design.is_exact or (found.noise_variance >= SMALLEST_NOISE).all():
        return found
    return ascend(design.exact())


def _ascend(
    design: Design,
    *,
    weight: Float[Tensor, " task"],
    prior_log_odds: Float[Tensor, "set task"],
    hit_law: HitLaw,
    num_iterations: int,
) -> Mechanism:
    # From the prior and from too much noise: with too little, every task would at first look as if
    # it hit the variable, and no row would be left to learn the noise from.
    noise = torch.ones(len(design.x), dtype=torch.float64, device=design.x.device)
    probability = torch.sigmoid(prior_log_odds)
    ratio = free = torch.zeros_like(prior_log_odds)
    for iteration in range(num_iterations + 1):
        fit = regress(design, (1 - probability) * weight, noise_variance=noise)
        spread = design.spread(fit.covariance)
        error = fit.square_error + spread
        if iteration:
            hit = hit_law(fit.prediction, noise, spread)
            free = weight * _log_density(error, noise, design.rows.num_rows)
            ratio = hit - free
            excess = _excess(ratio, prior_log_odds) if iteration <= NUM_WARY else 0.0
            probability = torch.sigmoid(prior_log_odds + ratio - excess)
        noise = _noise_variance((1 - probability) * weight, error, design.rows.num_rows)
    fit = regress(design, (1 - probability) * weight, noise_variance=noise)
    hit = hit_law(fit.prediction, noise, design.spread(fit.covariance))
    score = fit.log_evidence + (probability * hit).sum(-1)
    score = score - _divergence(probability, prior_log_odds)
    return Mechanism(score, fit.mean, fit.covariance, noise, probability, ratio, free)


def _excess(ratio: Tensor, prior_log_odds: Tensor) -> Float[Tensor, "set 1"]:
    """By how much more than the exceptional tasks seem to hit the variable.

    A task that shifts it far makes the noise of all look large, beside which any task seems hit.
    """
    open_ratio = torch.where(prior_log_odds.isfinite(), ratio, -torch.inf)
    most = min(ratio.shape[-1] - 1, max(1, int(EXCEPTIONAL * ratio.shape[-1])))
    return open_ratio.sort(dim=-1, descending=True).values[:, most : most + 1].clamp(min=0)


def _log_density(error: Tensor, noise: Tensor, num_rows: Tensor) -> Float[Tensor, "set task"]:
    variance = noise.unsqueeze(-1)
    return -0.5 * (num_rows * (LOG_2PI + variance.log()) + error / variance)


def _noise_variance(free: Tensor, error: Tensor, num_rows: Tensor) -> Float[Tensor, " set"]:
    total = (free * error).sum(-1) + NOISE_PRIOR_ROWS * NOISE_PRIOR_VARIANCE
    return total / (free @ num_rows + NOISE_PRIOR_ROWS)


def _divergence(probability: Tensor, prior_log_odds: Tensor) -> Float[Tensor, " set"]:
    """KL from the prior to the posterior of the targets; 0 where both are certain."""
    hit, free = functional.logsigmoid(prior_log_odds), functional.logsigmoid(-prior_log_odds)
    zero = torch.zeros_like(probability)
    cross = torch.where(probability > 0, probability * hit, zero)
    cross = cross + torch.where(probability < 1, (1 - probability) * free, zero)
    negative_entropy = torch.special.xlogy(probability, probability)
    negative_entropy = negative_entropy + torch.special.xlogy(1 - probability, 1 - probability)
    return (negative_entropy - cross).sum(-1)
