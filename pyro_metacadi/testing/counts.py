"""Noise models of counts, checked as others are: as those of rows whose sizes are known."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.noise.counts import reads_counts
from pyro_metacadi.testing.laws import SHAPE_FIX, ConformanceError, require, shaped

__all__ = ["TYPICAL", "GivenSizes", "check_reading", "is_of_counts"]

TYPICAL, SPREAD = 20.0, 0.5
"""A count like many others, and the standard deviation of logarithms."""


def is_of_counts(noise: Any) -> bool:
    """Whether it says so; raises if it lacks what such a noise model has."""
    try:
        return reads_counts(noise)
    except ConfigError as error:
        raise ConformanceError(str(error)) from error


class GivenSizes(nn.Module):
    """A noise model of counts, in units of counts of about 20, of rows of sizes from 1/2 to 2."""

    def __init__(self, noise: Any) -> None:
        super().__init__()
        self.noise, self.reads_features = noise, getattr(noise, "reads_features", True)
        mean = torch.full_like(noise.mean, math.log1p(TYPICAL)).numpy()
        names = tuple(map(str, range(len(mean))))
        noise.set_units(CountUnits(TYPICAL * len(mean), mean, 0 * mean + SPREAD, names))

    def linearize(self, x: Tensor, features: Tensor) -> Any:
        """`Noise.linearize` of these rows."""
        return self.noise.linearize(x, features, _sizes(x))

    def residual(self, x: Tensor, loc: Tensor, features: Tensor) -> Any:
        """`CountNoise.residual` of these rows."""
        return self.noise.residual(x, loc, features, _sizes(x))

    def forward(self, loc: Tensor, features: Tensor) -> Any:
        """Law of these rows."""
        return self.noise(loc, features, _sizes(loc))


def check_reading(given: GivenSizes, x: Tensor, loc: Tensor, features: Tensor) -> None:
    """Raise unless the law is one of whole numbers, and mechanisms can read any row."""
    support = given(loc, features).support
    require(
        support.is_discrete,
        "noise of counts: support of the law",
        rule="whole numbers",
        got=str(support),
        fix="Return a law of counts, such as pyro.distributions.NegativeBinomial.",
    )
    rows = torch.stack([x[0], torch.zeros_like(x[0])])
    sizes = given.noise.size(rows)
    shaped(sizes, (*rows.shape[:-1], 1), "noise of counts: size", fix=SHAPE_FIX)
    require(
        (sizes > 0).all(),
        "noise of counts: size",
        rule="positive values, of rows without any count as well",
        got="others",
        fix="Count such a row as if it had one count.",
    )
    shaped(given.noise.inputs(rows), rows.shape, "noise of counts: inputs", fix=SHAPE_FIX)


def _sizes(rows: Tensor) -> Tensor:
    sizes = torch.linspace(0.5, 2.0, rows.shape[-2], dtype=rows.dtype)
    return sizes.unsqueeze(-1).expand(*rows.shape[-3:-1], 1)
