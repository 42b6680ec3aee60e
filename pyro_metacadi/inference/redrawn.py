r"""Hits that leave a variable its parents and its noise, and draw its mechanism anew.

The paper solves for the weights of each task's intervened mechanism (Eq. 4-6); here they are
integrated out, as those of the observational mechanism are: :math:`x_t \sim N(0, \Phi_t \Phi_t^\top
+ s^2 I)` with the features of the same parents. How many hits are of this kind is learned.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import Mechanism
from pyro_metacadi.ops.predictive import tasks_log_prob
from pyro_metacadi.ops.rows import joined

__all__ = ["learned_redrawn_share", "redrawn_log_ratio", "with_redrawn"]

SMALLEST_SHARE = 0.3
"""Of hits; where fewer are redrawn, none is taken to be: it would cost time, and gain nothing."""

PRIOR_REDRAWN, PRIOR_OTHERS = 0.05, 0.95
"""One hit that was seen before any, so that where nobody was hit nothing is redrawn."""

NUM_STEPS = 30


def with_redrawn(
    log_ratio: Float[Tensor, "*any"], redrawn: Float[Tensor, "*any"], share: float
) -> Float[Tensor, "*any"]:
    """Log density (or its ratio to another) of hits of which a share is redrawn."""
    return torch.logaddexp(log_ratio + math.log1p(-share), redrawn + math.log(share))


def redrawn_log_ratio(
    evidence: MechanismEvidence, design: Design, mechanism: Mechanism
) -> Float[Tensor, "set task"]:
    """Log density of every training task's values if redrawn, over that if it was not hit."""
    redrawn = [
        tasks_log_prob(
            part.features,
            part.x,
            part.rows,
            noise_variance=mechanism.noise_variance,
            correlation=evidence.hyperparameters.correlation,
        )
        for part in design.parts
    ]
    return joined(redrawn, dim=1) - mechanism.free


def learned_redrawn_share(evidence: MechanismEvidence, families: list[Family]) -> float:
    """Share of the training tasks' hits that are redrawn, by expectation-maximisation; 0 if few."""
    found = [
        (
            evidence.prior_of(batch),
            mechanism.log_ratio,
            redrawn_log_ratio(evidence, design, mechanism),
        )
        for batch, design in evidence.designs(families)
        for mechanism in [evidence.fitted(batch, design)]
    ]
    prior, ratio, redrawn = (torch.cat(part) for part in zip(*found, strict=True))
    share = 0.5
    for _ in range(NUM_STEPS):
        either = with_redrawn(ratio, redrawn, share)
        hit = torch.sigmoid(prior + either)
        of_hits = (redrawn + math.log(share) - either).exp()
        total = float((hit * of_hits).sum()) + PRIOR_REDRAWN
        share = total / (float(hit.sum()) + PRIOR_REDRAWN + PRIOR_OTHERS)
    return share if share >= SMALLEST_SHARE else 0.0
