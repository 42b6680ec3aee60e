r"""Hits that leave a variable its parents and its noise, and draw its mechanism anew.

The paper solves for the weights of each task's intervened mechanism (Eq. 4-6); here they are
integrated out, as those of the observational mechanism are: :math:`x_t \sim N(0, \Phi_t \Phi_t^\top
+ s^2 I)` with the features of the same parents. How many hits are of this kind is learned.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import Mechanism
from pyro_metacadi.ops.predictive import tasks_log_prob
from pyro_metacadi.ops.rows import TaskRows, joined

__all__ = ["RedrawnWeights", "learned_redrawn_share", "redrawn_log_ratio", "with_redrawn"]

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


class RedrawnWeights(NamedTuple):
    """Weights that each task would have drawn anew, given its rows; beside other kinds of hits.

    Attributes:
        log_odds: Of the hit being of this kind, of each task.
        mean: Of the weights.
        root: R, lower triangular, with covariance R R^T.
        noise_variance: Of the mechanism.
    """

    log_odds: Float[Tensor, " task"]
    mean: Float[Tensor, "task feature"]
    root: Float[Tensor, "task feature feature"]
    noise_variance: Float[Tensor, ""]

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "1 row feature"],
        x: Float[Tensor, "1 row"],
        rows: TaskRows,
        *,
        noise_variance: Float[Tensor, "1"],
        share: float,
        others: Float[Tensor, "1 task"],
    ) -> "RedrawnWeights":
        """Of one family.

        Args:
            features: Of each row.
            x: Values of its variable.
            rows: Which rows belong to which task.
            noise_variance: Of the mechanism.
            share: Of hits that are redrawn.
            others: Log density of each task's values under the other kinds of hits.
        """
        redrawn = tasks_log_prob(features, x, rows, noise_variance=noise_variance, correlation=0.0)
        identity = torch.eye(features.shape[-1], dtype=features.dtype, device=features.device)
        precision = rows.gram(features, features)[0] / noise_variance + identity
        right = rows.gram(features, x.unsqueeze(-1).to(features))[0] / noise_variance
        factor = torch.linalg.cholesky(precision)
        root = torch.linalg.solve_triangular(factor.mT, identity.expand_as(factor), upper=True)
        mean = torch.cholesky_solve(right, factor).squeeze(-1)
        odds = redrawn[0] - others[0] + math.log(share) - math.log1p(-share)
        return cls(odds, mean, root, noise_variance[0])

    def log_prob(
        self,
        others: Float[Tensor, "*draw row"],
        x: Float[Tensor, "*draw row"],
        features: Float[Tensor, "draw row feature"],
        rows: TaskRows,
    ) -> Float[Tensor, "draw row"]:
        """Log density of one more row of each task that hit the variable.

        `others` is that under the other kinds of hits.
        """
        found = []
        for one in features:
            parts = zip(one.split(rows.sizes), self.mean, self.root, strict=True)
            found.append([(phi @ mean, (phi @ root).square().sum(-1)) for phi, mean, root in parts])
        mean, variance = (
            torch.stack([torch.cat([task[at] for task in one]) for one in found]) for at in (0, 1)
        )
        law = torch.distributions.Normal(mean, (variance + self.noise_variance).sqrt())
        odds = rows.spread(self.log_odds)
        return torch.logaddexp(logsigmoid(-odds) + others, logsigmoid(odds) + law.log_prob(x))

    def sample(
        self,
        others: Float[Tensor, "draw row"],
        features: Float[Tensor, "draw row feature"],
        rows: TaskRows,
    ) -> Float[Tensor, "draw row"]:
        """Draws where the kind drawn is this one, in place of those of `others`."""
        found = []
        for one in features:
            weights = self.mean + (self.root @ torch.randn_like(self.mean).unsqueeze(-1)).squeeze(
                -1
            )
            parts = zip(one.split(rows.sizes), weights, strict=True)
            found.append(torch.cat([phi @ weight for phi, weight in parts]))
        loc = torch.stack(found)
        value = loc + self.noise_variance.sqrt() * torch.randn_like(loc)
        kind = torch.rand(len(loc), rows.num_tasks).to(loc) < torch.sigmoid(self.log_odds)
        return torch.where(rows.spread(kind), value, others)
