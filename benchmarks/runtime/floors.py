"""The arithmetic alone: products, kernels and factorisations of the sizes that a measure has.

What a floor leaves out is bookkeeping: random numbers, laws, sums over rows, Python and Pyro.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["scoring_floor", "step_floor"]

REGRESSIONS = 7
"""Of a score: five updates, one before them and the last."""


def scoring_floor(
    *, num_sets: int, num_tasks: int, num_samples: int, num_inputs: int, num_features: int,
    device: torch.device,
) -> Callable[[], object]:  # fmt: skip
    """Kernels, features, Gram matrices, and the regressions of one batch of parent sets."""
    rows = num_tasks * num_samples
    options: dict[str, Any] = {"device": device}
    inputs = torch.randn(num_sets, rows, num_inputs, **options)
    points = torch.randn(num_sets, num_inputs, num_features, **options)
    whiten = torch.randn(num_sets, num_features, num_features, **options)
    weight = torch.rand(num_sets, 1, num_tasks, **options)
    identity = torch.eye(num_features, dtype=torch.float64, device=device)

    def run() -> Tensor:
        features = (-(inputs @ points).square_()).exp_() @ whiten
        by_task = features.unflatten(1, (num_tasks, num_samples)).flatten(0, 1)
        gram = (by_task.mT @ by_task).unflatten(0, (num_sets, num_tasks))
        for _ in range(REGRESSIONS):
            total = (weight @ gram.flatten(2)).view(num_sets, num_features, num_features).double()
            factor = torch.linalg.cholesky_ex(total + rows * identity).L
            expanded = identity.expand_as(factor)
            root = torch.linalg.solve_triangular(factor, expanded, upper=False)
            covariance = (root.mT @ root).float()
            gram.flatten(2) @ covariance.flatten(1).unsqueeze(-1)
            prediction = features @ covariance[:, :, :1]
        return prediction

    return run


def step_floor(
    *, num_variables: int, num_tasks: int, support: int, query: int, hsic_rows: int, width: int,
    num_parameters: int, device: torch.device,
) -> Callable[[], object]:  # fmt: skip
    """Products of both mechanisms, ridge, HSIC and Adam's pass over the parameters."""
    d, options = num_variables, cast(dict[str, Any], {"device": device})
    support_rows, query_rows = num_tasks * support, num_tasks * query
    x = {rows: torch.randn(rows, d, **options) for rows in (support_rows, query_rows)}
    first, second = (
        [torch.randn(d, size, width, **options, requires_grad=True) for _ in range(2)]
        for size in (d, width)
    )
    residual = torch.randn(num_tasks, d, hsic_rows**2, **options, requires_grad=True)
    design = torch.randn(num_tasks * d, support, width + 1, dtype=torch.float64, **options)
    identity = torch.eye(support, dtype=torch.float64, device=device)
    parameters = [torch.randn(num_parameters, **options) for _ in range(4)]

    def run() -> None:
        total = torch.zeros((), device=device)
        for rows in x.values():
            for one, two in zip(first, second, strict=True):
                total = total + ((rows @ one) @ two).sum()
        gram = residual @ residual.mT
        (total + gram.sum()).backward()
        factor = torch.linalg.cholesky_ex(design @ design.mT + identity).L
        torch.cholesky_solve(design[..., :1], factor)
        value, gradient, mean, square = parameters
        mean.lerp_(gradient, 0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        value.addcdiv_(mean, square.sqrt().add_(1e-8), value=-1e-3)

    return run
