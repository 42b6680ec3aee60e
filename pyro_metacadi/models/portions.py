"""How many parent sets are scored at once, and in how many parts, so that memory suffices."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["AT_ONCE", "HELD", "Portions", "set_bytes"]

CACHE_FLOATS = {"cpu": 2**21, "cuda": 2**28}
"""Features of all sets scored at once: 8 MiB, which a CPU's cache holds in part, or a GiB, which
keeps a GPU busy."""

AT_ONCE, HELD = 6, 3
"""What part of the memory is for what is scored at once, and for what is held."""

ROW_BYTES, ROW_FEATURE_BYTES = 64, 32
"""Of a row, and of each of its features: kernels, features, and both in float64 for a while."""

GRAM_BYTES, WEIGHT_BYTES = 4, 48
"""Of an entry of a task's sums of products, and of an entry of the weights' covariance."""


@dataclass(frozen=True)
class Portions:
    """Shares out memory for scoring.

    A sixth of it is for what is scored at once (two such portions are alive where one follows the
    other), a third for what is held to be used again, a third for all else.

    Attributes:
        budget: Bytes beside the data.
        sizes: Rows of each training task.
        device: The type of what scores.
    """

    budget: int
    sizes: tuple[int, ...]
    device: str = "cpu"

    @property
    def at_once(self) -> int:
        """Bytes of what is scored at once."""
        return self.budget // AT_ONCE

    @property
    def held(self) -> int:
        """Bytes of what is held."""
        return self.budget // HELD

    @property
    def in_cache(self) -> int:
        """Features of all that is computed at once, as many as the device is fast with."""
        return CACHE_FLOATS[self.device]

    def num_sets(self, num_features: int, *, num_rows: int) -> int:
        """How many sets of so many features are scored at once, for so many rows."""
        in_cache = self.in_cache // (num_features * num_rows)
        in_memory = self.at_once // self.set_bytes(num_features)
        return max(1, min(in_cache, in_memory))

    def most_rows(self, num_features: int) -> int | None:
        """Rows of a part, where not even one set can be scored at once; None where it can."""
        needed = self.set_bytes(num_features)
        if needed <= self.at_once:
            return None
        return max(1, sum(self.sizes) * self.at_once // needed)

    def set_bytes(self, num_features: int) -> int:
        """Bytes that a set of so many features takes."""
        return set_bytes(num_features, self.sizes)


def set_bytes(num_features: int, sizes: Sequence[int]) -> int:
    """Bytes that scoring a set of so many features takes, for tasks of so many rows."""
    rows = sum(sizes) * (ROW_BYTES + ROW_FEATURE_BYTES * num_features)
    sums = len(sizes) * GRAM_BYTES * num_features**2
    return rows + sums + WEIGHT_BYTES * num_features**2
