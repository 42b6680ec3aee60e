r"""Targets of a task when how many there are is known in distribution: exact, by forward-backward.

A task has K targets, K ~ q, and any K of the d variables are equally probable:

.. math:: p(m) = q_K / \binom{d}{K}, \quad K = \sum_i m_i

Variables are then dependent: who is surely hit acquits the others where one target is the rule. The
posterior given each variable's evidence ratio :math:`w_i = p_{hit}(x_i) / p_{free}(x_i)` follows
from sums over all subsets of a size, elementary symmetric polynomials of w, in O(d K).

Of one variable's ratio, the others see no more nats than float64 has room for: 34 among twenty
variables, 11 among a thousand. A ratio of plus or minus infinity is a target that is known: what
follows for the others is exact, the law given that these are, or are not, among the targets.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["MOST_TARGETS", "CountedTargets", "IndependentTargets", "binomial"]

MOST_TARGETS = 50
"""More targets of one task are not considered."""

CACHED = 2**17
"""Sums over subsets that are computed together, so that they stay in a CPU's cache: 1 MiB."""

RANGE = 690.0
"""Nats that sums over subsets may have; float64 ends at 709."""


@dataclass(frozen=True)
class IndependentTargets:
    """Every variable is hit with the same odds, whatever happens to the others.

    Attributes:
        log_odds: Prior log odds of a hit.
    """

    log_odds: float

    def posterior_log_odds(
        self, log_ratio: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "*batch variable"]:
        """Of every hit, given log p(x_i | hit) - log p(x_i | not hit)."""
        return log_ratio + self.log_odds

    def sample(
        self, log_ratio: Float[Tensor, "*batch variable"], *, generator: torch.Generator
    ) -> Int[Tensor, "*batch variable"]:
        """Targets from the posterior."""
        return _bernoulli(torch.sigmoid(self.posterior_log_odds(log_ratio)), generator=generator)


