"""The nine feature blocks C_t that tell how a task deviates from its mechanisms (Section 4.2)."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["NUM_BLOCKS", "feature_blocks"]

NUM_BLOCKS = 9


def feature_blocks(
    support: Float[Tensor, "*#draw task support variable"],
    mask: Bool[Tensor, "task support"],
    *,
    observational: Float[Tensor, "*draw task support variable"],
    interventional: Float[Tensor, "*draw task support variable"],
    residual: Callable[[Tensor], Tensor] | None = None,
) -> Float[Tensor, "*draw task support nine variable"]:
    r"""Stack the blocks of

    .. math:: C_t = [D, \hat X_{obs}, D - \hat X_{obs}, (D - \hat X_{obs})^2,
                     \hat X_{int}, D - \hat X_{int}, (D - \hat X_{int})^2, \mu(D), \sigma(D)]

    Args:
        support: D, the support rows, standardised, in the units of the predictions.
        mask: Which support rows exist.
        observational: Predictions of the observational mechanisms.
        interventional: Predictions of the task's adapted interventional mechanisms.
        residual: What a prediction leaves of the rows, in units of the noise. Default D less it.

    Returns:
        The blocks on their own axis, so that predictors may flatten or share them. μ and σ are the
        support's mean and *population* standard deviation, which is 0, not NaN, for one row.

    Source: Ong et al. 2025, Section 4.2.
    """
    weight = mask.unsqueeze(-1).to(support.dtype)
    count = weight.sum(-2, keepdim=True).clamp(min=1.0)
    mean = (support * weight).sum(-2, keepdim=True) / count
    variance = ((support - mean).square() * weight).sum(-2, keepdim=True) / count
    # The derivative of the root at 0 is infinite, and responses may have been learned.
    varies = variance > 0
    deviation = torch.where(varies, variance.where(varies, 1.0).sqrt(), 0.0)
    left = residual or (lambda prediction: support - prediction)
    from_obs, from_int = left(observational), left(interventional)
    shape = observational.shape
    blocks = [
        support.expand(shape),
        observational,
        from_obs,
        from_obs.square(),
        interventional,
        from_int,
        from_int.square(),
        mean.expand(shape),
        deviation.expand(shape),
    ]
    return torch.stack(blocks, dim=-2)
