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
    costs one product of a ``[variable, sample²]`` matrix with its transpose.

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
    row = mask.to(x.dtype)
    pair = (row.unsqueeze(-1) * row.unsqueeze(-2)).unsqueeze(-3)
    columns = x.transpose(-1, -2) / bandwidth
    if estimator == "unbiased":
        dependence: Tensor = _Unbiased.apply(columns, pair, row.sum(-1))
    else:
        dependence = _biased(_gram(columns), row.unsqueeze(-2), pair)
    # A product with its own transpose need not be symmetric to the last digit.
    return (dependence + dependence.mT) / 2


def _gram(columns: Float[Tensor, "*batch variable sample"]) -> Tensor:
    difference = columns.unsqueeze(-1) - columns.unsqueeze(-2)
    return difference.square().mul(-0.5).exp()


class _Unbiased(torch.autograd.Function):
    """The unbiased statistic of columns ``[*batch, variable, sample]``.

    Its gradient is written by hand because Gram matrices are the largest tensors of a training
    step: autograd would keep three of them where one will do, and pass over them thrice as often.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor, pair: Tensor, count: Tensor) -> Tensor:
        """`pair` tells which pairs of rows exist, `count` how many rows."""
        enough, n = count >= 4, count.clamp(min=4.0)
        one = torch.eye(columns.shape[-1], dtype=columns.dtype, device=columns.device)
        difference = columns.unsqueeze(-1) - columns.unsqueeze(-2)
        gram = difference.square_().mul_(-0.5).exp_().mul_(pair * (1 - one))
        # Of the products of totals and of sums of rows, and of all.
        of_totals, of_rows = 1 / ((n - 1) * (n - 2)), -2 / (n - 2)
        factors = [f[..., None, None] for f in (of_totals, of_rows, enough / (n * (n - 3)))]
        row_sum = gram.sum(-1)
        ctx.save_for_backward(columns, gram, row_sum, *factors)
        total = row_sum.sum(-1, keepdim=True)
        products = factors[0] * (total @ total.mT) + factors[1] * (row_sum @ row_sum.mT)
        flat = gram.flatten(-2)
        return (flat @ flat.mT + products) * factors[2]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """With S = gram * (its gradient, both ways): sum over b of S_ab (x_b - x_a)."""
        columns, gram, row_sum, of_totals, of_rows, factor = ctx.saved_tensors
        pairs = (gradient + gradient.mT) * factor
        total = (of_totals * pairs) @ row_sum.sum(-1, keepdim=True)
        by_row = (of_rows * pairs) @ row_sum + total
        both = (2 * pairs @ gram.flatten(-2)).view_as(gram)
        both.add_(by_row.unsqueeze(-1)).add_(by_row.unsqueeze(-2)).mul_(gram)
        moved = both @ torch.stack([columns, torch.ones_like(columns)], -1)
        return moved[..., 0] - columns * moved[..., 1], None, None


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
