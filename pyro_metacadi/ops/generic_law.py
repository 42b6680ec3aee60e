"""The generic law of a hit: each task has a mean and variance of its own, integrated out.

mean ~ N(0, 4 v), v ~ InverseGamma(1, 1/2), in standard deviations of the variable.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["StudentParameters", "generic_log_prob", "generic_row_law", "generic_row_log_prob"]

SHAPE, RATE, MEAN_SCALE = 1.0, 0.5, 4.0


def generic_log_prob(
    x: Float[Tensor, "set row"],
    rows: TaskRows,
    *,
    weight: Float[Tensor, " task"],
    included: Bool[Tensor, "set row"] | None = None,
) -> Float[Tensor, "set task"]:
    """Log marginal density of each task's values under a mean and variance of its own.

    Args:
        x: Standardised values.
        rows: Which rows belong to which task.
        weight: What a row of each task counts.
        included: Which values count at all; by default all.
    """
    seen = _Seen.of(x, rows, included=included, weight=weight)
    return (
        torch.lgamma(seen.shape)
        - math.lgamma(SHAPE)
        + SHAPE * math.log(RATE)
        - seen.shape * seen.rate.log()
        - 0.5 * seen.shrunk.log()
        - 0.5 * seen.num_rows * LOG_2PI
    )


def generic_row_log_prob(
    x: Float[Tensor, "set row"],
    rows: TaskRows,
    *,
    included: Bool[Tensor, "set row"] | None = None,
) -> Float[Tensor, "set row"]:
    """Log density of one more row at each row's place, given its task, under the generic law."""
    return generic_row_law(x, rows, included=included).of_rows(rows).log_prob(x.double())


class StudentParameters(NamedTuple):
    """Of Student's t law of one more value of each task."""

    degrees: Float[Tensor, "*set task"]
    center: Float[Tensor, "*set task"]
    scale: Float[Tensor, "*set task"]

    def of_rows(self, rows: TaskRows) -> torch.distributions.StudentT:
        """The law at the place of every row."""
        return torch.distributions.StudentT(
            rows.spread(self.degrees), rows.spread(self.center), rows.spread(self.scale)
        )


def generic_row_law(
    x: Float[Tensor, "set row"],
    rows: TaskRows,
    *,
    included: Bool[Tensor, "set row"] | None = None,
) -> StudentParameters:
    """The generic law of one more row of each task, given all of its rows; see `generic_log_prob`.

    In standard deviations of the variable.
    """
    seen = _Seen.of(x, rows, included=included, weight=torch.ones_like(rows.num_rows))
    center = seen.num_rows * MEAN_SCALE * seen.mean / seen.shrunk
    scale = (seen.rate / seen.shape * (1 + MEAN_SCALE / seen.shrunk)).sqrt()
    return StudentParameters((2 * seen.shape).expand_as(center), center, scale)


class _Seen(NamedTuple):
    """Of each task: how many values, their mean, and the posterior of the generic law."""

    num_rows: Float[Tensor, "#set task"]
    mean: Float[Tensor, "set task"]
    shrunk: Float[Tensor, "#set task"]
    shape: Float[Tensor, "#set task"]
    rate: Float[Tensor, "set task"]

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "set row"],
        rows: TaskRows,
        *,
        included: Bool[Tensor, "set row"] | None,
        weight: Float[Tensor, " task"],
    ) -> "_Seen":
        x, total = x.double(), rows.num_rows
        if included is not None:
            x, total = x * included, rows.sum(included.double())
        some = total.clamp(min=1)
        mean = rows.sum(x) / some
        within = (rows.sum(x.square()) / some - mean.square()).clamp(min=0)
        count = total * weight
        shrunk = 1 + count * MEAN_SCALE
        rate = RATE + 0.5 * count * (within + mean.square() / shrunk)
        return cls(count, mean, shrunk, SHAPE + 0.5 * count, rate)
