r"""Kernels of mechanisms: how alike a function's values are where its inputs are alike.

:math:`k(x, x') = \alpha \prod_j ((1 - w) \exp(-(x_j - x'_j)^2 / 2 \ell^2) + w \exp(-(x_j -
x'_j)^2 / 2 (4 \ell)^2))`, over the inputs j of a mechanism. With w = 0 it is the Gaussian kernel.
With w > 0 the function may vary slowly with some of its inputs and quickly with others: multiplied
out, k mixes all ways to share them out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
        count = int(inputs.sum(-1).max())
        # The columns that each set reads, then others that count for nothing.
        columns = inputs.to(torch.int8).sort(-1, descending=True).indices[:, :count]
        read = inputs.gather(1, columns).to(x.dtype).unsqueeze(-1)
        pair = x.mT[columns] * read, landmarks.mT[columns] * read
        return (_of_two_scales if self.long_share > 0 else _gaussian)(self, *pair)


def _gaussian(
    kernel: Kernel,
    x: Float[Tensor, "set input row"],
    landmarks: Float[Tensor, "set input landmark"],
) -> Float[Tensor, "set row landmark"]:
    """One product of matrices, the squares of both sides among the inputs."""
    scale = -0.5 / kernel.length_scale**2
    left, right = (side.square().sum(1, keepdim=True) for side in (x, landmarks))
    rows = torch.cat([x, left, torch.ones_like(left)], 1)
    points = torch.cat([-2 * scale * landmarks, torch.full_like(right, scale), scale * right], 1)
    return (rows.mT @ points).clamp_(max=0).exp_()


def _of_two_scales(
    kernel: Kernel,
    x: Float[Tensor, "set input row"],
    landmarks: Float[Tensor, "set input landmark"],
) -> Float[Tensor, "set row landmark"]:
    """Input by input."""
    share, scale = kernel.long_share, -0.5 / kernel.length_scale**2
    product = x.new_ones(len(x), x.shape[-1], landmarks.shape[-1])
    for left, right in zip(x.unbind(1), landmarks.unbind(1), strict=True):
        exponent = (left.unsqueeze(-1) - right.unsqueeze(-2)).square_().mul_(scale)
        long = (exponent / LONGER**2).exp_().mul_(share)
        product *= exponent.exp_().mul_(1 - share).add_(long)
    return product
