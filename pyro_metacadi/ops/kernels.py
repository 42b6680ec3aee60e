r"""Kernels of mechanisms: how alike a function's values are where its inputs are alike.

:math:`k(x, x') = \alpha \prod_j ((1 - w) \exp(-(x_j - x'_j)^2 / 2 \ell^2) + w \exp(-(x_j -
x'_j)^2 / 2 (4 \ell)^2))`, over the inputs j of a mechanism. With w = 0 it is the Gaussian kernel.
With w > 0 the function may vary slowly with some of its inputs and quickly with others: multiplied
out, k mixes all ways to share them out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
        return self.with_landmarks(landmarks.to(x.dtype), inputs)(x)

    def with_landmarks(
        self, landmarks: Float[Tensor, "landmark input"], inputs: Bool[Tensor, "set input"]
    ) -> Callable[[Float[Tensor, "row input"]], Float[Tensor, "set row landmark"]]:
        """`correlation` as a function of rows: what does not depend on them is computed once."""
        columns, read = _columns_read(inputs)
        if self.long_share > 0:
            return partial(_of_two_scales, self, landmarks, columns=columns, read=read)
        mask = read.to(landmarks.dtype).unsqueeze(-1)
        places = landmarks.mT[columns] * mask
        scale, right = -0.5 / self.length_scale**2, places.square().sum(1, keepdim=True)
        points = torch.cat([-2 * scale * places, torch.full_like(right, scale), scale * right], 1)
        return partial(_gaussian, points, columns=columns, mask=mask)


def _columns_read(
    inputs: Bool[Tensor, "set input"],
) -> tuple[Int[Tensor, "set place"], Bool[Tensor, "set place"]]:
    """The columns that each set reads, as many places as the largest has, and which are filled."""
    count = int(inputs.sum(-1).max())
    columns = inputs.to(torch.int8).sort(-1, descending=True).indices[:, :count]
    return columns, inputs.gather(1, columns)


def _gaussian(
    points: Float[Tensor, "set place_and_two landmark"],
    x: Float[Tensor, "row input"],
    *,
    columns: Int[Tensor, "set place"],
    mask: Float[Tensor, "set place 1"],
) -> Float[Tensor, "set row landmark"]:
    """One product of matrices, the squares of both sides among the inputs."""
    places = x.mT[columns] * mask
    left = places.square().sum(1, keepdim=True)
    rows = torch.cat([places, left, torch.ones_like(left)], 1)
    return (rows.mT @ points).clamp_(max=0).exp_()


def _of_two_scales(
    kernel: Kernel,
    landmarks: Float[Tensor, "landmark input"],
    x: Float[Tensor, "row input"],
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
