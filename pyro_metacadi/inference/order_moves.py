"""Moves of a Markov chain over orders, many chains at once, at a cost that hardly grows with d."""

import numpy as np
from torch import Tensor

from pyro_metacadi.typing import Array

__all__ = ["OrderMoves"]


class OrderMoves:
    """Moves of orders, given by the `rank` ``[row, variable]`` of every variable, causes first.

    Beside it goes a `key` ``[row, variable]``: where in the flat tables the score of that variable
    with its predecessors is. Where a variable stands matters only to its candidate parents and to
    those whose candidate it is, its *relatives*: a move looks at them, not at all variables. All
    rows move the same variables. Ranks and keys are changed in place.

    In numpy: a sweep is a thousand calls on a few hundred entries, each half as dear as torch's.
    """

    def __init__(self, zeta: Tensor, bits: Tensor) -> None:
        num_variables, size = zeta.shape
        self.zeta, self.bits = zeta.numpy().ravel(), bits.numpy()
        self.offset = np.arange(num_variables) * size
        linked = (self.bits != 0) | (self.bits.T != 0)
        self.relatives = [np.flatnonzero(line) for line in linked]
        self._parents, self._parent_bits = _padded(self.bits)

    def keys(self, rank: Array, variables: Array | slice = slice(None)) -> Array:
        """Keys of some variables of an order."""
        earlier = rank[:, self._parents[variables]] < rank[:, variables, None]
        return self.offset[variables] + (earlier * self._parent_bits[variables]).sum(-1)

    def log_weight(self, key: Array) -> Array:
        """Log of the summed scores of all graphs that an order allows, ``[row]``."""
        return self.zeta.take(key).sum(-1)

    def relocate(
        self, rank: Array, key: Array, variable: int, *, power: Array, noise: Array, uniform: Array
    ) -> None:
        """Draw the position of a variable given the order of the rest.

        The relatives divide the positions into stretches of equal weight: a stretch is drawn, and
        then a position in it.

        Args:
            rank: See above.
            key: See above.
            variable: Which one.
            power: The weights are raised to, ``[row]``.
            noise: Gumbel variates ``[row, stretch]``, one more than there are relatives.
            uniform: Variates ``[row]`` below 1.
        """
        relatives, at = self.relatives[variable], rank[:, [variable]]
        place = rank[:, relatives]
        place -= place > at  # among the others
        sort = place.argsort(1)
        place, relative = np.take_along_axis(place, sort, 1), relatives[sort]
        bit = self.bits[relative, variable]
        before = np.take_along_axis(key, relative, 1) & ~bit  # of the relatives, if it comes later
        after = before | bit
        own = np.concatenate(
            [np.full_like(at, self.offset[variable]), self.bits[variable, relative]], 1
        ).cumsum(1)
        # Two one-sided sums, not sums of differences: with -inf among them those would be NaN.
        weight = self.zeta.take(own)
        weight[:, 1:] += self.zeta.take(before).cumsum(1)
        weight[:, :-1] += self.zeta.take(after)[:, ::-1].cumsum(1)[:, ::-1]
        last = np.full_like(at, rank.shape[1] - 1)
        ends = np.concatenate([np.full_like(at, -1), place, last], 1)
        length = np.diff(ends, axis=1)
        total = power[:, None] * weight + np.log(length) + noise
        stretch = total.argmax(1)[:, None]
        within = (uniform[:, None] * np.take_along_axis(length, stretch, 1)).astype(int)
        new = np.take_along_axis(ends, stretch, 1) + 1 + within
        rank -= rank > at
        rank += rank >= new
        rank[:, variable] = new[:, 0]
        later = np.arange(len(relatives)) >= stretch
        np.put_along_axis(key, relative, np.where(later, after, before), 1)
        key[:, variable] = np.take_along_axis(own, stretch, 1)[:, 0]

    def swap(self, rank: Array, key: Array, pair: tuple[int, int], *, threshold: Array) -> None:
        """Exchange the positions of two variables where the log weight gains more than that."""
        first, second = pair
        affected = np.unique([*pair, *self.relatives[first], *self.relatives[second]])
        proposed = rank.copy()
        proposed[:, pair] = rank[:, pair[::-1]]
        new, old = self.keys(proposed, affected), key[:, affected]
        accept = threshold < self.log_weight(new) - self.log_weight(old)
        rank[accept] = proposed[accept]
        key[:, affected] = np.where(accept[:, None], new, old)


def _padded(bits: Array) -> tuple[Array, Array]:
    """Candidates of every variable and their bits, in rows of one length; the rest have no bit."""
    present = bits != 0
    width = max(1, present.sum(1).max())
    parents = np.argsort(~present, axis=1, kind="stable")[:, :width]
    return parents, np.take_along_axis(bits, parents, 1)
