r"""What an intervention looks like: the law of a variable's values in a task that hit it.

Two kinds, mixed by their evidence:

* a *shared law* of all variables and tasks, in common units: :math:`x_i | hit \sim N(a f_i + b,
  (c\,\sigma)^2)` with f_i the observational prediction; a is 0 for a replaced mechanism and 1/2
  for a halved one. The scale is the variable's own noise (relative) or one unit (absolute).
* *generic*: each task's own mean and variance, integrated out (normal-inverse-gamma).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.generic_law import generic_log_prob, generic_row_log_prob
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["InterventionLaw", "TaskValues"]
PULL = 1e-6
"""Weight of a component's present slope and intercept, relative to that of the rows."""

PRIOR_SHARE = 0.05
"""Hits that every component, the generic law too, explains a priori: none dies out."""

SMALLEST_SCALE = 0.02
"""Of a component, in its units: a knocked-out gene is the same in every cell."""


@dataclass(frozen=True, eq=False)
class TaskValues:
    """Values of the variables of each set, and the units in which the shared law holds.

    Attributes:
        x: Standardised.
        rows: Which rows belong to which task.
        weight: What a row of each task counts.
        scale: One standard deviation of the variable, in the law's units.
        offset: The variable's mean, in the law's units.
        generic: `generic_log_prob` of the values.
    """

    x: Float[Tensor, "set row"]
    rows: TaskRows
    weight: Float[Tensor, " task"]
    scale: Float[Tensor, " set"]
    offset: Float[Tensor, " set"]
    generic: Float[Tensor, "set task"]

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "set row"],
        rows: TaskRows,
        *,
        weight: Float[Tensor, " task"],
        scale: Float[Tensor, " set"],
        offset: Float[Tensor, " set"],
    ) -> "TaskValues":
        """Values with their generic density."""
        return cls(x, rows, weight, scale, offset, generic_log_prob(x, rows, weight=weight))

    def in_units(self, standardised: Float[Tensor, "set row"]) -> Float[Tensor, "set row"]:
        """Standardised values in the law's units, float64."""
        return standardised.double() * self.scale.unsqueeze(-1) + self.offset.unsqueeze(-1)


