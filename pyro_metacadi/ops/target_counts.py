r"""Targets of a task when how many there are is known in distribution: exact, by forward-backward.

A task has K targets, K ~ q, and any K of the d variables are equally probable:

.. math:: p(m) = q_K / \binom{d}{K}, \quad K = \sum_i m_i

Variables are then dependent: who is surely hit acquits the others where one target is the rule. The
posterior given each variable's evidence ratio :math:`w_i = p_{hit}(x_i) / p_{free}(x_i)` follows
from sums over all subsets of a size, elementary symmetric polynomials of w, in O(d K).

Ratios are taken as they are: with d K beyond several thousand nats in the largest, float64 ends.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["MOST_TARGETS", "CountedTargets", "IndependentTargets", "binomial", "log_ratio"]

MOST_TARGETS = 20
"""More targets of one task are not considered: twenty times thirty nats still fit float64."""

ROUNDING = 1e-12
"""Probabilities nearer to 0 and 1 are not told from these: 28 nats."""


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
        ratio = log_ratio.double().exp()
        before, found = self._nobody(ratio), []
        for after, w in zip(self._messages(ratio)[1:], ratio.unbind(-1), strict=True):
            hit = (before[..., :-1] * after[..., 1:]).sum(-1) * w
            found.append(hit.log() - (before * after).sum(-1).log())
            before = before + w.unsqueeze(-1) * _shifted(before)
        return torch.stack(found, -1)

    def count_posterior(
        self, log_ratio: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "*batch count"]:
        """Probability of every number of targets."""
        ratio = log_ratio.double().exp()
        subsets = self._nobody(ratio)
        for w in ratio.unbind(-1):
            subsets = subsets + w.unsqueeze(-1) * _shifted(subsets)
        joint = subsets * self._weight(log_ratio.shape[-1])
        return joint / joint.sum(-1, keepdim=True)

    def sample(
        self, log_ratio: Float[Tensor, "*batch variable"], *, generator: torch.Generator
    ) -> Int[Tensor, "*batch variable"]:
        """Targets from the posterior: each variable given those before it."""
        ratio = log_ratio.double().exp()
        drawn: list[Tensor] = []
        count = torch.zeros(ratio.shape[:-1], dtype=torch.long, device=ratio.device)
        for after, w in zip(self._messages(ratio)[1:], ratio.unbind(-1), strict=True):
            padded = torch.cat([after, torch.zeros_like(after[..., :1])], -1)
            free = padded.gather(-1, count.unsqueeze(-1)).squeeze(-1)
            hit = padded.gather(-1, count.unsqueeze(-1) + 1).squeeze(-1) * w
            drawn.append(_bernoulli(hit / (hit + free), generator=generator))
            count = count + drawn[-1]
        return torch.stack(drawn, -1)

    def _messages(
        self, ratio: Float[Tensor, "*batch variable"]
    ) -> list[Float[Tensor, "*batch count"]]:
        """For each variable: what it and those after it say of how many were hit before it.

        Variable i's is entry i; the last entry is the prior's.
        """
        weight = self._weight(ratio.shape[-1])
        messages = [weight.expand(*ratio.shape[:-1], -1)]
        for w in ratio.unbind(-1)[::-1]:
            after = messages[-1]
            one_more = torch.cat([after[..., 1:], torch.zeros_like(after[..., :1])], -1)
            messages.append(after + w.unsqueeze(-1) * one_more)
        return messages[::-1]

    def _nobody(self, ratio: Float[Tensor, "*batch variable"]) -> Float[Tensor, "*batch count"]:
        """Before the first variable, none is hit."""
        none = torch.zeros_like(self.count_probability, dtype=torch.float64)
        none[0] = 1
        return none.expand(*ratio.shape[:-1], -1)

    def _weight(self, num_variables: int) -> Float[Tensor, " count"]:
        """Prior probability of each single set of so many variables; 0 for impossible sizes."""
        sizes = range(len(self.count_probability))
        sets = torch.tensor([float(math.comb(num_variables, size)) for size in sizes])
        weight = self.count_probability.double() / sets.to(self.count_probability).double()
        return torch.where(weight.isfinite(), weight, torch.zeros_like(weight))


def log_ratio(
    probability: Float[Tensor, "*batch"], prior_log_odds: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Log p(x | hit) - log p(x | not hit) that leads from these odds to this probability.

    What is known for certain, of infinite odds, is taken for 28 nats.
    """
    log_odds = torch.logit(probability, eps=ROUNDING)
    return log_odds - torch.where(prior_log_odds.isinf(), 0.0, prior_log_odds)


def binomial(num_variables: int, rate: float) -> Float[Tensor, " count"]:
    """Of how many variables are hit independently, cut off after `MOST_TARGETS`."""
    count = torch.arange(min(num_variables, MOST_TARGETS) + 1, dtype=torch.float64)
    law = torch.distributions.Binomial(num_variables, torch.tensor(rate, dtype=torch.float64))
    probability = law.log_prob(count).exp()
    return probability / probability.sum()


def _shifted(subsets: Float[Tensor, "*batch count"]) -> Float[Tensor, "*batch count"]:
    """One more target."""
    return torch.cat([torch.zeros_like(subsets[..., :1]), subsets[..., :-1]], -1)


def _bernoulli(
    probability: Float[Tensor, "*batch"], *, generator: torch.Generator
) -> Int[Tensor, "*batch"]:
    uniform = torch.rand(probability.shape, generator=generator, dtype=torch.float64)
    return (uniform.to(probability.device) < probability).long()
