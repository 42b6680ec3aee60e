"""Adapting the mechanisms to one task's support rows: in closed form (Eq. 5-6), or by gradients."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.metacadi import MetaCaDIModel
from pyro_metacadi.models.predictions import Predictions
from pyro_metacadi.ops.ridge import ridge_solve

__all__ = ["Adaptation", "MAMLAdaptation", "RidgeAdaptation"]

PARTS: dict[str, tuple[str, ...]] = {
    "interventional": ("readout", "interventional"),
    "all": ("readout", "interventional", "observational"),
}
"""Of the mechanisms, that gradient steps adapt."""


@runtime_checkable
class Adaptation(Protocol):
    """(model, mechanisms at the support) -> what is each task's own, Delta sites of the guide.

    Built without arguments, but for ``num_variables`` and ``num_features`` if it has them.
    """

    @property
    def adapts(self) -> Sequence[str]:
        """Parts of the mechanisms that are each task's own, see `Mechanisms.shared`."""
        ...

    def __call__(
        self,
        model: MetaCaDIModel,
        predictions: Predictions,
        support: Float[Tensor, "task support variable"],
        mask: Bool[Tensor, "task support"],
    ) -> dict[str, Tensor]:
        """What is each task's own, fitted to the support rows where `mask` holds.

        Args:
            model: ``model.linearize(support, features, mask)`` gives what predictions are to
                explain of the rows, ``model.law`` the law of the rows.
            predictions: Of the support, given a graph. ``predictions.shared_features`` are those
                that a readout is about, ``[*draw, task, variable, support, feature]``.
            support: Rows of every task.
            mask: Which of them exist.

        Returns:
            By the names of ``model.adapted_dims``, shapes ``[*draw, task, ...]``: ``readout`` is
            ``[*draw, task, variable, feature]``.
        """
        ...


class RidgeAdaptation:
    """The paper's analytical adaptation: ridge regression of every variable on its features.

    The penalty is the mechanisms' own, which is the prior precision of the `readout` site.

    Source: Ong et al. 2025, Eq. 5-6.
    """

    adapts = ("readout",)

    def __call__(
        self,
        model: MetaCaDIModel,
        predictions: Predictions,
        support: Float[Tensor, "task support variable"],
        mask: Bool[Tensor, "task support"],
    ) -> dict[str, Tensor]:
        """Closed-form readouts; padded rows weigh nothing (see `Adaptation`)."""
        features = predictions.shared_features
        response, precision = model.linearize(support, features, mask)
        weight = mask.unsqueeze(-1).to(support.dtype).expand_as(support)
        if precision is not None:
            weight = weight * precision
        readout = ridge_solve(
            features,
            response.transpose(-1, -2).expand(features.shape[:-1]),
            penalty=model.mechanisms.penalty,
            weight=weight.transpose(-1, -2),
        )
        return {"readout": readout}


