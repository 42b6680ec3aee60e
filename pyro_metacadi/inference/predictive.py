r"""What a fitted chain says of rows that it has not seen, of tasks of which it has seen a few.

A row's density is that of the graphs drawn, of which each variable is hit or not:

.. math:: p(x | S) = \frac{1}{G} \sum_g \prod_i
          [\pi_i(S, g) p_{hit}(x_i | g, S) + (1 - \pi_i(S, g)) p_{free}(x_i | g)]

with S the few rows seen. Variables are taken as independent given S, and what a hit looks like is
not learned from S but from the training tasks. Unlike `Posterior.log_likelihood`, no row has a
part in its own density.
"""

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor
from torch.nn import functional

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.counts import CountUnits
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.inference.draws import GraphDraws, SVIChain
from pyro_metacadi.inference.evidence_chain import EvidenceChain, EvidenceGraphs
from pyro_metacadi.inference.seeds import isolated

__all__ = ["log_derivative", "row_log_density"]

GRAPHS_AT_ONCE = 8


@torch.no_grad()
def row_log_density(
    chains: Sequence[Any],
    *,
    support: Sequence[Float[np.ndarray, "_ column"]],
    query: Sequence[Float[np.ndarray, "_ column"]],
    num_graphs: int,
    seed: int,
    known: Int8[np.ndarray, "task variable"] | None = None,
) -> Float[np.ndarray, " row"]:
    """Log density of every query row, given its task's support rows.

    Args:
        chains: Of one engine; all count alike.
        support: Rows seen of each task, in the units of the chains, columns as `Scaling` has them.
        query: Other rows of each task.
        num_graphs: Drawn from each chain.
        seed: Of these.
        known: Which targets of the tasks are known.

    Returns:
        Of the tasks' query rows one after the other, in the units of the chains.

    Raises:
        TypeError: A chain is of an engine that has no such density.
    """
    by_graph = [
        _by_graph(chain, chain.draw_graphs(num_graphs, seed=seed), support, query, known=known)
        for chain in chains
    ]
    joined = torch.cat(by_graph)
    return (torch.logsumexp(joined, 0) - math.log(len(joined))).cpu().numpy()


def log_derivative(
    units: Standardizer | Representation | CountUnits,
    values: Float[np.ndarray, "row variable"],
    *,
    training: Float[np.ndarray, "_ variable"],
    atom: bool = False,
) -> Float[np.ndarray, " row"]:
    """Log determinant of the map from the user's units to the chains': added to a log density.

    Args:
        units: The map; none for counts, which are scored as they are.
        values: Rows in the user's units.
        training: Rows it was fitted to. Roots and logarithms of zero have no derivative: such a
            value counts as the smallest positive one of its variable here.
        atom: Whether the law of values has an atom at zero, which has no derivative.
    """
    if isinstance(units, CountUnits):
        return np.zeros(len(values))
    if isinstance(units, Standardizer):
        return np.full(len(values), -np.log(units.scale).sum())
    smallest = np.where(training > 0, training, np.inf).min(axis=0)
    raised = np.where(values > 0, values, np.where(np.isfinite(smallest), smallest, 1.0))
    steepness = {
        "identity": np.zeros_like(values),
        "sqrt": -np.log(2) - 0.5 * np.log(raised),
        "log": -np.log(raised),
        "counts": -np.log1p(np.maximum(values, 0)),
    }[units.kind]
    steepness = steepness - np.log(units.scale[: values.shape[1]])
    return np.where(atom & (values <= 0), 0.0, steepness).sum(axis=1)


@singledispatch
def _by_graph(
    chain: Any,
    graphs: Any,
    support: Sequence[np.ndarray],
    query: Sequence[np.ndarray],
    *,
    known: Int8[np.ndarray, "task variable"] | None,
) -> Float[Tensor, "draw row"]:
    raise TypeError(f"row_log_density: no density is known for {type(chain).__name__}")


@_by_graph.register
def _(
    chain: SVIChain,
    graphs: GraphDraws,
    support: Sequence[np.ndarray],
    query: Sequence[np.ndarray],
    *,
    known: Int8[np.ndarray, "task variable"] | None,
) -> Float[Tensor, "draw row"]:
    seen = TaskBatch.from_arrays(support, known=known, device=chain.device)
    asked = TaskBatch.from_arrays(query, device=chain.device)
    batch = TaskBatch(asked.x, asked.mask, seen.x, seen.mask, seen.known)
    model, mechanisms, parts = chain.model, chain.model.mechanisms, []
    inputs = model.inputs(batch.x)
    # Outside, Pyro would take a learned noise's parameters from its global store.
    with isolated(0, chain.device):
        for values in graphs.chunks(GRAPHS_AT_ONCE):
            logits, adapted = chain.guide.infer_targets(batch, **values)
            adjacency = model.adjacency(values["order_score"], values["edge"])
            features = mechanisms.features(inputs, adjacency, adapted)
            hit, free = (
                model.law(loc, features, batch.x).log_prob(batch.x)
                for loc in (
                    mechanisms.intervene(features, adapted["readout"]),
                    mechanisms.observe(inputs, adjacency, adapted),
                )
            )
            parts.append(_mixed(logits.unsqueeze(-2), hit=hit, free=free).sum(-1)[:, batch.mask])
    return torch.cat(parts)


@_by_graph.register
def _(
    chain: EvidenceChain,
    graphs: EvidenceGraphs,
    support: Sequence[np.ndarray],
    query: Sequence[np.ndarray],
    *,
    known: Int8[np.ndarray, "task variable"] | None,
) -> Float[Tensor, "draw row"]:
    seen = chain.prepare(support, known=known)
    log_odds = chain.target_log_odds(seen, graphs).mT
    counts = torch.tensor([len(rows) for rows in query], device=chain.device)
    density = chain.library.new_row_log_prob(np.concatenate(query), graphs.families)
    free, hit = density.unbind(1)
    return torch.stack(
        [
            _mixed(odds.repeat_interleave(counts, -1), hit=hit[at], free=free[at]).sum(0)
            for odds, at in zip(log_odds, graphs.index.to(hit.device), strict=True)
        ]
    )


def _mixed(log_odds: Tensor, *, hit: Tensor, free: Tensor) -> Tensor:
    """Log density where it is hit with these odds; float64, for odds may be extreme."""
    log_odds, hit, free = log_odds.double(), hit.double(), free.double()
    return torch.logaddexp(
        functional.logsigmoid(log_odds) + hit, functional.logsigmoid(-log_odds) + free
    )
