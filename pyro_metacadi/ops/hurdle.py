r"""Values with an atom at zero: whether there is any, and if so, how much.

Most counts of single cells are zeros. A normal law has no room for them: a gene that is silent in
most cells would look knocked out. Given the prediction f of a variable's mechanism, values follow a
hurdle model, normal where they are positive:

.. math:: P(x > 0) = \sigma(\eta), \; \eta = a + b f, \qquad x | x > 0 \sim N(\mu, s^2), \;
          \mu = \alpha + \beta f

and in the tasks that hit the variable, with parameters that all variables and tasks share,

.. math:: P(x > 0) = \sigma(\min(7, \max(-7, a' + b' \eta))), \qquad
          x | x > 0 \sim N(\alpha' + \beta' \mu, c^2)

beside a generic law (Beta-binomial, and normal-inverse-gamma for what is positive) of each task's
own. Amounts of hits are in the law's units. The prediction is taken as given, by both laws.

Source: Mullahy 1986 for hurdle models.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.generic_law import generic_log_prob, generic_row_log_prob
from pyro_metacadi.ops.task_values import TaskValues
from pyro_metacadi.ops.weighted import least_squares, line, logistic

__all__ = ["Hurdle", "HurdleLaw", "fit_hurdle", "initial_hurdle_law"]

MOST = 7.0
"""Largest log odds of a hit's presence: one cell in a thousand is an exception to everything."""

PRESENCE_DEVIATION = (10.0, 2.0)
"""Of the prior of a and b, about 0 and 1."""

HIT_PRESENCE, HIT_PRESENCE_DEVIATION = (-2.0, 1.0), (3.0, 0.5)
"""Prior means and deviations of a' and b'."""

VARIANCE = 0.05
"""A priori of s², as of the mechanism's noise."""

PRIOR_SHARE = 0.5
"""Hits that the shared and the generic law explain a priori, each."""


class Hurdle(NamedTuple):
    """Laws of values given predictions, of every set: presence (a, b), amount (α, β), s²."""

    presence: Float[Tensor, "set 2"]
    amount: Float[Tensor, "set 2"]
    variance: Float[Tensor, " set"]

    def log_odds(self, prediction: Float[Tensor, "set row"]) -> Float[Tensor, "set row"]:
        """Of a value above zero."""
        return line(self.presence, prediction)

    def mean(self, prediction: Float[Tensor, "set row"]) -> Float[Tensor, "set row"]:
        """Of a value above zero."""
        return line(self.amount, prediction)

    def row_log_prob(
        self, values: TaskValues, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "set row"]:
        """Log density of each row unless its task hit the variable; at zero, log probability."""
        variance = self.variance.unsqueeze(-1)
        amount = _normal(values.x.double(), self.mean(prediction), variance)
        return _hurdle(values.present, self.log_odds(prediction), amount)


