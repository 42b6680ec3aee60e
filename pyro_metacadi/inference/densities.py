"""Densities of rows under fitted mechanisms: if their task hit the variable, and if it did not."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_metacadi.inference.redrawn import with_redrawn
from pyro_metacadi.models.hyperparameters import Hyperparameters
from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.hurdle import Hurdle
from pyro_metacadi.ops.predictive import one_more_row_log_prob, tasks_log_prob
from pyro_metacadi.ops.rows import TaskRows
from pyro_metacadi.ops.task_values import TaskValues

__all__ = ["Integrated", "Prediction", "hit_log_prob", "log_ratio", "row_log_prob"]


class Integrated(NamedTuple):
    """What mechanisms say of rows, their weights integrated out.

    Attributes:
        mean: Of each row, before noise.
        variance: Of the same.
        free: Log density of each task's values unless it hit the variable.
        redrawn: Log density if it drew the weights anew; None if no hit does.
        redrawn_row: Log density, in such a task, of one more row at each row's place.
    """

    mean: Float[Tensor, "set row"]
    variance: Float[Tensor, "set row"]
    free: Float[Tensor, "set task"]
    redrawn: Float[Tensor, "set task"] | None = None
    redrawn_row: Float[Tensor, "set row"] | None = None

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "set row"],
        rows: TaskRows,
        *,
        mean: Float[Tensor, "set row"],
        scaled: Float[Tensor, "set row feature"],
        features: Float[Tensor, "set row feature"] | None,
        noise_variance: Float[Tensor, " set"],
        correlation: float,
        in_sample: bool,
    ) -> "Integrated":
        """Of weights that follow the posterior and, beside them, of weights drawn anew.

        Args:
            x: Values of the families' variables.
            rows: Which rows belong to which task.
            mean: Predictions by the mean weights.
            scaled: Features times a root of the weights' covariance; without any, in hurdle laws,
                weights are taken as known.
            features: Those of weights with a standard normal law; None if no hit draws them.
            noise_variance: Of the mechanisms.
            correlation: Of two rows of one task.
            in_sample: Whether `redrawn_row` is wanted.
        """
        judge = partial(
            tasks_log_prob, rows=rows, noise_variance=noise_variance, correlation=correlation
        )
        variance, free = scaled.square().sum(-1), judge(scaled, x - mean)
        if features is None:
            return cls(mean, variance, free)
        row = None
        if in_sample:
            row = one_more_row_log_prob(features, x, rows, noise_variance=noise_variance)
        return cls(mean, variance, free, judge(features, x), row)

    @classmethod
    def joined(cls, parts: Sequence["Integrated"]) -> "Integrated":
        """Of several groups of families, one after the other."""
        fields = zip(*parts, strict=True)
        joined: list[Any] = [None if one[0] is None else torch.cat(one) for one in fields]
        return cls(*joined)


class Prediction(NamedTuple):
    """What mechanisms of some families say of the values of some rows.

    Where zeros are everywhere, `hurdle` says how values follow from the mean.
    """

    values: TaskValues
    noise_variance: Float[Tensor, " set"]
    hurdle: Hurdle | None
    weights: Integrated


def log_ratio(made: Prediction, hyper: Hyperparameters) -> Float[Tensor, "set task"]:
    """Log density of each task's values if it hit the variable, over that if not."""
    if made.hurdle is not None and hyper.hurdle is not None:
        return hyper.hurdle.log_ratio(made.values, made.hurdle, made.weights.mean)
    return hit_log_prob(made, hyper) - made.weights.free


def hit_log_prob(made: Prediction, hyper: Hyperparameters) -> Float[Tensor, "set task"]:
    """Log density of each task's values if it hit the variable."""
    values, known = made.values, made.weights
    if made.hurdle is not None and hyper.hurdle is not None:
        return hyper.hurdle.log_prob(values, made.hurdle, known.mean)
    return _hit_log_prob(made, hyper, spread=values.rows.sum(known.variance))


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
    values, mean = made.values, made.weights.mean
    if made.hurdle is not None and hyper.hurdle is not None:
        judge = hyper.hurdle.log_prob if alone else hyper.hurdle.row_log_prob
        hit = judge(values, made.hurdle, mean)
        return torch.stack([made.hurdle.row_log_prob(values, mean), hit], 1)
    variance = made.noise_variance.unsqueeze(-1) + made.weights.variance
    free = -0.5 * (LOG_2PI + variance.log() + (values.x - mean).square() / variance)
    hit = _hit_log_prob(made, hyper, spread=0.0) if alone else _one_more_hit(made, hyper)
    return torch.stack([free, hit], 1)


def _hit_log_prob(
    made: Prediction, hyper: Hyperparameters, *, spread: Tensor | float
) -> Float[Tensor, "set task"]:
    """Of the rows of each task that hit the variable."""
    known = made.weights
    law = hyper.law.log_prob(made.values, known.mean, made.noise_variance, spread=spread)
    if known.redrawn is None:
        return law
    return with_redrawn(law, known.redrawn, hyper.redrawn_share)


def _one_more_hit(made: Prediction, hyper: Hyperparameters) -> Float[Tensor, "set row"]:
    """Of one more row at each row's place, given its task, which hit the variable."""
    law, share, known = hyper.law, hyper.redrawn_share, made.weights
    others = law.row_log_prob(made.values, known.mean, made.noise_variance)
    if known.redrawn is None or known.redrawn_row is None:
        return others
    odds = known.redrawn - law.log_prob(made.values, known.mean, made.noise_variance)
    odds = made.values.rows.spread(odds + math.log(share / (1 - share)))
    return torch.logaddexp(logsigmoid(-odds) + others, logsigmoid(odds) + known.redrawn_row)
