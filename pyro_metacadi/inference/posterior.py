"""The posterior over the graph and over the intervention targets of a set of tasks."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pyro_metacadi.checks import check_count, check_seed, check_threshold
from pyro_metacadi.data.declared import HIT, NOT_HIT, UNKNOWN
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.inference.chains import NUM_GRAPHS, Chain
from pyro_metacadi.inference.conflicts import Conflict, find_conflicts
from pyro_metacadi.inference.curves import Curves
from pyro_metacadi.inference.exported import Exported
from pyro_metacadi.inference.interventions import Interventions
from pyro_metacadi.inference.joint_draws import DIMS
from pyro_metacadi.inference.surroundings import Trained

if TYPE_CHECKING:
    import networkx
    import pandas

__all__ = ["Posterior"]


class Posterior(Exported, Interventions, Curves):
    """What was learned about the graph, and about who was hit in each of `tasks`.

    Made by `MetaCaDI.posterior` (training tasks) and `MetaCaDI.adapt` (other tasks). Nothing here
    trains: the chains judge a task by all its rows (the engine ``svi`` by Eq. 6, in closed form),
    and target probabilities average over graphs drawn from them.

    Args:
        chains: Posteriors over graphs, fitted independently by one engine; all count alike.
        tasks: The tasks, in the user's units.
        standardised: Their rows in the units of the chains, one array ``[rows, variable]`` each.
        num_graphs: Graphs per chain that target probabilities average over; default 32.
        seed: Of these graphs.
        restore: Maps rows ``[..., variable]`` of the chains' units to the user's.
        history: Of each chain, the ``loss`` of its fit.
        attrs: Written into `to_inference_data`.
        trained: What the chains were fitted to, which predictions need.

    Raises:
        ConfigError: `num_graphs` or `seed` is no such number.
    """

    def __init__(
        self,
        chains: Sequence[Chain],
        tasks: TaskDataset,
        *,
        standardised: Sequence[np.ndarray],
        num_graphs: int | None = None,
        seed: int = 0,
        restore: Callable[[np.ndarray], np.ndarray] = np.asarray,
        history: Sequence[Mapping[str, np.ndarray]] = (),
        attrs: Mapping[str, str | float] | None = None,
        trained: Trained | None = None,
    ) -> None:
        self.tasks, self._trained = tasks, trained
        self._restore, self._history = restore, history
        self._chains, self._seed, self._attrs = chains, check_seed(seed), dict(attrs or {})
        num_graphs = NUM_GRAPHS if num_graphs is None else num_graphs
        self._num_graphs = check_count("num_graphs", num_graphs)
        # Chains of one fit prepare alike.
        self._prepared = chains[0].prepare(standardised, known=tasks.known_targets)

    def __repr__(self) -> str:
        return (
            f"<Posterior: {len(self.tasks)} tasks, {len(self.tasks.variables)} variables, "
            f"{len(self._chains)} chain(s)>"
        )

    @property
    def num_graphs(self) -> int:
        """Graphs per chain that target probabilities average over."""
        return self._num_graphs

    @cached_property
    def edge_probs(self) -> xr.DataArray:
        """Probability of every edge X_parent -> X_child, dims (parent, child).

        ``attrs["note"]`` says whether it is exact under the guide (svi), a mean over draws (svi,
        where the graph prior's demands leave no closed form), or a share of sampled graphs
        (evidence).
        """
        values = self._array("edge_prob", self._edge_prob_per_chain.mean(0))
        values.attrs["note"] = self._chains[0].edge_probability_note
        return values

    @cached_property
    def target_probs(self) -> xr.DataArray:
        """Probability that a variable was intervened on in a task, dims (task, variable).

        Exactly 1 or 0 where that was declared.
        """
        return self._array("target_prob", self._target_prob_per_chain.mean(0))

    def edge_probs_by_chain(self) -> xr.DataArray:
        """`edge_probs` of every chain, dims (chain, parent, child): do restarts agree?"""
        coords = {dim: self._coords[dim] for dim in DIMS["edge_prob"]}
        dims = ("chain", *DIMS["edge_prob"])
        return xr.DataArray(self._edge_prob_per_chain, dims=dims, coords=coords, name="edge_probs")

    def target_probs_by_graph(self) -> xr.DataArray:
        """`target_probs` if the graph were known, dims (chain, draw, task, variable).

        Draws are the graphs that `target_probs` averages over: their spread says how much a
        probability depends on the graph. It takes the memory of so many tables.
        """
        drawn = self._graphs(self._num_graphs, seed=self._seed)
        probs = [
            chain.target_probability_by_graph(self._prepared, graphs) for chain, graphs in drawn
        ]
        return self._dataset({"target_prob": np.stack(probs)})["target_prob"]

    def rank_targets(self) -> "pandas.DataFrame":
        """Every task's variables from most to least suspicious.

        Returns:
            Columns task, rank (1 = most suspicious), variable, probability, and declared: whether
            it was known beforehand. Declared targets come first in their task and what it was
            declared not to hit last; ``.query("not declared")`` leaves the suspects.
        """
        import pandas as pd

        probs = self.target_probs.values
        order = np.argsort(-probs, axis=1, kind="stable")
        num_tasks, d = probs.shape
        known = self.tasks.known_targets
        declared = np.zeros(probs.shape, dtype=bool) if known is None else known != UNKNOWN
        if known is not None:  # the rest of a task may be just as probable, by rounding
            certain = np.select([known == HIT, known == NOT_HIT], [2, -1], probs)
            order = np.argsort(-certain, axis=1, kind="stable")
        return pd.DataFrame(
            {
                "task": np.repeat(self.tasks.tasks, d),
                "rank": np.tile(np.arange(1, d + 1), num_tasks),
                "variable": np.asarray(self.tasks.variables)[order].ravel(),
                "probability": np.take_along_axis(probs, order, axis=1).ravel(),
                "declared": np.take_along_axis(declared, order, axis=1).ravel(),
            }
        )

    def to_networkx(self, threshold: float = 0.5) -> "networkx.DiGraph":
        """Edges at least as probable as `threshold`, with attribute ``probability``.

        Above 1/2 every edge follows the most probable order, so the graph is acyclic for one
        chain; at lower thresholds, averaged over chains, or where a graph prior prescribes some of
        the order, it may have cycles.

        Raises:
            ConfigError: `threshold` is not above 0 and at most 1.
        """
        import networkx as nx

        check_threshold(threshold)
        graph = nx.DiGraph()
        graph.add_nodes_from(self.tasks.variables)
        for i, j in np.argwhere(self.edge_probs.values >= threshold):
            parent, child = self.tasks.variables[i], self.tasks.variables[j]
            graph.add_edge(parent, child, probability=float(self.edge_probs[i, j]))
        return graph

    @cached_property
    def conflicts(self) -> list[Conflict]:
        """Declared targets that the rows speak against with 10 nats or more, the worst first.

        None are found by the engine ``svi``, whose mechanisms of hits are fitted to the same rows.
        """
        if self.tasks.known_targets is None:
            return []
        found = [
            chain.target_evidence(self._prepared, graphs)
            for chain, graphs in self._graphs(self._num_graphs, seed=self._seed)
        ]
        evidence = [one for one in found if one is not None]
        return find_conflicts(self.tasks, np.mean(evidence, axis=0)) if evidence else []

    def _array(self, name: str, values: np.ndarray) -> xr.DataArray:
        coords = {dim: self._coords[dim] for dim in DIMS[name]}
        return xr.DataArray(values, dims=DIMS[name], coords=coords, name=f"{name}s")
