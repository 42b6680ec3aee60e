"""Joint draws of graph and targets, and of rows, from a posterior's chains."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr

from pyro_metacadi.checks import check_count
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.inference.chains import Chain, Graphs, JointChain
from pyro_metacadi.inference.replicates import replicates_of
from pyro_metacadi.inference.seeds import stream_seed

__all__ = ["DIMS", "JointDraws"]

DIMS = {
    "adjacency": ("parent", "child"),
    "intervention_target": ("task", "variable"),
    "edge_prob": ("parent", "child"),
    "target_prob": ("task", "variable"),
    "x": ("obs", "variable"),
    "log_likelihood": ("obs",),
    "log_likelihood/x": ("obs",),
    "log_prob": ("obs",),
    "observed_log_prob": ("obs",),
    "loss": ("chain", "step"),
    "obs_task": ("obs",),
    "known_targets": ("task", "variable"),
}


class JointDraws:
    """What a posterior draws; a base class of `Posterior`."""

    tasks: TaskDataset
    _chains: Sequence[Chain]
    _num_graphs: int
    _seed: int
    _prepared: Any
    _restore: Callable[[np.ndarray], np.ndarray]

    @cached_property
    def _edge_prob_per_chain(self) -> np.ndarray:
        return np.stack([chain.edge_probability() for chain in self._chains])

    @cached_property
    def _target_prob_per_chain(self) -> np.ndarray:
        first, drawn = self._chains[0], self._graphs(self._num_graphs, seed=self._seed)
        if isinstance(first, JointChain):
            probs = first.target_probabilities(self._prepared, [graphs for _, graphs in drawn])
        else:
            each = [chain.target_probability(self._prepared, graphs) for chain, graphs in drawn]
            probs = np.stack(each)
        finite = np.isfinite(probs).all(axis=(0, 2))
        if not finite.all():
            raise MetaCaDIError(
                f"targets: expected finite probabilities, got NaN at task "
                f"{self.tasks.tasks[finite.argmin()]!r}. Fit the model again: it is damaged."
            )
        return probs

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Posteriors over graphs, fitted independently."""
        return tuple(self._chains)

    def statistics(self, num_draws: int = 500, *, seed: int = 0) -> xr.Dataset:
        """What `Chain.score` says of the draws of ``sample(num_draws, seed=seed)``.

        Dims (chain, draw): svi: ``log_p``, the log density of draw and data, and ``log_q``, the
        guide's of the draw; evidence: ``lp``, the log score of the graph.
        """
        drawn = self._per_chain(num_draws, seed=seed, scored=True)
        own = {name: array for name, array in drawn.items() if array.ndim == 2}
        return xr.Dataset({name: (("chain", "draw"), array) for name, array in own.items()})

    def sample(self, num_draws: int, *, seed: int = 0) -> xr.Dataset:
        """Joint draws of graph and targets.

        Args:
            num_draws: Draws per chain.
            seed: The same seed gives the same draws; the graphs do not depend on the tasks.

        Returns:
            int8 variables ``adjacency`` (chain, draw, parent, child), each draw a DAG, and
            ``intervention_target`` (chain, draw, task, variable).
        """
        return self._dataset(self._per_chain(num_draws, seed=seed, scored=False))

    def sample_graphs(self, num_draws: int, *, seed: int = 0) -> xr.DataArray:
        """The graphs of ``sample(num_draws, seed=seed)`` alone, which is much faster."""
        graphs = [graphs.adjacency for _, graphs in self._graphs(num_draws, seed=seed)]
        draws = np.stack([adjacency.to(torch.int8).cpu().numpy() for adjacency in graphs])
        return self._dataset({"adjacency": draws})["adjacency"]

    def log_likelihood(self, *, num_draws: int = 100, seed: int = 0) -> xr.DataArray:
        """Log density of every row under joint draws, dims (chain, draw, obs).

        It is *in-sample*: a task's readouts were fitted to the very rows that are scored, which
        flatters targets. Rows of the tasks follow one another; the coordinate ``obs_task`` names
        each row's task. Units: nats, of the standardised data,
        or of counts as they are.
        """
        arrays = self._per_chain(num_draws, seed=seed, scored=True)
        values = self._dataset({"log_likelihood": arrays["log_likelihood"]})["log_likelihood"]
        values.attrs["note"] = "in-sample: readouts were fitted to these rows"
        return values.assign_coords(obs_task=("obs", self._obs_task))

    def replicate(self, num_draws: int = 50, *, seed: int = 0, prior: bool = False) -> xr.Dataset:
        """Rows that the fitted model would have in place of those that were measured.

        Variables are drawn parents first, from the mechanisms as fitted; where a variable is hit,
        from what a hit of that task looks like. Covariates, and totals of counts, are as measured.

        Args:
            num_draws: Draws per chain.
            seed: Of the draws; graphs and targets are those of ``sample(num_draws, seed=seed)``.
            prior: Whether graphs and targets are drawn from their prior instead. All else is as
                fitted: it is what the model expects of a graph, not what it knew before the data.

        Returns:
            ``adjacency``, ``intervention_target``, ``x`` (chain, draw, obs, variable) in the user's
            units, ``log_prob`` (chain, draw, obs), the log density of each row drawn given graph
            and targets, and ``observed_log_prob``, that of the row that was measured, in nats of
            the units of the chains.

        Raises:
            MetaCaDIError: The chains cannot tell: they are of an engine that draws no rows.
        """
        found = self._replicates(num_draws, seed=seed, prior=prior)
        if found is None:
            raise MetaCaDIError(
                "replicate: expected chains that can draw rows, got some of another package. "
                "Register them with `pyro_metacadi.inference.replicates.replicate`."
            )
        return self._dataset(found)

    def _graphs(self, num_draws: int, *, seed: int) -> list[tuple[Chain, Graphs]]:
        num_draws = check_count("num_draws", num_draws)
        return [
            (chain, chain.draw_graphs(num_draws, seed=stream_seed(seed, index)))
            for index, chain in enumerate(self._chains)
        ]

    def _per_chain(self, num_draws: int, *, seed: int, scored: bool) -> dict[str, np.ndarray]:
        """Every chain's joint draws, scored or not, stacked to arrays ``[chain, draw, ...]``."""
        results = []
        for index, (chain, graphs) in enumerate(self._graphs(num_draws, seed=seed)):
            draw = chain.score if scored else chain.draw_jointly
            results.append(draw(self._prepared, graphs, seed=stream_seed(seed, index)))
        return {name: np.stack([r[name] for r in results]) for name in results[0]}

    def _replicates(
        self, num_draws: int, *, seed: int, prior: bool = False
    ) -> dict[str, np.ndarray] | None:
        """What `replicate` returns, as arrays ``[chain, draw, ...]``."""
        drawn = self._graphs(num_draws, seed=seed)
        found = replicates_of(drawn, self._prepared, seed=seed, prior=prior)
        return found and {**found, "x": self._restore(found["x"]).astype(np.float32)}

    @property
    def _coords(self) -> dict[str, Any]:
        names = list(self.tasks.variables)
        return {"parent": names, "child": names, "variable": names, "task": list(self.tasks.tasks)}

    @property
    def _obs_task(self) -> np.ndarray:
        return np.repeat(np.asarray(self.tasks.tasks), self.tasks.num_rows)

    def _dataset(self, arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
        variables = {
            name: (("chain", "draw", *DIMS[name]), array) for name, array in arrays.items()
        }
        used = {dim for dims, _ in variables.values() for dim in dims}
        return xr.Dataset(variables, coords={d: c for d, c in self._coords.items() if d in used})
