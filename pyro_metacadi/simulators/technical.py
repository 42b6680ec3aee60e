"""Technical noise: what a sequencing platform makes of the expression of cells."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators._arguments import check_choice, check_number

__all__ = [
    "PLATFORMS",
    "TechnicalNoise",
    "keep_probability",
    "resolve_technical",
    "scale_to_library",
]


@dataclass(frozen=True)
class TechnicalNoise:
    """Outlier genes, library size, dropout and counts, in this order.

    Attributes:
        outlier_probability: Chance that a gene is an outlier.
        outlier_mean: An outlier's expression is multiplied by LogNormal(mean, scale).
        outlier_scale: See `outlier_mean`.
        library_mean: A cell's total is LogNormal(mean, scale).
        library_scale: See `library_mean`.
        dropout_slope: How abruptly weak values are lost, see `keep_probability`.
        dropout_percentile: The percentile of a task's values of which half are lost.
    """

    outlier_probability: float
    outlier_mean: float
    outlier_scale: float
    library_mean: float
    library_scale: float
    dropout_slope: float
    dropout_percentile: float

    def __post_init__(self) -> None:
        for name, value in zip(self.__annotations__, astuple(self), strict=True):
            check_number(f"technical {name!r}", value)
            limit = {"outlier_probability": 1, "dropout_percentile": 100}.get(name, np.inf)
            may_be_negative = name.endswith("_mean")
            if not (value >= 0 or may_be_negative) or value > limit:
                raise ConfigError(
                    f"technical {name!r}: expected 0 to {limit}, got {value}. "
                    "Compare pyro_metacadi.simulators.technical.PLATFORMS."
                )

    def draw_outliers(
        self, num_variables: int, *, generator: torch.Generator
    ) -> Float[Tensor, " variable"]:
        """Draw the factor of every gene, 1 for all but the outliers."""
        uniform = torch.rand(num_variables, generator=generator, dtype=torch.float64)
        normal = torch.randn(num_variables, generator=generator, dtype=torch.float64)
        factor = (self.outlier_mean + self.outlier_scale * normal).exp()
        return torch.where(uniform < self.outlier_probability, factor, 1.0)

    def counts(
        self,
        expression: Float[Tensor, "sample variable"],
        outliers: Float[Tensor, " variable"],
        *,
        generator: torch.Generator,
    ) -> Float[Tensor, "sample variable"]:
        """Draw the UMI counts of one task's cells: whole numbers.

        Args:
            expression: Clean, not negative.
            outliers: Factors of the genes, from `draw_outliers`.
            generator: Source of randomness.
        """
        normal = torch.randn(len(expression), generator=generator, dtype=torch.float64)
        library = (self.library_mean + self.library_scale * normal).exp()
        scaled = scale_to_library(expression * outliers, library)
        keep = keep_probability(
            scaled, slope=self.dropout_slope, percentile=self.dropout_percentile
        )
        return torch.poisson(scaled * torch.bernoulli(keep, generator=generator), generator)


# Settings that the original's authors fitted to data of these platforms. They give three for 10x;
# the others are (.01, 3, 1, 6, .4, 8, 82) and (.01, 5, 1, 4.5, .7, 8, 45).
PLATFORMS: Mapping[str, TechnicalNoise] = {
    "10x_chromium": TechnicalNoise(0.01, 3.0, 1.0, 6.0, 0.3, 8.0, 74.0),
    "illumina": TechnicalNoise(0.01, 0.8, 1.0, 7.0, 0.4, 8.0, 80.0),
    "drop_seq": TechnicalNoise(0.01, 3.0, 1.0, 4.4, 0.8, 8.0, 85.0),
    "smart_seq": TechnicalNoise(0.01, 4.5, 1.0, 10.8, 0.55, 2.0, 92.0),
}


def scale_to_library(
    expression: Float[Tensor, "sample variable"], library: Float[Tensor, " sample"]
) -> Float[Tensor, "sample variable"]:
    """Scale each cell to the total `library`; a cell without expression stays without."""
    total = expression.sum(1, keepdim=True)
    return expression * (library.unsqueeze(1) / torch.where(total > 0, total, 1.0))


def keep_probability(
    expression: Float[Tensor, "sample variable"],
    *,
    slope: float | int,
    percentile: float | int,
) -> Float[Tensor, "sample variable"]:
    """Chance that a value is not lost: sigmoid(slope (y - m)), y = log(x + 1).

    m is the `percentile` of y over all values of the task.
    """
    logged = expression.log1p()
    # Not torch.quantile, which refuses more than 16 million values.
    middle = np.percentile(logged.numpy(), percentile)
    return torch.sigmoid(slope * (logged - float(middle)))


def resolve_technical(technical: Any) -> TechnicalNoise | None:
    """Return the settings of a platform, or those of a mapping with all fields.

    Raises:
        ConfigError: The platform is unknown, or a field is missing, unknown or out of range.
    """
    if technical is None or isinstance(technical, TechnicalNoise):
        return technical
    if not isinstance(technical, Mapping):
        return PLATFORMS[check_choice("technical", technical, known=tuple(PLATFORMS))]
    names = [field.name for field in fields(TechnicalNoise)]
    if set(technical) != set(names):
        raise ConfigError(
            f"technical: expected a mapping with {', '.join(names)}, got "
            f"{', '.join(map(str, technical)) or 'none of them'}. Give a number for each."
        )
    return TechnicalNoise(**technical)
