"""The system behind `sergio`: a gene network, its dynamics, and what is measured of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_metacadi.simulators.cells import (
    Schedule,
    independent_cells,
    pick_cells,
    snapshots_of_trajectories,
)
from pyro_metacadi.simulators.grn import GeneNetwork
from pyro_metacadi.simulators.langevin import Langevin, expression_of_cells
from pyro_metacadi.simulators.technical import TechnicalNoise

__all__ = ["ExpressionSystem"]

# Cells of each type in the unperturbed run that fixes the half responses of a world.
WILDTYPE_CELLS = 50


@dataclass(frozen=True, eq=False)
class ExpressionSystem:
    """Expression of genes in single cells at steady state; targets are produced at another rate.

    Attributes:
        network: Production and decay.
        langevin: The dynamics.
        burn_in: Steps before the first cell is read.
        trajectory: Whether a task's cells of one type are snapshots of one chain, which starts
            from the means of their regulators, or have a chain each.
        factor: What multiplies the production of targets.
        half_response: Of each gene as a regulator; None to estimate them in every task.
        off_targets: True where hitting the gene of the row hits the gene of the column too.
        technical: Noise of the platform, or None.
        outliers: Factors of the genes under `technical`, the same in all tasks.
        device: Where the dynamics are computed.
    """

    network: GeneNetwork
    langevin: Langevin
    burn_in: int
    trajectory: bool
    factor: float
    half_response: Float[Tensor, " variable"] | None
    off_targets: Bool[Tensor, "variable variable"]
    technical: TechnicalNoise | None
    outliers: Float[Tensor, " variable"]
    device: torch.device

    @property
    def adjacency(self) -> Int[Tensor, "parent child"]:
        """The graph; ``adjacency[i, j] = 1`` means X_i -> X_j."""
        return self.network.adjacency

    def for_tasks(self, num_tasks: int, *, generator: torch.Generator) -> "ExpressionSystem":
        """Return this system: nothing in it is new in a task."""
        return self

    def with_off_targets(
        self, intended: Int[Tensor, "task variable"]
    ) -> Int[Tensor, "task variable"]:
        """Return all variables that are hit where the `intended` ones are."""
        return ((intended + intended @ self.off_targets.long()) > 0).long()

    def with_wildtype_half_responses(
        self, *, burn_in: int, generator: torch.Generator
    ) -> "ExpressionSystem":
        """Fix each half response at the gene's mean in unperturbed cells.

        Args:
            burn_in: Steps of the cells' chains, which are independent.
            generator: Source of randomness.
        """
        free = replace(self, half_response=None, trajectory=False, burn_in=burn_in)
        unperturbed = torch.zeros(1, len(self.adjacency), dtype=torch.long)
        cells_per_type = [WILDTYPE_CELLS]
        (cells,) = free.clean_cells(unperturbed, cells_per_type=cells_per_type, generator=generator)
        return replace(self, half_response=cells.mean(0))

    def sample(
        self,
        intervention_targets: Int[Tensor, "task variable"],
        *,
        num_samples: Sequence[int],
        generator: torch.Generator,
    ) -> list[Float[Tensor, "_ variable"]]:
        """Draw cells for each task, spread evenly over the cell types, in random order."""
        num_types = len(self.network.rate)
        cells = self.clean_cells(
            intervention_targets,
            cells_per_type=[-(-count // num_types) for count in num_samples],
            generator=generator,
        )
        rows = [
            table[pick_cells(count, num_cell_types=num_types, generator=generator)]
            for table, count in zip(cells, num_samples, strict=True)
        ]
        if self.technical is None:
            return rows
        return [self.technical.counts(table, self.outliers, generator=generator) for table in rows]

    def clean_cells(
        self,
        intervention_targets: Int[Tensor, "task variable"],
        *,
        cells_per_type: Sequence[int],
        generator: torch.Generator,
    ) -> list[Float[Tensor, "_ variable"]]:
        """Draw so many cells of every cell type for each task, without technical noise.

        Rows are ordered by snapshot, then by cell type.
        """
        factor = torch.where(intervention_targets.bool(), self.factor, 1.0).double()
        run = partial(
            expression_of_cells,
            self.network,
            self.langevin,
            schedule=self._schedule(cells_per_type, generator=generator),
            factor=factor,
            seed=int(torch.randint(2**62, (), generator=generator)),
            device=self.device,
        )
        num_types = len(self.network.rate)
        half = torch.ones_like(factor) if self.half_response is None else self.half_response
        half, start_at = half.expand_as(factor), None
        # What comes from the cells themselves, half responses and where genes start, takes one more
        # run with the same noise for each level of the graph: the means of one level make the next
        # level's cells final.
        again = self.trajectory or self.half_response is None
        for _ in range(self.network.num_levels if again else 1):
            cells = run(half_response=half, regulator_means=start_at)
            tables = list(cells.split([count * num_types for count in cells_per_type]))
            means = torch.stack([table.unflatten(0, (-1, num_types)).mean(0) for table in tables])
            half = means.mean(1) if self.half_response is None else half
            start_at = means if self.trajectory else None
        return tables

    def _schedule(self, cells_per_type: Sequence[int], *, generator: torch.Generator) -> Schedule:
        if self.trajectory:
            return snapshots_of_trajectories(
                cells_per_type,
                adjacency=self.adjacency,
                num_cell_types=len(self.network.rate),
                burn_in=self.burn_in,
                generator=generator,
            )
        return independent_cells(
            cells_per_type,
            num_cell_types=len(self.network.rate),
            num_variables=len(self.adjacency),
            burn_in=self.burn_in,
        )
