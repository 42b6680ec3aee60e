"""What noise models of raw counts share, such as those of single-cell sequencing.

Counts are scored as they are, and read by mechanisms as logarithms.
"""

from typing import Any, ClassVar, TypeGuard

import numpy as np
import torch
from jaxtyping import Float
from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import functional

from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.errors import ConfigError

__all__ = ["CountNoise", "reads_counts", "sizes_of"]

SHARPNESS = 5.0
"""Predictions are bent within about one fifth of a standard deviation of no count."""

LEAST, MOST = 1e-6, 40.0
"""Of log(1 + rate): what no logarithm or exponential could hold is left out."""

FARTHEST = 100.0
"""Residuals are cut there, far beyond those of any count that the law lets expect."""


class CountNoise(PyroModule):
    r"""What noise models of raw counts share: units, and what a prediction says of the rate.

    With n the size of a row, a count x is read by mechanisms as log(1 + x / n), standardised, and
    they predict in these units. With m and s mean and standard deviation, a prediction f says that
    the rate ρ, the expected count of a row of size 1, is

    .. math:: \log(1 + \rho) = s\, g(f + m / s), \quad g(a) = \log(1 + e^{5 a}) / 5.

    Well above a = 0, the prediction of no count, it is just a logarithm; below, it is bent so that
    the rate stays positive: there, log ρ falls by 5 for each standard deviation.

    A subclass has the methods of `Noise`, with the rows' sizes ``[task, sample, 1]`` as a third
    argument. Its law must have a mean and a variance, unless it has a `residual` of its own.

    Args:
        num_variables: d.
        num_features: Features of a mechanism; unused here.
        library_size: Whether a row's total says how deep it was measured: its size is then its
            total, relative to that of the median row in training, and taken as known. Otherwise
            all sizes are 1. A total of few variables ties each to all others, which looks like
            edges: where they were chosen among many, the total of the others may be one more
            variable, whose edges a graph prior forbids.

    Raises:
        ConfigError: `library_size` is neither True nor False.
    """

    response: ClassVar[str] = "counts"
    total: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, num_variables: int, num_features: int, *, library_size: bool = True) -> None:
        super().__init__()
        if not isinstance(library_size, bool | np.bool_):
            raise ConfigError(
                f"library_size: expected True or False, got {library_size!r}. Leave it out if "
                f"rows were measured to unequal depths."
            )
        self.library_size = bool(library_size)
        # They belong to the data, and are saved with the scaling; a gene that dominates all others
        # varies less than float32 can tell.
        zeros = torch.zeros(num_variables, dtype=torch.float64)
        self.register_buffer("total", torch.ones_like(zeros.sum()), persistent=False)
        self.register_buffer("mean", zeros, persistent=False)
        self.register_buffer("deviation", torch.ones_like(zeros), persistent=False)

    def set_units(self, units: CountUnits) -> None:
        """Take the units of the training data; those before are of no data."""
        self.total.fill_(units.total)
        self.mean.copy_(torch.as_tensor(units.mean))
        self.deviation.copy_(torch.as_tensor(units.scale))

    def size(self, x: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch 1"]:
        """How deep every row was measured; a row without any count as if it had one."""
        return self._wide_size(x).to(x.dtype)

    def inputs(
        self, x: Float[Tensor, "*batch variable"], size: Float[Tensor, "*batch 1"] | None = None
    ) -> Float[Tensor, "*batch variable"]:
        """What mechanisms read of counts: log(1 + x / size), standardised.

        A `size` is given where rows are not known as a whole.
        """
        log1p_rate = (x.double() / (self._wide_size(x) if size is None else size)).log1p()
        return ((log1p_rate - self.mean) / self.deviation).to(x.dtype)

    def log_rate(self, loc: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch variable"]:
        """Logarithm of the expected count of a row of size 1, given a prediction: the link."""
        above = loc + (self.mean / self.deviation).to(loc.dtype)  # the prediction of no count
        value = self.deviation.to(loc.dtype) * functional.softplus(above, beta=SHARPNESS)
        return value.clamp(LEAST, MOST).expm1().log()

    def prediction(self, rate: Float[Tensor, "*batch variable"]) -> tuple[Tensor, Tensor]:
        """The prediction that says so of a positive rate, and the link's slope there.

        Args:
            rate: Expected count of a row of size 1.

        Returns:
            Predictions, and derivatives of log ρ by them: 5 where they are bent, otherwise about s,
            or s (1 + ρ) / ρ of small rates.
        """
        value, deviation = rate.log1p(), self.deviation.to(rate.dtype)
        straight = -torch.expm1(-SHARPNESS * value / deviation)  # 0 where bent, else 1
        straight_loc = (value - self.mean.to(rate.dtype)) / deviation
        return straight_loc + straight.log() / SHARPNESS, deviation * straight * (1 + rate) / rate

    def residual(self, x: Tensor, loc: Tensor, features: Tensor, size: Tensor) -> Tensor:
        """Pearson's residual of a count: (x - mean) / standard deviation, by the law.

        Its mean is 0 and its variance 1 whatever the size and the rate, and it is bounded.
        """
        law: Any = self(loc, features, size)
        return ((x - law.mean) / law.variance.sqrt()).clamp(-FARTHEST, FARTHEST)

    def _wide_size(self, x: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch 1"]:
        if not self.library_size:
            return torch.ones_like(x[..., :1], dtype=torch.float64)
        return x.double().sum(-1, keepdim=True).clamp(min=1.0) / self.total


def reads_counts(noise: Any) -> TypeGuard[CountNoise]:
    """Whether a noise model is one of raw counts, rather than of standardised values.

    Raises:
        ConfigError: It says that it is, but is no `CountNoise`, or that it is something else.
    """
    response = getattr(noise, "response", "standardised")
    if response == "standardised":
        return False
    if response != "counts" or not isinstance(noise, CountNoise):
        raise ConfigError(
            f"noise: expected response = 'standardised', or 'counts' in a subclass of CountNoise, "
            f"got {response!r} in {type(noise).__name__}. Extend "
            f"pyro_metacadi.models.noise.CountNoise."
        )
    if not hasattr(noise, "deviation"):
        raise ConfigError(
            f"noise: expected a CountNoise that was initialised, got none of its buffers in "
            f"{type(noise).__name__}. Call super().__init__(num_variables, num_features) first."
        )
    return True


def sizes_of(noise: Any, x: Float[Tensor, "*batch variable"]) -> tuple[Tensor, ...]:
    """What a noise model's methods are told of rows beside the rest: of counts, their sizes."""
    return (noise.size(x),) if reads_counts(noise) else ()
