"""Counts more scattered than Poisson's."""

import math
from numbers import Real
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.counts import FARTHEST, CountNoise
from pyro_metacadi.models.noise.protocol import bounded

__all__ = ["NegativeBinomialNoise"]

LEAST_DISPERSION, MOST_DISPERSION = 0.01, 10.0
"""Below, counts are Poisson's to most eyes; above, nearly all counts are zeros."""

MIDDLE = math.log(LEAST_DISPERSION * MOST_DISPERSION) / 2
REACH = math.log(MOST_DISPERSION / LEAST_DISPERSION) / 2

LEAST_MEAN = 1e-9
"""Of a count: nothing is divided by 0."""


class NegativeBinomialNoise(CountNoise):
    r"""Counts :math:`x_i \sim NB(n \rho_i, \alpha_i)`, of mean :math:`\mu = n \rho` and variance
    :math:`\mu + \alpha \mu^2`.

    n is the row's size, ρ the rate that the mechanism predicts (see `CountNoise`) and α a
    dispersion of each variable, learned with everything else. The law of x is exact.

    Readouts are adapted by **one step of scoring**, for the exact posterior has no closed form. The
    statistic :math:`T = \psi(x + 1/\alpha) - \psi(1/\alpha)` grows like x where that is small and
    like its logarithm where it is large, and its mean is :math:`\log(1 + \alpha \mu)` exactly (the
    score of α has mean 0). It is linearised in the prediction at one rate, that of all rows of the
    task together: ridge regression then has a response without bias at that rate, whatever the
    rows' sizes, and weights that do not depend on a row's own draw. A rate that many rows share is
    found, however small. Where parents make a row's rate three times that of the task (a third of
    it), it comes out too large, by a factor of up to 2.5 (1.6) where counts are nearly Poisson's,
    and of up to 1.4 where :math:`\alpha \mu` is above 1.

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused.
        dispersion: α to begin with; stays between 1/100 and 10.
        library_size: See `CountNoise`.

    Raises:
        ConfigError: `dispersion` is no number or out of range, or `library_size` no truth value.

    Source: Robinson and Smyth, Moderated statistical tests for assessing differences in tag
    abundance, Bioinformatics 2007, for the law; McCullagh and Nelder, Generalized linear models,
    1989, for regressions of working responses.
    """

    reads_features = False

    def __init__(
        self,
        num_variables: int,
        num_features: int,
        *,
        dispersion: float = 0.2,
        library_size: bool = True,
    ) -> None:
        super().__init__(num_variables, num_features, library_size=library_size)
        start = (math.log(_checked(dispersion)) - MIDDLE) / REACH
        raw = torch.full((num_variables,), REACH * math.atanh(start))
        self.raw_dispersion = torch.nn.Parameter(raw)

    @property
    def dispersion(self) -> Float[Tensor, " variable"]:
        """α: the variance of a large count, relative to its squared mean."""
        return (MIDDLE + bounded(self.raw_dispersion, REACH)).exp()

    def linearize(self, x: Tensor, features: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """T as a function of the prediction, to first order, and its precision (see the class)."""
        rate = _pooled_rate(x, size)
        loc, slope = self.prediction(rate)
        mean = (size * rate).clamp(min=LEAST_MEAN)
        grown = self.dispersion * mean
        steepness = slope * grown / (1 + grown)  # of the mean of T
        shape = self.dispersion.reciprocal()
        surprise = (x + shape).digamma() - shape.digamma() - grown.log1p()
        return loc + surprise / steepness, steepness.square() / self._variance(mean)

    def residual(self, x: Tensor, loc: Tensor, features: Tensor, size: Tensor) -> Tensor:
        r"""Pearson's residual of :math:`1 - t^x, t = 1 - 1 / (2 + 2 \mu)`, which saturates.

        Mean and variance are exact, by the law's generating function. A count far above its mean,
        or none where many were expected, says so once, not in proportion to the depth.
        """
        mean = (self.log_rate(loc).exp() * size).clamp(min=LEAST_MEAN)
        shape, grown, step = self.dispersion.reciprocal(), self.dispersion * mean, 0.5 / (1 + mean)
        # Of t^x: the logarithm of the mean, and that of the mean square less twice the former.
        log_mean = -shape * (grown * step).log1p()
        excess = step.square() * grown * (1 + grown) / (1 + grown * step * (2 - step))
        relative_deviation = (shape * excess.log1p()).expm1().sqrt()
        residual = -torch.expm1(x * torch.log1p(-step) - log_mean) / relative_deviation
        return residual.clamp(max=FARTHEST)

    def forward(self, loc: Tensor, features: Tensor, size: Tensor) -> TorchDistributionMixin:
        """Negative binomial around the mean n ρ."""
        dispersion = self.dispersion
        log_mean = self.log_rate(loc) + size.log()
        count = dispersion.reciprocal().expand_as(log_mean)
        return _NegativeBinomial(count, logits=log_mean + dispersion.log())

    def _variance(self, mean: Tensor) -> Tensor:
        """Of T: ψ'(1/α) - E[ψ'(x + 1/α)] exactly, taken at the mean of counts that are not 0.

        That is exact for small and for large counts, and never more than a ninth too large.
        """
        shape = self.dispersion.reciprocal()
        counted = -torch.expm1(-shape * (mean / shape).log1p())  # the probability of any
        return counted * (torch.polygamma(1, shape) - torch.polygamma(1, shape + mean / counted))


class _NegativeBinomial(dist.NegativeBinomial):
    """With a log density in float64: of large counts it is a difference of large numbers."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        wide = dist.NegativeBinomial(
            self.total_count.double(), logits=self.logits.double(), validate_args=False
        )
        exact: Tensor = wide.log_prob(value.double())
        return exact.to(self.logits.dtype)


def _pooled_rate(x: Tensor, size: Tensor) -> Float[Tensor, "task 1 variable"]:
    """The rate of a task's rows together, and of half a count more, so that it is positive.

    Deep rows count for more, but a single one never for all others: its draw is as dispersed. Rows
    of size 0 are none.
    """
    exists = (size > 0).to(x.dtype)
    half = exists / (2 * exists.sum(-2, keepdim=True).clamp(min=1.0))
    weight = (size / (1 + size)).sum(-2, keepdim=True).clamp(min=LEAST_MEAN)
    return ((x + half) / (1 + size)).sum(-2, keepdim=True) / weight


def _checked(dispersion: Any) -> float:
    if (
        isinstance(dispersion, bool)
        or not isinstance(dispersion, Real)
        or not LEAST_DISPERSION < float(dispersion) < MOST_DISPERSION
    ):
        raise ConfigError(
            f"dispersion: expected a number between {LEAST_DISPERSION} and {MOST_DISPERSION:g}, "
            f"got {dispersion!r}. Try 0.2."
        )
    return float(dispersion)
