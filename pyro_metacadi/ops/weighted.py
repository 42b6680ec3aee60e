"""Weighted regressions on one input, batched over sets, with priors that keep them finite."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["least_squares", "line", "logistic"]

NEWTON_STEPS, STEPS = 12, (1.0, 0.5, 0.2, 0.05, 0.0)
"""Steps, and the parts of one that are tried: the whole is best near the optimum."""

VARIANCE_ROWS = 2.0
"""A priori a residual variance is as seen in so many rows."""


def line(
    coefficients: Float[Tensor, "*batch 2"], x: Float[Tensor, "set row"]
) -> Float[Tensor, "*batch row"]:
    """Intercept and slope, applied."""
    return coefficients[..., :1] + coefficients[..., 1:] * x


def logistic(
    y: Float[Tensor, "set row"],
    x: Float[Tensor, "set row"],
    weight: Float[Tensor, "set row"],
    *,
    mean: tuple[float, float],
    deviation: tuple[float, float],
) -> Float[Tensor, "set 2"]:
    """Weighted logistic regression with a normal prior, by Newton's method with a line search."""
    prior = x.new_tensor(mean)
    precision = x.new_tensor(deviation).square().reciprocal()
    found = torch.zeros(len(x), 2, dtype=x.dtype, device=x.device)
    share = x.new_tensor(STEPS).view(-1, 1, 1)
    for _ in range(NEWTON_STEPS):
        p = torch.sigmoid(line(found, x))
        gradient = _moments(x, weight * (y - p))[:, :2] - precision * (found - prior)
        curvature = _matrix(_moments(x, weight * p * (1 - p))) + torch.diag(precision)
        tried = found + share * torch.linalg.solve(curvature, gradient)
        odds = line(tried, x)
        fit = (weight * (y * odds - softplus(odds))).sum(-1)
        fit = fit - 0.5 * (precision * (tried - prior).square()).sum(-1)
        found = tried.gather(0, fit.argmax(0).view(1, -1, 1).expand(1, -1, 2)).squeeze(0)
    return found


def least_squares(
    y: Float[Tensor, "set row"],
    x: Float[Tensor, "set row"],
    weight: Float[Tensor, "set row"],
    *,
    variance: float,
) -> tuple[Float[Tensor, "set 2"], Float[Tensor, " set"]]:
    """Weighted regression of y on x and its residual variance; a priori y is x, seen once."""
    one = torch.eye(2, dtype=x.dtype, device=x.device)
    right = _moments(x, weight * y)[:, :2] + one[1]
    found = torch.linalg.solve(_matrix(_moments(x, weight)) + one, right)
    error = (weight * (y - line(found, x)).square()).sum(-1)
    return found, (error + VARIANCE_ROWS * variance) / (weight.sum(-1) + VARIANCE_ROWS)


def _moments(x: Tensor, weight: Tensor) -> Float[Tensor, "set 3"]:
    """Weighted sums of 1, x and x²."""
    return torch.stack([(weight * x**power).sum(-1) for power in range(3)], -1)


def _matrix(moments: Float[Tensor, "set 3"]) -> Float[Tensor, "set 2 2"]:
    return torch.stack([moments[:, :2], moments[:, 1:]], 1)
