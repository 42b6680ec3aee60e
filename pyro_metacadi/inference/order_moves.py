"""Moves of a Markov chain over orders, many chains at once."""

import numpy as np
from torch import Tensor

from pyro_metacadi.typing import Array

__all__ = ["OrderMoves"]


class OrderMoves:
    """Moves of orders ``[row, position]``, whose entries are variables, causes first.

    Beside an order goes its `key`: where in the flat tables the predecessors of that variable are.
    In numpy: a sweep is a thousand calls on a few hundred entries, each half as dear as torch's.
    """

    def __init__(self, zeta: Tensor, bits: Tensor) -> None:
        num_variables, size = zeta.shape
        self.zeta, self.bits = zeta.numpy().ravel(), bits.numpy()
        self.slot = np.arange(num_variables)
        self.offset = self.slot * size
        self.earlier = np.tri(num_variables, k=-1, dtype=np.int64)

    def keys(self, order: Array) -> Array:
        """Keys of the variables of an order."""
        bits = self.bits[order[:, :, None], order[:, None, :]]
        return self.offset[order] + (bits * self.earlier).sum(-1)

    def log_weight(self, key: Array) -> Array:
        """Log of the summed scores of all graphs that an order allows, ``[row]``."""
        return self.zeta.take(key).sum(-1)

    def relocate(
        self, order: Array, key: Array, *, moved: Array, noise: Array
    ) -> tuple[Array, Array]:
        """Draw the position of `moved` ``[row]`` given the rest, by `noise` ``[row, position]``."""
        moved = moved[:, None]
        stays = order != moved
        rest = order[stays].reshape(len(order), -1)
        bit = self.bits[rest, moved]
        before = key[stays].reshape(rest.shape) & ~bit  # of the others, if `moved` comes later
        after = before | bit
        own = np.concatenate([self.offset[moved], self.bits[moved, rest]], 1).cumsum(1)
        # Two one-sided sums, not sums of differences: with -inf among them those would be NaN.
        weight = self.zeta.take(own)
        weight[:, 1:] += self.zeta.take(before).cumsum(1)
        weight[:, :-1] += self.zeta.take(after)[:, ::-1].cumsum(1)[:, ::-1]
        position = (weight + noise).argmax(1)[:, None]
        left, right = self.slot < position, self.slot > position
        order = np.where(right, np.concatenate([moved, rest], 1), moved)
        key = np.where(right, np.concatenate([moved, after], 1), own)
        order = np.where(left, np.concatenate([rest, moved], 1), order)
        return order, np.where(left, np.concatenate([before, moved], 1), key)

    def swap(
        self, order: Array, key: Array, *, pair: Array, threshold: Array
    ) -> tuple[Array, Array]:
        """Swap positions `pair` ``[row, 2]`` where the log weight gains more than `threshold`."""
        rows = np.arange(len(order))[:, None]
        proposed = order.copy()
        proposed[rows, pair] = order[rows, pair[:, ::-1]]
        proposed_key = self.keys(proposed)
        accept = (threshold < self.log_weight(proposed_key) - self.log_weight(key))[:, None]
        return np.where(accept, proposed, order), np.where(accept, proposed_key, key)
