"""What all mechanisms of the evidence engine share."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.hurdle_hits import HurdleLaw
from pyro_metacadi.ops.kernels import Kernel
from pyro_metacadi.ops.law import InterventionLaw
from pyro_metacadi.ops.target_counts import CountedTargets, IndependentTargets

__all__ = ["Hyperparameters"]

ROUGH = 2.0
"""Length-scale, in standard deviations, below which functions are rough."""


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """What all mechanisms share; set by empirical Bayes.

    Attributes:
        kernel: Of the mechanisms.
        correlation: Of two rows of one task, beyond what the graph explains.
        target_prior: Probability that a task hits a variable, before seeing any rows.
        law: What an intervention looks like.
        num_targets: Probability that a task hits no variable, one, two, ...; None if variables are
            hit independently, with probability `target_prior`.
        hurdle: What an intervention looks like where zeros are everywhere; None where they are not.
            It judges who was hit; graphs are scored without.
        redrawn_share: Of the hits, how many draw the weights of the same mechanism anew; `law` says
            what the others look like. It judges who was hit; graphs are scored without.
    """

    kernel: Kernel
    correlation: float
    target_prior: float
    law: InterventionLaw
    num_targets: Float[Tensor, " count"] | None = None
    hurdle: HurdleLaw | None = None
    redrawn_share: float = 0.0

    @property
    def is_rough(self) -> bool:
        """Whether functions wiggle so much that the landmarks of resolution 1 miss some of it."""
        return self.kernel.length_scale < ROUGH

    @property
    def targets(self) -> CountedTargets | IndependentTargets:
        """Prior of the targets of one task."""
        if self.num_targets is None:
            return IndependentTargets(self.target_log_odds)
        return CountedTargets(self.num_targets)

    @property
    def target_log_odds(self) -> float:
        """Log odds of the `target_prior`."""
        return math.log(self.target_prior) - math.log1p(-self.target_prior)
