r"""The evidence of a graph: mechanisms integrated out, targets summed out, cached by parent set.

:math:`\log p(D | A) = \sum_i score(i, parents of i)`, see `pyro_metacadi.ops.evidence`.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from pyro_metacadi._ranks import agreed, gathered, own_part
from pyro_metacadi.models.families import Family, members
from pyro_metacadi.models.hyperparameters import Hyperparameters
from pyro_metacadi.models.portions import Portions
from pyro_metacadi.models.score_cache import ScoreCache, Tally
from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import Mechanism, fit_mechanism, kish_weight
from pyro_metacadi.ops.known import with_known
from pyro_metacadi.ops.nystroem import mechanism_features, num_landmarks
from pyro_metacadi.ops.rows import TaskRows
from pyro_metacadi.ops.task_values import TaskValues

__all__ = ["HeldDesigns", "MechanismEvidence"]


class MechanismEvidence:
    """Scores families, batched, and remembers what it has scored.

    Args:
        rows: Training rows, standardised.
        scale: One standard deviation of each variable in the units of the intervention law.
        offset: The mean of each variable in these units.
        hyperparameters: See `Hyperparameters`.
        landmarks: Rows that span the functions, the same for all families.
        prior_log_odds: Of every training task having hit every variable, infinite where it is
            known; None for those of `Hyperparameters.target_prior` everywhere.
        known: Which training tasks are known to have hit (1) or not hit (0) which variables, -1
            where that is unknown; None if it all is. It goes before all odds.
        resolution: Of the functions: multiplies the landmarks used.
        memory: Bytes to score with, beside the data; None for as many as it takes. Scores do not
            depend on it, up to rounding.
        tally: Counts the scores that are asked for, of all evidence made from this one.
    """

    def __init__(
        self,
        rows: TaskRows,
        *,
        scale: Float[Tensor, " variable"],
        offset: Float[Tensor, " variable"],
        hyperparameters: Hyperparameters,
        landmarks: Float[Tensor, "landmark input"],
        prior_log_odds: Float[Tensor, "task variable"] | None = None,
        known: Int8[Tensor, "task variable"] | None = None,
        resolution: float = 1.0,
        memory: int | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.rows, self.hyperparameters, self.landmarks = rows, hyperparameters, landmarks
        self.scale, self.offset, self.resolution = scale, offset, resolution
        self._prior_log_odds, self.known = prior_log_odds, known
        self.weight = kish_weight(rows.num_rows, hyperparameters.correlation)
        self.num_variables = rows.x.shape[1]
        budget = sys.maxsize if memory is None else memory
        self.portions = Portions(budget, rows.sizes, rows.x.device.type)
        self.cache: ScoreCache[Family] = ScoreCache(tally or Tally())

    def with_hyperparameters(self, hyperparameters: Hyperparameters) -> "MechanismEvidence":
        """The same data under other hyper-parameters, nothing scored yet."""
        return self._but(hyperparameters=hyperparameters)

    def with_resolution(self, resolution: float) -> "MechanismEvidence":
        """The same with coarser or finer mechanisms, nothing scored yet."""
        return self._but(resolution=resolution)

    def with_prior(self, log_odds: Float[Tensor, "task variable"]) -> "MechanismEvidence":
        """The same with other odds of every task having hit every variable, nothing scored yet."""
        return self._but(prior_log_odds=log_odds)

    def agreed_upon(self) -> "MechanismEvidence":
        """The same with what the first of several processes learned."""
        learned = agreed((self.hyperparameters, self._prior_log_odds))
        return self._but(hyperparameters=learned[0], prior_log_odds=learned[1])

    def _but(self, **changes: Any) -> "MechanismEvidence":
        own = {
            "scale": self.scale,
            "offset": self.offset,
            "hyperparameters": self.hyperparameters,
            "landmarks": self.landmarks,
            "prior_log_odds": self._prior_log_odds,
            "known": self.known,
            "resolution": self.resolution,
            "memory": self.portions.budget,
            "tally": self.cache.tally,
        }
        return MechanismEvidence(self.rows, **{**own, **changes})

    @cached_property
    def prior_log_odds(self) -> Float[Tensor, "task variable"]:
        """Of every training task having hit every variable; infinite where that is known."""
        odds = self._prior_log_odds
        if odds is None:
            shape = (self.rows.num_tasks, self.num_variables)
            odds = self.scale.new_full(shape, self.hyperparameters.target_log_odds)
        return with_known(odds, self.known)

    def prior_of(self, families: Sequence[Family]) -> Float[Tensor, "set task"]:
        """`prior_log_odds` of the families' variables."""
        return self.prior_log_odds[:, [family.variable for family in families]].mT

    def scores(self, families: Sequence[Family]) -> list[float]:
        """Log evidence of each family; those not yet known are computed in batches."""
        known = self.cache.known(families)
        missing = [family for family in dict.fromkeys(families) if family not in known]
        found: dict[Family, float] = {}
        for batch, mechanism in self.mechanisms(own_part(missing)):
            found.update(zip(batch, mechanism.score.tolist(), strict=True))
        found = gathered(found) if missing else found
        self.cache.keep(found)
        known.update(found)
        return [known[family] for family in families]

    def mechanisms(self, families: Iterable[Family]) -> Iterator[tuple[list[Family], Mechanism]]:
        """Fitted mechanisms, in batches of families with equally many inputs."""
        for batch, design in self.designs(families):
            yield batch, self.fitted(batch, design)

    def designs(self, families: Iterable[Family]) -> Iterator[tuple[list[Family], Design]]:
        """Features, responses and their sums, in batches of families with equally many inputs."""
        for batch in self.batches(families, num_rows=len(self.rows.x)):
            yield batch, self.design(batch)

    def held_designs(self, families: Iterable[Family]) -> "HeldDesigns":
        """`designs` that may be gone through again and again; as many are held as memory allows."""
        return HeldDesigns(self, families)

    def design(self, families: Sequence[Family]) -> Design:
        """Of families with equally many inputs."""
        x = self.rows.x[:, [family.variable for family in families]].mT
        most_rows = self.portions.most_rows(self.num_features(families[0]))
        if most_rows is None:
            return Design.of(self.features(self.rows, families), x, self.rows)
        features_of = partial(self.features, families=families)
        return Design.made_anew(features_of, x, self.rows, most_rows=most_rows)

    def num_features(self, family: Family) -> int:
        """How many features a function of the family's inputs has."""
        size = family.parents.bit_count() + self.rows.covariates.shape[1]
        return num_landmarks(size, resolution=self.resolution) + 1

    def fitted(self, families: Sequence[Family], design: Design) -> Mechanism:
        """Mechanisms of families whose design is known, under the present intervention law."""
        values = self.values(self.rows, families, weight=self.weight)
        law = self.hyperparameters.law
        return fit_mechanism(
            design,
            weight=self.weight,
            prior_log_odds=self.prior_of(families),
            hit_law=lambda f, variance, spread: law.log_prob(values, f, variance, spread=spread),
        )

    def features(
        self, rows: TaskRows, families: Sequence[Family]
    ) -> Float[Tensor, "set row feature"]:
        """Features of families that have equally many inputs, for rows in the model's units."""
        return mechanism_features(
            rows.inputs,
            self.landmarks_of(families),
            self.input_mask(families),
            self.hyperparameters.kernel,
        )

    def landmarks_of(self, families: Sequence[Family]) -> Float[Tensor, "landmark input"]:
        """Those of families that have equally many inputs."""
        return self.landmarks[: self.num_features(families[0]) - 1]

    def values(
        self, rows: TaskRows, families: Sequence[Family], *, weight: Float[Tensor, " task"]
    ) -> TaskValues:
        """The families' own variables, with their units."""
        at = [family.variable for family in families]
        x = rows.x[:, at].mT
        return TaskValues.of(x, rows, weight=weight, scale=self.scale[at], offset=self.offset[at])

    def input_mask(self, families: Sequence[Family]) -> Bool[Tensor, "set input"]:
        """Which columns each family's mechanism reads: its parents and all covariates."""
        mask = torch.ones(len(families), self.rows.inputs.shape[1], dtype=torch.bool)
        mask[:, : self.num_variables] = False
        at = [(n, parent) for n, (_, parents) in enumerate(families) for parent in members(parents)]
        lines, columns = torch.tensor(at, dtype=torch.long).view(-1, 2).T
        mask[lines, columns] = True
        return mask.to(self.rows.x.device)

    def batches(self, families: Iterable[Family], *, num_rows: int) -> Iterator[list[Family]]:
        """Families with equally many inputs together, so many that their features fit in memory."""
        by_size: dict[int, list[Family]] = {}
        for family in families:
            by_size.setdefault(family.parents.bit_count(), []).append(family)
        for _, group in sorted(by_size.items()):
            step = self.portions.num_sets(self.num_features(group[0]), num_rows=num_rows)
            yield from (group[first : first + step] for first in range(0, len(group), step))


class HeldDesigns:
    """Batches of families and their designs: those that memory has no room for are made anew.

    Attributes:
        batches: Families with equally many inputs.
    """

    def __init__(self, evidence: MechanismEvidence, families: Iterable[Family]) -> None:
        self._evidence, self._left = evidence, evidence.portions.held
        self.batches = list(evidence.batches(families, num_rows=len(evidence.rows.x)))
        self._held: dict[int, Design] = {}

    def __iter__(self) -> Iterator[tuple[list[Family], Design]]:
        for at, batch in enumerate(self.batches):
            design = self._held.get(at) or self._evidence.design(batch)
            yield batch, design
            size = self._evidence.portions.set_bytes(self._evidence.num_features(batch[0]))
            if at not in self._held and size * len(batch) <= self._left:
                self._held[at] = design
                self._left -= size * len(batch)
