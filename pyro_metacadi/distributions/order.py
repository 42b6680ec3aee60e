"""The Plackett-Luce law over orders that Gumbel scores imply."""

from collections.abc import Sequence

import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.precedence import Precedence

__all__ = ["PlackettLuce"]


class PlackettLuce(TorchDistribution):
    r"""Orders of descending Gumbel(ψ, 1) scores; ``value[0]`` comes first.

    .. math:: q(\pi) = \prod_k \frac{e^{\psi_{\pi_k}}}{\sum_{l \ge k} e^{\psi_{\pi_l}}}

    Args:
        score: Locations ψ ``[*batch, variable]``.
        prescribed: Which variables come before which: the next one then is chosen among those whose
            predecessors have come, see `pyro_metacadi.ops.precedence`.

    Source: Kool, van Hoof and Welling 2020, Section 2.
    """

    arg_constraints = {"score": constraints.real_vector}  # noqa: RUF012
    support = constraints.independent(constraints.nonnegative_integer, 1)

    def __init__(
        self,
        score: Tensor,
        *,
        prescribed: Precedence | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.score, self.prescribed = score, prescribed
        super().__init__(score.shape[:-1], score.shape[-1:], validate_args=validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw orders of shape ``sample_shape + batch_shape + [variable]``."""
        with torch.no_grad():
            scores = dist.Gumbel(self.score, 1.0).sample(torch.Size(sample_shape))
            if self.prescribed is not None:
                return torch.argsort(self.prescribed.ranks(scores), dim=-1)
            return torch.argsort(scores, dim=-1, descending=True)

    def log_prob(self, value: Int[Tensor, "*sample variable"]) -> Float[Tensor, "*sample"]:
        """Log mass of the order `value`, a permutation of the variables."""
        if self.prescribed is not None:
            return self.prescribed.log_prob(value, score=self.score)
        ordered = self.score.expand(value.shape).gather(-1, value)
        remaining = ordered.flip(-1).logcumsumexp(-1).flip(-1)
        return (ordered - remaining).sum(-1)

    def kl_to_uniform(self, *, num_samples: int = 16) -> Float[Tensor, ""]:
        r"""Monte Carlo estimate of :math:`E_q \log q(\pi) + \log d!`, the KL to uniform orders.

        See `kl_to`.
        """
        return self.kl_to(PlackettLuce(torch.zeros_like(self.score)), num_samples=num_samples)

    def kl_to(self, prior: "PlackettLuce", *, num_samples: int = 16) -> Float[Tensor, ""]:
        r"""Monte Carlo estimate of :math:`E_q [\log q(\pi) - \log p(\pi)]`.

        Ranks carry no gradient, so the gradient is the score-function estimator with a
        leave-one-out baseline: unbiased, like the value.

        Args:
            prior: p, with the same order prescribed; it gets no gradient.
            num_samples: Orders drawn, at least 2; each costs O(d), or O(d²) if some is prescribed.

        Raises:
            ConfigError: If `num_samples` is less than 2.
        """
        if num_samples < 2:
            raise ConfigError(
                f"num_samples: expected at least 2, got {num_samples}. The default is 16."
            )
        orders = self.sample([num_samples])
        log_q = self.log_prob(orders)
        cost = log_q.detach() - prior.log_prob(orders).detach()
        baseline = (cost.sum(0) - cost) / (num_samples - 1)
        surrogate = ((cost - baseline) * log_q).mean(0)
        return (cost.mean(0) + surrogate - surrogate.detach()).sum()
