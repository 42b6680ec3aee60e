"""What an expert knows of the graph: probabilities, required and forbidden edges, tiers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.nn import PyroModule
from torch import Tensor

from pyro_metacadi.data.names import check_names, did_you_mean
from pyro_metacadi.distributions import FewParents
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.models.priors import default_probability, probability_matrix
from pyro_metacadi.ops.constraints import GraphConstraints

__all__ = ["ExpertGraphPrior"]


class ExpertGraphPrior(PyroModule):
    r"""Edges with probabilities of their own, and what must or must not be.

    >>> prior = partial(                                                     # doctest: +SKIP
    ...     ExpertGraphPrior, required=[("dose", "PKC")], tiers=[["dose"], ["PKC", "PKA"]]
    ... )
    >>> MetaCaDI(graph_prior=prior)                                          # doctest: +SKIP

    Both engines take it, and honour demands in every graph. Given the order, an edge that it allows
    is there with probability p_ij, independently of others (given the limit of parents, if there is
    one). Orders are those that tiers and required edges allow:

    * svi: equally probable, if each variable has at most one parent required within its tier (see
      `GraphConstraints.order_loc`);
    * evidence: graphs have the odds of their edges, so that an order is the more probable the more
      graphs it allows, by the factor :math:`\prod 1 / (1 - p_{ij})` over the pairs that it allows
      if there is no limit of parents.

    The two are one law where probabilities within a tier are equal, required edges are as above,
    and none within a tier is forbidden one way only; under a limit of parents, where besides all
    probabilities are equal and no edge is required or forbidden.

    Args:
        num_variables: d.
        variables: Names, by which the demands may speak of them; `MetaCaDI` gives those of the
            tasks. Default X1, X2, ...
        probability: p, one number or a matrix ``[parent, child]``, in which 0 forbids and 1
            requires an edge. Default ``min(1/2, 1 / (d - 1))``.
        required: Edges ``(parent, child)`` that are there, by name or position.
        forbidden: Edges that are not.
        tiers: All variables, in groups: those of a later group cause none in an earlier one.
        max_indegree: Most parents of a variable.

    Raises:
        ConfigError: A demand is malformed, or contradicts another; names the variables.
    """

    probability: Tensor

    def __init__(
        self,
        num_variables: int,
        *,
        variables: Sequence[str] | None = None,
        probability: float | ArrayLike | None = None,
        required: Sequence[Sequence[str | int]] = (),
        forbidden: Sequence[Sequence[str | int]] = (),
        tiers: Sequence[Sequence[str | int]] | None = None,
        max_indegree: int | None = None,
    ) -> None:
        super().__init__()
        d = num_variables
        names = check_names(variables, what="variables", count=d, default="X")
        if probability is None:
            probability = default_probability(d)
        values = np.asarray(probability, dtype=float)
        certain = values.ndim == 2
        # What is certain is a demand, and has no odds.
        open_ = np.where((values == 0) | (values == 1), 0.5, values) if certain else values
        self.register_buffer("probability", probability_matrix(open_, d), persistent=False)
        self.constraints = GraphConstraints(
            names,
            required=[*_pairs(names, required, "required"), *_where(values == 1, certain)],
            forbidden=[*_pairs(names, forbidden, "forbidden"), *_where(values == 0, certain)],
            tiers=_tiers(names, tiers),
            max_indegree=_limit(max_indegree),
        )

    @property
    def edge_log_odds(self) -> Float[Tensor, "parent child"]:
        """Log odds of every edge (see `FamilyGraphPrior`)."""
        return torch.logit(self.probability)

    def forward(self) -> TorchDistributionMixin:
        """The law of `edge` ``[parent, child]``; a limit of parents counts all indicators."""
        return self._law(self.constraints.free)

    def given_order(self, order_score: Float[Tensor, "*draw variable"]) -> TorchDistributionMixin:
        """The law of `edge`; a limit of parents counts those that the order allows."""
        if self.constraints.max_indegree is None:
            return self.forward()
        return self._law(self.constraints.forward_pairs(order_score))

    def _law(self, counts: Bool[Tensor, "*draw parent child"]) -> TorchDistributionMixin:
        free, room = self.constraints.free, self.constraints.room
        if room is None:
            return dist.Bernoulli(self.probability).mask(free).to_event(2)
        return FewParents(self.edge_log_odds, counts=counts, free=free, room=room)


def _where(present: Bool[np.ndarray, "*shape"], is_matrix: bool) -> list[tuple[int, int]]:
    """Pairs off the diagonal at which a matrix says so."""
    if not is_matrix:
        return []
    return [(int(i), int(j)) for i, j in np.argwhere(present) if i != j]


def _pairs(names: tuple[str, ...], pairs: Any, what: str) -> list[tuple[int, int]]:
    found = []
    for pair in _listed(pairs, what):
        ends = [_position(names, end, what) for end in _listed(pair, what)]
        if len(ends) != 2 or ends[0] == ends[1]:
            raise ConfigError(
                f"{what}: expected pairs (parent, child) of two variables, got {pair!r}. Write "
                f"({names[0]!r}, {names[-1]!r})."
            )
        found.append((ends[0], ends[1]))
    return found


def _tiers(names: tuple[str, ...], tiers: Any) -> list[list[int]] | None:
    if tiers is None:
        return None
    found = [
        [_position(names, variable, "tiers") for variable in _listed(tier, "tiers")]
        for tier in _listed(tiers, "tiers")
    ]
    every = [variable for tier in found for variable in tier]
    for at, name in enumerate(names):
        if every.count(at) != 1:
            raise ConfigError(
                f"tiers: expected every variable in one tier, got {name!r} in {every.count(at)}. "
                f"Name each once."
            )
    return found


def _listed(values: Any, what: str) -> list[Any]:
    if not isinstance(values, list | tuple | np.ndarray):  # what is gone once read is no option
        raise ConfigError(
            f"{what}: expected a list of {'lists' if what == 'tiers' else 'pairs'} of variables, "
            f"got {values!r}. Write {'[[...], [...]]' if what == 'tiers' else '[(parent, child)]'}."
        )
    return list(values)


def _position(names: tuple[str, ...], name: Any, what: str) -> int:
    if isinstance(name, str) and name in names:
        return names.index(name)
    if isinstance(name, int | np.integer) and not isinstance(name, bool) and 0 <= name < len(names):
        return int(name)
    raise ConfigError(
        f"{what}: expected a variable's name or its position from 0 to {len(names) - 1}, got "
        f"{name!r}. {did_you_mean(name, names)}"
    )


def _limit(max_indegree: Any) -> int | None:
    if max_indegree is None:
        return None
    whole = isinstance(max_indegree, int | np.integer) and not isinstance(max_indegree, bool)
    if not whole or max_indegree < 0:
        raise ConfigError(
            f"max_indegree: expected a whole number of at least 0, got {max_indegree!r}. Try 3."
        )
    return int(max_indegree)
