r"""Kernels of mechanisms: how alike a function's values are where its inputs are alike.

:math:`k(x, x') = \alpha \prod_j ((1 - w) \exp(-(x_j - x'_j)^2 / 2 \ell^2) + w \exp(-(x_j -
x'_j)^2 / 2 (4 \ell)^2))`, over the inputs j of a mechanism. With w = 0 it is the Gaussian kernel.
With w > 0 the function may vary slowly with some of its inputs and quickly with others: multiplied
out, k mixes all ways to share them out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Kernel"]

LONGER = 4
"""How many times as long the longer length-scale is."""


@dataclass(frozen=True)
class Kernel:
    """A kernel that all mechanisms share.

    Attributes:
        length_scale: ℓ, in standard deviations of the inputs.
        amplitude: α, the prior variance of a mechanism's values.
        long_share: w, the share of the longer length-scale, 4 ℓ, in each input.
    """

    length_scale: float
    amplitude: float
    long_share: float = 0.0

    def correlation(
        self,
        x: Float[Tensor, "row input"],
        landmarks: Float[Tensor, "landmark input"],
        inputs: Bool[Tensor, "set input"],
    ) -> Float[Tensor, "set row landmark"]:
        """The kernel over its amplitude, between rows and landmarks, over each set's inputs only.

        Args:
            x: Rows.
            landmarks: Rows to compare with.
            inputs: Which columns each set reads; none gives 1.
        """
        columns, read = _columns_read(inputs)
        if self.long_share > 0:
            return _of_two_scales(self, x, landmarks, columns=columns, read=read)
        mask = read.to(x.dtype).unsqueeze(-1)
        return _gaussian(self, x.mT[columns] * mask, landmarks.mT[columns] * mask)


def _columns_read(
    inputs: Bool[Tensor, "set input"],
) -> tuple[Int[Tensor, "set place"], Bool[Tensor, "set place"]]:
    """The columns that each set reads, as many places as the largest has, and which are filled."""
    count = int(inputs.sum(-1).max())
    columns = inputs.to(torch.int8).sort(-1, descending=True).indices[:, :count]
    return columns, inputs.gather(1, columns)


def _gaussian(
    kernel: Kernel,
    x: Float[Tensor, "set place row"],
    landmarks: Float[Tensor, "set place landmark"],
) -> Float[Tensor, "set row landmark"]:
    """One product of matrices, the squares of both sides among the inputs."""
    scale = -0.5 / kernel.length_scale**2
    left, right = (side.square().sum(1, keepdim=True) for side in (x, landmarks))
    rows = torch.cat([x, left, torch.ones_like(left)], 1)
    points = torch.cat([-2 * scale * landmarks, torch.full_like(right, scale), scale * right], 1)
    return (rows.mT @ points).clamp_(max=0).exp_()


def _of_two_scales(
    kernel: Kernel,
    x: Float[Tensor, "row input"],
    landmarks: Float[Tensor, "landmark input"],
    *,
    columns: Int[Tensor, "set place"],
    read: Bool[Tensor, "set place"],
) -> Float[Tensor, "set row landmark"]:
    """A product over places of what is computed once for each column."""
    used, at = torch.unique(columns, return_inverse=True)
    share, scale = kernel.long_share, -0.5 / kernel.length_scale**2
    gap = x.mT[used].unsqueeze(-1) - landmarks.mT[used].unsqueeze(-2)
    exponent = gap.square_().mul_(scale)
    long = (exponent / LONGER**2).exp_().mul_(share)
    each = exponent.exp_().mul_(1 - share).add_(long)
    product = x.new_ones(len(columns), len(x), len(landmarks))
    for place in range(columns.shape[1]):
        part = each[at[:, place]]
        product *= (
            part if read[:, place].all() else torch.where(read[:, place, None, None], part, 1)
        )
    return product
