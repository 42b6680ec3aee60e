r"""What hits look like where values have an atom at zero, see `pyro_metacadi.ops.hurdle`.

In the tasks that hit a variable, with parameters that all variables and tasks share,

.. math:: P(x > 0) = \sigma(\min(7, \max(-7, a' + b' \eta))), \qquad
          x | x > 0 \sim N(\alpha' + \beta' \mu, c^2)

beside a generic law (Beta-binomial, and normal-inverse-gamma for what is positive) of each task's
own. Amounts of hits are in the law's units. The prediction is taken as given.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.ops.generic_law import StudentParameters, generic_log_prob, generic_row_law
from pyro_metacadi.ops.hurdle import Hurdle, hurdle_log_prob, hurdle_value, normal_log_prob
from pyro_metacadi.ops.rows import TaskRows
from pyro_metacadi.ops.task_values import TaskValues
from pyro_metacadi.ops.weighted import least_squares, line, logistic

__all__ = ["HurdleLaw", "OneMoreHurdleRow", "initial_hurdle_law"]

MOST = 7.0
"""Largest log odds of a hit's presence: one cell in a thousand is an exception to everything."""

HIT_PRESENCE, HIT_PRESENCE_DEVIATION = (-2.0, 1.0), (3.0, 0.5)
"""Prior means and deviations of a' and b'."""

PRIOR_SHARE = 0.5
"""Hits that the shared and the generic law explain a priori, each."""


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
        law = self.one_more_row(values, hurdle, prediction)
        return law.log_prob(values.x, values.present, prediction, values.rows)

    def one_more_row(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> "OneMoreHurdleRow":
        """The law of one more row of each task, which hit the variable, given its rows."""
        joint = self.component_log_prob(values, hurdle, prediction)
        count, present = values.rows.num_rows, values.rows.sum(values.present.double())
        return OneMoreHurdleRow(
            log_share=torch.log_softmax(joint, 0),
            law=self,
            hurdle=hurdle,
            unit=values.scale.unsqueeze(-1),
            offset=values.offset.unsqueeze(-1),
            log_odds=(present + 1).log() - (count - present + 1).log(),
            generic=generic_row_law(values.x, values.rows, included=values.present),
        )

    def component_log_prob(
        self, values: TaskValues, hurdle: Hurdle, prediction: Float[Tensor, "set row"]
    ) -> Float[Tensor, "2 set task"]:
        """Log of weight times density of each task's values under the shared and generic law."""
        unit, offset = values.scale.unsqueeze(-1), values.offset.unsqueeze(-1)
        by_row = self.shared_log_prob(
            values.x, values.present, hurdle, prediction, unit=unit, offset=offset
        )
        shared = values.rows.sum(by_row) * values.weight
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

    def shared(
        self,
        hurdle: Hurdle,
        prediction: Float[Tensor, "*set row"],
        *,
        unit: Float[Tensor, "*set 1"],
        offset: Float[Tensor, "*set 1"],
    ) -> tuple[Float[Tensor, "*set row"], Float[Tensor, "*set row"]]:
        """Log odds of presence under the shared law, and the mean amount in the law's units."""
        odds = line(self.presence, hurdle.log_odds(prediction)).clamp(-MOST, MOST)
        return odds, line(self.amount, hurdle.mean(prediction).double() * unit + offset)

    def shared_log_prob(
        self,
        x: Float[Tensor, "*set row"],
        present: Bool[Tensor, "*set row"],
        hurdle: Hurdle,
        prediction: Float[Tensor, "*set row"],
        *,
        unit: Float[Tensor, "*set 1"],
        offset: Float[Tensor, "*set 1"],
    ) -> Float[Tensor, "*set row"]:
        """Log density of standardised values under the shared law; of zeros, log probability."""
        odds, mean = self.shared(hurdle, prediction, unit=unit, offset=offset)
        amount = normal_log_prob(x.double() * unit + offset, mean, self.scale.square())
        return hurdle_log_prob(present, odds, amount + unit.log())


class OneMoreHurdleRow(NamedTuple):
    """One more row of a task that hit a variable, given the task's rows: its density, and draws.

    Attributes:
        log_share: Log weights of the shared and the generic law, of each task.
        law: The shared one.
        hurdle: Law of the variable where it is not hit.
        unit: One standard deviation of the variable, in the law's units.
        offset: The variable's mean, in the law's units.
        log_odds: Of presence under the generic law.
        generic: Of amounts under the generic law, in standard deviations of the variable.
    """

    log_share: Float[Tensor, "2 *set task"]
    law: HurdleLaw
    hurdle: Hurdle
    unit: Float[Tensor, "*set 1"]
    offset: Float[Tensor, "*set 1"]
    log_odds: Float[Tensor, "*set task"]
    generic: StudentParameters

    def of(self, at: int) -> "OneMoreHurdleRow":
        """That of one set."""
        return self._replace(
            log_share=self.log_share[:, at],
            hurdle=Hurdle(*(part[at] for part in self.hurdle)),
            unit=self.unit[at],
            offset=self.offset[at],
            log_odds=self.log_odds[at],
            generic=StudentParameters(*(part[at] for part in self.generic)),
        )

    def log_prob(
        self,
        x: Float[Tensor, "*set row"],
        present: Bool[Tensor, "*set row"],
        prediction: Float[Tensor, "*set row"],
        rows: TaskRows,
    ) -> Float[Tensor, "*set row"]:
        """Log density of values, in standard deviations of the variable; of zeros, probability."""
        shared = self.law.shared_log_prob(
            x, present, self.hurdle, prediction, unit=self.unit, offset=self.offset
        )
        amount = self.generic.of_rows(rows).log_prob(x.double())
        generic = hurdle_log_prob(present, rows.spread(self.log_odds), amount)
        share = rows.spread(self.log_share)
        return torch.logaddexp(shared + share[0], generic + share[1])

    def sample(
        self, prediction: Float[Tensor, "draw row"], rows: TaskRows
    ) -> Float[Tensor, "draw row"]:
        """Draws, with PyTorch's own generator; all rows of a task are of one component."""
        odds, mean = self.law.shared(self.hurdle, prediction, unit=self.unit, offset=self.offset)
        amount = mean + self.law.scale * torch.randn_like(mean)
        shared = odds, (amount - self.offset) / self.unit
        generic = rows.spread(self.log_odds), self.generic.of_rows(rows).sample((len(prediction),))
        share = self.log_share[1].exp().expand(len(prediction), -1)
        is_generic = rows.spread(torch.bernoulli(share)).bool()
        odds, amount = (torch.where(is_generic, a, b) for a, b in zip(generic, shared, strict=True))
        uniform = torch.rand_like(amount)
        return hurdle_value(odds, amount, uniform=uniform, zero=-self.offset / self.unit)


def initial_hurdle_law(*, device: torch.device | str = "cpu") -> HurdleLaw:
    """A law to begin with, in which hits lower presence and amount."""

    def tensor(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    return HurdleLaw(tensor(-4.0, 1.0), tensor(0.0, 0.5), tensor(1.0)[0], tensor(0.5, 0.5))


def _generic(values: TaskValues) -> Float[Tensor, "set task"]:
    """Log marginal density of a task's values, each task with laws of its own."""
    count = values.rows.num_rows * values.weight
    present = values.rows.sum(values.present.double()) * values.weight
    betas = torch.lgamma(present + 1) + torch.lgamma(count - present + 1)
    presence = betas - torch.lgamma(count + 2)
    amount = generic_log_prob(values.x, values.rows, weight=values.weight, included=values.present)
    return presence + amount
