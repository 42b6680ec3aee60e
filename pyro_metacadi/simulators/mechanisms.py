"""What makes a variable: random functions of its parents, and what an intervention does to it."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_metacadi.simulators._arguments import check_choice, check_count, check_number

__all__ = [
    "INTERVENTIONS",
    "FourierFamily",
    "FourierFunction",
    "Intervention",
    "LinearFunction",
    "NetworkFunction",
]

NUM_HIDDEN = 5
INTERVENTIONS = ("hard", "do", "shift", "mechanism")


@dataclass(frozen=True, eq=False)
class FourierFunction:
    """f(x) = sum_m weight_m cos(frequency_m . x + phase_m), or a batch of such functions.

    Without parents it is a constant.

    Attributes:
        frequency: Per unit of the parents.
        phase: In radians.
        weight: In units of the child.
    """

    frequency: Float[Tensor, "*batch parent feature"]
    phase: Float[Tensor, "*batch feature"]
    weight: Float[Tensor, "*batch feature"]

    def __call__(self, parents: Float[Tensor, "sample parent"]) -> Float[Tensor, " sample"]:
        """Evaluate one function on all rows, or, of a batch, each function on its own row."""
        angle = (parents.unsqueeze(-2) @ self.frequency).squeeze(-2) + self.phase
        return (angle.cos() * self.weight).sum(-1)

    def __getitem__(self, index: Int[Tensor, " sample"]) -> "FourierFunction":
        return FourierFunction(self.frequency[index], self.phase[index], self.weight[index])

    def scaled(self, factor: float) -> "FourierFunction":
        """Return `factor` times this function."""
        return replace(self, weight=factor * self.weight)


@dataclass(frozen=True)
class FourierFamily:
    """Draws from a Gaussian process with an RBF kernel of unit variance, by random features.

    Attributes:
        num_features: The kernel is approximated to about 1 / sqrt(num_features).
        length_scale: Distance over all parents jointly at which the correlation is exp(-1/2).

    Raises:
        ConfigError: Either is not positive.

    Source:
        Rahimi and Recht, Random features for large-scale kernel machines, NIPS 2007.
    """

    num_features: int
    length_scale: float | int

    def __post_init__(self) -> None:
        check_count("num_features", self.num_features)
        check_number("length_scale", self.length_scale, sign="positive")

    def draw(
        self, num_parents: int, *, batch: tuple[int, ...] = (), generator: torch.Generator
    ) -> FourierFunction:
        """Draw a function of `num_parents` variables, or a `batch` of independent ones."""
        like: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
        shape = (*batch, self.num_features)
        frequency = torch.randn(*batch, num_parents, self.num_features, **like) / self.length_scale
        phase = 2 * math.pi * torch.rand(shape, **like)
        weight = math.sqrt(2 / self.num_features) * torch.randn(shape, **like)
        return FourierFunction(frequency, phase, weight)


@dataclass(frozen=True, eq=False)
class NetworkFunction:
    """f(x) = sum_h out_weight_h sigmoid(in_weight_h . x + in_bias_h) + out_bias.

    Attributes:
        in_weight: Per unit of the parents.
        in_bias: Of each hidden unit.
        out_weight: In units of the child.
        out_bias: In units of the child.
    """

    in_weight: Float[Tensor, "parent hidden"]
    in_bias: Float[Tensor, " hidden"]
    out_weight: Float[Tensor, " hidden"]
    out_bias: Float[Tensor, ""]

    def __call__(self, parents: Float[Tensor, "sample parent"]) -> Float[Tensor, " sample"]:
        """Evaluate the network on all rows."""
        return (parents @ self.in_weight + self.in_bias).sigmoid() @ self.out_weight + self.out_bias

    @classmethod
    def draw(cls, num_parents: int, *, generator: torch.Generator) -> "NetworkFunction":
        """Draw all weights and biases from N(0, 1)."""
        shapes = ((num_parents, NUM_HIDDEN), (NUM_HIDDEN,), (NUM_HIDDEN,), ())
        return cls(*(_normal(shape, generator=generator) for shape in shapes))


@dataclass(frozen=True, eq=False)
class LinearFunction:
    """f(x) = weight . x; 0 without parents.

    Attributes:
        weight: Of each parent.
    """

    weight: Float[Tensor, " parent"]

    def __call__(self, parents: Float[Tensor, "sample parent"]) -> Float[Tensor, " sample"]:
        """Evaluate the function on all rows."""
        return parents @ self.weight

    @classmethod
    def draw(cls, num_parents: int, *, generator: torch.Generator) -> "LinearFunction":
        """Draw all weights from N(0, 1)."""
        return cls(_normal((num_parents,), generator=generator))


@dataclass(frozen=True)
class Intervention:
    """What happens to a variable that is a target: x_i = f_i(parents) + noise becomes

    * ``hard``: N(mean, scale^2), whatever the parents;
    * ``do``: the constant `mean`;
    * ``shift``: f_i(parents) + noise + `shift`;
    * ``mechanism``: another function of the same parents, drawn per task, with the same noise.

    Attributes:
        kind: One of these names.
        mean: In units of the variables; read by ``hard`` and ``do``.
        scale: Standard deviation; read by ``hard``.
        shift: In units of the variables; read by ``shift``.

    Raises:
        ConfigError: An unknown kind, a number that is not finite, or a scale that is not positive.
    """

    kind: str
    mean: float | int
    scale: float | int
    shift: float | int

    def __post_init__(self) -> None:
        check_choice("intervention", self.kind, known=INTERVENTIONS)
        check_number("intervention_mean", self.mean)
        check_number("intervention_scale", self.scale, sign="positive")
        check_number("intervention_shift", self.shift)

    @property
    def replaces(self) -> bool:
        """Whether a target no longer depends on its parents, nor on how it scattered."""
        return self.kind in ("hard", "do")

    def apply(
        self,
        loc: Float[Tensor, " sample"],
        scale: Float[Tensor, " sample"],
        *,
        hit: Bool[Tensor, " sample"],
    ) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
        """Return mean and standard deviation after the intervention on the rows `hit`.

        A standard deviation of 0 is a point mass. ``mechanism`` changes the function that `loc`
        came from, and nothing here.
        """
        if self.kind == "shift":
            return loc + self.shift * hit, scale
        if self.kind == "hard":
            return loc.masked_fill(hit, self.mean), scale.masked_fill(hit, self.scale)
        if self.kind == "do":
            return loc.masked_fill(hit, self.mean), scale.masked_fill(hit, 0.0)
        return loc, scale


def _normal(shape: tuple[int, ...], *, generator: torch.Generator) -> Float[Tensor, "..."]:
    return torch.randn(shape, generator=generator, dtype=torch.float64)
