"""Priors over the edges of the graph."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.distributions import ScaleFreeEdges
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.constraints import GraphConstraints

__all__ = [
    "FamilyGraphPrior",
    "GraphPrior",
    "ScaleFreeGraphPrior",
    "SparseGraphPrior",
    "constraints_of",
    "law_given_order",
    "sample_order_and_edges",
]


@runtime_checkable
class GraphPrior(Protocol):
    """What the model asks of a graph prior: called without arguments, the law of `edge`.

    It is built as ``cls(num_variables)``, or ``cls(num_variables, variables=names)`` if it has such
    an argument. It may have three things more:

    * ``constraints``, a `GraphConstraints`: required and forbidden edges and tiers, which model and
      guide then honour whatever the law draws. Pairs that are not ``constraints.free`` should be
      masked in the law, as the diagonal should.
    * ``given_order(order_score)``: the law of `edge` given the order scores
      ``[*batch, variable]``, which then is asked for instead. Without `constraints`, the larger
      comes first; with them, ``constraints.prescribed.ranks(order_score)`` says who does.
    * ``graph_log_prob(adjacency, order_score)``, shape ``[*batch]``: log probability of the edges
      along the order, ``[*batch, parent, child]`` in float32, those against it summed out. The
      evidence engine otherwise draws these.

    It may have parameters (``torch.nn.Parameter``), which are learned with everything else. Latent
    sites of its own need a guide before `MetaCaDIGuide` in an ``AutoGuideList``, and training by
    Pyro's means (docs/extending.md): `MetaCaDI` refuses them.
    """

    def __call__(self) -> TorchDistributionMixin:
        """A distribution with event shape ``[parent, child]`` over 0/1 edge indicators."""
        ...


@runtime_checkable
class FamilyGraphPrior(GraphPrior, Protocol):
    """A prior that is a product over variables and their parents: the evidence engine's own.

    Probabilities of edges that the order allows are then the same for every order, but for a limit
    of parents.
    """

    @property
    def edge_log_odds(self) -> Float[Tensor, "parent child"]:
        """Log odds of every edge that the order allows; what is not free is up to `constraints`."""
        ...


def law_given_order(
    prior: GraphPrior, order_score: Float[Tensor, "*batch variable"]
) -> TorchDistributionMixin:
    """The law of `edge`, of priors whose law depends on the order for these scores."""
    given_order = getattr(prior, "given_order", None)
    law: TorchDistributionMixin = prior() if given_order is None else given_order(order_score)
    return law


def constraints_of(prior: GraphPrior) -> GraphConstraints | None:
    """The prior's ``constraints``, if it has any."""
    return getattr(prior, "constraints", None)


def sample_order_and_edges(
    prior: GraphPrior, zeros: Float[Tensor, " variable"]
) -> tuple[Float[Tensor, "*draw variable"], Float[Tensor, "*draw parent child"]]:
    """Sample the sites `order_score` and `edge` of a graph prior.

    Args:
        prior: Of the graph.
        zeros: Wherever the sites should be; locations of the scores, unless the prior says others.
    """
    constraints, given_order = constraints_of(prior), getattr(prior, "given_order", None)
    # Before the order, so that a guide of the prior's own latent sites can come before the graph's.
    edges: Any = prior() if given_order is None else None
    loc = zeros if constraints is None else constraints.order_loc
    # An objective cannot see what is prescribed but through the site.
    infer: Any = {} if constraints is None else {"prescribed": constraints.prescribed}
    law = dist.Gumbel(loc, torch.ones_like(loc)).to_event(1)
    order_score = pyro.sample("order_score", law, infer=infer)
    if given_order is not None:
        edges = given_order(order_score)
    return order_score, pyro.sample("edge", edges)


