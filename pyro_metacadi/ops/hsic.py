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
    gram = _GaussianGram.apply(x.transpose(-1, -2) / bandwidth)
    row = mask.to(x.dtype)
    pair = row.unsqueeze(-1) * row.unsqueeze(-2)
    dependence = _STATISTICS[estimator](gram, row.unsqueeze(-2), pair.unsqueeze(-3))
    # A product with its own transpose need not be symmetric to the last digit.
    return (dependence + dependence.mT) / 2


class _GaussianGram(torch.autograd.Function):
    """Gram matrices ``exp(-(x_a - x_b)^2 / 2)`` of every column.

    Written by hand because the Gram matrices are the largest tensors of a training step: autograd
    would keep three of them where one will do, and pass over them twice as often.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor) -> Tensor:
        """Columns ``[*batch, variable, sample]`` -> ``[*batch, variable, sample, sample]``."""
        difference = columns.unsqueeze(-1) - columns.unsqueeze(-2)
        gram = difference.square_().mul_(-0.5).exp_()
        ctx.save_for_backward(columns, gram)
        return gram

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """With S = gradient * gram: -(x_a - x_b) (S_ab + S_ba), summed over b."""
        columns, gram = ctx.saved_tensors
        scaled = gradient * gram
        column = columns.unsqueeze(-1)
        moved = (scaled @ column + scaled.mT @ column).squeeze(-1)
        return moved - columns * (scaled.sum(-1) + scaled.sum(-2))


def _biased(gram: Tensor, row: Tensor, pair: Tensor) -> Tensor:
    count = row.sum(-1, keepdim=True).clamp(min=1.0)
    gram = gram * pair
    mean = gram.sum(-1) / count
    centred = gram - mean.unsqueeze(-1) - mean.unsqueeze(-2) + _scalar(mean.sum(-1), count)
    return _inner(centred * pair) / count.square()


def _unbiased(gram: Tensor, row: Tensor, pair: Tensor) -> Tensor:
    enough = row.sum(-1, keepdim=True) >= 4
    count = row.sum(-1, keepdim=True).clamp(min=4.0)
    off_diagonal = 1 - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    gram = gram * (pair * off_diagonal)
    row_sum = gram.sum(-1)
    total = row_sum.sum(-1, keepdim=True)
    product = total @ total.mT / ((count - 1) * (count - 2))
    correction = row_sum @ row_sum.mT * (2 / (count - 2))
    return (_inner(gram) + product - correction) / (count * (count - 3)) * enough


def _inner(gram: Tensor) -> Tensor:
    flat = gram.flatten(-2)
    return flat @ flat.mT


def _scalar(total: Tensor, count: Tensor) -> Tensor:
    return (total / count.squeeze(-1)).unsqueeze(-1).unsqueeze(-1)


_STATISTICS = {"unbiased": _unbiased, "biased": _biased}
