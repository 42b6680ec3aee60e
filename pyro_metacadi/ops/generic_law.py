"""The generic law of a hit: each task has a mean and variance of its own, integrated out.

mean ~ N(0, 4 v), v ~ InverseGamma(1, 1/2), in standard deviations of the variable.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["generic_log_prob", "generic_row_log_prob"]

SHAPE, RATE, MEAN_SCALE = 1.0, 0.5, 4.0


def generic_log_prob(
    x: Float[Tensor, "set row"], rows: TaskRows, *, weight: Float[Tensor, " task"]
) -> Float[Tensor, "set task"]:
    """Log marginal density of each task's values under a mean and variance of its own.

    Args:
        x: Standardised values.
        rows: Which rows belong to which task.
        weight: What a row of each task counts.
    """
    count = rows.num_rows * weight
    mean = rows.sum(x.double()) / rows.num_rows
    within = (rows.sum(x.double().square()) / rows.num_rows - mean.square()).clamp(min=0)
    shrunk = 1 + count * MEAN_SCALE
    rate = RATE + 0.5 * count * (within + mean.square() / shrunk)
    shape = SHAPE + 0.5 * count
    return (
        torch.lgamma(shape)
        - math.lgamma(SHAPE)
        + SHAPE * math.log(RATE)
        - shape * rate.log()
        - 0.5 * shrunk.log()
        - 0.5 * count * LOG_2PI
    )


def generic_row_log_prob(x: Float[Tensor, "set row"], rows: TaskRows) -> Float[Tensor, "set row"]:
    """Log density of one more row at each row's place, given its task, under the generic law."""
    count = rows.num_rows
    mean = rows.sum(x.double()) / count
    within = (rows.sum(x.double().square()) / count - mean.square()).clamp(min=0)
    shrunk = 1 + count * MEAN_SCALE
    rate = RATE + 0.5 * count * (within + mean.square() / shrunk)
    shape = SHAPE + 0.5 * count
    center = count * MEAN_SCALE * mean / shrunk
    spread = (rate / shape * (1 + MEAN_SCALE / shrunk)).sqrt()
    law = torch.distributions.StudentT(
        rows.spread((2 * shape).expand_as(center)), rows.spread(center), rows.spread(spread)
    )
    return law.log_prob(x.double())
