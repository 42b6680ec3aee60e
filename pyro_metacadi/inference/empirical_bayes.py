"""Hyper-parameters of the evidence engine, learned from the training tasks."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pyro_metacadi.models.evidence import HeldDesigns, MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.models.hyperparameters import Hyperparameters
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.law import InterventionLaw
from pyro_metacadi.ops.moments import Moments
from pyro_metacadi.ops.task_values import TaskValues

__all__ = [
    "best_kernel",
    "best_law",
    "informative",
    "initial_law",
    "row_correlation",
    "target_rate",
]

KERNELS = (
    Kernel(1.0, 1.0),
    Kernel(2.0, 1.0),
    Kernel(2.0, 1.0, long_share=0.5),
    Kernel(2.0, 4.0),
    Kernel(4.0, 4.0),
)
"""To choose from."""

GENERIC, MOSTLY_GENERIC, NOT_GENERIC = 0.05, 0.9, 1e-200
"""Share of the generic law at the start: usually; for hits that have nothing in common; and so that
all hits together, wherever they are, are the first to be fitted by one law."""

SMALLEST_CORRELATION = 0.002
"""No experiment counts for more than 500 independent rows: every model is wrong somewhere."""

ROUNDS, STEPS = 3, 8
"""Alternations of mechanisms and law, and steps of expectation-maximisation in each."""

PRIOR_TASKS = 20.0
"""So many tasks with one target each are added to those that the rate is learned from."""

MOST_TASKS_PER_TARGET, LARGEST_RATE = 10, 0.3
"""At least one target in ten tasks, and interventions stay the exception."""

TO_SIGMA = 1.4826
"""From a median of absolute normal values to their standard deviation."""

MEDIANS_ERROR = 2.93
"""Standard error of a variance of normal values, from a median of medians of absolute values, times
the root of their number: about 1.253 for the outer median by 2.333 for the inner one's square."""


def initial_law(center: float, *, device: torch.device | str = "cpu") -> InterventionLaw:
    """A law to begin with: N(center, 1) or generic, in equal parts."""
    return _law(0.0, center, 1.0, 0.0, relative=False, generic=0.5, device=device)


def starting_laws(center: float, *, device: torch.device | str) -> list[InterventionLaw]:
    """Laws from which expectation-maximisation starts, for it finds the nearest optimum only.

    Nothing left (a knock-out), less, more, replaced by noise, by a value of the task's own, shifted
    up or down.
    """
    starts = (
        (0.0, 0.0, 0.05, 0.005, False, GENERIC),
        (0.6, 0.0, 1.0, 0.1, True, GENERIC),
        (1.5, 0.0, 1.0, 0.1, True, GENERIC),
        (0.0, center, 1.0, 0.1, False, GENERIC),
        (0.0, center, 1.0, 0.1, False, MOSTLY_GENERIC),
        (0.0, center, 1.0, 0.1, False, NOT_GENERIC),
        (0.0, center, 0.5, 3.0, False, GENERIC),
        (1.0, 1.0, 1.0, 0.1, True, GENERIC),
        (1.0, -1.0, 1.0, 0.1, True, GENERIC),
    )
    return [
        _law(*parameters, relative=relative, generic=generic, device=device)
        for *parameters, relative, generic in starts
    ]


def _law(
    slope: float,
    intercept: float,
    scale: float,
    shift: float,
    *,
    relative: bool,
    generic: float,
    device: torch.device | str,
) -> InterventionLaw:
    def tensor(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)

    return InterventionLaw(
        tensor(slope),
        tensor(intercept),
        tensor(scale),
        tensor(shift),
        torch.tensor([relative], device=device),
        tensor(1 - generic, generic),
    )


def informative(evidence: MechanismEvidence, families: Sequence[Family]) -> list[Family]:
    """Families of variables that vary: the others say nothing, with more evidence than the rest."""
    x = evidence.rows.x
    varies = (x.amax(0) > x.amin(0)).tolist()
    return [family for family in families if varies[family.variable]]


