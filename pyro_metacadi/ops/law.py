r"""What an intervention looks like: the law of a variable's values in a task that hit it.

Two kinds, mixed by their evidence:

* a *shared law* of all variables and tasks, in common units: :math:`x_i | hit \sim N(a f_i + b +
  u_t, (c\,\sigma)^2)` with f_i the observational prediction and :math:`u_t \sim N(0,
  (\tau\,\sigma)^2)` a shift of the task's own, integrated out; a is 0 for a replaced mechanism and
  1/2 for a halved one. The unit σ is the variable's own noise (relative) or one (absolute).
* *generic*: each task's own mean and variance, integrated out (normal-inverse-gamma).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.ops.evidence import LOG_2PI
from pyro_metacadi.ops.generic_law import generic_row_law
from pyro_metacadi.ops.moments import Moments
from pyro_metacadi.ops.one_more_row import OneMoreRow
from pyro_metacadi.ops.task_values import TaskValues

__all__ = ["InterventionLaw"]

PULL = 1e-6
"""Weight of a component's present slope and intercept, relative to that of the rows."""

PRIOR_SHARE = 0.05
"""Hits that every component, the generic law too, explains a priori: none dies out."""

SMALLEST_SCALE = 0.02
"""Of a component, in its units: a knocked-out gene is the same in every cell."""


