"""How many variables a task hits, learned from the training tasks, and what follows for each."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.inference.judging import judged
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.target_counts import CountedTargets, binomial

__all__ = ["odds_beside_others", "target_counts"]

COUNT_PRIOR_TASKS = 2.0
"""So many tasks of independent targets are added to those that their number is learned from."""

MOST = 15.0
"""Nats that a task's other variables may say of one."""


def target_counts(
    evidence: MechanismEvidence, families: Sequence[Family], *, num_steps: int = 50
) -> Float[Tensor, " count"]:
    """How many variables a training task hits: probability of none, one, two, ...

    By expectation-maximisation, from independent targets, which also are its prior. Apart from
    tasks without any, the law is lowered to one mode after each step: a task whose targets are
    misjudged seems to have many, and a law in which six are common and five are not would make each
    of them surer.
    """
    ratio = _training_log_ratio(evidence, families)
    rate = evidence.hyperparameters.target_prior
    prior = probability = binomial(evidence.num_variables, rate).to(ratio.device)
    for _ in range(num_steps):
        total = CountedTargets(probability).count_posterior(ratio).sum(0)
        total = total + COUNT_PRIOR_TASKS * prior
        total = _unimodal(total)
        probability = total / total.sum()
    return probability


def _unimodal(total: Float[Tensor, " count"]) -> Float[Tensor, " count"]:
    """The same, lowered so that it falls to both sides of its mode; that of none is left alone."""
    some = total[1:]
    mode = int(some.argmax())
    rising = some[: mode + 1].flip(0).cummin(0).values.flip(0)
    return torch.cat([total[:1], rising, some[mode:].cummin(0).values[1:]])


def odds_beside_others(
    evidence: MechanismEvidence, families: Sequence[Family]
) -> Float[Tensor, "task variable"]:
    """Log odds of every training task hitting every variable, given the rows of the others.

    Where one target is the rule, who is surely hit acquits the others before their rows are seen.
    """
    ratio = _training_log_ratio(evidence, families)
    targets = CountedTargets(target_counts(evidence, families))
    others = (targets.posterior_log_odds(ratio) - ratio).clamp(-MOST, MOST)
    return torch.where(evidence.prior_log_odds.isinf(), evidence.prior_log_odds, others)


def _training_log_ratio(
    evidence: MechanismEvidence, families: Sequence[Family]
) -> Float[Tensor, "task variable"]:
    """Log evidence for a hit over that against it; zero for variables without a family.

    Infinite where it is known.
    """
    found = torch.zeros_like(evidence.prior_log_odds)
    for batch, design in evidence.designs(families):
        _, ratio = judged(evidence, batch, design, evidence.fitted(batch, design))
        found[:, [family.variable for family in batch]] = ratio.mT
    prior = evidence.prior_log_odds
    return torch.where(prior.isinf(), prior, found)
