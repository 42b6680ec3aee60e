"""Edges of which each variable has a number that follows a power law."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor
from torch.distributions import Independent, constraints, register_kl

from pyro_metacadi.distributions.bernoulli import StraightThroughBernoulli

__all__ = ["ScaleFreeEdges"]


class ScaleFreeEdges(TorchDistribution):
    r"""Each row has k edges with probability proportional to :math:`(1 + k)^{-\gamma}`.

    All sets of k are equally probable, and rows independent. The diagonal has no density and no
    effect.

    .. math:: \log p(e) = \sum_i \left[-\gamma \log(1 + k_i) - \log \binom{d - 1}{k_i}\right]
        - d \log \sum_{k < d} (1 + k)^{-\gamma}, \quad k_i = \sum_{j \ne i} e_{ij}

    Args:
        num_variables: d.
        exponent: γ, a tensor without axes.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.independent(constraints.boolean, 2)

    def __init__(
        self,
        num_variables: int,
        *,
        exponent: Float[Tensor, ""],
        batch_shape: torch.Size = torch.Size(),  # noqa: B008
        validate_args: bool | None = None,
    ) -> None:
        self.exponent, self._d = exponent, num_variables
        event_shape = torch.Size([num_variables, num_variables])
        super().__init__(batch_shape, event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "ScaleFreeEdges":
        """The same law over a larger batch shape."""
        return ScaleFreeEdges(
            self._d,
            exponent=self.exponent,
            batch_shape=torch.Size(batch_shape),
            validate_args=False,
        )

    @property
    def log_number(self) -> Float[Tensor, " number"]:
        """Log probability of a row having 0, 1, ... d - 1 edges."""
        number = torch.arange(self._d, dtype=self.exponent.dtype, device=self.exponent.device)
        return torch.log_softmax(-self.exponent * torch.log1p(number), dim=-1)

    @property
    def log_set(self) -> Float[Tensor, " number"]:
        """Log probability of one set of so many edges."""
        number = torch.arange(self._d, dtype=self.exponent.dtype, device=self.exponent.device)
        most = torch.full_like(number, self._d - 1)
        sets = torch.lgamma(most + 1) - torch.lgamma(number + 1) - torch.lgamma(most - number + 1)
        return self.log_number - sets

    def log_prob(self, value: Tensor) -> Float[Tensor, "*batch"]:
        """Log mass of 0/1 edges. Relaxed edges' gradients are those of the line between numbers."""
        number = (value - torch.diag_embed(value.diagonal(dim1=-1, dim2=-2))).sum(-1)
        below = number.detach().floor().clamp(0, max(0, self._d - 2)).long()
        table = torch.cat([self.log_set, self.log_set[-1:]])
        slope = table[below + 1] - table[below]
        return (table[below] + slope * (number - below)).sum(-1).expand(value.shape[:-2])

    def graph_log_prob(
        self, adjacency: Tensor, order_score: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "*batch"]:
        r"""Log mass of a DAG's edges, whatever indicators the order leaves without effect.

        A set is there if it is with or without a further edge, so that masses of sets of k among
        the first m others are :math:`s_m(k) = s_{m+1}(k) + s_{m+1}(k + 1)`.

        Args:
            adjacency: 0/1, ``[*batch, parent, child]``, with edges along the order alone.
            order_score: The larger comes first; no two are equal.
        """
        tables = [self.log_set.double()]
        for _ in range(self._d - 1):
            tables.append(torch.logaddexp(tables[-1][:-1], tables[-1][1:]))
        padded = torch.nn.utils.rnn.pad_sequence(
            tables[::-1], batch_first=True, padding_value=-torch.inf
        )
        number = adjacency.sum(-1, dtype=torch.long)
        later = (order_score.unsqueeze(-1) > order_score.unsqueeze(-2)).sum(-1)
        return padded[later, number].sum(-1)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Draw 0/1 values of shape ``sample_shape + batch_shape + [parent, child]``."""
        shape = self._extended_shape(torch.Size(sample_shape))
        with torch.no_grad():
            number = torch.distributions.Categorical(logits=self.log_number).sample(shape[:-1])
            key = torch.rand(shape, dtype=self.exponent.dtype, device=self.exponent.device)
            key.diagonal(dim1=-1, dim2=-2).fill_(torch.inf)
            rank = key.argsort(-1).argsort(-1)
            return (rank < number.unsqueeze(-1)).to(key.dtype)


@register_kl(Independent, ScaleFreeEdges)
def _kl(q: Independent, p: ScaleFreeEdges) -> Float[Tensor, "*batch"]:
    """Of independent edges, closed form: what p asks of a row is how many edges it has."""
    law = getattr(q.base_dist, "base_dist", None)
    if q.event_shape != p.event_shape or not isinstance(law, StraightThroughBernoulli):
        raise NotImplementedError  # no closed form: objectives then take the sampled value
    d = p.event_shape[-1]
    off = ~torch.eye(d, dtype=torch.bool, device=law.logits.device)
    probability = law.probs * off
    entropy = torch.where(off, law.entropy(), 0.0).sum((-1, -2))
    number = _number_of_edges(probability)
    return -(number * p.log_set).sum((-1, -2)) - entropy


def _number_of_edges(
    probability: Float[Tensor, "*batch parent child"],
) -> Float[Tensor, "*batch parent number"]:
    """Probability of a row having 0, 1, ... d - 1 independent edges, in O(d³)."""
    mass = torch.zeros_like(probability)
    mass = torch.cat([mass[..., :1] + 1, mass[..., 1:]], dim=-1)
    for chance in probability.unbind(-1):
        more = torch.cat([torch.zeros_like(mass[..., :1]), mass[..., :-1]], dim=-1)
        mass = mass + chance.unsqueeze(-1) * (more - mass)
    return mass
