"""Who was hit in the training tasks, under the laws that suit the data."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.inference.redrawn import redrawn_log_ratio, with_redrawn
from pyro_metacadi.inference.zeros import fitted_hurdles
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import Mechanism
from pyro_metacadi.ops.hurdle import Hurdle

__all__ = ["judged"]


def judged(
    evidence: MechanismEvidence, families: Sequence[Family], design: Design, mechanism: Mechanism
) -> tuple[Sequence[Hurdle | None], Float[Tensor, "set task"]]:
    """Laws of the families' values, and log evidence that each training task hit them.

    Where zeros are everywhere, under the law of hits in `Hyperparameters.hurdle`; elsewhere values
    have no such laws, and the evidence is the mechanism's, which hits may draw anew. It is what the
    rows say, also of targets that are known.
    """
    hyper = evidence.hyperparameters
    hurdles: Sequence[Hurdle | None] = [None] * len(families)
    ratio = mechanism.log_ratio
    if hyper.hurdle is not None:
        hurdles, ratio = fitted_hurdles(evidence, families, design, mechanism, law=hyper.hurdle)
    elif hyper.redrawn_share > 0:
        redrawn = redrawn_log_ratio(evidence, design, mechanism)
        ratio = with_redrawn(ratio, redrawn, hyper.redrawn_share)
    return hurdles, ratio
