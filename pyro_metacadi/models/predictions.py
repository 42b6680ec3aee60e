"""Predictions of the mechanisms at given rows and a given graph."""

from collections.abc import Mapping
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.models.mechanisms import Mechanisms

__all__ = ["Predictions"]


class Predictions:
    """What mechanisms say of rows, given a graph; what is each task's own is told later.

    Features that are shared by the tasks are computed once.

    Args:
        mechanisms: Of all variables.
        inputs: What they read of the rows.
        adjacency: ``adjacency[j, i] = 1`` lets variable i read variable j.
    """

    def __init__(
        self,
        mechanisms: Mechanisms,
        inputs: Float[Tensor, "task sample variable"],
        adjacency: Float[Tensor, "*draw parent child"],
    ) -> None:
        self.mechanisms, self.inputs, self.adjacency = mechanisms, inputs, adjacency

    @cached_property
    def shared_features(self) -> Float[Tensor, "*draw task variable sample feature"]:
        """`Mechanisms.features` of the parameters that all tasks share."""
        return self.mechanisms.features(self.inputs, self.adjacency)

    def features(
        self, adapted: Mapping[str, Tensor]
    ) -> Float[Tensor, "*draw task variable sample feature"]:
        """See `Mechanisms.features`."""
        if not any(name.startswith("interventional.") for name in adapted):
            return self.shared_features
        return self.mechanisms.features(self.inputs, self.adjacency, adapted)

    def observe(self, adapted: Mapping[str, Tensor]) -> Float[Tensor, "*draw task sample variable"]:
        """See `Mechanisms.observe`."""
        return self.mechanisms.observe(self.inputs, self.adjacency, adapted)
