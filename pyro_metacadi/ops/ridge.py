"""Ridge regression in closed form, in batches (Eq. 5-6)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    if weight is None:
        weight = response.new_ones(())
    solution: Tensor = _Ridge.apply(features, response, weight.expand_as(response), penalty)
    return solution


class _Ridge(torch.autograd.Function):
    """Weights w and, in the same system, their gradient: with S the weighted features and A the
    penalised Gram matrix, dw = A^-1 (dS^T left - S^T dS w), `left` being what w leaves.

    Written by hand because autograd differentiates the factorisation, in many small operations.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, response: Tensor, weight: Tensor, penalty: float
    ) -> Tensor:
        """Of inputs of one batch shape."""
        root = weight.double().sqrt()
        # One copy here saves one in every product below.
        design = (features.double() * root.unsqueeze(-1)).contiguous()
        target = response.double() * root
        few = design.shape[-2] < design.shape[-1]
        system = design @ design.mT if few else design.mT @ design
        system.diagonal(dim1=-2, dim2=-1).add_(penalty)
        factor = torch.linalg.cholesky_ex(system).L
        if few:
            dual = _solve(factor, target)
            solution, left = _combined(design, dual), penalty * dual
        else:
            solution = _solve(factor, _combined(design, target))
            left = target - _values(design, solution)
        ctx.save_for_backward(design, root, factor, solution, left)
        ctx.penalty, ctx.dtypes = penalty, (features.dtype, response.dtype, weight.dtype)
        return solution.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """`moved` is A^-1 times the gradient, `value` what it says of every sample."""
        design, root, factor, solution, left = ctx.saved_tensors
        gradient = gradient.double()
        if design.shape[-2] < design.shape[-1]:
            value = _solve(factor, _values(design, gradient))
            moved = (gradient - _combined(design, value)) / ctx.penalty
        else:
            moved = _solve(factor, gradient)
            value = _values(design, moved)
        by_left, by_value = ((root * one).unsqueeze(-1) for one in (left, value))
        of_features = by_left * moved.unsqueeze(-2)
        of_features.addcmul_(by_value, solution.unsqueeze(-2), value=-1.0)
        of_weight = left * value / root.square().where(root > 0, torch.inf)
        gradients = of_features, by_value.squeeze(-1), of_weight
        return *(g.to(kind) for g, kind in zip(gradients, ctx.dtypes, strict=True)), None


def _values(design: Tensor, weights: Tensor) -> Tensor:
    return (design @ weights.unsqueeze(-1)).squeeze(-1)


def _combined(design: Tensor, values: Tensor) -> Tensor:
    return (values.unsqueeze(-2) @ design).squeeze(-2)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    columns = right.unsqueeze(-1)
    if factor.device.type == "cpu":
        return torch.cholesky_solve(columns, factor).squeeze(-1)
    # On GPUs the former waits for the host, and cannot be recorded.
    half = torch.linalg.solve_triangular(factor, columns, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True).squeeze(-1)
