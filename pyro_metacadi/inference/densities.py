"""Densities of rows under fitted mechanisms: if their task hit the variable, and if it did not."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.models.evidence import Hyperparameters
from pyro_metacadi.ops.evidence import LOG_2PI, kish_weight
from pyro_metacadi.ops.hurdle import Hurdle
from pyro_metacadi.ops.predictive import predictive_log_prob
from pyro_metacadi.ops.rows import equal_runs
from pyro_metacadi.ops.task_values import TaskValues

__all__ = ["Prediction", "log_ratio", "row_log_prob"]


class Prediction(NamedTuple):
    """Of some families for some rows: N(mean, scaled scaled^T) before noise.

    `scaled` are the features times a root of the weights' covariance. Where zeros are everywhere,
    `hurdle` says how values follow from the mean.
    """

    scaled: Float[Tensor, "set row feature"]
    noise_variance: Float[Tensor, " set"]
    mean: Float[Tensor, "set row"]
    values: TaskValues
    hurdle: Hurdle | None

    @property
    def variance(self) -> Float[Tensor, "set row"]:
        """Of each row's prediction, before noise."""
        return self.scaled.double().square().sum(-1)


def log_ratio(made: Prediction, hyper: Hyperparameters) -> Float[Tensor, "set task"]:
    """Log density of each task's values if it hit the variable, over that if not."""
    values = made.values
    if made.hurdle is not None and hyper.hurdle is not None:
        return hyper.hurdle.log_ratio(values, made.hurdle, made.mean.double())
    spread = values.rows.sum(made.variance)
    hit = hyper.law.log_prob(values, made.mean, made.noise_variance, spread=spread)
    return hit - _free_log_prob(made, hyper.correlation)


def row_log_prob(
    made: Prediction, hyper: Hyperparameters, *, alone: bool
) -> Float[Tensor, "set 2 row"]:
    """Log density of each row, unless its task hit the variable and if it did.

    Args:
        made: Predictions of the rows.
        hyper: The laws of hits.
        alone: Whether each row is a task of its own. Otherwise its density, if its task hit the
            variable, is that of one more row at its place: in-sample, for pointwise likelihoods.
    """
    values, mean = made.values, made.mean
    if made.hurdle is not None and hyper.hurdle is not None:
        judge = hyper.hurdle.log_prob if alone else hyper.hurdle.row_log_prob
        hit = judge(values, made.hurdle, mean.double())
        return torch.stack([made.hurdle.row_log_prob(values, mean.double()), hit], 1)
    variance = made.noise_variance.unsqueeze(-1) + made.variance
    free = -0.5 * (LOG_2PI + variance.log() + (values.x - mean).double().square() / variance)
    law = hyper.law.log_prob if alone else hyper.law.row_log_prob
    return torch.stack([free, law(values, mean, made.noise_variance)], 1)


def _free_log_prob(made: Prediction, correlation: float) -> Float[Tensor, "set task"]:
    """Of the rows of each task, the mechanism's weights integrated out."""
    rows = made.values.rows
    runs = zip(
        rows.runs(made.scaled, dim=1),
        rows.runs(made.values.x - made.mean, dim=1),
        equal_runs(rows.sizes),
        strict=True,
    )
    found = [
        predictive_log_prob(
            scaled,
            error,
            noise_variance=made.noise_variance,
            weight=float(kish_weight(torch.tensor([float(size)]), correlation)),
        )
        for scaled, error, (size, _) in runs
    ]
    return torch.cat(found, -1)