def row_correlation(evidence: MechanismEvidence, families: Sequence[Family]) -> float:
    """How much alike two rows of one task are, beyond what the graph explains.

    The variance of the tasks' mean residuals exceeds that of means of independent rows by it. It is
    estimated by medians, over tasks and then over variables: fewer than half of the tasks hit any
    one variable. Tasks that do hit it, or that the model takes for such, are not left out: what no
    mechanism explains yet makes rows alike, whatever it is.

    Of the estimate, what chance alone may give is taken off: two standard errors. Rows that count
    for too little cost more than rows that count for too much where they are few.
    """
    estimates = []
    for batch, design in evidence.designs(families):
        mechanism = evidence.fitted(batch, design)
        residual = (design.x - design.predict(mechanism.mean)).double()
        size = design.rows.num_rows
        # In units in which means of independent rows have variance one.
        unit = (size / mechanism.noise_variance.unsqueeze(-1)).sqrt()
        mean = design.rows.sum(residual) / size * unit
        inflation = (TO_SIGMA * mean.abs().median(-1).values).square()
        estimates.append((inflation - 1) / (size.median() - 1).clamp(min=1))
    size = evidence.rows.num_rows.median() - 1
    error = MEDIANS_ERROR / (len(families) * evidence.rows.num_tasks) ** 0.5 / size.clamp(min=1)
    estimate = torch.cat(estimates).median() - 2 * error
    return float(estimate.clamp(min=SMALLEST_CORRELATION, max=1))


def best_law(evidence: MechanismEvidence, families: Sequence[Family]) -> InterventionLaw:
    """The law with the highest evidence of those that the different starts lead to."""
    designs = evidence.held_designs(families)
    values = [
        evidence.values(evidence.rows, batch, weight=evidence.weight) for batch in designs.batches
    ]
    center = float(evidence.offset.median())
    laws = [
        _refine(evidence, designs, start, values=values)
        for start in starting_laws(center, device=evidence.rows.x.device)
    ]
    scores = [_score(evidence, designs, law) for law in laws]
    return laws[max(range(len(laws)), key=scores.__getitem__)]


def target_rate(evidence: MechanismEvidence, families: Sequence[Family]) -> float:
    """Share of the families' variables that a training task hits, shrunk to one per task."""
    shape = evidence.rows.num_tasks, len(families)
    found = sum(float(m.target_probability.sum()) for _, m in evidence.mechanisms(families))
    rate = (found + PRIOR_TASKS) / ((shape[0] + PRIOR_TASKS) * shape[1])
    return min(max(rate, 1 / (MOST_TASKS_PER_TARGET * shape[1])), LARGEST_RATE)


def best_kernel(evidence: MechanismEvidence, families: Sequence[Family]) -> Hyperparameters:
    """The present hyper-parameters with the kernel of the highest evidence for these families."""
    present = evidence.hyperparameters
    choices = [replace(present, kernel=kernel) for kernel in KERNELS]
    scores = [_finite(sum(evidence.with_hyperparameters(one).scores(families))) for one in choices]
    return choices[max(range(len(choices)), key=scores.__getitem__)]


def _with_law(evidence: MechanismEvidence, law: InterventionLaw) -> MechanismEvidence:
    return evidence.with_hyperparameters(replace(evidence.hyperparameters, law=law))


def _score(evidence: MechanismEvidence, designs: HeldDesigns, law: InterventionLaw) -> float:
    under = _with_law(evidence, law)
    return _finite(
        math.fsum(float(under.fitted(batch, design).score.sum()) for batch, design in designs)
    )


def _finite(score: float) -> float:
    """What is no number would be taken for the best."""
    return score if math.isfinite(score) else -math.inf


def _refine(
    evidence: MechanismEvidence,
    designs: HeldDesigns,
    law: InterventionLaw,
    *,
    values: Sequence[TaskValues],
) -> InterventionLaw:
    for _ in range(ROUNDS):
        under, moments, noise, hit = _with_law(evidence, law), [], [], []
        for (batch, design), own in zip(designs, values, strict=True):
            mechanism = under.fitted(batch, design)
            spread = design.spread(mechanism.covariance)
            moments.append(Moments.of(own, design.predict(mechanism.mean), spread=spread))
            noise.append(mechanism.noise_variance)
            hit.append(mechanism.target_probability)
        law = law.updated(
            Moments.joined(moments), torch.cat(noise), hit=torch.cat(hit), num_steps=STEPS
        )
    return law
