"""Scores of families that are asked for again, within bounds."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["ScoreCache", "Tally"]

MOST_SCORES = 2**20
"""That are kept: some 200 MB. Searches of 1000 variables ask for fewer."""

K = TypeVar("K", bound=Hashable)


@dataclass
class Tally:
    """How often scores were asked for, and how often they were there."""

    asked: int = 0
    there: int = 0

    @property
    def hit_rate(self) -> float:
        """Share of those asked for that were there."""
        return self.there / max(1, self.asked)


@dataclass
class ScoreCache(Generic[K]):
    """The latest scores; where there are too many, the oldest are forgotten.

    Attributes:
        tally: Counts what is asked for; may be shared by several caches.
        most: Scores that are kept.
    """

    tally: Tally
    most: int = MOST_SCORES
    _scores: dict[K, float] = field(default_factory=dict)

    def known(self, keys: Sequence[K]) -> dict[K, float]:
        """Scores of those that are there."""
        found = {key: self._scores[key] for key in keys if key in self._scores}
        self.tally.asked += len(keys)
        self.tally.there += sum(key in found for key in keys)
        return found

    def keep(self, scores: Mapping[K, float]) -> None:
        """Take in more, and forget the oldest if there are too many."""
        self._scores.update(scores)
        for key in list(islice(self._scores, max(0, len(self._scores) - self.most))):
            del self._scores[key]
