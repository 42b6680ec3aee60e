"""What a baseline says, in the form in which `pyro_metacadi.metrics` scores a posterior."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from pyro_metacadi import TaskDataset
from pyro_metacadi.typing import Array

__all__ = ["BaselineResult"]


@dataclass(frozen=True, eq=False)
class BaselineResult:
    """Edges and targets that a baseline believes in; `metrics.evaluate` takes it as a posterior.

    Attributes:
        edge_probs: DataArray over parent, child: share of the graphs that have the edge.
        target_probs: DataArray over task, variable: probability, or another score from 0 to 1 that
            rises with belief, that the task hit the variable.
        graphs: Directed acyclic graphs, 0/1, shape [draw, parent, child], all equally probable.
    """

    edge_probs: xr.DataArray
    target_probs: xr.DataArray
    graphs: Int[Array, "draw parent child"]

    @classmethod
    def of(
        cls,
        tasks: TaskDataset,
        *,
        graphs: Int[Array, "draw parent child"],
        target_probs: Float[Array, "task variable"],
    ) -> "BaselineResult":
        """Name the rows and columns as in `tasks`; edge probabilities are those of `graphs`."""
        names = list(tasks.variables)
        edges = xr.DataArray(
            np.mean(graphs, axis=0), {"parent": names, "child": names}, ("parent", "child")
        )
        targets = xr.DataArray(
            target_probs, {"task": list(tasks.tasks), "variable": names}, ("task", "variable")
        )
        return cls(edges, targets, np.asarray(graphs, dtype=np.int64))

    def sample(self, num_draws: int, *, seed: int = 0) -> xr.Dataset:
        """Go through the graphs in turn, again and again: Dataset with ``adjacency``.

        No chance is needed: of a multiple of their number, all come equally often.
        """
        graphs = self.graphs[np.arange(num_draws) % len(self.graphs)]
        return xr.Dataset({"adjacency": (("chain", "draw", "parent", "child"), graphs[None])})