@dataclass(frozen=True, eq=False)
class InterventionLaw:
    """A mixture of a few components, all parameters learned from the training tasks.

    Densities are of standardised values, as those of mechanisms are, whatever the law's units.

    Attributes:
        slope: a of each component.
        intercept: b, in the law's units.
        scale: c, in the law's units or, where `relative`, in units of the variable's noise.
        shift: τ, in units as `scale`: how far the means of tasks differ.
        relative: See `scale`.
        weight: Of the components, the generic law last; they sum to one.
    """

    slope: Float[Tensor, " component"]
    intercept: Float[Tensor, " component"]
    scale: Float[Tensor, " component"]
    shift: Float[Tensor, " component"]
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
        mean, a law equal to the mechanism would fit better than the mechanism. With a shift it is a
        lower bound: what is uncertain alike in all of a task's rows is counted against each row.

        Args:
            values: The values.
            prediction: By the observational mechanisms.
            noise_variance: Of the mechanisms.
            spread: Variance of the prediction, summed over the rows of each task.
        """
        moments = Moments.of(values, prediction, spread=spread)
        return self._component_log_prob(moments, noise_variance)

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
        law = self.one_more_row(values, prediction, noise_variance)
        return law.log_prob(values.x, prediction, values.rows)

    def one_more_row(
        self,
        values: TaskValues,
        prediction: Float[Tensor, "set row"],
        noise_variance: Float[Tensor, " set"],
    ) -> OneMoreRow:
        """The law of one more row of each task that hit the variable, given all of its rows."""
        residual = [
            values.rows.sum(values.in_units(values.x) - a * values.in_units(prediction) - b)
            for a, b in zip(self.slope, self.intercept, strict=True)
        ]
        variance = self._variance(values, noise_variance)
        shifts = [
            self._task_shift(k, values, residual[k], variance[k]) for k in range(len(self.slope))
        ]
        joint = self.component_log_prob(values, prediction, noise_variance)
        return OneMoreRow(
            log_share=torch.log_softmax(joint, 0),
            slope=self.slope,
            intercept=self.intercept,
            shift=torch.stack([shift.mean for shift in shifts]),
            scale=(variance.unsqueeze(-1) + torch.stack([s.variance for s in shifts])).sqrt(),
            unit=values.scale.unsqueeze(-1),
            offset=values.offset.unsqueeze(-1),
            generic=generic_row_law(values.x, values.rows),
        )

    def updated(
        self,
        moments: Moments,
        noise_variance: Float[Tensor, " set"],
        *,
        hit: Float[Tensor, "set task"],
        num_steps: int = 1,
    ) -> "InterventionLaw":
        """Steps of expectation-maximisation, tasks counting by their probability of a hit.

        Args:
            moments: Of values in all tasks and predictions by the observational mechanisms.
            noise_variance: Of the mechanisms.
            hit: Probability of each task having hit the variable.
            num_steps: How many.
        """
        law = self
        for _ in range(num_steps):
            law = law._step(moments, noise_variance, hit=hit)
        return law

    def _step(
        self,
        moments: Moments,
        noise_variance: Float[Tensor, " set"],
        *,
        hit: Float[Tensor, "set task"],
    ) -> "InterventionLaw":
        share = torch.softmax(self._component_log_prob(moments, noise_variance), 0) * hit
        unit = self._variance(moments.values, noise_variance) / self.scale.square().unsqueeze(-1)
        fits = [
            self._fit_component(k, moments, share=share[k], unit=unit[k])
            for k in range(len(self.slope))
        ]
        slope, intercept, scale, shift = (torch.stack(part) for part in zip(*fits, strict=True))
        total = share.sum((1, 2)) + PRIOR_SHARE
        weight = total / total.sum()
        return InterventionLaw(slope, intercept, scale, shift, self.relative, weight)

    def _component_log_prob(
        self, moments: Moments, noise_variance: Float[Tensor, " set"]
    ) -> Float[Tensor, "component_and_generic set task"]:
        values = moments.values
        unit = 2 * values.scale.log().unsqueeze(-1)
        terms = []
        for k, variance in enumerate(self._variance(values, noise_variance).unsqueeze(-1)):
            residual, square = moments.residual(self.slope[k], self.intercept[k])
            error = square + self.slope[k].square() * moments.spread
            normal = moments.count * (LOG_2PI + variance.log() - unit) + error / variance
            shift = self._task_shift(k, values, residual, variance.squeeze(-1))
            terms.append(shift.log_evidence - 0.5 * values.weight * normal)
        return torch.stack([*terms, values.generic]) + self.weight.log().view(-1, 1, 1)

    def _variance(self, values: TaskValues, noise: Tensor) -> Float[Tensor, "component set"]:
        own = noise * values.scale.square()
        unit = torch.where(self.relative.unsqueeze(-1), own, torch.ones_like(own))
        return self.scale.square().unsqueeze(-1) * unit

    def _task_shift(
        self, k: int, values: TaskValues, residual: Tensor, variance: Float[Tensor, " set"]
    ) -> "_Shift":
        """Of component k, given the sum of what a, b leave of each task's values.

        `variance` is that of rows.
        """
        count, shrink = values.rows.num_rows * values.weight, self._shrinkage(k, values)
        mean = residual / values.rows.num_rows
        unit = variance.unsqueeze(-1)
        own = unit * (self.shift[k] / self.scale[k]).square() * (1 - shrink)
        evidence = 0.5 * shrink * count * mean.square() / unit + 0.5 * torch.log1p(-shrink)
        return _Shift(shrink * mean, own, evidence)

    def _shrinkage(self, k: int, values: TaskValues) -> Float[Tensor, " task"]:
        """Share of a task's mean residual that is its shift."""
        signal = values.rows.num_rows * values.weight * (self.shift[k] / self.scale[k]).square()
        return signal / (1 + signal)

    def _fit_component(
        self,
        k: int,
        moments: Moments,
        *,
        share: Float[Tensor, "set task"],
        unit: Float[Tensor, " set"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weighted least squares for a and b, then c and τ; one of less than a row stays."""
        values = moments.values
        weight = share * values.weight
        count = (weight * moments.count).sum()
        if count < 1:
            return self.slope[k], self.intercept[k], self.scale[k], self.shift[k]

        precision = weight / unit.unsqueeze(-1)
        slope, intercept = self._regress(k, moments, precision)
        residual, square = moments.residual(slope, intercept)
        shift = self._task_shift(k, values, residual, self.scale[k].square() * unit)
        # Of the residuals less the shift.
        error = square - 2 * shift.mean * residual + moments.count * shift.mean.square()
        error = error + slope.square() * moments.spread + moments.count * shift.variance
        scale = ((precision * error).sum() / count).sqrt().clamp(min=SMALLEST_SCALE)
        moment = share * (shift.mean.square() + shift.variance) / unit.unsqueeze(-1)
        return slope, intercept, scale, (moment.sum() / share.sum()).sqrt()

    def _regress(
        self, k: int, moments: Moments, precision: Float[Tensor, "set task"]
    ) -> Float[Tensor, "2"]:
        """Slope and intercept by generalised least squares: rows of a task share its shift."""
        shrink = self._shrinkage(k, moments.values) / moments.count
        x, f, n = moments.x, moments.f, moments.count

        def total(products: Tensor, left: Tensor, right: Tensor) -> Tensor:
            return (precision * (products - shrink * left * right)).sum()

        ff = total(moments.ff, f, f) + (precision * moments.spread).sum()
        f1, nn = total(f, f, n), total(n, n, n)
        system = torch.stack([torch.stack([ff, f1]), torch.stack([f1, nn])])
        # A pull towards the present values, for predictions that do not vary or are all zero.
        pull = (PULL * torch.stack([ff, nn])).clamp(min=torch.finfo(ff.dtype).tiny)
        system = system + torch.diag(pull)
        present = torch.stack([self.slope[k], self.intercept[k]])
        right = torch.stack([total(moments.xf, f, x), total(x, n, x)]) + pull * present
        return torch.linalg.solve(system, right)


class _Shift(NamedTuple):
    """Posterior of each task's own shift, in the law's units, and what it adds to the evidence."""

    mean: Float[Tensor, "set task"]
    variance: Float[Tensor, "set task"]
    log_evidence: Float[Tensor, "set task"]
