"""How probable the rows of a new task are under a fitted mechanism."""

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.evidence import LOG_2PI

__all__ = ["predictive_log_prob"]


def predictive_log_prob(
    scaled: Float[Tensor, "set task sample feature"],
    residual: Float[Tensor, "set task sample"],
    *,
    noise_variance: Float[Tensor, " set"],
    weight: float,
) -> Float[Tensor, "set task"]:
    r"""Log density of the rows of new tasks, the weights' posterior N(w, R R^T) integrated out.

    With n rows that count `weight` u each: :math:`\log \int N(dw) \prod_n N(e_n; \phi_n^\top
    (w - E w), s^2)^u`. The smaller of two systems, of rows or of features, is factorised.

    Args:
        scaled: Features of each task's rows times R, a factor of the weights' covariance.
        residual: e, what the mean weights leave.
        noise_variance: s².
        weight: u.
    """
    num_rows = scaled.shape[-2]
    variance = (noise_variance / weight).view(-1, 1, 1)
    whitened = scaled.double() / variance.sqrt().unsqueeze(-1)
    error = residual.double() / variance.sqrt()
    if num_rows <= scaled.shape[-1]:
        factor = _factor_with_identity(whitened @ whitened.mT)
        solved = torch.linalg.solve_triangular(factor, error.unsqueeze(-1), upper=False)
        quadratic = solved.square().sum((-1, -2))
    else:
        factor = _factor_with_identity(whitened.mT @ whitened)
        projected = whitened.mT @ error.unsqueeze(-1)
        solved = torch.linalg.solve_triangular(factor, projected, upper=False)
        quadratic = error.square().sum(-1) - solved.square().sum((-1, -2))
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    constant = weight * num_rows * (LOG_2PI + noise_variance.log()).unsqueeze(-1)
    return -0.5 * (quadratic + log_determinant + constant)


def _factor_with_identity(matrix: Tensor) -> Tensor:
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    return torch.linalg.cholesky_ex(matrix).L
