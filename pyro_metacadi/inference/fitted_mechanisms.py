"""Mechanisms of families, fitted when first asked for, and what they say of other rows."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.inference.densities import Integrated, Prediction
from pyro_metacadi.inference.judging import judged
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import kish_weight
from pyro_metacadi.ops.hurdle import Hurdle
from pyro_metacadi.ops.nystroem import INTERCEPT, whitening
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["FittedMechanisms"]

MOST_JOINED = 32
"""Batches of families that are kept joined: those of the same graphs are asked for again."""


class _Fitted(NamedTuple):
    """A family's mechanism, and the evidence for training targets.

    A new row's kernel with the landmarks, times `projection`, plus `constant`, is the prediction,
    then (unless it is judged by hurdle laws, which take it as given) a root of its variance, then
    (if hits may draw the weights anew) the features themselves.
    """

    projection: Float[Tensor, "landmark output"]
    constant: Float[Tensor, "1 output"]
    noise_variance: Float[Tensor, ""]
    log_ratio: Float[Tensor, " task"]
    hurdle: Hurdle | None


class Joined(NamedTuple):
    """Mechanisms of several families, and how alike rows are to what they were fitted to."""

    similarity: Callable[[Float[Tensor, "row input"]], Float[Tensor, "set row landmark"]]
    projection: Float[Tensor, "set landmark output"]
    constant: Float[Tensor, "set 1 output"]
    noise_variance: Float[Tensor, " set"]
    log_ratio: Float[Tensor, "set task"]
    hurdle: Hurdle | None

    @classmethod
    def of(cls, fitted: Sequence[_Fitted], similarity: Callable[[Tensor], Tensor]) -> "Joined":
        return cls(
            similarity,
            torch.stack([one.projection for one in fitted]),
            torch.stack([one.constant for one in fitted]),
            torch.stack([one.noise_variance for one in fitted]),
            torch.stack([one.log_ratio for one in fitted]),
            _hurdles_of([one.hurdle for one in fitted], join=torch.stack),
        )


class OfRows(NamedTuple):
    """What mechanisms say of rows: of weights w, normal, that follow their posterior.

    Attributes:
        mean: Prediction by the mean weights.
        scaled: Features times a root R of the weights' covariance: ``mean + scaled @ z`` with
            standard normal z are predictions by weights drawn; of width 0 in hurdle laws.
        features: The features themselves, if hits may draw the weights anew, else None.
    """

    mean: Float[Tensor, "set row"]
    scaled: Float[Tensor, "set row feature"]
    features: Float[Tensor, "set row feature"] | None

    def changed(self, change: Callable[[Tensor], Tensor]) -> "OfRows":
        """The same, each part changed."""
        features = None if self.features is None else change(self.features)
        return OfRows(change(self.mean), change(self.scaled), features)


class FittedMechanisms:
    """Fits mechanisms of families to the training tasks, each once.

    Args:
        evidence: The training tasks, and how fine mechanisms are.
    """

    def __init__(self, evidence: MechanismEvidence) -> None:
        self.evidence = evidence
        self._fitted: dict[Family, _Fitted] = {}
        self._joined: dict[tuple[Family, ...], Joined] = {}

    def of(self, families: Sequence[Family]) -> Joined:
        """Of families with equally many landmarks."""
        missing = [family for family in families if family not in self._fitted]
        for batch, design in self.evidence.designs(missing):
            self._fitted.update(zip(batch, self._fit_new(batch, design), strict=True))
        key = tuple(families)
        if key not in self._joined:
            if len(self._joined) >= MOST_JOINED:
                self._joined.clear()
            parts = [self._fitted[family] for family in families]
            self._joined[key] = Joined.of(parts, self._similarity(families))
        return self._joined[key]

    def predict(
        self,
        rows: TaskRows,
        batches: Sequence[Sequence[Family]],
        *,
        row_by_row: bool = False,
        in_sample: bool = False,
    ) -> Prediction:
        """What batches of families say of rows.

        Args:
            rows: Of any tasks.
            batches: Families with equally many landmarks each.
            row_by_row: Whether all rows of a task count in full.
            in_sample: Whether one more row of each task is asked about, too.
        """
        evidence = self.evidence
        correlation = 0.0 if row_by_row else evidence.hyperparameters.correlation
        batches = self._merged(batches, num_rows=len(rows.x))
        order = [family for batch in batches for family in batch]
        values = evidence.values(rows, order, weight=kish_weight(rows.num_rows, correlation))
        fitted = [self.of(batch) for batch in batches]
        weights = [
            self._integrated(rows, batch, one, correlation=correlation, in_sample=in_sample)
            for batch, one in zip(batches, fitted, strict=True)
        ]
        return Prediction(
            values,
            torch.cat([one.noise_variance for one in fitted]),
            _hurdles_of([one.hurdle for one in fitted], join=torch.cat),
            Integrated.joined(weights),
        )

    def of_rows(self, inputs: Float[Tensor, "row input"], fitted: Joined) -> "OfRows":
        """What mechanisms say of rows, before noise."""
        output = fitted.similarity(inputs) @ fitted.projection + fitted.constant
        # A copy: all of the output would be kept for the sake of a view.
        mean, scaled, features = output[..., 0].clone(), output[..., 1:], None
        if self.evidence.hyperparameters.redrawn_share > 0:
            scaled, features = scaled.chunk(2, -1)
        return OfRows(mean, scaled, features)

    def _merged(
        self, batches: Sequence[Sequence[Family]], *, num_rows: int
    ) -> list[Sequence[Family]]:
        """Neighbours with equally many landmarks in one batch, where their features fit in memory.

        What few rows say takes as long to compute for one family as for many.
        """
        merged: list[Sequence[Family]] = []
        most = self.evidence.portions.in_cache
        for batch in batches:
            features = self.evidence.num_features(batch[0])
            together = [*merged[-1], *batch] if merged else batch
            alike = features == self.evidence.num_features(together[0])
            if merged and alike and len(together) * features * num_rows <= most:
                merged[-1] = together
            else:
                merged.append(batch)
        return merged

    def _integrated(
        self,
        rows: TaskRows,
        batch: Sequence[Family],
        fitted: Joined,
        *,
        correlation: float,
        in_sample: bool,
    ) -> Integrated:
        said = self.of_rows(rows.inputs, fitted)
        return Integrated.of(
            rows.x[:, [family.variable for family in batch]].mT,
            rows,
            mean=said.mean,
            scaled=said.scaled,
            features=said.features,
            noise_variance=fitted.noise_variance,
            correlation=correlation,
            in_sample=in_sample,
        )

    def _similarity(self, families: Sequence[Family]) -> Callable[[Tensor], Tensor]:
        """In float64: in float32 it would depend on how many rows there are."""
        evidence = self.evidence
        landmarks = evidence.landmarks_of(families).double()
        kernel = evidence.hyperparameters.kernel
        return kernel.with_landmarks(landmarks, evidence.input_mask(families))

    def _fit_new(self, batch: Sequence[Family], design: Design) -> list[_Fitted]:
        evidence, hyper = self.evidence, self.evidence.hyperparameters
        mechanism = evidence.fitted(batch, design)
        hurdles, ratio = judged(evidence, batch, design, mechanism)
        weights = mechanism.mean.unsqueeze(-1)
        if hyper.hurdle is None:
            root = torch.linalg.cholesky_ex(mechanism.covariance).L
            weights = torch.cat([weights, root], -1)
            if hyper.redrawn_share > 0:
                itself = torch.eye(len(root[0]), dtype=root.dtype, device=root.device)
                weights = torch.cat([weights, itself.expand_as(root)], -1)
        whiten = whitening(
            evidence.landmarks_of(batch),
            evidence.input_mask(batch),
            hyper.kernel,
        )
        constant = INTERCEPT * weights[:, -1:]
        parts = whiten @ weights[:, :-1], constant, mechanism.noise_variance, ratio, hurdles
        return [_Fitted(*each) for each in zip(*parts, strict=True)]


def _hurdles_of(parts: Sequence[Hurdle | None], *, join: Callable[..., Tensor]) -> Hurdle | None:
    """The laws of several families as one, if they have any."""
    known = [hurdle for hurdle in parts if hurdle is not None]
    return Hurdle(*(join(part) for part in zip(*known, strict=True))) if known else None