class SparseGraphPrior(PyroModule):
    r"""Independent edges: ``edge[i, j] ~ Bernoulli(p_ij)``, the diagonal masked out.

    The order is uniform, so an indicator counts in half of all orders: the prior probability of
    X_i -> X_j is p_ij / 2.

    Args:
        num_variables: d.
        probability: p, one number or a matrix ``[parent, child]`` with values in (0, 1). Default:
            half an expected parent per variable (fewer if d < 3), ``min(1/2, 1 / (d - 1))``.

    Raises:
        ConfigError: If a probability lies outside (0, 1) or the matrix has another shape.
    """

    probability: Tensor

    def __init__(self, num_variables: int, *, probability: float | ArrayLike | None = None) -> None:
        super().__init__()
        if probability is None:
            probability = default_probability(num_variables)
        matrix = probability_matrix(probability, num_variables)
        self.register_buffer("probability", matrix, persistent=False)

    @property
    def off_diagonal(self) -> Tensor:
        """Mask of the pairs that may be edges."""
        d = self.probability.shape[0]
        return ~torch.eye(d, dtype=torch.bool, device=self.probability.device)

    @property
    def edge_log_odds(self) -> Float[Tensor, "parent child"]:
        """Log odds of every edge (see `FamilyGraphPrior`)."""
        return torch.logit(self.probability)

    def forward(self) -> TorchDistributionMixin:
        """The law of `edge`, event shape ``[parent, child]``."""
        return dist.Bernoulli(self.probability).mask(self.off_diagonal).to_event(2)


class ScaleFreeGraphPrior(PyroModule):
    r"""Hubs: how many edges point from a variable follows a power law, see `ScaleFreeEdges`.

    The order is uniform and lets half of the indicators count, of a hub as of any other variable.
    The law of a row is no product over edges: the evidence engine draws graphs of independent edges
    and weighs them (`pyro_metacadi.inference.structured_prior`).

    Args:
        num_variables: d.
        exponent: γ in :math:`p(k) \propto (1 + k)^{-\gamma}`; the larger, the fewer edges.

    Raises:
        ConfigError: `exponent` is negative or not finite.

    Source: Barabási and Albert 1999, for degrees of growing networks, whose γ is 3.
    """

    exponent: Tensor

    def __init__(self, num_variables: int, *, exponent: float = 2.0) -> None:
        super().__init__()
        if not 0 <= exponent < np.inf:
            raise ConfigError(f"exponent: expected a number of at least 0, got {exponent}. Try 2.")
        self.num_variables = num_variables
        self.register_buffer("exponent", torch.tensor(float(exponent)), persistent=False)

    def forward(self) -> TorchDistributionMixin:
        """The law of `edge`, event shape ``[parent, child]``."""
        return ScaleFreeEdges(self.num_variables, exponent=self.exponent)

    def graph_log_prob(
        self, adjacency: Tensor, order_score: Float[Tensor, "*batch variable"]
    ) -> Float[Tensor, "*batch"]:
        """Log probability of the edges along the order (see `GraphPrior`)."""
        return self().graph_log_prob(adjacency, order_score)


def default_probability(num_variables: int) -> float:
    """Of an edge, unless the user says otherwise."""
    return min(0.5, 1 / max(1, num_variables - 1))


def probability_matrix(
    probability: float | ArrayLike, num_variables: int
) -> Float[Tensor, "parent child"]:
    """Edge probabilities as float32, 1/2 on the diagonal.

    Raises:
        ConfigError: One lies outside (0, 1), or the shape is another.
    """
    values = np.asarray(probability, dtype=float)
    shape = (num_variables, num_variables)
    if values.shape not in ((), shape):
        raise ConfigError(
            f"graph_prior: expected one probability or a matrix {list(shape)} [parent, child], got "
            f"shape {list(values.shape)}. Pass one row and one column per variable."
        )
    matrix = torch.as_tensor(np.broadcast_to(values, shape).copy(), dtype=torch.float32)
    inside = (matrix > 0) & (matrix < 1) | torch.eye(num_variables, dtype=torch.bool)
    if not inside.all():
        i, j = torch.nonzero(~inside)[0].tolist()
        raise ConfigError(
            f"graph_prior: expected probabilities strictly between 0 and 1, got "
            f"{matrix[i, j].item():g} at [{i}, {j}]. Use 0.001 or 0.999 for near certainty."
        )
    return matrix.fill_diagonal_(0.5)
