"""Values of a variable, task by task, in the units in which interventions are alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.ops.generic_law import generic_log_prob
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["TaskValues", "is_present"]

ZERO = 1e-4
"""Standard deviations up to which a value is zero: rows are float32."""


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
        total: Sum of the values of each task.
        square: Sum of their squares.
    """

    x: Float[Tensor, "set row"]
    rows: TaskRows
    weight: Float[Tensor, " task"]
    scale: Float[Tensor, " set"]
    offset: Float[Tensor, " set"]
    generic: Float[Tensor, "set task"]
    total: Float[Tensor, "set task"]
    square: Float[Tensor, "set task"]

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
        """Values with their generic density and their sums."""
        generic, exact = generic_log_prob(x, rows, weight=weight), x.double()
        total, square = rows.sum(exact), rows.sum(exact.square())
        return cls(x, rows, weight, scale, offset, generic, total, square)

    @classmethod
    def joined(cls, parts: Sequence["TaskValues"]) -> "TaskValues":
        """Of several groups of sets, one after the other."""
        x, scale, offset, *sums = (
            torch.cat([getattr(part, name) for part in parts])
            for name in ("x", "scale", "offset", "generic", "total", "square")
        )
        return cls(x, parts[0].rows, parts[0].weight, scale, offset, *sums)

    @property
    def present(self) -> Bool[Tensor, "set row"]:
        """Which values are above zero, where none is below, up to rounding."""
        return is_present(self.x, scale=self.scale.unsqueeze(-1), offset=self.offset.unsqueeze(-1))

    @property
    def zero(self) -> Float[Tensor, "set 1"]:
        """Up to here a value is zero, in the law's units."""
        return ZERO * self.scale.unsqueeze(-1)

    def in_units(self, standardised: Float[Tensor, "set row"]) -> Float[Tensor, "set row"]:
        """Standardised values in the law's units, float64."""
        return standardised.double() * self.scale.unsqueeze(-1) + self.offset.unsqueeze(-1)


def is_present(
    x: Float[Tensor, "*set row"],
    *,
    scale: Float[Tensor, "*set 1"],
    offset: Float[Tensor, "*set 1"],
) -> Bool[Tensor, "*set row"]:
    """Which standardised values are above zero, up to rounding; see `TaskValues`."""
    return x.double() * scale + offset > ZERO * scale
