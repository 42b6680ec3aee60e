"""Targets that are known beforehand: log odds of plus or minus infinity."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

__all__ = ["with_known"]


def with_known(
    log_odds: Float[Tensor, "*draw task variable"], known: Int8[Tensor, "task variable"] | None
) -> Float[Tensor, "*draw task variable"]:
    """The log odds of hits, infinite where it is known.

    Args:
        log_odds: Of every task having hit every variable.
        known: 1 where it did, 0 where it did not, -1 where that is unknown; None if it all is.
    """
    if known is None:
        return log_odds
    certain = torch.where(known > 0, torch.inf, -torch.inf).to(log_odds.dtype)
    return torch.where(known < 0, log_odds, certain)
