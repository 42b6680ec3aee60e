r"""Values with an atom at zero: whether there is any, and if so, how much.

Most counts of single cells are zeros. A normal law has no room for them: a gene that is silent in
most cells would look knocked out. Given the prediction f of a variable's mechanism, values follow a
hurdle model, normal where they are positive:

.. math:: P(x > 0) = \sigma(\eta), \; \eta = a + b f, \qquad x | x > 0 \sim N(\mu, s^2), \;
          \mu = \alpha + \beta f

What values look like in tasks that hit the variable is in `pyro_metacadi.ops.hurdle_hits`.

Source: Mullahy 1986 for hurdle models.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.task_values import TaskValues
from pyro_metacadi.ops.weighted import least_squares, line, logistic

__all__ = ["Hurdle", "fit_hurdle", "hurdle_log_prob", "hurdle_value", "normal_log_prob"]

PRESENCE_DEVIATION = (10.0, 2.0)
"""Of the prior of a and b, about 0 and 1."""

VARIANCE = 0.05
"""A priori of s², as of the mechanism's noise."""


class Hurdle(NamedTuple):
    """Laws of values given predictions, of every set: presence (a, b), amount (α, β), s²."""

    presence: Float[Tensor, "*set 2"]
    amount: Float[Tensor, "*set 2"]
    variance: Float[Tensor, "*set"]

    def log_odds(self, prediction: Float[Tensor, "*set row"]) -> Float[Tensor, "*set row"]:
        """Of a value above zero."""
        return line(self.presence, prediction)

    def mean(self, prediction: Float[Tensor, "*set row"]) -> Float[Tensor, "*set row"]:
        """Of a value above zero."""
        return line(self.amount, prediction)

    def log_prob(
        self,
        x: Float[Tensor, "*set row"],
        present: Bool[Tensor, "*set row"],
        prediction: Float[Tensor, "*set row"],
    ) -> Float[Tensor, "*set row"]:
        """Log density of values above zero; log probability of the others."""
        amount = normal_log_prob(x.double(), self.mean(prediction), self.variance.unsqueeze(-1))
        return hurdle_log_prob(present, self.log_odds(prediction), amount)

    def row_log_prob(
        self, values: TaskValues, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "set row"]:
        """The same of each row of tasks that did not hit the variable."""
        return self.log_prob(values.x, values.present, prediction)

    def value(
        self,
        prediction: Float[Tensor, "*set row"],
        *,
        uniform: Float[Tensor, "*#set #row"],
        normal: Float[Tensor, "*#set #row"],
        zero: Float[Tensor, "*#set"],
    ) -> Float[Tensor, "*set row"]:
        """Draws, given the random numbers behind presence and amount."""
        amount = self.mean(prediction) + self.variance.sqrt().unsqueeze(-1) * normal
        return hurdle_value(self.log_odds(prediction), amount, uniform=uniform, zero=zero)


def fit_hurdle(
    values: TaskValues,
    prediction: Float[Tensor, "set row"],
    *,
    free: Float[Tensor, "set task"],
) -> Hurdle:
    """The laws of values in the tasks that did not hit the variable.

    Args:
        values: The values.
        prediction: By the observational mechanisms.
        free: Probability that the task did not hit the variable.
    """
    weight = values.rows.spread(free * values.weight)
    present = values.present.double()
    presence = logistic(present, prediction, weight, mean=(0.0, 1.0), deviation=PRESENCE_DEVIATION)
    amount, variance = least_squares(
        values.x.double(), prediction, weight * present, variance=VARIANCE
    )
    return Hurdle(presence, amount, variance)


def normal_log_prob(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Log density of an amount."""
    return -0.5 * (LOG_2PI + variance.log() + (x - mean).square() / variance)


def hurdle_log_prob(
    present: Bool[Tensor, "*set row"],
    log_odds: Float[Tensor, "*#set row"],
    amount: Float[Tensor, "*set row"],
) -> Float[Tensor, "*set row"]:
    """Of presence and, if present, of the amount, whose log density is given."""
    return torch.where(present, logsigmoid(log_odds) + amount, logsigmoid(-log_odds))


def hurdle_value(
    log_odds: Float[Tensor, "*#set row"],
    amount: Float[Tensor, "*set row"],
    *,
    uniform: Float[Tensor, "*#set #row"],
    zero: Float[Tensor, "*#set"],
) -> Float[Tensor, "*set row"]:
    """Zero, or an amount of at least zero."""
    return torch.where(uniform < torch.sigmoid(log_odds), torch.maximum(amount, zero), zero)
