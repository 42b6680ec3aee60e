"""Increasing functions of one variable, with their slope and inverse."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Warp"]

HALVINGS = 60


@dataclass(frozen=True, eq=False)
class Warp:
    r"""One increasing function for each variable, which maps -1 to -1 and 1 to 1.

    It is h, scaled and shifted,

    .. math:: h(x) = x + \sum_k a_k \tanh(b_k (x - c_k)),

    whose slope is at least 1, and which far away is a line: no value overflows.

    Attributes:
        height: a > 0.
        steepness: b > 0.
        centre: c.

    Source: Snelson, Rasmussen and Ghahramani, Warped Gaussian processes, NIPS 2003.
    """

    height: Float[Tensor, "variable step"]
    steepness: Float[Tensor, "variable step"]
    centre: Float[Tensor, "variable step"]

    def __call__(self, x: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch variable"]:
        """Value at x."""
        low, high = self._ends()
        return (2 * self._sum(x) - low - high) / (high - low)

    def log_slope(self, x: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch variable"]:
        """Log derivative at x."""
        low, high = self._ends()
        return self._slope(x).log() + math.log(2) - (high - low).log()

    def solve(self, value: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch variable"]:
        """The x with this value, to the precision of its dtype; differentiable."""
        low, high = self._ends()
        goal = ((high - low) * value + low + high) / 2
        with torch.no_grad():
            x = self._bisect(goal)
            slope = self._slope(x)
        # One Newton step has the derivative of the inverse function, in x and in the parameters.
        return x - (self._sum(x) - goal) / slope

    def _bisect(self, goal: Tensor) -> Tensor:
        exact = Warp(self.height.double(), self.steepness.double(), self.centre.double())
        wanted = goal.double()
        reach = exact.height.sum(-1)
        below, above = wanted - reach, wanted + reach
        for _ in range(HALVINGS):
            middle = (below + above) / 2
            less = exact._sum(middle) < wanted
            below, above = torch.where(less, middle, below), torch.where(less, above, middle)
        return ((below + above) / 2).to(goal.dtype)

    def _steps(self, x: Tensor) -> Float[Tensor, "*batch variable step"]:
        return torch.tanh(self.steepness * (x.unsqueeze(-1) - self.centre))

    def _sum(self, x: Tensor) -> Tensor:
        return x + (self.height * self._steps(x)).sum(-1)

    def _slope(self, x: Tensor) -> Tensor:
        return 1 + (self.height * self.steepness * (1 - self._steps(x).square())).sum(-1)

    def _ends(self) -> tuple[Float[Tensor, " variable"], Float[Tensor, " variable"]]:
        one = torch.ones_like(self.centre[:, 0])
        return self._sum(-one), self._sum(one)
