"""What every posterior over graphs can say, whichever engine fitted it."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

__all__ = ["NUM_GRAPHS", "Chain", "Graphs", "JointChain"]

NUM_GRAPHS = 32
"""Of each chain, that probabilities of targets average over unless told otherwise."""


@runtime_checkable
class Graphs(Protocol):
    """Graphs drawn from a chain; beside them, whatever else of each draw the chain needs again."""

    @property
    def adjacency(self) -> Float[Tensor, "draw parent child"]:
        """The DAGs; ``adjacency[:, i, j] = 1`` is X_i -> X_j."""
        ...


@runtime_checkable
class Chain(Protocol):
    """One posterior over graphs, a restart or a Markov chain, and what it says of tasks.

    A `Posterior` averages over chains of one kind. Whatever is random follows from `seed` alone;
    the caller's random state is untouched.
    """

    @property
    def device(self) -> torch.device:
        """Where the chain computes."""
        ...

    def prepare(
        self,
        standardised: Sequence[Float[np.ndarray, "_ variable"]],
        *,
        known: Int8[np.ndarray, "task variable"] | None = None,
    ) -> Any:
        """Rows of tasks, as the engine's scaling gives them, in the form the other methods take.

        It depends on the engine and the device only, not on what this chain learned.
        """
        ...

    def edge_probability(self) -> Float[np.ndarray, "parent child"]:
        """Probability of every edge X_parent -> X_child, float64."""
        ...

    @property
    def edge_probability_note(self) -> str:
        """How `edge_probability` comes about."""
        ...

    def draw_graphs(self, num_draws: int, *, seed: int) -> Graphs:
        """Graphs of the posterior; the same for the same seed, whatever the tasks."""
        ...

    def target_probability(self, tasks: Any, graphs: Any) -> Float[np.ndarray, "task variable"]:
        """Probability of every target, averaged over the graphs, float64."""
        ...

    def target_probability_by_graph(
        self, tasks: Any, graphs: Any
    ) -> Float[np.ndarray, "draw task variable"]:
        """Probability of every target if the graph were known to be this one, float64."""
        ...

    def target_evidence(self, tasks: Any, graphs: Any) -> Float[np.ndarray, "task variable"] | None:
        """Nats by which the rows speak for every target, whatever is known of it.

        The median over the graphs, float64; None if the chain cannot tell.
        """
        ...

    def draw_jointly(self, tasks: Any, graphs: Any, *, seed: int) -> dict[str, np.ndarray]:
        """Targets of every task for every graph.

        Returns:
            ``adjacency`` ``[draw, parent, child]`` and ``intervention_target``
            ``[draw, task, variable]``, both int8.
        """
        ...

    def score(self, tasks: Any, graphs: Any, *, seed: int) -> dict[str, np.ndarray]:
        """The draws of `draw_jointly`, and what can be said of each.

        Returns:
            The draws, ``log_likelihood`` ``[draw, row]`` (rows of the tasks one after the other),
            and statistics ``[draw]`` under names of the chain's own: ArviZ's ``sample_stats``.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that is to be saved, by name; ``history.*`` is taken. `Engine.restore` reads it."""
        ...


@runtime_checkable
class JointChain(Protocol):
    """A chain that speaks for all chains of its fit, which differ in their graphs only."""

    def target_probabilities(
        self, tasks: Any, graphs: Sequence[Any]
    ) -> Float[np.ndarray, "chain task variable"]:
        """`Chain.target_probability` of the graphs of every chain."""
        ...