@dataclass(frozen=True, eq=False)
class InterventionLaw:
    """A mixture of a few components, all parameters learned from the training tasks.

    Densities are of standardised values, as those of mechanisms are, whatever the law's units.

    Attributes:
        slope: a of each component.
        intercept: b, in the law's units.
        scale: c, in the law's units or, where `relative`, in units of the variable's noise.
        relative: See `scale`.
        weight: Of the components, the generic law last; they sum to one.
    """

    slope: Float[Tensor, " component"]
    intercept: Float[Tensor, " component"]
    scale: Float[Tensor, " component"]
    relative: Bool[Tensor, " component"]
    weight: Float[Tensor, " component_and_generic"]

    def component_log_prob(
        self,
        values: TaskValues,
        prediction: Float[Tensor, "set row"],
        noise_variance: Float[Tensor, " set"],
        *,
        spread: Float[Tensor, "set task"] | float = 0.0,
    ) -> Float[Tensor, "component_and_generic set task"]:
        """Log of weight times density of each task's values under each component.

        Of an uncertain prediction the expected log density is taken: if it were the density at its
        mean, a law equal to the mechanism would fit better than the mechanism.

        Args:
            values: The values.
            prediction: By the observational mechanisms.
            noise_variance: Of the mechanisms.
            spread: Variance of the prediction, summed over the rows of each task.
        """
        x, f = values.in_units(values.x), values.in_units(prediction)
        count = values.rows.num_rows
        own = spread * values.scale.square().unsqueeze(-1)
        terms = [values.generic]
        for k, variance in enumerate(self._variance(values, noise_variance)):
            error = values.rows.sum((x - self.slope[k] * f - self.intercept[k]).square())
            error = error + self.slope[k].square() * own
            unit = 2 * values.scale.log().unsqueeze(-1)
            log_variance = variance.unsqueeze(-1).log() - unit
            log_prob = -0.5 * (count * (LOG_2PI + log_variance) + error / variance.unsqueeze(-1))
            terms.insert(-1, values.weight * log_prob)
        return torch.stack(terms) + self.weight.log().view(-1, 1, 1)

    def log_prob(
        self,
        values: TaskValues,
        prediction: Float[Tensor, "set row"],
        noise_variance: Float[Tensor, " set"],
        *,
        spread: Float[Tensor, "set task"] | float = 0.0,
    ) -> Float[Tensor, "set task"]:
        """Log density of each task's values if it hit the variable (see `component_log_prob`)."""
        joint = self.component_log_prob(values, prediction, noise_variance, spread=spread)
        return joint.logsumexp(0)

    def row_log_prob(
        self,
        values: TaskValues,
        prediction: Float[Tensor, "set row"],
        noise_variance: Float[Tensor, " set"],
    ) -> Float[Tensor, "set row"]:
        """Log density of each row, in tasks that hit it, given all of the task's rows.

        As of one more row at its place: in-sample, for pointwise likelihoods of a posterior.
        """
        joint = self.component_log_prob(values, prediction, noise_variance)
        share = values.rows.spread(torch.log_softmax(joint, 0))
        x, f = values.in_units(values.x), values.in_units(prediction)
        terms = [
            torch.distributions.Normal(
                self.slope[k] * f + self.intercept[k], variance.sqrt().unsqueeze(-1)
            ).log_prob(x)
            + values.scale.log().unsqueeze(-1)
            for k, variance in enumerate(self._variance(values, noise_variance))
        ]
        terms.append(generic_row_log_prob(values.x, values.rows))
        return (torch.stack(terms) + share).logsumexp(0)

    def updated(
        self,
        values: TaskValues,
        prediction: Float[Tensor, "set row"],
        noise_variance: Float[Tensor, " set"],
        *,
        hit: Float[Tensor, "set task"],
        spread: Float[Tensor, "set task"] | float = 0.0,
    ) -> "InterventionLaw":
        """One step of expectation-maximisation, tasks counting by their probability of a hit.

        Args:
            values: Of all variables, in all tasks.
            prediction: By the observational mechanisms.
            noise_variance: Of the mechanisms.
            hit: Probability of each task having hit the variable.
            spread: As in `component_log_prob`.
        """
        joint = self.component_log_prob(values, prediction, noise_variance, spread=spread)
        share = torch.softmax(joint, 0) * hit
        x, f = values.in_units(values.x), values.in_units(prediction)
        unit = self._variance(values, noise_variance) / self.scale.square().unsqueeze(-1)
        fits = [
            self._fit_component(
                k, values, x, f, weight=share[k] * values.weight, unit=unit[k], spread=spread
            )
            for k in range(len(self.slope))
        ]
        slope, intercept, scale = (torch.stack(part) for part in zip(*fits, strict=True))
        total = share.sum((1, 2)) + PRIOR_SHARE
        return InterventionLaw(slope, intercept, scale, self.relative, total / total.sum())

    def _variance(self, values: TaskValues, noise: Tensor) -> Float[Tensor, "component set"]:
        own = noise * values.scale.square()
        unit = torch.where(self.relative.unsqueeze(-1), own, torch.ones_like(own))
        return self.scale.square().unsqueeze(-1) * unit

    def _fit_component(
        self,
        k: int,
        values: TaskValues,
        x: Tensor,
        f: Tensor,
        *,
        weight: Tensor,
        unit: Tensor,
        spread: Tensor | float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted least squares for a and b, then c; a component of less than a row stays."""
        count = (weight * values.rows.num_rows).sum()
        if count < 1:
            return self.slope[k], self.intercept[k], self.scale[k]

        precision = weight / unit.unsqueeze(-1)
        own = (precision * spread * values.scale.square().unsqueeze(-1)).sum()

        def total(product: Tensor) -> Tensor:
            return (precision * values.rows.sum(product)).sum()

        ff, f1, one = total(f * f) + own, total(f), total(torch.ones_like(f))
        system = torch.stack([torch.stack([ff, f1]), torch.stack([f1, one])])
        # A pull towards the present values, for predictions that do not vary or are all zero.
        pull = (PULL * torch.stack([ff, one])).clamp(min=torch.finfo(ff.dtype).tiny)
        system = system + torch.diag(pull)
        present = torch.stack([self.slope[k], self.intercept[k]])
        right = torch.stack([total(f * x), total(x)]) + pull * present
        slope, intercept = torch.linalg.solve(system, right)
        error = total((x - slope * f - intercept).square()) + slope.square() * own
        return slope, intercept, (error / count).sqrt().clamp(min=SMALLEST_SCALE)
