"""A variable and its parents: what mechanisms, scores and chains are kept by."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxtyping import Bool, Num
from torch import Tensor

__all__ = ["Family", "families_of", "members"]


class Family(NamedTuple):
    """A variable and its parents: bit j of `parents` is set if X_j is one."""

    variable: int
    parents: int


def families_of(
    adjacency: Bool[Tensor, "parent child"] | Num[Tensor, "parent child"],
) -> list[Family]:
    """The family of every variable; ``adjacency[i, j]`` means X_i -> X_j."""
    return [
        Family(child, sum(1 << parent for parent, edge in enumerate(column) if edge))
        for child, column in enumerate(adjacency.bool().mT.tolist())
    ]


def members(mask: int) -> Iterator[int]:
    """The set bits, lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
