"""What a report is about."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.estimator import MetaCaDI
from pyro_metacadi.inference.posterior import Posterior

__all__ = ["Subject"]

MOST_BY_GRAPH = 2**25  # probabilities: a quarter of a gigabyte


@dataclass(frozen=True)
class Subject:
    """A fitted model and the tasks whose targets are reported, judged once for all parts.

    Attributes:
        model: The model.
        posterior: For the tasks.
        is_new: Whether the tasks are other than those trained on.
    """

    model: MetaCaDI
    posterior: Posterior
    is_new: bool

    @property
    def tasks(self) -> TaskDataset:
        """Tasks whose targets are reported."""
        return self.posterior.tasks

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """Of the model, every series ``[chain, step]``."""
        return {name: np.atleast_2d(values) for name, values in self.model.history.items()}

    @property
    def num_chains(self) -> int:
        """Independent chains, or restarts."""
        return len(self.history["loss"])

    @cached_property
    def edges_by_chain(self) -> Float[np.ndarray, "chain parent child"]:
        """Probability of every edge by each chain."""
        return self.posterior.edge_probs_by_chain().values

    @cached_property
    def targets_by_graph(self) -> Float[np.ndarray, "graph task variable"] | None:
        """Target probabilities given each sampled graph; None where that would be too much."""
        num_tasks, d = self.posterior.target_probs.shape
        if self.num_chains * self.posterior.num_graphs * num_tasks * d > MOST_BY_GRAPH:
            return None
        return self.posterior.target_probs_by_graph().values.reshape(-1, num_tasks, d)
