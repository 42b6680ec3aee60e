"""Discrete values forwards, relaxed values backwards (straight-through gradients).

The forward value never contains the relaxation: ``hard + (soft - soft.detach())`` adds an exact
zero, so graphs are 0/1 and acyclic in every precision. (Taking the arg-max of a SoftSort matrix,
as in the DP-DAG code of Charpentier et al. 2022, is not a permutation when scores nearly tie.)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.graphs import order_ranks, precedence
from pyro_metacadi.ops.precedence import Precedence

__all__ = ["adjacency_from_order", "straight_through"]


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard` with the gradient of `soft`, both of the same shape."""
    return hard.to(soft.dtype) + (soft - soft.detach())


def adjacency_from_order(
    order_score: Float[Tensor, "*draw variable"],
    edge: Float[Tensor, "*draw parent child"],
    *,
    temperature: float = 1.0,
    prescribed: Precedence | None = None,
) -> Float[Tensor, "*draw parent child"]:
    r"""The DAG of an order and a set of edges: those edges that point forwards in the order.

    .. math:: A_{ij} = E_{ij} \, [\mathrm{rank}_i < \mathrm{rank}_j]

    This is :math:`A = \Pi^\top U \Pi` with the edge indicators kept in variable space, O(d²).
    Backwards, the indicator is relaxed to :math:`\sigma((s_i - s_j)/\tau)`.

    Args:
        order_score: Scores s; the variable with the larger score comes first.
        edge: Indicators E in {0, 1}; the diagonal is ignored.
        temperature: τ of the relaxation, in units of the scores.
        prescribed: Which variables come before which, whatever the scores; None prescribes nothing.
            Scores then are minus log waiting times (see `Precedence`), and so is what is relaxed.

    Returns:
        Adjacency A; ``A[i, j] = 1`` is X_i -> X_j.

    Source: Section 4.1; Charpentier, Kibler and Günnemann 2022.
    """
    if prescribed is None:
        rank, arrival = order_ranks(order_score.detach()), order_score
    else:
        rank, arrival = prescribed.ranks(order_score.detach()), prescribed.arrival(order_score)
    difference = arrival.unsqueeze(-1) - arrival.unsqueeze(-2)
    soft = torch.sigmoid(difference / temperature)
    if prescribed is not None:
        soft = torch.where(prescribed.settled, soft.detach(), soft)
    return edge * straight_through(precedence(rank), soft)