@dataclass(frozen=True, eq=False)
class CountedTargets:
    """So many variables are hit, all sets of that many equally probable.

    Attributes:
        count_probability: q, of no target, of one, and so on; more are impossible.
    """

    count_probability: Float[Tensor, " count"]

    def posterior_log_odds(
        self, log_ratio: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "*batch variable"]:
        """Of every hit, given log p(x_i | hit) - log p(x_i | not hit)."""
        ratio, known = self._ratio(log_ratio), self._num_known(log_ratio)
        at_once = max(1, CACHED // ((len(ratio) + 1) * len(self.count_probability)))
        parts = zip(
            ratio.reshape(len(ratio), -1).split(at_once, 1),
            known.reshape(-1).split(at_once),
            strict=True,
        )
        odds = torch.cat([self._posterior_odds(*part) for part in parts], 1).view_as(ratio)
        found = (odds.log() - ratio.log()).movedim(0, -1) + log_ratio.double()
        return torch.where(log_ratio.isinf(), log_ratio.double(), found)

    def count_posterior(
        self, log_ratio: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "*batch count"]:
        """Probability of every number of targets."""
        ratio = self._ratio(log_ratio)
        subsets = self._at_first(self._num_known(log_ratio))
        for w in ratio:
            subsets[1:] = torch.addcmul(subsets[1:], w, subsets[:-1])
        joint = subsets.movedim(0, -1) * self._weight(log_ratio.shape[-1])
        return joint / joint.sum(-1, keepdim=True)

    def sample(
        self, log_ratio: Float[Tensor, "*batch variable"], *, generator: torch.Generator
    ) -> Int[Tensor, "*batch variable"]:
        """Targets from the posterior: each variable given those before it."""
        ratio = self._ratio(log_ratio)
        drawn: list[Tensor] = []
        count = self._num_known(log_ratio)
        messages = _grown(self._last_message(ratio), ratio.flip(0))[:-1]
        for after, w in zip(messages.flip(0, 1), ratio, strict=True):
            padded = torch.cat([after, torch.zeros_like(after[:1])])
            free = padded.gather(0, count.unsqueeze(0)).squeeze(0)
            hit = padded.gather(0, count.unsqueeze(0) + 1).squeeze(0) * w
            drawn.append(_bernoulli(hit / (hit + free), generator=generator))
            count = count + drawn[-1]
        return torch.where(log_ratio == torch.inf, 1, torch.stack(drawn, -1))

    # Counts and variables lead below: sums over a few counts are then sums of whole rows.

    def _ratio(
        self, log_ratio: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "variable *batch"]:
        """Ratios as far as the other variables see them; known targets are counted beforehand."""
        d, most = log_ratio.shape[-1], max(1, len(self.count_probability) - 1)
        limit = (RANGE - math.log(math.comb(d, min(most, d // 2)))) / most
        ratio = log_ratio.double().movedim(-1, 0).contiguous()
        return torch.where(ratio.isinf(), 0.0, ratio.clamp(-RANGE, limit).exp())

    def _num_known(self, log_ratio: Float[Tensor, "*batch variable"]) -> Int[Tensor, "*batch"]:
        """Targets that are known: if more than the law has room for, there are no others."""
        return (log_ratio == torch.inf).sum(-1).clamp(max=len(self.count_probability) - 1)

    def _posterior_odds(
        self, ratio: Float[Tensor, "variable batch"], known: Int[Tensor, " batch"]
    ) -> Float[Tensor, "variable batch"]:
        """Of every hit, given ratios as far as the other variables see them."""
        start = torch.stack([self._at_first(known), self._last_message(ratio)], 1)
        both = _grown(start, torch.stack([ratio, ratio.flip(0)], 1))[:-1]
        # For each variable: sums over sets of those before it, and what those after it say.
        before, after = both[:, :, 0], both[:, :, 1].flip(0, 1)
        hit = (before[:, :-1] * after[:, 1:]).sum(1) * ratio
        return hit / (before * after).sum(1)

    def _last_message(
        self, ratio: Float[Tensor, "variable *batch"]
    ) -> Float[Tensor, "count *batch"]:
        """The prior, of how many are hit before one comes after the last variable.

        The largest count first: messages from the last variable to the first then grow as sums over
        sets do from the first to the last.
        """
        weight = self._weight(len(ratio)).flip(0).view(-1, *[1] * (ratio.dim() - 1))
        return weight.expand(-1, *ratio.shape[1:])

    def _at_first(self, known: Int[Tensor, "*batch"]) -> Float[Tensor, "count *batch"]:
        """Before the first variable, only the known targets are hit."""
        counts = torch.arange(len(self.count_probability), device=known.device)
        return (counts.view(-1, *[1] * known.dim()) == known).double()

    def _weight(self, num_variables: int) -> Float[Tensor, " count"]:
        """Prior probability of each single set of so many variables; 0 for impossible sizes."""
        sizes = range(len(self.count_probability))
        sets = torch.tensor(
            [float(math.comb(num_variables, size)) for size in sizes],
            dtype=torch.float64,
            device=self.count_probability.device,
        )
        weight = self.count_probability.double() / sets
        return torch.where(sets > 0, weight, 0.0)


def binomial(num_variables: int, rate: float) -> Float[Tensor, " count"]:
    """Of how many variables are hit independently, cut off after `MOST_TARGETS`."""
    count = torch.arange(min(num_variables, MOST_TARGETS) + 1, dtype=torch.float64)
    law = torch.distributions.Binomial(num_variables, torch.tensor(rate, dtype=torch.float64))
    return torch.softmax(law.log_prob(count), 0)


def _grown(
    start: Float[Tensor, "count *batch"], ratio: Float[Tensor, "variable *batch"]
) -> Float[Tensor, "place count *batch"]:
    """Sums over sets before the first variable, and with each further one."""
    places = start.new_empty(len(ratio) + 1, *start.shape)
    places[0] = start
    for now, later, w in zip(places[:-1], places[1:], ratio, strict=True):
        later.copy_(now)
        later[1:].addcmul_(w, now[:-1])
    return places


def _bernoulli(
    probability: Float[Tensor, "*batch"], *, generator: torch.Generator
) -> Int[Tensor, "*batch"]:
    uniform = torch.rand(probability.shape, generator=generator, dtype=torch.float64)
    return (uniform.to(probability.device) < probability).long()