class MAMLAdaptation(nn.Module):
    r"""The paper's ablations: gradient steps from parameters that all tasks share.

    .. math:: \theta_t \leftarrow \theta_t - \alpha \nabla_{\theta_t} L_t(\theta_t)

    L_t is the negative log-likelihood of a support row, summed over the variables and averaged over
    the rows, if every variable follows its interventional mechanism; if the observational ones are
    adapted, too, plus the same of those. The outer objective is differentiated through the steps.
    The start θ are the mechanisms' parameters and, for the readouts of the interventional ones,
    `readout`, which is learned with them. The paper does not say its loss, steps and rate.

    Args:
        num_variables: d.
        num_features: Features of a mechanism.
        parameters: ``"interventional"`` adapts all layers of the interventional mechanisms
            (MetaCaDI-Intv-MAML), ``"all"`` those of the observational ones, too
            (MetaCaDI-Full-MAML).
        num_steps: Gradient steps; after none, all tasks have the same mechanisms.
        learning_rate: α.
        max_norm: To which a task's gradient, all parameters together, is scaled down if it is
            longer. Without, steps of observational mechanisms diverge: the narrower the noise that
            is learned, the steeper the loss.

    Raises:
        ConfigError: An option is out of range.

    Source: Finn, Abbeel and Levine, Model-agnostic meta-learning, ICML 2017; Ong et al. 2025,
    Section 5.
    """

    def __init__(
        self,
        *,
        num_variables: int,
        num_features: int,
        parameters: Literal["interventional", "all"] = "interventional",
        num_steps: int = 5,
        learning_rate: float = 0.01,
        max_norm: float = 10.0,
    ) -> None:
        super().__init__()
        self.adapts, self.num_steps = _parts(parameters), _steps(num_steps)
        self.learning_rate = _positive("learning_rate", learning_rate, try_=0.01)
        self.max_norm = _positive("max_norm", max_norm, try_=10)
        self.readout = nn.Parameter(torch.zeros(num_variables, num_features))

    def forward(
        self,
        model: MetaCaDIModel,
        predictions: Predictions,
        support: Float[Tensor, "task support variable"],
        mask: Bool[Tensor, "task support"],
    ) -> dict[str, Tensor]:
        """The parameters after the last step (see `Adaptation`)."""
        differentiable = torch.is_grad_enabled()
        shared = {**model.mechanisms.shared(self.adapts), "readout": self.readout}
        tasks = (*predictions.adjacency.shape[:-2], len(support))
        with torch.enable_grad():
            # The zeros are what a task adds; adding them makes every task's value its own.
            adapted = {
                name: value + value.new_zeros(*tasks, *value.shape, requires_grad=True)
                for name, value in shared.items()
            }
            for _ in range(self.num_steps):
                loss = self._loss(model, predictions, support, mask, adapted=adapted)
                # No task has a part in another's loss: the sum has the gradients of each.
                gradients = torch.autograd.grad(
                    loss.sum(), list(adapted.values()), create_graph=differentiable
                )
                rate = self.learning_rate * self._shortened(gradients, num_dims=len(tasks))
                adapted = {
                    name: value - rate.view(*tasks, *[1] * (value.dim() - len(tasks))) * gradient
                    for (name, value), gradient in zip(adapted.items(), gradients, strict=True)
                }
        return adapted if differentiable else {name: v.detach() for name, v in adapted.items()}

    def _shortened(
        self, gradients: Sequence[Tensor], *, num_dims: int
    ) -> Float[Tensor, "*draw task"]:
        """What each task's gradient is multiplied by."""
        square = sum(part.square().flatten(num_dims).sum(-1) for part in gradients)
        # Clamped before the root, whose gradient at 0 is infinite.
        return self.max_norm / torch.as_tensor(square).clamp(min=self.max_norm**2).sqrt()

    def _loss(
        self,
        model: MetaCaDIModel,
        predictions: Predictions,
        support: Tensor,
        mask: Tensor,
        *,
        adapted: dict[str, Tensor],
    ) -> Float[Tensor, "*draw task"]:
        """L_t of every task."""
        features = predictions.features(adapted)
        locs = [model.mechanisms.intervene(features, adapted["readout"])]
        if "observational" in self.adapts:
            locs.append(predictions.observe(adapted))
        laws = [model.law(loc, features, support) for loc in locs]
        of_row = torch.stack([law.log_prob(support) for law in laws]).sum((0, -1))
        return -of_row.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)


def _parts(parameters: Any) -> tuple[str, ...]:
    if not isinstance(parameters, str) or parameters not in PARTS:
        raise ConfigError(
            f"parameters: expected 'interventional' or 'all', got {parameters!r}. Use "
            f"'interventional' to leave the observational mechanisms to all tasks."
        )
    return PARTS[parameters]


def _steps(number: Any) -> int:
    if not isinstance(number, Integral) or isinstance(number, bool) or number < 0:
        raise ConfigError(f"num_steps: expected a number >= 0, got {number!r}. Try 5.")
    return int(number)


def _positive(name: str, number: Any, *, try_: float) -> float:
    plain = isinstance(number, Real) and not isinstance(number, bool)
    if not plain or not 0 < float(number) < math.inf:
        raise ConfigError(f"{name}: expected a number > 0, got {number!r}. Try {try_:g}.")
    return float(number)
