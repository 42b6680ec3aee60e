"""Fitted mechanisms of families, and what they say of the rows of other tasks."""

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.inference.densities import Prediction, log_ratio, row_log_prob
from pyro_metacadi.inference.judging import judged
from pyro_metacadi.inference.zeros import joined_hurdles
from pyro_metacadi.models.evidence import Family, MechanismEvidence
from pyro_metacadi.ops.evidence import Design, kish_weight
from pyro_metacadi.ops.hurdle import Hurdle
from pyro_metacadi.ops.nystroem import INTERCEPT, mechanism_features, whitening
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["MechanismLibrary", "PreparedTasks"]

CERTAINTY = 20.0
"""Nats from which on log evidence ratios are tempered."""

FINE = 8 / 3
"""Resolution of mechanisms that are rough."""

MOST_JOINED = 8
"""Batches of families that are kept joined: those of the same graphs are asked for again."""


class _Fitted(NamedTuple):
    """A family's mechanism, and the evidence for training targets.

    A new row's kernel with the landmarks, times `projection`, plus `constant`, is the prediction
    and (unless it is judged by hurdle laws, which take it as given) a root of its variance.
    """

    projection: Float[Tensor, "landmark output"]
    constant: Float[Tensor, "1 output"]
    noise_variance: Float[Tensor, ""]
    log_ratio: Float[Tensor, " task"]
    hurdle: Hurdle | None


class _Joined(NamedTuple):
    """Mechanisms of several families, and what they read (`MechanismEvidence.input_mask`)."""

    inputs: Bool[Tensor, "set input"]
    projection: Float[Tensor, "set landmark output"]
    constant: Float[Tensor, "set 1 output"]
    noise_variance: Float[Tensor, " set"]
    log_ratio: Float[Tensor, "set task"]
    hurdle: Hurdle | None

    @classmethod
    def of(cls, fitted: Sequence[_Fitted], inputs: Bool[Tensor, "set input"]) -> "_Joined":
        return cls(
            inputs,
            torch.stack([one.projection for one in fitted]),
            torch.stack([one.constant for one in fitted]),
            torch.stack([one.noise_variance for one in fitted]),
            torch.stack([one.log_ratio for one in fitted]),
            joined_hurdles([one.hurdle for one in fitted]),
        )


@dataclass(frozen=True, eq=False)
class PreparedTasks:
    """Rows of some tasks, and what was found about them so far.

    Attributes:
        rows: In the units of the model.
        trained: For each task its position among the training tasks, -1 for a new one. A task
            that was trained on keeps the targets found then: its rows must not count twice.
        log_ratio: By family, of each task.
        row_log_prob: By family, of each row: unless its task hit the variable, and if it did.
    """

    rows: TaskRows
    trained: tuple[int, ...]
    log_ratio: dict[Family, Float[Tensor, " task"]] = field(default_factory=dict)
    row_log_prob: dict[Family, Float[Tensor, "2 row"]] = field(default_factory=dict)


