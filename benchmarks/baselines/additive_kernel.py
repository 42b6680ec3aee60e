"""The kernel of particles that have several parts, for Stein variational gradient descent."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pyro.infer.svgd import SteinKernel
from torch import Tensor

__all__ = ["AdditiveKernel"]


class AdditiveKernel(SteinKernel):
    """A Gaussian kernel of each part, with its own bandwidth, and their sum for all.

    Args:
        sizes: Of the parts.
        bandwidths: The kernel of a part is exp(-squared distance / bandwidth).
    """

    def __init__(self, sizes: Sequence[int], bandwidths: Sequence[float]) -> None:
        self._sizes, self._bandwidths = list(sizes), bandwidths

    @torch.no_grad()
    def log_kernel_and_grad(
        self, particles: Float[Tensor, "particle latent"]
    ) -> tuple[Float[Tensor, "one other latent"], Float[Tensor, "one other latent"]]:
        """The logarithm of the sum, and minus its gradient by the other, as SVGD takes it."""
        difference = particles - particles[:, None]
        parts = list(zip(difference.split(self._sizes, dim=-1), self._bandwidths, strict=True))
        kernels = [torch.exp(-part.square().sum(-1, keepdim=True) / h) for part, h in parts]
        slopes = [k * 2 * part / h for k, (part, h) in zip(kernels, parts, strict=True)]
        total = torch.stack(kernels).sum(0)
        # SVGD multiplies matrices of particles, one for each latent, which lie together in memory.
        matrices = total.log().squeeze(-1).expand(sum(self._sizes), -1, -1).contiguous()
        return matrices.permute(1, 2, 0), torch.cat(slopes, dim=-1) / total
