"""Which chains of a simulation are run, and when each cell is read from its chain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from pyro_metacadi.simulators.grn import longest_paths

__all__ = ["Schedule", "independent_cells", "pick_cells", "snapshots_of_trajectories"]

# Both of the original: steps of a trajectory per cell that is read from it, and the steps by which
# genes are read later than the genes which they regulate.
STEPS_PER_SNAPSHOT = 15
STEPS_PER_LEVEL = 10


@dataclass(frozen=True, eq=False)
class Schedule:
    """Chains, each of one task and cell type, and the steps after which their cells are read.

    Cells are numbered task after task, snapshot after snapshot, cell type after cell type.

    Attributes:
        task: Of each chain.
        cell_type: Of each chain.
        chain: Of each cell.
        step: Steps before each cell is read.
        position: Number of each cell among all cells, of other chunks as well.
        delay: Steps by which each gene is read later than `step`.
    """

    task: Int[Tensor, " chain"]
    cell_type: Int[Tensor, " chain"]
    chain: Int[Tensor, " cell"]
    step: Int[Tensor, " cell"]
    position: Int[Tensor, " cell"]
    delay: Int[Tensor, " variable"]

    @property
    def num_steps(self) -> int:
        """Steps until the last cell has been read."""
        return int(self.step.max() + self.delay.max())

    def cells_at(self, step: int) -> Int[Tensor, " cell_now"]:
        """Which cells are read after `step` steps."""
        return torch.nonzero(self.step == step).flatten()

    def chunks(self, num_chains: int) -> Iterator["Schedule"]:
        """Split into schedules of at most so many chains."""
        for first in range(0, len(self.task), num_chains):
            chains = slice(first, first + num_chains)
            cells = (self.chain >= first) & (self.chain < first + num_chains)
            yield Schedule(
                self.task[chains],
                self.cell_type[chains],
                self.chain[cells] - first,
                self.step[cells],
                self.position[cells],
                self.delay,
            )


def independent_cells(
    cells_per_type: Sequence[int], *, num_cell_types: int, num_variables: int, burn_in: int
) -> Schedule:
    """Give every cell a chain of its own, read after `burn_in` steps.

    Args:
        cells_per_type: Cells of each cell type, for each task.
        num_cell_types: At least 1.
        num_variables: At least 1.
        burn_in: Steps.
    """
    snapshots = torch.tensor(cells_per_type)
    task = torch.arange(len(snapshots)).repeat_interleave(snapshots * num_cell_types)
    cell = torch.arange(len(task))
    return Schedule(
        task,
        torch.arange(num_cell_types).repeat(int(snapshots.sum())),
        chain=cell,
        step=torch.full_like(cell, burn_in),
        position=cell,
        delay=torch.zeros(num_variables, dtype=torch.long),
    )


def snapshots_of_trajectories(
    cells_per_type: Sequence[int],
    *,
    adjacency: Int[Tensor, "parent child"],
    num_cell_types: int,
    burn_in: int,
    generator: torch.Generator,
) -> Schedule:
    """Read all cells of a task and cell type from one chain, as the original does.

    A snapshot is one step at which every cell type gives a cell. Its step is uniform, with
    replacement, over 15 steps per snapshot. Genes are read 10 steps later than the genes that they
    regulate: the original runs a regulator for so many steps more, and reads the last ones.

    Args:
        cells_per_type: Snapshots of each task.
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        num_cell_types: At least 1.
        burn_in: Steps before genes that regulate nothing start to be read.
        generator: Source of randomness.
    """
    steps = torch.cat(
        [
            burn_in + 1 + torch.randint(STEPS_PER_SNAPSHOT * count, (count,), generator=generator)
            for count in cells_per_type
        ]
    )
    snapshot_task = torch.arange(len(cells_per_type)).repeat_interleave(
        torch.tensor(cells_per_type)
    )
    types = torch.arange(num_cell_types)
    chain = (snapshot_task.unsqueeze(1) * num_cell_types + types).flatten()
    return Schedule(
        torch.arange(len(cells_per_type)).repeat_interleave(num_cell_types),
        types.repeat(len(cells_per_type)),
        chain,
        step=steps.repeat_interleave(num_cell_types),
        position=torch.arange(len(chain)),
        delay=STEPS_PER_LEVEL * longest_paths(adjacency.T),
    )


def pick_cells(
    num_cells: int, *, num_cell_types: int, generator: torch.Generator
) -> Int[Tensor, " cell"]:
    """Which cells of a task become its rows: spread evenly over the cell types, in random order.

    Of the last snapshot, the one that is not needed in full, the cell types are drawn.
    """
    first = (num_cells - 1) // num_cell_types * num_cell_types
    last = first + torch.randperm(num_cell_types, generator=generator)[: num_cells - first]
    kept = torch.cat([torch.arange(first), last])
    return kept[torch.randperm(num_cells, generator=generator)]
