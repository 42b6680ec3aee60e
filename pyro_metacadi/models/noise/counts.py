"""Counts, such as those of single-cell sequencing: scored as they are, read as logarithms."""

import math
from typing import Any, ClassVar, TypeGuard

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import functional

from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.gaussian import LOG_LIMIT
from pyro_metacadi.models.noise.protocol import bounded

__all__ = ["CountNoise", "NegativeBinomialNoise", "reads_counts", "sizes_of"]

SHARPNESS = 5.0
"""Predictions are bent within about one fifth of a standard deviation of no count."""

LEAST, MOST = 1e-6, 40.0
"""Of log(1 + rate): what no logarithm or exponential could hold is left out."""


class CountNoise(PyroModule):
    """What noise models of raw counts share: units, and what a prediction says of the rate.

    With n the size of a row, a count x is read by mechanisms as log(1 + x / n), standardised, and
    they predict in these units. Where a prediction is clearly above that of no count it is just
    the logarithm of a rate, 1 + x / n; below, it is bent so that the rate stays positive.

    A subclass has the methods of `Noise`, both with a third argument: the rows' sizes, of shape
    ``[task, sample, 1]``.

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused here.
        library_size: Whether a row's total says how deep it was measured: its size is then its
            total, relative to that of the median row in training, and taken as known. Otherwise
            all sizes are 1. A total of few variables ties each to all others, which looks like
            edges: where they were chosen among many, the total of the others may be one more
            variable, whose edges a graph prior forbids.
    """

    response: ClassVar[str] = "counts"
    total: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, num_variables: int, num_features: int, *, library_size: bool = True) -> None:
        super().__init__()
        self.library_size = library_size
        # They belong to the data, and are saved with the scaling.
        self.register_buffer("total", torch.ones(()), persistent=False)
        self.register_buffer("mean", torch.zeros(num_variables), persistent=False)
        self.register_buffer("deviation", torch.ones(num_variables), persistent=False)

    def set_units(self, units: CountUnits) -> None:
        """Take the units of the training data; those before are of no data."""
        self.total.fill_(units.total)
        self.mean.copy_(torch.as_tensor(units.mean))
        self.deviation.copy_(torch.as_tensor(units.scale))

    def size(self, x: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch 1"]:
        """How deep every row was measured; a row without any count as if it had one."""
        if not self.library_size:
            return torch.ones_like(x[..., :1])
        return x.sum(-1, keepdim=True).clamp(min=1.0) / self.total

    def inputs(self, x: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch variable"]:
        """What mechanisms read of counts: log(1 + x / size), standardised."""
        return self.standardised((x / self.size(x)).log1p())

    def standardised(self, log1p_rate: Float[Tensor, "*batch variable"]) -> Tensor:
        """Values of log(1 + rate) in the units of predictions."""
        return (log1p_rate - self.mean) / self.deviation

    def log_rate(self, loc: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch variable"]:
        """Logarithm of the expected count of a row of size 1, given a prediction."""
        above = loc + self.mean / self.deviation  # the prediction of no count
        value = self.deviation * functional.softplus(above, beta=SHARPNESS)
        return value.clamp(LEAST, MOST).expm1().log()


class NegativeBinomialNoise(CountNoise):
    r"""Counts :math:`x_i \sim NB(n \rho_i, \alpha_i)`, of mean :math:`\mu = n \rho` and variance
    :math:`\mu + \alpha \mu^2`.

    n is the row's size, ρ the rate that the mechanism predicts (see `CountNoise`) and α a
    dispersion of each variable, learned with everything else. The law of x is exact.

    Readouts are adapted by the **delta method**, for the exact posterior has no closed form: ridge
    regression of log(1 + x / n), taken as normal. x is Poisson around a gamma variable, of which
    the logarithm's mean and variance are known; both go through :math:`\log(1 + \mu / n)` to second
    order. The mean is put right at the count that was seen, the variance estimated at one more, so
    that a zero has one too. It errs most for dispersions above 1, where small counts say little.

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused.
        dispersion: α to begin with; stays within exp(±5).
        library_size: See `CountNoise`.

    Raises:
        ConfigError: `dispersion` is out of range.

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
        if not 0 < dispersion < math.inf or abs(math.log(dispersion)) >= LOG_LIMIT:
            raise ConfigError(
                f"dispersion: expected a number between exp(-5) and exp(5), got {dispersion}. Try "
                f"0.2."
            )
        start = LOG_LIMIT * math.atanh(math.log(dispersion) / LOG_LIMIT)
        self.log_dispersion = torch.nn.Parameter(torch.full((num_variables,), start))

    @property
    def dispersion(self) -> Float[Tensor, " variable"]:
        """α: the variance of a large count, relative to its squared mean."""
        return bounded(self.log_dispersion, LOG_LIMIT).exp()

    def linearize(self, x: Tensor, features: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """log(1 + x / n), corrected and standardised, and its precision (see the class)."""
        shape = self.dispersion.reciprocal()
        variance = self._spread(x + 1, size, torch.polygamma(1, shape))
        shortfall = self._spread(x, size, 2 * (shape.log() - shape.digamma())) / 2
        response = self.standardised((x / size).log1p() + shortfall)
        return response, self.deviation.square() / variance

    def forward(self, loc: Tensor, features: Tensor, size: Tensor) -> TorchDistributionMixin:
        """Negative binomial around the mean n ρ."""
        dispersion = self.dispersion
        log_mean = self.log_rate(loc) + size.log()
        count = dispersion.reciprocal().expand_as(log_mean)
        return _NegativeBinomial(count, logits=log_mean + dispersion.log())

    @staticmethod
    def _spread(mean: Tensor, size: Tensor, gamma: Tensor) -> Tensor:
        """What a Poisson and a `gamma` part of the logarithm's moments are of log(1 + x / n)."""
        return (mean + gamma * mean.square()) / (size + mean).square()


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


def reads_counts(noise: Any) -> TypeGuard[CountNoise]:
    """Whether a noise model is one of raw counts, rather than of standardised values.

    Raises:
        ConfigError: It says that it is, but is no `CountNoise`, or that it is something else.
    """
    response = getattr(noise, "response", "standardised")
    if response == "standardised":
        return False
    if response == "counts" and isinstance(noise, CountNoise):
        return True
    raise ConfigError(
        f"noise: expected response = 'standardised', or 'counts' in a subclass of CountNoise, got "
        f"{response!r} in {type(noise).__name__}. Extend pyro_metacadi.models.noise.CountNoise."
    )


def sizes_of(noise: Any, x: Float[Tensor, "*batch variable"]) -> tuple[Tensor, ...]:
    """What a noise model's methods are told of rows beside the rest: of counts, their sizes."""
    return (noise.size(x),) if reads_counts(noise) else ()
