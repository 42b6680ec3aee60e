"""Whether independently fitted chains tell the same."""

import numpy as np
import xarray as xr
from scipy.stats import studentized_range

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.chains import Chain
from pyro_metacadi.inference.convergence import split_rhat
from pyro_metacadi.inference.evidence_chain import EvidenceChain
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.typing import Array

__all__ = ["r_hat", "restarts"]

NUM_BLOCKS = 10
"""Parts of a Markov chain whose means tell how far its own mean can be trusted."""

LEVEL = 0.05
"""Of all edges together, by chance alone."""

MATTERS = 0.2
"""Difference of an edge's probability, beyond what sampling explains, that is worth a word."""

MANY = 10_000
"""Degrees of freedom from which on Student's law is the normal one."""


def restarts(posterior: Posterior) -> xr.Dataset:
    """How much chains differ about every edge, and how much of it sampling alone explains.

    Args:
        posterior: Of two or more chains: restarts (svi) or Markov chains (evidence).

    Returns:
        Over (parent, child): ``difference``, the largest between two chains' probabilities of the
        edge; ``by_sampling``, what the draws of chains that agree exceed in one fit in twenty, for
        any of the edges (0 where probabilities are exact); ``disagree``, whether the difference is
        larger by more than 0.2. And ``edge_prob`` (chain, parent, child).

    Raises:
        ConfigError: There is one chain only.
    """
    chains = _several(posterior, "restarts")
    probs = np.stack([chain.edge_probability() for chain in chains])
    difference = np.ptp(probs, axis=0)
    error = np.stack([_standard_error(chain) + 0 * probs[0] for chain in chains])
    by_sampling = np.sqrt((error**2).mean(0)) * _largest_range(len(chains), probs[0].size)
    dims, names = ("parent", "child"), list(posterior.tasks.variables)
    return xr.Dataset(
        {
            "difference": (dims, difference),
            "by_sampling": (dims, by_sampling),
            "disagree": (dims, difference - by_sampling > MATTERS),
            "edge_prob": (("chain", *dims), probs),
        },
        coords={"parent": names, "child": names},
    )


def r_hat(posterior: Posterior, *, num_draws: int = 500, seed: int = 0) -> xr.Dataset:
    """R-hat of every edge and target: 1 where chains tell the same, more where they do not.

    Where no draw of any chain differs, such as of an edge that is in every graph, R-hat is 0 / 0:
    NaN in ArviZ and here. That is agreement, and ``constant`` marks it. Where each chain is sure of
    another value it is infinite.

    Args:
        posterior: Of two or more chains.
        num_draws: Of each chain.
        seed: Of the draws.

    Returns:
        ``adjacency`` (parent, child) and ``intervention_target`` (task, variable): R-hat; the same
        names with ``_constant``: whether all draws of all chains are equal.

    Raises:
        ConfigError: There is one chain only, or fewer than four draws.
    """
    _several(posterior, "R-hat")
    drawn, found = posterior.sample(num_draws, seed=seed), {}
    for name, array in drawn.data_vars.items():
        values = array.values.reshape(*array.shape[:2], -1)
        constant = np.ptp(values, axis=(0, 1)) == 0
        rhat = np.full(values.shape[-1], np.nan)
        for at in np.flatnonzero(~constant):
            moves = np.ptp(values[..., at], axis=1).any()
            rhat[at] = split_rhat(values[..., at]) if moves else np.inf
        dims, shape = array.dims[2:], array.shape[2:]
        found[str(name)] = (dims, rhat.reshape(shape))
        found[f"{name}_constant"] = (dims, constant.reshape(shape))
    return xr.Dataset(found, coords=drawn.coords)


def _several(posterior: Posterior, what: str) -> tuple[Chain, ...]:
    chains = posterior.chains
    if len(chains) < 2:
        raise ConfigError(
            f"{what}: expected two or more chains, got 1. It compares independent fits, and one "
            f"has nothing to be compared with. Call fit(tasks, num_chains=4)."
        )
    return chains


def _standard_error(chain: Chain) -> Array:
    """Of the probability of every edge, by the draws that it is a share of; 0 if it is exact."""
    if not isinstance(chain, EvidenceChain):
        return np.zeros(())
    graphs = chain.adjacency.double().numpy()
    count = len(graphs)
    # A share of 0 or 1 among so many draws is not known to be just that.
    share = (graphs.sum(0) + 0.5) / (count + 1)
    variance = share * (1 - share) / count
    if count >= 2 * NUM_BLOCKS:
        blocks = np.stack([part.mean(0) for part in np.array_split(graphs, NUM_BLOCKS)])
        variance = np.maximum(variance, blocks.var(0, ddof=1) / NUM_BLOCKS)
    return np.sqrt(variance)


def _largest_range(num_chains: int, num_edges: int) -> float:
    """Of so many standard normal numbers, exceeded for any of the edges at the `LEVEL`."""
    return float(studentized_range.ppf(1 - LEVEL / num_edges, num_chains, MANY))
