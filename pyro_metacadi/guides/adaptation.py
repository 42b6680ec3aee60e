"""Adapting the interventional mechanisms to one task's support rows (Eq. 5-6)."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.ops.ridge import ridge_solve

__all__ = ["Adaptation", "RidgeAdaptation"]


@runtime_checkable
class Adaptation(Protocol):
    """(model, support features) -> the readout of every task, a Delta site of the guide."""

    def __call__(
        self,
        model: MetaCaDIModel,
        features: Float[Tensor, "*draw task variable support feature"],
        support: Float[Tensor, "task support variable"],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "*draw task variable feature"]:
        """Readouts fitted to the support rows where `mask` holds.

        ``model.linearize(support, features)`` gives what the readouts are to explain of the rows.
        """
        ...


class RidgeAdaptation:
    """The paper's analytical adaptation: ridge regression of every variable on its features.

    The penalty is the mechanisms' own, which is the prior precision of the `readout` site.

    Source: Ong et al. 2025, Eq. 5-6.
    """

    def __call__(
        self,
        model: MetaCaDIModel,
        features: Float[Tensor, "*draw task variable support feature"],
        support: Float[Tensor, "task support variable"],
        mask: Bool[Tensor, "task support"],
    ) -> Float[Tensor, "*draw task variable feature"]:
        """Closed-form readouts; padded rows weigh nothing (see `Adaptation`)."""
        response, precision = model.linearize(support, features)
        weight = mask.unsqueeze(-1).to(support.dtype).expand_as(support)
        if precision is not None:
            weight = weight * precision
        return ridge_solve(
            features,
            response.transpose(-1, -2).expand(features.shape[:-1]),
            penalty=model.mechanisms.penalty,
            weight=weight.transpose(-1, -2),
        )