@dataclass(frozen=True, eq=False)
class HurdleLaw:
    """What hits look like, learned from the training tasks.

    Attributes:
        presence: a' and b'.
        amount: α' and β', in the law's units.
        scale: c, in the law's units.
        weight: Of the shared and of the generic law.
    """

    presence: Float[Tensor, "2"]
    amount: Float[Tensor, "2"]
    scale: Float[Tensor, ""]
    weight: Float[Tensor, "2"]

    def row_log_prob(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "set row"]:
        """Log density of one more row at each row's place, in a task that hit the variable."""
        joint = self.component_log_prob(values, hurdle, prediction)
        share = values.rows.spread(torch.log_softmax(joint, 0))
        shared = self._shared_row_log_prob(values, hurdle, prediction)
        return (torch.stack([shared, _generic_row(values)]) + share).logsumexp(0)

    def component_log_prob(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "2 set task"]:
        """Log of weight times density of each task's values under the shared and generic law."""
        shared = values.rows.sum(self._shared_row_log_prob(values, hurdle, prediction))
        shared = shared * values.weight
        return torch.stack([shared, _generic(values)]) + self.weight.log().view(2, 1, 1)

    def log_prob(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "set task"]:
        """Log density of each task's values if it hit the variable."""
        return self.component_log_prob(values, hurdle, prediction).logsumexp(0)

    def log_ratio(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "set task"]:
        """Log density of each task's values if it hit the variable, over that if not."""
        hit = self.log_prob(values, hurdle, prediction)
        return hit - values.rows.sum(hurdle.row_log_prob(values, prediction)) * values.weight

    def updated(
        self,
        values: TaskValues,
        hurdle: Hurdle,
        prediction: Float[Tensor, "set row"],
        *,
        share: Float[Tensor, "set task"],
    ) -> "HurdleLaw":
        """One step of expectation-maximisation.

        Args:
            values: Of all variables, in all tasks.
            hurdle: Their laws where they are not hit.
            prediction: By the observational mechanisms.
            share: Probability that the task hit the variable and that its values are of the shared
                law.
        """
        weight = values.rows.spread(share * values.weight)
        odds = hurdle.log_odds(prediction)
        presence = logistic(
            values.present.double().reshape(1, -1),
            odds.reshape(1, -1),
            weight.reshape(1, -1),
            mean=HIT_PRESENCE,
            deviation=HIT_PRESENCE_DEVIATION,
        )[0]
        x, mean = (values.in_units(part) for part in (values.x, hurdle.mean(prediction)))
        present = (weight * values.present).reshape(1, -1)
        amount, variance = least_squares(
            x.reshape(1, -1), mean.reshape(1, -1), present, variance=1.0
        )
        return HurdleLaw(presence, amount[0], variance[0].sqrt(), self.weight)

    def to_tensor(self) -> Float[Tensor, "7"]:
        """All numbers in the order of the attributes."""
        return torch.cat([self.presence, self.amount, self.scale.view(1), self.weight])

    @classmethod
    def from_tensor(cls, numbers: Float[Tensor, "7"]) -> "HurdleLaw":
        """The inverse of `to_tensor`."""
        presence, amount, scale, weight = numbers.split([2, 2, 1, 2])
        return cls(presence, amount, scale.squeeze(), weight)

    def with_shares(self, shares: Float[Tensor, "2 set task"]) -> "HurdleLaw":
        """The same with weights as so many hits of each kind suggest."""
        total = shares.sum((1, 2)) + PRIOR_SHARE
        return HurdleLaw(self.presence, self.amount, self.scale, total / total.sum())

    def _shared_row_log_prob(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "set row"]:
        """Log density of each row under the shared law."""
        unit = values.scale.unsqueeze(-1)
        mean = line(self.amount, values.in_units(hurdle.mean(prediction)))
        amount = _normal(values.in_units(values.x), mean, self.scale.square()) + unit.log()
        odds = line(self.presence, hurdle.log_odds(prediction)).clamp(-MOST, MOST)
        return _hurdle(values.present, odds, amount)


def initial_hurdle_law(*, device: torch.device | str = "cpu") -> HurdleLaw:
    """A law to begin with, in which hits lower presence and amount."""

    def tensor(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    return HurdleLaw(tensor(-4.0, 1.0), tensor(0.0, 0.5), tensor(1.0)[0], tensor(0.5, 0.5))


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


def _normal(x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * (LOG_2PI + variance.log() + (x - mean).square() / variance)


def _hurdle(present: Bool[Tensor, "set row"], odds: Tensor, amount: Tensor) -> Tensor:
    return torch.where(present, logsigmoid(odds) + amount, logsigmoid(-odds))


def _generic(values: TaskValues) -> Float[Tensor, "set task"]:
    """Log marginal density of a task's values, each task with laws of its own."""
    count = values.rows.num_rows * values.weight
    present = values.rows.sum(values.present.double()) * values.weight
    betas = torch.lgamma(present + 1) + torch.lgamma(count - present + 1)
    presence = betas - torch.lgamma(count + 2)
    amount = generic_log_prob(values.x, values.rows, weight=values.weight, included=values.present)
    return presence + amount


def _generic_row(values: TaskValues) -> Float[Tensor, "set row"]:
    count, present = values.rows.num_rows, values.rows.sum(values.present.double())
    odds = values.rows.spread((present + 1).log() - (count - present + 1).log())
    amount = generic_row_log_prob(values.x, values.rows, included=values.present)
    return _hurdle(values.present, odds, amount)
