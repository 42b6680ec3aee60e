"""A Bernoulli variable whose draws are 0/1 forwards and relaxed backwards."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_metacadi.ops.relax import straight_through

__all__ = ["StraightThroughBernoulli"]


class StraightThroughBernoulli(dist.Bernoulli):
    r"""Bernoulli(σ(logits)) with straight-through Gumbel-softmax gradients.

    A draw is :math:`[\text{logits} + L > 0]` with L ~ Logistic(0, 1), which is exactly Bernoulli;
    the gradient is that of :math:`\sigma((\text{logits} + L)/\tau)`. ``log_prob`` is the discrete
    mass, never the relaxed density, and the KL divergence to a Bernoulli is Bernoulli's own: draws
    may be cloned, stored and scored again.

    Args:
        logits: Log-odds of 1, any shape.
        temperature: τ of the relaxation.

    Source: Section 4.1; Jang et al. 2016, Maddison et al. 2016.
    """

    has_rsample = True

    def __init__(
        self, logits: Tensor, *, temperature: float = 1.0, validate_args: bool | None = None
    ) -> None:
        self.temperature = temperature
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(
        self, batch_shape: torch.Size, _instance: object = None
    ) -> "StraightThroughBernoulli":
        """The same law over a larger batch shape."""
        return type(self)(
            self.logits.expand(batch_shape), temperature=self.temperature, validate_args=False
        )

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw 0/1 values of shape ``sample_shape + batch_shape``."""
        # Half-precision uniforms are too coarse to draw rare values.
        dtype = torch.promote_types(self.logits.dtype, torch.float32)
        shape = self._extended_shape(torch.Size(sample_shape))
        uniform = torch.rand(shape, dtype=dtype, device=self.logits.device)
        # torch.rand can return 0, whose logit is -inf; the gradient would be NaN there.
        perturbed = self.logits + torch.logit(uniform, eps=torch.finfo(uniform.dtype).tiny)
        soft = torch.sigmoid(perturbed / self.temperature).to(self.logits.dtype)
        return straight_through(perturbed.detach() > 0, soft)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw 0/1 values without a gradient; the same draws as `rsample` for the same seed."""
        with torch.no_grad():
            return self.rsample(sample_shape)
