"""Edges of which each variable may have only so many."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints, register_kl
from torch.nn.functional import softplus

from pyro_metacadi.ops.relax import straight_through

__all__ = ["FewParents"]

IMPOSSIBLE = -1e30
"""Log of no mass; finite, for differences of infinities have no gradient."""


class FewParents(TorchDistribution):
    r"""Independent 0/1 edges, given that no variable has more than so many of those that count.

    .. math:: p(e) \propto \prod_j \left[\sum_i c_{ij} e_{ij} \le k_j\right]
        \prod_i e^{\phi_{ij} e_{ij}}

    An exponential family: normaliser, means and KL divergences are exact, by sums over how many
    edges there are, O(d² k). Draws are exact, with straight-through gradients. Pairs that are not
    free have no density and no effect.

    Args:
        logits: φ ``[parent, child]``.
        counts: c ``[*batch, parent, child]``; those that do not count are independent.
        free: Pairs ``[parent, child]`` that the law is about.
        room: k ``[child]``, whole numbers.
        temperature: Of the straight-through gradients.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.boolean, 2)
    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "parent child"],
        *,
        counts: Bool[Tensor, "*batch parent child"],
        free: Bool[Tensor, "parent child"],
        room: Float[Tensor, " child"],
        temperature: float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.counts, self.free = logits, counts & free, free
        self.room, self.temperature = room.long(), temperature
        super().__init__(counts.shape[:-2], counts.shape[-2:], validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "FewParents":
        """The same law over a larger batch shape."""
        return FewParents(
            self.logits,
            counts=self.counts.expand(*batch_shape, *self.event_shape),
            free=self.free,
            room=self.room.to(self.logits.dtype),
            temperature=self.temperature,
            validate_args=False,
        )

    @property
    def log_normalizer(self) -> Float[Tensor, "*batch"]:
        """Log of the sum over all sets of edges that are allowed."""
        alone = (softplus(self.logits) * (self.free & ~self.counts)).sum((-1, -2))
        return alone + _at(self._at_most[0], self.room).sum(-1)

    @property
    def mean(self) -> Float[Tensor, "*batch parent child"]:
        """Exact probability of every edge; 0 where it is not free."""
        at_most, rows = self._at_most, []
        total = _at(at_most[0], self.room)
        number = torch.arange(at_most[0].shape[-1], device=self.room.device)
        left = self.room.unsqueeze(-1) - 1 - number
        for i, earlier in enumerate(self._exactly):
            later = _at(at_most[i + 1].unsqueeze(-2), left)
            rows.append((earlier + later).logsumexp(-1) + self.logits[i] - total)
        # Of pairs that do not count this is no probability, and must not overflow.
        counted = torch.stack(rows, dim=-2).clamp(max=0).exp()
        return torch.where(self.counts, counted, torch.sigmoid(self.logits)) * self.free

    @property
    def _at_most(self) -> list[Float[Tensor, "*batch child number"]]:
        """Entry i: log of the sum over sets of at most so many of the parents i, i + 1, ..."""
        now = self.logits.new_zeros(*self.counts.shape[:-2], *self._numbers)
        found = [now]
        for i in reversed(range(self.event_shape[0])):
            now = self._with(i, now)
            found.append(now)
        return found[::-1]

    @property
    def _exactly(self) -> list[Float[Tensor, "*batch child number"]]:
        """Entry i: log of the sum over sets of so many of the parents before i."""
        now = self.logits.new_full((*self.counts.shape[:-2], *self._numbers), IMPOSSIBLE)
        now[..., 0] = 0.0
        found = []
        for i in range(self.event_shape[0]):
            found.append(now)
            now = self._with(i, now)
        return found

    @property
    def _numbers(self) -> tuple[int, int]:
        return self.event_shape[-1], int(self.room.max()) + 1

    def _with(self, i: int, now: Tensor) -> Tensor:
        """The sums once parent i may be in the set."""
        fewer = torch.cat([torch.full_like(now[..., :1], IMPOSSIBLE), now[..., :-1]], dim=-1)
        more = torch.logaddexp(now, fewer + self.logits[i].unsqueeze(-1))
        return torch.where(self.counts[..., i, :, None], more, now)

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """Log mass; -inf where a variable has too many edges."""
        linear = (value * self.logits * self.free).sum((-1, -2))
        too_many = ((value.detach() * self.counts).sum(-2) > self.room).any(-1)
        return (linear - self.log_normalizer).masked_fill(too_many, -torch.inf)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw 0/1 values of shape ``sample_shape + batch_shape + [parent, child]``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        noise = torch.logit(uniform, eps=torch.finfo(uniform.dtype).tiny)
        left, at_most = self.room.expand(shape[:-2] + shape[-1:]), self._at_most
        rows: list[Tensor] = []
        for i in range(self.event_shape[0]):
            change = _at(at_most[i + 1], left - 1) - _at(at_most[i + 1], left)
            logits = self.logits[i] + torch.where(self.counts[..., i, :], change, 0.0)
            perturbed = logits + noise[..., i, :]
            soft = torch.sigmoid(perturbed / self.temperature)
            rows.append(straight_through(perturbed.detach() > 0, soft))
            left = left - (rows[-1].detach() * self.counts[..., i, :]).long()
        return torch.stack(rows, dim=-2)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw 0/1 values without a gradient; the same draws as `rsample` for the same seed."""
        with torch.no_grad():
            return self.rsample(sample_shape)


def _at(sums: Float[Tensor, "*_ number"], number: Int[Tensor, "*_"]) -> Float[Tensor, "*_"]:
    """The sums for these numbers; there are no sets of a negative number."""
    shape = torch.broadcast_shapes(sums.shape[:-1], number.shape)
    index = number.expand(shape).clamp(min=0).unsqueeze(-1)
    found = sums.expand(*shape, -1).gather(-1, index).squeeze(-1)
    return torch.where(number < 0, IMPOSSIBLE, found)


@register_kl(FewParents, FewParents)
def _kl(q: FewParents, p: FewParents) -> Float[Tensor, "*batch"]:
    """Closed form, for laws about the same edges of which as many may be."""
    if not (torch.equal(q.counts, p.counts) and torch.equal(q.room, p.room)):
        raise NotImplementedError  # no closed form: objectives then take the sampled value
    difference = (q.mean * (q.logits - p.logits) * q.free).sum((-1, -2))
    return difference - q.log_normalizer + p.log_normalizer
