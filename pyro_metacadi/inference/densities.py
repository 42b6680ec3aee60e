"""Densities of rows under fitted mechanisms: if their task hit the variable, and if it did not."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_metacadi.inference.redrawn import with_redrawn
from pyro_metacadi.models.evidence import Hyperparameters
from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.hurdle import Hurdle
from pyro_metacadi.ops.predictive import one_more_row_log_prob, tasks_log_prob
from pyro_metacadi.ops.task_values import TaskValues

__all__ = ["Prediction", "log_ratio", "row_log_prob"]


class Prediction(NamedTuple):
    """Of some families for some rows: N(mean, scaled scaled^T) before noise.

    `scaled` are the features times a root of the weights' covariance. Where zeros are everywhere,
    `hurdle` says how values follow from the mean; where hits may draw the weights anew, `features`
    are those of weights with a standard normal law.
    """

    scaled: Float[Tensor, "set row feature"]
    noise_variance: Float[Tensor, " set"]
    mean: Float[Tensor, "set row"]
    values: TaskValues
    hurdle: Hurdle | None
    features: Float[Tensor, "set row feature"] | None

    @property
    def variance(self) -> Float[Tensor, "set row"]:
        """Of each row's prediction, before noise."""
        return self.scaled.double().square().sum(-1)


def log_ratio(made: Prediction, hyper: Hyperparameters) -> Float[Tensor, "set task"]:
    """Log density of each task's values if it hit the variable, over that if not."""
    values = made.values
    if made.hurdle is not None and hyper.hurdle is not None:
        return hyper.hurdle.log_ratio(values, made.hurdle, made.mean.double())
    free = tasks_log_prob(
        made.scaled,
        values.x - made.mean,
        values.rows,
        noise_variance=made.noise_variance,
        correlation=hyper.correlation,
    )
    return _hit_log_prob(made, hyper, spread=values.rows.sum(made.variance)) - free


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
    if alone:
        return torch.stack([free, _hit_log_prob(made, hyper, spread=0.0)], 1)
    if made.features is not None:
        return torch.stack([free, _one_more_hit(made, made.features, hyper)], 1)
    return torch.stack([free, hyper.law.row_log_prob(values, mean, made.noise_variance)], 1)


def _hit_log_prob(
    made: Prediction, hyper: Hyperparameters, *, spread: Tensor | float
) -> Float[Tensor, "set task"]:
    """Of the rows of each task that hit the variable."""
    law = hyper.law.log_prob(made.values, made.mean, made.noise_variance, spread=spread)
    if made.features is None:
        return law
    redrawn = _redrawn_log_prob(made, made.features, correlation=hyper.correlation)
    return with_redrawn(law, redrawn, hyper.redrawn_share)


def _one_more_hit(
    made: Prediction, features: Tensor, hyper: Hyperparameters
) -> Float[Tensor, "set row"]:
    """Of one more row at each row's place, given its task, which hit the variable."""
    values, law, share = made.values, hyper.law, hyper.redrawn_share
    others = law.log_prob(values, made.mean, made.noise_variance)
    redrawn = _redrawn_log_prob(made, features, correlation=0.0)
    odds = redrawn - others + math.log(share / (1 - share))
    odds = values.rows.spread(odds)
    redrawn = one_more_row_log_prob(
        features, values.x, values.rows, noise_variance=made.noise_variance
    )
    others = law.row_log_prob(values, made.mean, made.noise_variance)
    return torch.logaddexp(logsigmoid(-odds) + others, logsigmoid(odds) + redrawn)


def _redrawn_log_prob(
    made: Prediction, features: Tensor, *, correlation: float
) -> Float[Tensor, "set task"]:
    """Of the rows of each task that drew the mechanism's weights anew."""
    return tasks_log_prob(
        features,
        made.values.x,
        made.values.rows,
        noise_variance=made.noise_variance,
        correlation=correlation,
    )
