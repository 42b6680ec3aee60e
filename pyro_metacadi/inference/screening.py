"""Which parents are worth scoring where there are many variables."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.inference.graph_score import adjacency_of
from pyro_metacadi.models.evidence import Family, MechanismEvidence
from pyro_metacadi.typing import Array

__all__ = ["screened_edges"]

MOST_SCREENED = 24
"""Possible parents of each variable, beside those that it would itself be a parent of."""

RESOLUTION = 1 / 3
"""Of the functions of one parent that are looked for."""

LEAST_WEIGHT = 0.01
"""Of a row whose task hit the variable, so that one whom all tasks hit has parents to try too."""


def screened_edges(
    evidence: MechanismEvidence, families: Sequence[Family], edge_log_odds: Array
) -> Bool[np.ndarray, "parent child"] | None:
    """Pairs of variables one of which tells something about what the other's parents leave.

    For every variable those others are kept functions of which explain most of its residuals, in
    tasks that do not hit it, the prior considered; and its present parents. One product of matrices
    finds them. An edge is worth trying in both directions or in none.

    Args:
        evidence: Under hyper-parameters learned for these families.
        families: The family of every variable, such as those without parents.
        edge_log_odds: Log prior odds of every edge ``[parent, child]``.

    Returns:
        Edges to try; None, all, where there are few variables.
    """
    d = evidence.num_variables
    if d <= MOST_SCREENED + 1:
        return None
    explained = _explained(evidence.with_resolution(RESOLUTION), _residuals(evidence, families))
    # Half a sum of squares in units of the noise is about what an edge gains, in nats.
    gain = explained.double().cpu() / 2 + torch.tensor(edge_log_odds)
    constant = (evidence.rows.x.amax(0) == evidence.rows.x.amin(0)).cpu()
    gain[constant], gain[:, constant] = -torch.inf, -torch.inf
    gain.fill_diagonal_(-torch.inf)
    best = gain.topk(MOST_SCREENED, dim=0)
    kept = torch.zeros_like(gain, dtype=torch.bool).scatter_(
        0, best.indices, best.values.isfinite()
    )
    found: Bool[np.ndarray, "parent child"] = kept.numpy() | adjacency_of(families)
    return found | found.T


def _residuals(
    evidence: MechanismEvidence, families: Sequence[Family]
) -> Float[Tensor, "row variable"]:
    """Of every variable, in units of its noise; smaller the more likely the row's task hit it."""
    residual = torch.zeros_like(evidence.rows.x)
    for batch, design in evidence.designs(families):
        mechanism = evidence.fitted(batch, design)
        free = (1 - mechanism.target_probability).clamp(min=LEAST_WEIGHT)
        weight = evidence.rows.spread(free / mechanism.noise_variance.unsqueeze(-1).sqrt())
        rest = (design.x - design.predict(mechanism.mean)) * weight
        residual[:, [family.variable for family in batch]] = rest.mT.to(residual.dtype)
    return residual


def _explained(
    evidence: MechanismEvidence, residual: Float[Tensor, "row variable"]
) -> Float[Tensor, "parent child"]:
    """Sum of squares of each residual that functions of each variable explain."""
    explained = residual.new_zeros(evidence.num_variables, evidence.num_variables)
    alone = [Family(j, 1 << j) for j in range(evidence.num_variables)]
    for batch in evidence.batches(alone, num_rows=len(residual)):
        basis = torch.linalg.qr(evidence.features(evidence.rows, batch)).Q
        found = (basis.mT @ residual).square().sum(-2)
        explained[[family.variable for family in batch]] = found
    return explained