class MechanismLibrary:
    """Mechanisms, fitted to the training tasks when first asked for.

    They are finer than those that graphs are scored with, where functions are rough: targets need
    it more.

    Args:
        evidence: Fits them.
    """

    def __init__(self, evidence: MechanismEvidence) -> None:
        rough = evidence.hyperparameters.is_rough
        self.evidence = evidence.with_resolution(FINE if rough else 1.0)
        self._fitted: dict[Family, _Fitted] = {}
        self._joined: dict[tuple[Family, ...], _Joined] = {}
        self._usual: tuple[Family, ...] = ()
        self._range = evidence.rows.x.amin(0), evidence.rows.x.amax(0)
        parts = evidence.rows.inputs.split(evidence.rows.sizes)
        self._trained = {_fingerprint(part): at for at, part in enumerate(parts)}

    def expect(self, families: Iterable[Family]) -> None:
        """Whoever asks for the evidence of one of these asks for all: they are judged together."""
        self._usual = tuple(dict.fromkeys(families))

    def prepare(self, arrays: Sequence[Float[np.ndarray, "_ column"]]) -> PreparedTasks:
        """Tasks from their arrays in the units of the model, covariates last."""
        own = self.evidence.rows
        rows = TaskRows.from_arrays(
            arrays,
            num_covariates=own.covariates.shape[1],
            device=own.x.device,
            dtype=torch.float64,
        )
        parts = rows.inputs.to(own.x.dtype).split(rows.sizes)
        return PreparedTasks(
            rows, tuple(self._trained.get(_fingerprint(part), -1) for part in parts)
        )

    def log_ratio(
        self, tasks: PreparedTasks, families: Sequence[Family]
    ) -> Float[Tensor, "family task"]:
        """Log evidence that each task hit each family's variable, over that it did not.

        Closed form, no gradient. What exceeds 20 nats is tempered.
        """
        missing = _missing(families, tasks.log_ratio)
        if not missing.keys().isdisjoint(self._usual):
            missing |= _missing(self._usual, tasks.log_ratio)
        self._find_ratios(tasks, missing)
        return torch.stack([tasks.log_ratio[family] for family in families])

    def row_log_prob(
        self, tasks: PreparedTasks, families: Sequence[Family]
    ) -> Float[Tensor, "family 2 row"]:
        """Log density of each family's variable in each row, if not hit and if hit."""
        self._find_densities(tasks, _missing(families, tasks.row_log_prob))
        return torch.stack([tasks.row_log_prob[family] for family in families])

    def new_row_log_prob(
        self, rows: Float[np.ndarray, "row column"], families: Sequence[Family]
    ) -> Float[Tensor, "family 2 row"]:
        """The same for rows that nobody has seen, each of a task of its own.

        The generic law of a hit, which is that of a task's values together, would otherwise know
        the row.
        """
        tasks = self.prepare(list(rows[:, None]))
        self._find_densities(tasks, _missing(families, {}), alone=True)
        return torch.stack([tasks.row_log_prob[family] for family in families])

    def _find_ratios(self, tasks: PreparedTasks, families: Iterable[Family]) -> None:
        evidence, rows = self.evidence, tasks.rows
        weight = kish_weight(rows.num_rows, evidence.hyperparameters.correlation)
        trained = torch.tensor(tasks.trained, device=rows.x.device)
        for batch in evidence.batches(families, num_rows=len(rows.x)):
            found = self._fit(batch).log_ratio[:, trained.clamp(min=0)]
            if (trained < 0).any():
                made = self._predict(rows, batch, weight=weight)
                new = log_ratio(made, evidence.hyperparameters)
                found = torch.where(trained < 0, new, found)
            found = torch.where(self._unchanging(rows, batch), 0.0, _tempered(found))
            tasks.log_ratio.update(zip(batch, found, strict=True))

    def _find_densities(
        self, tasks: PreparedTasks, families: Iterable[Family], *, alone: bool = False
    ) -> None:
        rows = tasks.rows
        weight = torch.ones_like(rows.num_rows)
        for batch in self.evidence.batches(families, num_rows=len(rows.x)):
            made = self._predict(rows, batch, weight=weight)
            found = row_log_prob(made, self.evidence.hyperparameters, alone=alone)
            tasks.row_log_prob.update(zip(batch, found, strict=True))

    def _unchanging(self, rows: TaskRows, batch: Sequence[Family]) -> Bool[Tensor, "set task"]:
        """Tasks with the one value of a variable that never varied: they say nothing about it."""
        at = [family.variable for family in batch]
        low, high = (bound[at].unsqueeze(-1) for bound in self._range)
        changed = rows.sum((rows.x[:, at].mT.to(low.dtype) != low).double()) > 0
        return (low == high) & ~changed

    def _predict(self, rows: TaskRows, batch: Sequence[Family], *, weight: Tensor) -> Prediction:
        """In float64: in float32 it would depend on how many rows there are."""
        evidence, fitted = self.evidence, self._fit(batch)
        kernel = evidence.hyperparameters.kernel.correlation(
            rows.inputs, evidence.landmarks_of(batch).double(), fitted.inputs
        )
        output = kernel @ fitted.projection + fitted.constant
        values = evidence.values(rows, batch, weight=weight)
        mean, scaled = output[..., 0], output[..., 1:]
        prior = self._features(rows, batch) if evidence.hyperparameters.redrawn_share else None
        return Prediction(scaled, fitted.noise_variance, mean, values, fitted.hurdle, prior)

    def _features(self, rows: TaskRows, batch: Sequence[Family]) -> Float[Tensor, "set row _"]:
        landmarks = self.evidence.landmarks_of(batch).double()
        kernel = self.evidence.hyperparameters.kernel
        return mechanism_features(rows.inputs, landmarks, self._fit(batch).inputs, kernel)

    def _fit(self, families: Sequence[Family]) -> _Joined:
        missing = [family for family in families if family not in self._fitted]
        for batch, design in self.evidence.designs(missing):
            self._fitted.update(zip(batch, self._fit_new(batch, design), strict=True))
        key = tuple(families)
        if key not in self._joined:
            if len(self._joined) >= MOST_JOINED:
                self._joined.clear()
            parts = [self._fitted[family] for family in families]
            self._joined[key] = _Joined.of(parts, self.evidence.input_mask(families))
        return self._joined[key]

    def _fit_new(self, batch: Sequence[Family], design: Design) -> list[_Fitted]:
        evidence, hyper = self.evidence, self.evidence.hyperparameters
        mechanism = evidence.fitted(batch, design)
        hurdles, ratio = judged(evidence, batch, design, mechanism)
        weights = mechanism.mean.unsqueeze(-1)
        if hyper.hurdle is None:
            root = torch.linalg.cholesky_ex(mechanism.covariance).L
            weights = torch.cat([weights, root], -1)
        whiten = whitening(
            evidence.landmarks_of(batch),
            evidence.input_mask(batch),
            hyper.kernel,
        )
        constant = INTERCEPT * weights[:, -1:]
        parts = whiten @ weights[:, :-1], constant, mechanism.noise_variance, ratio, hurdles
        return [_Fitted(*each) for each in zip(*parts, strict=True)]


def _missing(families: Iterable[Family], cache: Container[Family]) -> dict[Family, None]:
    """Those not there, each once, in order."""
    return {family: None for family in families if family not in cache}


def _tempered(log_ratio: Float[Tensor, "set task"]) -> Float[Tensor, "set task"]:
    """Log ratios, those beyond 20 nats brought nearer: ranks stay where probabilities would be one.

    37 nats are one in float64; models that are never quite right do not warrant as much.
    """
    beyond = (log_ratio.abs() - CERTAINTY).clamp(min=0)
    return log_ratio.clamp(-CERTAINTY, CERTAINTY) + log_ratio.sign() * beyond.log1p()


def _fingerprint(rows: Float[Tensor, "_ input"]) -> bytes:
    """The same for the same rows in any order."""
    values = rows.cpu().numpy()
    data = values[np.lexsort(values.T)] + 0.0  # -0 is 0
    return hashlib.sha256(repr(data.shape).encode() + data.tobytes()).digest()
