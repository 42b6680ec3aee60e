"""Ridge regression in closed form, in batches (Eq. 5-6)."""

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.errors import ConfigError

__all__ = ["ridge_solve"]


def ridge_solve(
    features: Float[Tensor, "*batch sample feature"],
    response: Float[Tensor, "*batch sample"],
    *,
    penalty: float,
    weight: Float[Tensor, "*#batch sample"] | None = None,
) -> Float[Tensor, "*batch feature"]:
    r"""Ridge weights of every batch element.

    .. math:: \hat w = (H^\top \Lambda H + \lambda I)^{-1} H^\top \Lambda x

    Solved in float64, whatever the inputs' precision, in the smaller of two equivalent systems:
    ``feature`` unknowns (primal) or ``sample`` unknowns (dual). A variable without parents has
    equal rows in H; float32 loses all digits there. The relative error is at most about
    :math:`10^{-14} (1 + \|H\|^2 / \lambda)`, so that features far above 1e4 need a larger λ.

    Args:
        features: Hidden features H.
        response: Values x to be explained, in the units the model works in.
        penalty: λ > 0, in squared units of the features.
        weight: Precision Λ >= 0 of every sample; 0 removes a (padded) one, whose gradients are
            then 0 as well. Default 1.

    Returns:
        Weights, in the dtype of `features`.

    Raises:
        ConfigError: If `penalty` is not positive.

    Source: Ong et al. 2025, Eq. 5-6; the dual form as in Bertinetto et al. 2019, Section 3.
    """
    if not penalty > 0:
        raise ConfigError(f"penalty: expected a number > 0, got {penalty}. Try 1.0.")
    design, target = features.double(), response.double()
    if weight is not None:
        # The root's derivative at 0 is infinite and would make a padded sample's gradient NaN.
        present = weight > 0
        root = weight.double().where(present, 1.0).sqrt() * present
        design, target = design * root.unsqueeze(-1), target * root
    samples, num_features = design.shape[-2:]
    solve = _dual if samples < num_features else _primal
    return solve(design, target.unsqueeze(-1), penalty).squeeze(-1).to(features.dtype)


def _primal(design: Tensor, target: Tensor, penalty: float) -> Tensor:
    gram = _add_to_diagonal(design.mT @ design, penalty)
    return torch.cholesky_solve(design.mT @ target, torch.linalg.cholesky_ex(gram).L)


def _dual(design: Tensor, target: Tensor, penalty: float) -> Tensor:
    gram = _add_to_diagonal(design @ design.mT, penalty)
    return design.mT @ torch.cholesky_solve(target, torch.linalg.cholesky_ex(gram).L)


def _add_to_diagonal(matrix: Tensor, value: float) -> Tensor:
    return matrix + value * torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
