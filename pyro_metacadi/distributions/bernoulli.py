"""A Bernoulli variable whose draws are 0/1 forwards and relaxed backwards."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import kl_divergence, register_kl

from pyro_metacadi.ops.relax import straight_through

__all__ = ["PartlyKnownBernoulli", "StraightThroughBernoulli"]


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


class PartlyKnownBernoulli(StraightThroughBernoulli):
    """The same where some values are known beforehand: those with logits of plus or minus infinity.

    They are what every draw has, without a gradient; their log mass is 0, and that of the contrary
    minus infinity.
    """

    def log_prob(self, value: Tensor) -> Tensor:
        """Log mass of 0/1 values; that of infinite logits would be no number otherwise."""
        certain = self.logits.isinf()
        finite = StraightThroughBernoulli(self.logits.masked_fill(certain, 0.0))
        wrong = torch.where((value > 0) == (self.logits > 0), 0.0, -torch.inf)
        return torch.where(certain, wrong.to(self.logits.dtype), finite.log_prob(value))


@register_kl(PartlyKnownBernoulli, PartlyKnownBernoulli)
def _(p: PartlyKnownBernoulli, q: PartlyKnownBernoulli) -> Tensor:
    """Of laws with the same values known, which add nothing."""
    certain = p.logits.isinf() & (p.logits == q.logits)
    finite = (dist.Bernoulli(logits=law.logits.masked_fill(certain, 0.0)) for law in (p, q))
    return torch.where(certain, 0.0, kl_divergence(*finite))
