"""Orders in which some variables must come before others.

An order is a race: variable i takes a time E_i = exp(-score_i), counted from when the last of its
predecessors has come. With nothing prescribed that is the order of descending scores; with tiers it
is that order within each tier. Times of Gumbel scores are exponential, which are memoryless, so the
order's law is Plackett and Luce's among those whose predecessors have come.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

__all__ = ["Precedence", "transitive_closure"]


def transitive_closure(
    relation: Bool[Tensor, "variable variable"],
) -> Bool[Tensor, "variable variable"]:
    """Whether a path of at least one step leads from the row's variable to the column's."""
    closure = relation.clone()
    for k in range(len(relation)):
        closure |= closure[:, k : k + 1] & closure[k : k + 1]
    return closure


class Precedence(nn.Module):
    """Which variable must come before which, whatever the scores say.

    Args:
        relation: ``[i, j]`` is set if X_i comes before X_j; acyclic. Its transitive closure counts.
    """

    before: Tensor
    level: Tensor

    def __init__(self, relation: Bool[Tensor, "variable variable"]) -> None:
        super().__init__()
        before = transitive_closure(relation)
        level = torch.zeros(len(before), dtype=torch.long)
        for _ in range(len(before)):
            level = torch.where(before, level.unsqueeze(-1) + 1, 0).amax(0)
        self.depth = int(level.max())
        self.register_buffer("before", before, persistent=False)
        self.register_buffer("level", level, persistent=False)

    @property
    def settled(self) -> Bool[Tensor, "variable variable"]:
        """Pairs of which one always comes first."""
        return self.before | self.before.mT

    def arrival(
        self, order_score: Float[Tensor, "*draw variable"]
    ) -> Float[Tensor, "*draw variable"]:
        """Minus the log of the time at which every variable comes: the larger, the earlier.

        The scores themselves where nothing is prescribed.
        """
        own = time = -order_score
        for level in range(1, self.depth + 1):
            waited = time.unsqueeze(-1).masked_fill(~self.before, -torch.inf).amax(-2)
            time = torch.where(self.level == level, torch.logaddexp(own, waited), time)
        return -time

    def ranks(self, order_score: Float[Tensor, "*draw variable"]) -> Int[Tensor, "*draw variable"]:
        """Rank of every variable; 0 comes first. Predecessors are before it in every precision."""
        # A variable never comes earlier than its predecessors, but rounding may make it a tie.
        first = torch.argsort(self.level, stable=True)
        arrival = self.arrival(order_score)[..., first]
        order = first[torch.argsort(arrival, dim=-1, descending=True, stable=True)]
        return torch.argsort(order, dim=-1)

    def log_prob(
        self,
        order: Int[Tensor, "*draw variable"],
        *,
        score: Float[Tensor, "*batch variable"],
    ) -> Float[Tensor, "*draw"]:
        r"""Log mass of the order, causes first, under Gumbel(`score`, 1) order scores.

        .. math:: q(\pi) = \prod_k e^{\psi_{\pi_k}} / \sum_{j \text{ free at } k} e^{\psi_j}

        -inf for an order that puts a variable before one of its predecessors.
        """
        position = torch.argsort(order, dim=-1)
        last = torch.where(self.before, position.unsqueeze(-1), -1).amax(-2)
        step = torch.arange(order.shape[-1], device=order.device).unsqueeze(-1)
        free = (last.unsqueeze(-2) < step) & (step <= position.unsqueeze(-2))
        score = score.expand(order.shape)
        total = score.unsqueeze(-2).masked_fill(~free, -torch.inf).logsumexp(-1)
        log_prob = (score.gather(-1, order) - total).sum(-1)
        return log_prob.masked_fill((last >= position).any(-1), -torch.inf)
