"""The posterior over the graph and over the intervention targets of a set of tasks."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from pyro_metacadi.checks import check_count, check_seed, check_threshold
from pyro_metacadi.data.declared import HIT, NOT_HIT, UNKNOWN
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.inference.arviz import to_inference_data
from pyro_metacadi.inference.chains import NUM_GRAPHS, Chain, Graphs, JointChain
from pyro_metacadi.inference.conflicts import Conflict, find_conflicts
from pyro_metacadi.inference.curves import Curves
from pyro_metacadi.inference.interventions import Interventions
from pyro_metacadi.inference.replicates import replicates_of
from pyro_metacadi.inference.seeds import stream_seed
from pyro_metacadi.inference.surroundings import Trained

if TYPE_CHECKING:
    import networkx
    import pandas

__all__ = ["Posterior"]

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


class Posterior(Interventions, Curves):
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
            MetaCaDIError: The chains cannot tell: those of the engine ``evidence`` where most
                values are zeros, so that hits are judged by presence and amount.
        """
        found = self._replicates(num_draws, seed=seed, prior=prior)
        if found is None:
            raise MetaCaDIError(
                "replicate: expected chains that can draw rows, got some that judge zeros by "
                "presence and amount, or are no engine's of this package. Use engine='svi', with "
                "NegativeBinomialNoise for counts."
            )
        return self._dataset(found)

    def to_inference_data(
        self, *, num_draws: int = 500, seed: int = 0, num_predictive: int = 10
    ) -> Any:
        """Joint draws and data for ArviZ: an InferenceData, or a DataTree with ArviZ 1.x.

        Groups: posterior (``adjacency``, ``intervention_target``: int8 draws; ``edge_prob``,
        ``target_prob``: each chain's probabilities, equal in all its draws), sample_stats (what
        `Chain.score` adds: ``log_p`` and ``log_q`` with the engine ``svi``, ``lp`` with
        ``evidence``; and ``loss`` (chain, step) of the fit), log_likelihood (``x``, per row,
        in-sample), posterior_predictive (``x``, the user's units), prior (``adjacency``,
        ``intervention_target``), prior_predictive (``x``: graph and targets of the prior, all else
        as fitted), observed_data (``x``, the user's units) and constant_data (``obs_task``; where
        targets were declared, ``known_targets``: 1, 0, or -1 for unknown). Chains are independent.
        ``loss`` has no draws: ``az.rhat(data.sample_stats[["lp"]])``, not of all of them. Where
        `replicate` cannot tell, posterior_predictive, prior and prior_predictive are missing.

        Args:
            num_draws: Draws per chain.
            seed: Of the draws.
            num_predictive: Draws per chain of the predictive groups and of the prior, which take
                as much room as the data each; 0 leaves these groups out.
        """
        drawn = self._per_chain(num_draws, seed=seed, scored=True)
        log_likelihood = drawn.pop("log_likelihood")
        posterior = {name: drawn.pop(name) for name in ("adjacency", "intervention_target")}
        for name, per_chain in (
            ("edge_prob", self._edge_prob_per_chain),
            ("target_prob", self._target_prob_per_chain),
        ):
            posterior[name] = np.tile(per_chain[:, None], (1, num_draws, 1, 1))
        constant = {"obs_task": self._obs_task}
        if self.tasks.known_targets is not None:
            constant["known_targets"] = self.tasks.known_targets
        groups = {
            "posterior": posterior,
            "sample_stats": {**drawn, **self._losses},
            "log_likelihood": {"x": log_likelihood},
            **self._predictive_groups(num_predictive, seed=seed),
            "observed_data": {"x": np.concatenate(self.tasks.arrays)},
            "constant_data": constant,
        }
        return to_inference_data(groups, coords=self._coords, dims=DIMS, attrs=self._attrs)

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

    def _predictive_groups(self, num_draws: int, *, seed: int) -> dict[str, dict[str, np.ndarray]]:
        if check_count("num_predictive", num_draws, minimum=0) == 0:
            return {}
        rows = self._replicates(num_draws, seed=seed)
        prior = self._replicates(num_draws, seed=seed, prior=True)
        groups = {} if rows is None else {"posterior_predictive": {"x": rows["x"]}}
        if prior is not None:
            names = ("adjacency", "intervention_target")
            groups["prior"] = {name: prior[name] for name in names}
            groups["prior_predictive"] = {"x": prior["x"]}
        return groups

    @property
    def _losses(self) -> dict[str, np.ndarray]:
        """The loss of every chain, NaN after its last step."""
        losses = [record["loss"] for record in self._history]
        return {"loss": np.array(list(zip_longest(*losses, fillvalue=np.nan))).T} if losses else {}

    @property
    def _coords(self) -> dict[str, Any]:
        names = list(self.tasks.variables)
        return {"parent": names, "child": names, "variable": names, "task": list(self.tasks.tasks)}

    @property
    def _obs_task(self) -> np.ndarray:
        return np.repeat(np.asarray(self.tasks.tasks), self.tasks.num_rows)

    def _array(self, name: str, values: np.ndarray) -> xr.DataArray:
        coords = {dim: self._coords[dim] for dim in DIMS[name]}
        return xr.DataArray(values, dims=DIMS[name], coords=coords, name=f"{name}s")

    def _dataset(self, arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
        variables = {
            name: (("chain", "draw", *DIMS[name]), array) for name, array in arrays.items()
        }
        used = {dim for dims, _ in variables.values() for dim in dims}
        return xr.Dataset(variables, coords={d: c for d, c in self._coords.items() if d in used})
