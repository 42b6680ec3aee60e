"""How probable rows of tasks are where the weights of their mechanism are integrated out."""

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.evidence import LOG_2PI, kish_weight
from pyro_metacadi.ops.rows import TaskRows, equal_runs

__all__ = ["one_more_row_log_prob", "predictive_log_prob", "tasks_log_prob"]


def tasks_log_prob(
    scaled: Float[Tensor, "set row feature"],
    error: Float[Tensor, "set row"],
    rows: TaskRows,
    *,
    noise_variance: Float[Tensor, " set"],
    correlation: float,
) -> Float[Tensor, "set task"]:
    """`predictive_log_prob` of tasks of any size, rows of one counting by `kish_weight`."""
    runs = zip(
        rows.runs(scaled, dim=1), rows.runs(error, dim=1), equal_runs(rows.sizes), strict=True
    )
    found = [
        predictive_log_prob(
            features,
            residual,
            noise_variance=noise_variance,
            weight=float(kish_weight(torch.tensor([size], dtype=torch.float64), correlation)),
        )
        for features, residual, (size, _) in runs
    ]
    return torch.cat(found, -1)


def predictive_log_prob(
    scaled: Float[Tensor, "set task sample feature"],
    residual: Float[Tensor, "set task sample"],
    *,
    noise_variance: Float[Tensor, " set"],
    weight: float,
) -> Float[Tensor, "set task"]:
    r"""Log density of the rows of tasks, each with weights of its law N(w, R R^T) integrated out.

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


def one_more_row_log_prob(
    scaled: Float[Tensor, "set row feature"],
    residual: Float[Tensor, "set row"],
    rows: TaskRows,
    *,
    noise_variance: Float[Tensor, " set"],
) -> Float[Tensor, "set row"]:
    """Log density of one more row at each row's place, given all rows of its task.

    The smaller of two systems, of rows or of features, is factorised.

    Args:
        scaled, residual, noise_variance: As in `predictive_log_prob`.
        rows: Which rows belong to which task.
    """
    variance = noise_variance.view(-1, 1, 1)
    found = []
    for features, error in zip(rows.runs(scaled, dim=1), rows.runs(residual, dim=1), strict=True):
        whitened, e = features.double() / variance.sqrt().unsqueeze(-1), error.double()
        few = features.shape[-2] <= features.shape[-1]
        left, spread = (_left_by_rows if few else _left_by_features)(whitened, e)
        law = torch.distributions.Normal(torch.zeros_like(left), (variance * spread).sqrt())
        found.append(law.log_prob(left).flatten(1))
    return torch.cat(found, -1)


def _left_by_rows(whitened: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """What a task's rows leave of themselves, and the variance of one more in units of noise."""
    factor = _factor_with_identity(whitened @ whitened.mT)
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse = torch.cholesky_solve(identity.expand_as(factor), factor)
    left = (inverse @ error.unsqueeze(-1)).squeeze(-1)
    return left, 2 - inverse.diagonal(dim1=-2, dim2=-1)


def _left_by_features(whitened: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """The same by the smaller system where there are fewer features than rows."""
    factor = _factor_with_identity(whitened.mT @ whitened)
    right = torch.cat([whitened.mT, whitened.mT @ error.unsqueeze(-1)], -1)
    solved = torch.linalg.solve_triangular(factor, right, upper=False)
    root, projected = solved[..., :-1], solved[..., -1:]
    return error - (root * projected).sum(-2), 1 + root.square().sum(-2)


def _factor_with_identity(matrix: Tensor) -> Tensor:
    matrix.diagonal(dim1=-2, dim2=-1).add_(1.0)
    return torch.linalg.cholesky_ex(matrix).L
