"""Data in which zeros are everywhere: laws of hits and of other values, with an atom at zero."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import Mechanism
from pyro_metacadi.ops.hurdle import Hurdle, fit_hurdle
from pyro_metacadi.ops.hurdle_hits import HurdleLaw, initial_hurdle_law

__all__ = ["fitted_hurdles", "has_zeros", "learned_hurdle_law"]

ROUNDS = 6
"""Of expectation-maximisation: the laws of hits and of other values by turns with the targets."""

FEW = 0.05
"""Zeros of a task that are worth a law of their own."""

SETTLING = 3
"""Rounds for one family under a known law of hits."""


def has_zeros(evidence: MechanismEvidence, families: Sequence[Family]) -> bool:
    """Whether zero is the families' least value, and is found in most of their tasks.

    One row in twenty has to be zero there: where zeros are what hits look like, they are in few
    tasks, and what is nearly always positive is once in a while zero by chance.
    """
    rows = evidence.rows
    values = evidence.values(rows, families, weight=evidence.weight)
    if (values.in_units(values.x) < -values.zero).any():
        return False
    share = rows.sum((~values.present).double()) / rows.num_rows
    return float((share >= FEW).double().mean()) > 0.5


def learned_hurdle_law(evidence: MechanismEvidence, families: Sequence[Family]) -> HurdleLaw:
    """What hits look like; learned by turns with the laws of other values and the targets."""
    order, predictions, hits = [], [], []
    for batch, design in evidence.designs(families):
        mechanism = evidence.fitted(batch, design)
        order += batch
        predictions.append(_prediction(design, mechanism))
        hits.append(mechanism.target_probability)
    values = evidence.values(evidence.rows, order, weight=evidence.weight)
    prior, prediction, hit = evidence.prior_of(order), torch.cat(predictions), torch.cat(hits)
    law = initial_hurdle_law(device=hit.device)
    share = torch.stack([hit, torch.zeros_like(hit)])
    for _ in range(ROUNDS):
        hurdle = fit_hurdle(values, prediction, free=1 - hit)
        law = law.updated(values, hurdle, prediction, share=share[0]).with_shares(share)
        hit = torch.sigmoid(prior + law.log_ratio(values, hurdle, prediction))
        share = hit * torch.softmax(law.component_log_prob(values, hurdle, prediction), 0)
    return law


def fitted_hurdles(
    evidence: MechanismEvidence,
    families: Sequence[Family],
    design: Design,
    mechanism: Mechanism,
    *,
    law: HurdleLaw,
) -> tuple[list[Hurdle], Float[Tensor, "set task"]]:
    """Laws of the families' values, and log evidence that each training task hit them.

    `law` says what hits look like.
    """
    values = evidence.values(evidence.rows, families, weight=evidence.weight)
    prior, prediction = evidence.prior_of(families), _prediction(design, mechanism)
    # Not from the mechanism's targets: of a silent gene they are all tasks, and none were left.
    hit = torch.sigmoid(prior)
    for _ in range(SETTLING):
        hurdle = fit_hurdle(values, prediction, free=1 - hit)
        ratio = law.log_ratio(values, hurdle, prediction)
        hit = torch.sigmoid(prior + ratio)
    return [Hurdle(*parts) for parts in zip(*hurdle, strict=True)], ratio


def _prediction(design: Design, mechanism: Mechanism) -> Float[Tensor, "set row"]:
    return design.predict(mechanism.mean).double()
