"""Hilbert-Schmidt independence criterion between all pairs of columns, as one matrix product."""

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["pairwise_hsic"]


def pairwise_hsic(
    x: Float[Tensor, "*batch sample variable"],
    mask: Bool[Tensor, "*#batch sample"],
    *,
    estimator: Literal["unbiased", "biased"] = "unbiased",
    bandwidth: float = 1.0,
) -> Float[Tensor, "*batch variable variable"]:
    r"""HSIC of every pair of variables with Gaussian kernels, over the rows where `mask` holds.

    With Gram matrices :math:`K_i` the biased (V-) statistic is
    :math:`\operatorname{tr}(K_i C K_j C) / n^2`, C the centring matrix; the unbiased (U-) statistic
    removes the diagonal, so that its expectation does not depend on the number of rows. Either
    costs one product of a ``[variable, sample²]`` matrix (the unbiased one half of it) with its
    transpose.

    Args:
        x: Values, in units of `bandwidth`.
        mask: Rows that count. Fewer than four (unbiased) or one (biased) give zeros.
        estimator: ``"unbiased"`` may be slightly negative; ``"biased"`` is >= 0.
        bandwidth: Standard deviation of the Gaussian kernel.

    Returns:
        Symmetric matrices; the diagonal is the HSIC of a variable with itself.

    Source: Gretton et al. 2005 (biased, with the 1/n² of the V-statistic); Song et al. 2012, Eq. 5
        (unbiased).
    """
    if estimator == "unbiased":
        dependence: Tensor = _Unbiased.apply(x / bandwidth, mask)
    else:
        row = mask.to(x.dtype)
        pair = (row.unsqueeze(-1) * row.unsqueeze(-2)).unsqueeze(-3)
        dependence = _biased(_gram(x.mT / bandwidth), row.unsqueeze(-2), pair)
    # A product with its own transpose need not be symmetric to the last digit.
    return (dependence + dependence.mT) / 2


def _gram(columns: Float[Tensor, "*batch variable sample"]) -> Tensor:
    difference = columns.unsqueeze(-1) - columns.unsqueeze(-2)
    return difference.square().mul(-0.5).exp()


class _Unbiased(torch.autograd.Function):
    """The unbiased statistic of columns ``[*batch, sample, variable]``.

    Kernels of the pairs of rows are the largest tensors of a training step. Each pair is computed
    once, and the gradient is written by hand: autograd would keep three such tensors, not two.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor, mask: Tensor) -> Tensor:
        """`mask` tells which rows exist."""
        size = columns.shape[-2]
        first, second = torch.triu_indices(size, size, 1, device=columns.device)
        exists = (mask.index_select(-1, first) & mask.index_select(-1, second)).unsqueeze(-1)
        difference = columns.index_select(-2, first).sub_(columns.index_select(-2, second))
        kernel = difference.square().mul_(-0.5).exp_().mul_(exists)
        row_sum = torch.zeros_like(columns).index_add_(-2, first, kernel)
        row_sum.index_add_(-2, second, kernel)
        count = mask.sum(-1)[..., None, None].to(columns.dtype)
        enough, n = count >= 4, count.clamp(min=4.0)
        # Of the products of totals and of sums of rows, and of all.
        factors = 1 / ((n - 1) * (n - 2)), -2 / (n - 2), enough / (n * (n - 3))
        ctx.save_for_backward(difference, kernel, row_sum, first, second, *factors)
        total = row_sum.sum(-2, keepdim=True)
        products = factors[0] * (total.mT @ total) + factors[1] * (row_sum.mT @ row_sum)
        return (2 * (kernel.mT @ kernel) + products) * factors[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """With S = kernel * its gradient: every pair (a, b) adds S (x_b - x_a) to a's gradient."""
        difference, kernel, row_sum, first, second, *factors = ctx.saved_tensors
        of_totals, of_rows, of_all = factors
        pairs = (gradient + gradient.mT) * of_all
        total = row_sum.sum(-2, keepdim=True) @ (of_totals * pairs)
        by_row = row_sum @ (of_rows * pairs) + total
        moved = (kernel @ (2 * pairs)).add_(by_row.index_select(-2, first))
        moved.add_(by_row.index_select(-2, second)).mul_(kernel).mul_(difference)
        of_columns = torch.zeros_like(row_sum).index_add_(-2, first, moved, alpha=-1)
        return of_columns.index_add_(-2, second, moved), None


def _biased(gram: Tensor, row: Tensor, pair: Tensor) -> Tensor:
    count = row.sum(-1, keepdim=True).clamp(min=1.0)
    gram = gram * pair
    mean = gram.sum(-1) / count
    centred = gram - mean.unsqueeze(-1) - mean.unsqueeze(-2) + _scalar(mean.sum(-1), count)
    return _inner(centred * pair) / count.square()


def _inner(gram: Tensor) -> Tensor:
    flat = gram.flatten(-2)
    return flat @ flat.mT


def _scalar(total: Tensor, count: Tensor) -> Tensor:
    return (total / count.squeeze(-1)).unsqueeze(-1).unsqueeze(-1)
