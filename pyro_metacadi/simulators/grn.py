"""A gene regulatory network: how fast each gene is produced, given its regulators' expression."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_metacadi.ops.graphs import topological_order

__all__ = ["GeneNetwork", "Regulation", "draw_network", "longest_paths"]


@dataclass(frozen=True, eq=False)
class GeneNetwork:
    """Production of gene i in cell type c: P_i = sum over regulators j of |K_ji| H_ji(x_j).

    An activator (K > 0) has H = x^n / (h^n + x^n), a repressor (K < 0) one minus that; h is the
    half response of the regulator. A master regulator, a gene without regulators, has P_i = b_ic.

    Attributes:
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        strength: K, 0 where there is no edge.
        rate: b; 0 for genes that have regulators.
        decay: Share of the expression that decays per unit of time.
        hill: The exponent n.
    """

    adjacency: Int[Tensor, "parent child"]
    strength: Float[Tensor, "parent child"]
    rate: Float[Tensor, "cell_type variable"]
    decay: float
    hill: float

    @property
    def num_levels(self) -> int:
        """Number of genes on the longest path."""
        return int(longest_paths(self.adjacency).max()) + 1

    def regulation(
        self,
        *,
        cell_type: Int[Tensor, " chain"],
        factor: Float[Tensor, "chain variable"],
        half_response: Float[Tensor, "chain variable"],
        dtype: torch.dtype,
        device: torch.device,
    ) -> "Regulation":
        """Return the production of many chains at once.

        Args:
            cell_type: Of each chain.
            factor: What an intervention multiplies production by; 1 leaves a gene alone.
            half_response: h of every gene as a regulator.
            dtype: Of the result.
            device: Of the result.
        """
        repression = (-self.strength).clamp(min=0).sum(0)
        # With a half response of 0 an expression of 0 would give 0 / 0; its response is 0.
        half_power = (half_response**self.hill).clamp(min=torch.finfo(dtype).tiny)
        weight = self.strength.T.to(device, dtype).to_sparse_coo()
        columns = (self.rate[cell_type] + repression, factor, half_power)
        baseline, factors, halves = (c.T.contiguous().to(device, dtype) for c in columns)
        return Regulation(weight, baseline, factors, halves, self.hill)


@dataclass(frozen=True, eq=False)
class Regulation:
    """Production of all genes in all chains; one row per gene keeps a regulator's values together.

    Attributes:
        weight: Signed K, sparse: most genes have few regulators.
        baseline: b, plus |K| of the repressors: |K| (1 - H) = |K| - |K| H.
        factor: What an intervention multiplies production by.
        half_power: h^n.
        hill: The exponent n.
    """

    weight: Tensor
    baseline: Float[Tensor, "variable chain"]
    factor: Float[Tensor, "variable chain"]
    half_power: Float[Tensor, "variable chain"]
    hill: float

    def production(
        self, expression: Float[Tensor, "variable chain"]
    ) -> Float[Tensor, "variable chain"]:
        """Return P, which rounding must not make negative: it goes under a square root."""
        power = expression**self.hill
        response = power / (power + self.half_power)
        return (self.weight @ response).add_(self.baseline).clamp_(min=0).mul_(self.factor)

    def fixed_point(self, decay: float, *, num_levels: int) -> Float[Tensor, "variable chain"]:
        """Return the expression at which production and decay balance, without noise."""
        expression = torch.zeros_like(self.baseline)
        for _ in range(num_levels):
            expression = self.production(expression) / decay
        return expression


def longest_paths(adjacency: Int[Tensor, "parent child"]) -> Int[Tensor, " variable"]:
    """Number of edges on the longest path from a root to each variable.

    Args:
        adjacency: Acyclic; ``adjacency[i, j] = 1`` means X_i -> X_j.
    """
    length = torch.zeros(len(adjacency), dtype=torch.long)
    for child in topological_order(adjacency).tolist():
        parents = adjacency[:, child].bool()
        if parents.any():
            length[child] = length[parents].max() + 1
    return length


def draw_network(
    adjacency: Int[Tensor, "parent child"],
    *,
    num_cell_types: int,
    strength: tuple[float, float],
    rate: tuple[float, float],
    activation: tuple[float, float],
    decay: float,
    hill: float,
    generator: torch.Generator,
) -> GeneNetwork:
    """Draw strengths, their signs and the rates of the master regulators.

    Args:
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        num_cell_types: Each has its own rates.
        strength: Range of |K|.
        rate: Range of b.
        activation: Parameters of the Beta law of a regulator's share of activated genes.
        decay: As in `GeneNetwork`.
        hill: As in `GeneNetwork`.
        generator: Source of randomness.
    """
    size = len(adjacency)
    activates = _draw_activation(size, activation, generator=generator)
    magnitude = _uniform((size, size), strength, generator=generator)
    signed = torch.where(activates, magnitude, -magnitude) * adjacency
    rates = _uniform((num_cell_types, size), rate, generator=generator)
    masters = adjacency.sum(0) == 0
    return GeneNetwork(adjacency, signed, rates * masters, decay, hill)


def _draw_activation(
    size: int, activation: tuple[float, float], *, generator: torch.Generator
) -> Bool[Tensor, "parent child"]:
    """Whether each edge activates, by a share that its regulator draws."""
    # PyTorch's Beta sampler takes no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    share = torch.tensor(np.random.default_rng(seed).beta(*activation, size=(size, 1)))
    return torch.rand(size, size, generator=generator, dtype=torch.float64) < share


def _uniform(
    shape: tuple[int, int], limits: tuple[float, float], *, generator: torch.Generator
) -> Float[Tensor, "_ _"]:
    low, high = limits
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
