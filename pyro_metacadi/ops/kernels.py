r"""Kernels of mechanisms: how alike a function's values are where its inputs are alike.

:math:`k(x, x') = \alpha \prod_j ((1 - w) \exp(-(x_j - x'_j)^2 / 2 \ell^2) + w \exp(-(x_j -
x'_j)^2 / 2 (4 \ell)^2))`, over the inputs j of a mechanism. With w = 0 it is the Gaussian kernel.
With w > 0 the function may vary slowly with some of its inputs and quickly with others, at no cost
that grows with the number of inputs: multiplied out, k mixes all ways to share them out.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Kernel"]

LONGER = 4
"""How many times as long the longer length-scale is: a power of two, see `_of_two_scales`."""


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
        mixed = self.long_share > 0 and bool(inputs.any())
        return (_of_two_scales if mixed else _gaussian)(self, x, landmarks, inputs)


def _gaussian(kernel: Kernel, x: Tensor, landmarks: Tensor, inputs: Tensor) -> Tensor:
    """One product of matrices: the mask is folded into the landmarks."""
    mask = inputs.to(x.dtype)
    scale = -0.5 / kernel.length_scale**2
    rows, points = x.square() @ (scale * mask.mT), landmarks.square() @ (scale * mask.mT)
    exponent = torch.baddbmm(
        rows.mT.unsqueeze(-1) + points.mT.unsqueeze(-2),
        x.expand(len(mask), *x.shape),
        (mask.unsqueeze(1) * landmarks).mT,
        alpha=-2 * scale,
    )
    return exponent.clamp_(max=0).exp_()


def _of_two_scales(kernel: Kernel, x: Tensor, landmarks: Tensor, inputs: Tensor) -> Tensor:
    """Input by input, no more of them than the largest set reads."""
    scale = -0.5 / (LONGER * kernel.length_scale) ** 2
    count = int(inputs.sum(-1).max())
    columns = inputs.to(torch.int8).sort(-1, descending=True).indices[:, :count]
    product, share = x.new_ones(()), kernel.long_share
    for at in columns.mT:
        read = inputs.gather(1, at.unsqueeze(-1)).to(x.dtype)
        gap = (x.mT[at] * read).unsqueeze(-1) - (landmarks.mT[at] * read).unsqueeze(-2)
        long = gap.square_().mul_(scale).exp_()
        # Four squarings make the exponent sixteen times as large, and the length a quarter.
        short = long.square().square_().square_().square_()
        product = long.mul_(share).add_(short, alpha=1 - share).mul_(product)
    return product
