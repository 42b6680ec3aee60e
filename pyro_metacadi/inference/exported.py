"""A posterior as ArviZ's container."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from pyro_metacadi.checks import check_count
from pyro_metacadi.inference.arviz import to_inference_data
from pyro_metacadi.inference.joint_draws import DIMS, JointDraws

__all__ = ["Exported"]


class Exported(JointDraws):
    """What a posterior tells ArviZ; a base class of `Posterior`."""

    _history: Sequence[Mapping[str, np.ndarray]]
    _attrs: Mapping[str, str | float]

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
