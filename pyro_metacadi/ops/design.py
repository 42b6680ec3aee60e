"""Features and responses of parent sets, summed up for each task, as regressions need them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.rows import TaskRows, joined

__all__ = ["Design", "Part"]

FeaturesOf = Callable[[TaskRows], Float[Tensor, "set row feature"]]


class Part(NamedTuple):
    """Features and responses of some tasks, and their sums.

    Attributes:
        rows: Which rows belong to which task.
        x: The variable's own values.
        features: Of the parents.
        gram: Sums of outer products of features over a task's rows.
    """

    rows: TaskRows
    x: Float[Tensor, "set row"]
    features: Float[Tensor, "set row feature"]
    gram: Float[Tensor, "set task feature feature"]

    @classmethod
    def of(
        cls,
        rows: TaskRows,
        x: Float[Tensor, "set row"],
        features: Float[Tensor, "set row feature"],
        *,
        exact: bool = False,
    ) -> "Part":
        """Features with their sums: in their own precision, or (exact) in float64."""
        precise = features.double() if exact else features
        return cls(rows, x, features, rows.gram(precise, precise))

    @property
    def cross(self) -> Float[Tensor, "set task feature"]:
        """Sums of features times responses, in the precision of the other sums."""
        dtype = self.gram.dtype
        sums = self.rows.gram(self.features.to(dtype), self.x.to(dtype).unsqueeze(-1))
        return sums.squeeze(-1).double()


@dataclass(frozen=True, eq=False)
class Design:
    """Features and responses of every set.

    Where memory allows, features and their sums are held. Where it does not, they are made anew,
    some tasks after the others, each time they are asked for.

    Attributes:
        x: The variable's own values.
        rows: Which rows belong to which task.
        parts: Of consecutive tasks.
        cross: Sums of features times responses over a task's rows.
        is_exact: Whether sums are in float64 whatever the features' precision.
    """

    x: Float[Tensor, "set row"]
    rows: TaskRows
    parts: Iterable[Part]
    cross: Float[Tensor, "set task feature"]
    is_exact: bool

    @classmethod
    def of(
        cls, features: Float[Tensor, "set row feature"], x: Float[Tensor, "set row"], rows: TaskRows
    ) -> "Design":
        """Features, responses and their sums, in their precision; all of them held."""
        return cls._of_parts(x, rows, (Part.of(rows, x, features),))

    @classmethod
    def made_anew(
        cls,
        features_of: FeaturesOf,
        x: Float[Tensor, "set row"],
        rows: TaskRows,
        *,
        most_rows: int,
    ) -> "Design":
        """The same in parts of up to `most_rows` rows, or of one task of more; none is held.

        Args:
            features_of: Features of the rows of some tasks.
            x: The variable's own values.
            rows: Which rows belong to which task.
            most_rows: Of a part.
        """
        return cls._of_parts(x, rows, _MadeAnew(features_of, x, tuple(rows.pieces(most_rows))))

    @classmethod
    def _of_parts(cls, x: Tensor, rows: TaskRows, parts: Iterable[Part]) -> "Design":
        cross, dtypes = zip(*((part.cross, part.gram.dtype) for part in parts), strict=True)
        return cls(x, rows, parts, joined(cross, dim=1), dtypes[0] == torch.float64)

    @property
    def features(self) -> Float[Tensor, "set row feature"]:
        """Of all rows."""
        return joined([part.features for part in self.parts], dim=1)

    def exact(self) -> "Design":
        """The same with sums in float64."""
        if isinstance(self.parts, _MadeAnew):
            anew = _MadeAnew(self.parts.features_of, self.x, self.parts.pieces, exact=True)
            return self._of_parts(self.x, self.rows, anew)
        parts = [Part.of(part.rows, part.x, part.features, exact=True) for part in self.parts]
        return self._of_parts(self.x, self.rows, parts)

    def weighted_gram(
        self, weight: Float[Tensor, "set task"]
    ) -> Float[Tensor, "set feature feature"]:
        """Sum over the tasks of `weight` times the task's sum of outer products of features."""
        first, totals = 0, []
        for part in self.parts:
            last = first + part.rows.num_tasks
            own = weight[:, first:last].to(part.gram.dtype)
            totals.append(torch.einsum("st,stab->sab", own, part.gram).double())
            first = last
        return torch.stack(totals).sum(0) if len(totals) > 1 else totals[0]

    def predict(self, mean: Float[Tensor, "set feature"]) -> Float[Tensor, "set row"]:
        """Predictions of every row under weights `mean`."""
        return joined(
            [
                (part.features @ mean.to(part.features.dtype).unsqueeze(-1)).squeeze(-1)
                for part in self.parts
            ],
            dim=1,
        )

    def spread(self, covariance: Float[Tensor, "set feature feature"]) -> Float[Tensor, "set task"]:
        """Variance of the predictions under uncertain weights, summed over each task's rows."""
        found = []
        for part in self.parts:
            flat = covariance.to(part.gram.dtype).flatten(1).unsqueeze(-1)
            found.append((part.gram.flatten(2) @ flat).squeeze(-1).double())
        return joined(found, dim=1)


@dataclass(frozen=True, eq=False)
class _MadeAnew:
    """Parts of a design, made when they are asked for."""

    features_of: FeaturesOf
    x: Float[Tensor, "set row"]
    pieces: tuple[TaskRows, ...]
    exact: bool = False

    def __iter__(self) -> Iterator[Part]:
        own = self.x.split([len(rows.x) for rows in self.pieces], -1)
        for rows, x in zip(self.pieces, own, strict=True):
            yield Part.of(rows, x, self.features_of(rows), exact=self.exact)
