"""Laws of the noise of one variable: Gaussian, of varying scale, distorted, or heavy-tailed.

All are x = g(loc + scale * factor(parents) * e) with e of mean 0 and variance 1. The average of the
factor is 1, and g keeps mean and standard deviation, over rows without interventions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_metacadi.ops.graphs import topological_order

__all__ = [
    "NOISES",
    "GaussianLaw",
    "HeteroscedasticLaw",
    "PostNonlinearLaw",
    "StudentTLaw",
    "draw_laws",
]

NUM_REFERENCE = 2000
"""Rows without interventions over which averages are taken."""


@dataclass(frozen=True, eq=False)
class GaussianLaw:
    """e ~ N(0, 1), factor 1, g(y) = y: what the other laws change one part of."""

    def factor(self, parents: Float[Tensor, "sample parent"]) -> Float[Tensor, " sample"]:
        """What the standard deviation is multiplied by."""
        return torch.ones(len(parents), dtype=torch.float64)

    def draw(
        self, normal: Float[Tensor, " sample"], *, generator: torch.Generator
    ) -> Float[Tensor, " sample"]:
        """Values of e made of standard `normal` ones and, if need be, further random numbers."""
        return normal

    def log_prob(self, e: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
        """Log density of e."""
        return -0.5 * e**2 - 0.5 * math.log(2 * math.pi)

    def distort(self, y: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
        """g(y)."""
        return y

    def restore(
        self, x: Float[Tensor, " sample"]
    ) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
        """The y with g(y) = x, and log dy/dx."""
        return x, torch.zeros_like(x)


@dataclass(frozen=True, eq=False)
class HeteroscedasticLaw(GaussianLaw):
    """The factor is exp(f(parents) - offset), f a random function of the mechanisms' family.

    Attributes:
        function: f.
        offset: Makes the average factor 1.
    """

    function: Any
    offset: float

    def factor(self, parents: Float[Tensor, "sample parent"]) -> Float[Tensor, " sample"]:
        """See `GaussianLaw.factor`."""
        return (self.function(parents) - self.offset).exp()


@dataclass(frozen=True, eq=False)
class StudentTLaw(GaussianLaw):
    """e is Student's t, divided by its standard deviation.

    Attributes:
        degrees_of_freedom: At least 3.
    """

    degrees_of_freedom: int

    @property
    def _deviation(self) -> float:
        return math.sqrt(self.degrees_of_freedom / (self.degrees_of_freedom - 2))

    def draw(
        self, normal: Float[Tensor, " sample"], *, generator: torch.Generator
    ) -> Float[Tensor, " sample"]:
        """See `GaussianLaw.draw`: a normal over the root of a mean of squared normals."""
        shape = (len(normal), self.degrees_of_freedom)
        squares = torch.randn(shape, generator=generator, dtype=torch.float64) ** 2
        return normal / squares.mean(1).sqrt() / self._deviation

    def log_prob(self, e: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
        """See `GaussianLaw.log_prob`."""
        law = torch.distributions.StudentT(torch.tensor(float(self.degrees_of_freedom)).double())
        return law.log_prob(e * self._deviation) + math.log(self._deviation)


@dataclass(frozen=True, eq=False)
class PostNonlinearLaw(GaussianLaw):
    r"""g(y) = offset + gain sinh(tail asinh((y - centre) / spread) + skew), strictly increasing.

    Attributes:
        tail: Above 1, far values are drawn apart, as |y|^tail; below, together.
        skew: Above 0, high values are drawn apart more than low ones.
        centre: Mean of y.
        spread: Standard deviation of y.
        offset: Makes the mean of g(y) that of y.
        gain: Makes the standard deviation of g(y) that of y.

    Source:
        Jones and Pewsey, Sinh-arcsinh distributions, Biometrika 2009; the model is that of Zhang
        and Hyvärinen, On the identifiability of the post-nonlinear causal model, UAI 2009.
    """

    tail: float
    skew: float
    centre: float = 0.0
    spread: float = 1.0
    offset: float = 0.0
    gain: float = 1.0

    @classmethod
    def fitted(cls, y: Float[Tensor, " sample"], *, tail: float, skew: float) -> "PostNonlinearLaw":
        """The law of this shape that keeps mean and standard deviation of `y`."""
        centre, spread = y.mean().item(), y.std().item()
        bent = cls(tail, skew, centre, spread).distort(y)
        gain = spread / bent.std().item()
        return cls(tail, skew, centre, spread, centre - gain * bent.mean().item(), gain)

    def distort(self, y: Float[Tensor, " sample"]) -> Float[Tensor, " sample"]:
        """See `GaussianLaw.distort`."""
        angle = self.tail * ((y - self.centre) / self.spread).asinh() + self.skew
        return self.offset + self.gain * angle.sinh()

    def restore(
        self, x: Float[Tensor, " sample"]
    ) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
        """See `GaussianLaw.restore`; in closed form."""
        bent = (x - self.offset) / self.gain
        angle = (bent.asinh() - self.skew) / self.tail
        # The derivative of sinh(angle); that of asinh is 1 / sqrt(1 + bent²).
        log_slope = angle.cosh().log() - 0.5 * torch.log1p(bent**2)
        scale = math.log(self.spread / (self.gain * self.tail))
        return self.centre + self.spread * angle.sinh(), log_slope + scale


DrawFunction = Callable[..., Any]
DrawLaw = Callable[..., GaussianLaw]


def draw_laws(
    noise: str,
    adjacency: Int[Tensor, "parent child"],
    *,
    functions: Sequence[Any],
    noise_scale: Float[Tensor, " variable"],
    draw_function: DrawFunction,
    generator: torch.Generator,
) -> tuple[GaussianLaw, ...]:
    """Draw a law for each variable of a system.

    Args:
        noise: One of `NOISES`.
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        functions: Of each variable's parents.
        noise_scale: Standard deviations, or their averages.
        draw_function: Draws a function of so many parents, for scales that depend on them.
        generator: Source of randomness; none is used for Gaussian noise.
    """
    if noise == "gaussian":
        return (GaussianLaw(),) * len(functions)
    laws = [GaussianLaw()] * len(functions)
    rows = torch.zeros(NUM_REFERENCE, len(functions), dtype=torch.float64)
    for child in topological_order(adjacency).tolist():
        parents = rows[:, adjacency[:, child].bool()]
        loc, scale = functions[child](parents), noise_scale[child]
        normal = torch.randn(NUM_REFERENCE, generator=generator, dtype=torch.float64)
        law = _DRAW[noise](
            parents, loc + scale * normal, draw_function=draw_function, generator=generator
        )
        e = law.draw(normal, generator=generator)
        rows[:, child] = law.distort(loc + scale * law.factor(parents) * e)
        laws[child] = law
    return tuple(laws)


def _draw_heteroscedastic(
    parents: Float[Tensor, "sample parent"],
    y: Float[Tensor, " sample"],
    *,
    draw_function: DrawFunction,
    generator: torch.Generator,
) -> GaussianLaw:
    if not parents.shape[1]:
        return GaussianLaw()
    function = draw_function(parents.shape[1], generator=generator)
    offset = function(parents).logsumexp(0).item() - math.log(len(parents))
    return HeteroscedasticLaw(function, offset)


def _draw_post_nonlinear(
    parents: Float[Tensor, "sample parent"],
    y: Float[Tensor, " sample"],
    *,
    draw_function: DrawFunction,
    generator: torch.Generator,
) -> GaussianLaw:
    size, sign, skew = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    tail = math.exp((0.4 + 0.3 * size) * (1 if sign < 0.5 else -1))
    return PostNonlinearLaw.fitted(y, tail=tail, skew=1.6 * skew - 0.8)


def _draw_student_t(
    parents: Float[Tensor, "sample parent"],
    y: Float[Tensor, " sample"],
    *,
    draw_function: DrawFunction,
    generator: torch.Generator,
) -> GaussianLaw:
    return StudentTLaw(int(torch.randint(3, 6, (), generator=generator)))


_DRAW: dict[str, DrawLaw] = {
    "heteroscedastic": _draw_heteroscedastic,
    "post-nonlinear": _draw_post_nonlinear,
    "student_t": _draw_student_t,
}
NOISES = ("gaussian", *_DRAW)
