"""Sums over each task's rows of values, their predictions, and squares and products of these."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.task_values import TaskValues

__all__ = ["Moments"]

SUMS = ("x", "f", "xf", "ff", "spread")


@dataclass(frozen=True, eq=False)
class Moments:
    """All that the law asks of values and predictions: sums over each task's rows.

    Attributes:
        values: The values.
        count: Rows.
        x: Sum of values, in the law's units.
        f: Of predictions.
        xf: Of products.
        ff: Of squared predictions.
        spread: Of the predictions' variances.
        central: Sums of x and of f, of their squares and of their products, less the offset.
    """

    values: TaskValues
    count: Float[Tensor, " task"]
    x: Float[Tensor, "set task"]
    f: Float[Tensor, "set task"]
    xf: Float[Tensor, "set task"]
    ff: Float[Tensor, "set task"]
    spread: Float[Tensor, "set task"] | float
    central: tuple[Float[Tensor, "set task"], ...]

    @classmethod
    def of(
        cls,
        values: TaskValues,
        prediction: Float[Tensor, "set row"],
        *,
        spread: Float[Tensor, "set task"] | float,
    ) -> "Moments":
        """Sums in the units of the law, of standardised predictions and their variances."""
        rows, unit, offset = values.rows, values.scale.unsqueeze(-1), values.offset.unsqueeze(-1)
        n, exact = rows.num_rows, prediction.double()
        x, xx = unit * values.total, unit.square() * values.square
        f, ff = unit * rows.sum(exact), unit.square() * rows.sum(exact.square())
        xf = unit.square() * rows.sum(values.x * exact)
        return cls(
            values,
            n,
            x + n * offset,
            f + n * offset,
            xf + offset * (x + f) + n * offset.square(),
            ff + 2 * offset * f + n * offset.square(),
            unit.square() * spread,
            (x, f, xx, xf, ff),
        )

    @classmethod
    def joined(cls, parts: Sequence["Moments"]) -> "Moments":
        """Of several groups of sets, one after the other."""
        sums: dict[str, Any] = {
            name: torch.cat([getattr(part, name) for part in parts]) for name in SUMS
        }
        central = tuple(map(torch.cat, zip(*(part.central for part in parts), strict=True)))
        values = TaskValues.joined([part.values for part in parts])
        return cls(values=values, count=parts[0].count, central=central, **sums)

    def residual(
        self, slope: Float[Tensor, ""], intercept: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, "set task"], Float[Tensor, "set task"]]:
        """Sums of x - a f - b and of its square over each task's rows."""
        x, f, xx, xf, ff = self.central  # a large offset would cost the squares their digits
        left = intercept + (slope - 1) * self.values.offset.unsqueeze(-1)
        total = x - slope * f - self.count * left
        square = xx + slope * (slope * ff - 2 * xf)
        square = square + left * (self.count * left - 2 * (x - slope * f))
        return total, square.clamp(min=0)
