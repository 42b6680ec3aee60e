"""Fitted mechanisms of families, and what they say of the rows of other tasks."""

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from jaxtyping import Bool, Float, Int8
from torch import Tensor

from pyro_metacadi.inference.densities import log_ratio, row_log_prob
from pyro_metacadi.inference.fitted_mechanisms import FittedMechanisms
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.rows import TaskRows, joined

__all__ = ["MechanismLibrary", "PreparedTasks"]

CERTAINTY = 20.0
"""Nats from which on log evidence ratios are tempered."""

FINE = 8 / 3
"""Resolution of mechanisms that are rough."""

MOST_FLOATS = 2**22
"""Families times rows that are judged at once: a dozen arrays of so many numbers are held."""


MOST_FEATURE_FLOATS = 2**24
"""Features of families for rows that are judged at once: half a gigabyte with what follows."""


@dataclass(frozen=True, eq=False)
class PreparedTasks:
    """Rows of some tasks, and what was found about them so far.

    Attributes:
        rows: In the units of the model.
        known: Which targets are known, see `MechanismEvidence`.
        trained: For each task its position among the training tasks, -1 for a new one. A task
            that was trained on keeps the targets found then: its rows must not count twice.
        log_ratio: By family, of each task.
        row_log_prob: By family, of each row: unless its task hit the variable, and if it did.
    """

    rows: TaskRows
    trained: tuple[int, ...]
    known: Int8[Tensor, "task variable"] | None = None
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
        self.mechanisms = FittedMechanisms(self.evidence)
        self._usual: tuple[Family, ...] = ()
        self._range = evidence.rows.x.amin(0), evidence.rows.x.amax(0)
        parts = evidence.rows.inputs.split(evidence.rows.sizes)
        self._trained = {_fingerprint(part): at for at, part in enumerate(parts)}

    def expect(self, families: Iterable[Family]) -> None:
        """Whoever asks for the evidence of one of these asks for all: they are judged together."""
        self._usual = tuple(dict.fromkeys(families))

    def prepare(
        self,
        arrays: Sequence[Float[np.ndarray, "_ column"]],
        *,
        known: Int8[np.ndarray, "task variable"] | None = None,
    ) -> PreparedTasks:
        """Tasks from their arrays in the units of the model, covariates last; known targets."""
        own = self.evidence.rows
        rows = TaskRows.from_arrays(
            arrays,
            num_covariates=own.covariates.shape[1],
            device=own.x.device,
            dtype=torch.float64,
        )
        parts = rows.inputs.to(own.x.dtype).split(rows.sizes)
        trained = tuple(self._trained.get(_fingerprint(part), -1) for part in parts)
        targets = None if known is None else torch.tensor(known, device=own.x.device)
        return PreparedTasks(rows, trained, targets)

    def log_ratio(
        self, tasks: PreparedTasks, families: Sequence[Family]
    ) -> Float[Tensor, "family task"]:
        """Log evidence that each task hit each family's variable, over that it did not.

        Closed form, no gradient. What exceeds 20 nats is tempered. It is what the rows say, also of
        targets that are known.
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

    @torch.inference_mode()
    def _find_ratios(self, tasks: PreparedTasks, families: Iterable[Family]) -> None:
        trained = torch.tensor(tasks.trained, device=self.evidence.rows.x.device)
        is_new = trained < 0
        for batches, together in self._groups(tasks.rows, families):
            known = [self.mechanisms.of(batch).log_ratio for batch in batches]
            found = torch.cat(known)[:, trained.clamp(min=0)]
            if is_new.any():
                new = [
                    log_ratio(self.mechanisms.predict(rows, batches), self.evidence.hyperparameters)
                    for rows in self._pieces(tasks.rows, batches)
                ]
                found = torch.where(is_new, joined(new, dim=1), found)
            silent = self._unchanging(tasks.rows, together)
            found = torch.where(silent, 0.0, _tempered(found))
            tasks.log_ratio.update(zip(together, found, strict=True))

    @torch.inference_mode()
    def _find_densities(
        self, tasks: PreparedTasks, families: Iterable[Family], *, alone: bool = False
    ) -> None:
        for batches, together in self._groups(tasks.rows, families):
            parts = []
            for rows in self._pieces(tasks.rows, batches):
                made = self.mechanisms.predict(rows, batches, row_by_row=True, in_sample=not alone)
                parts.append(row_log_prob(made, self.evidence.hyperparameters, alone=alone))
            found = joined(parts, dim=2)
            tasks.row_log_prob.update(zip(together, found, strict=True))

    def _groups(
        self, rows: TaskRows, families: Iterable[Family]
    ) -> Iterator[tuple[list[list[Family]], list[Family]]]:
        """Batches that are judged at once, and all their families."""
        group: list[list[Family]] = []
        for batch in self.evidence.batches(families, num_rows=len(rows.x)):
            if group and (sum(map(len, group)) + len(batch)) * len(rows.x) > MOST_FLOATS:
                yield group, list(chain(*group))
                group = []
            group.append(batch)
        if group:
            yield group, list(chain(*group))

    def _pieces(self, rows: TaskRows, batches: Sequence[Sequence[Family]]) -> list[TaskRows]:
        """Tasks that are judged at once; each is judged on its own, however many there are."""
        features = max(self.evidence.num_features(batch[0]) * len(batch) for batch in batches)
        most_rows = MOST_FEATURE_FLOATS // features
        return [rows] if len(rows.x) <= most_rows else rows.pieces(max(1, most_rows))

    def _unchanging(self, rows: TaskRows, batch: Sequence[Family]) -> Bool[Tensor, "set task"]:
        """Tasks with the one value of a variable that never varied: they say nothing about it."""
        at = [family.variable for family in batch]
        low, high = (bound[at].unsqueeze(-1) for bound in self._range)
        changed = rows.sum((rows.x[:, at].mT.to(low.dtype) != low).double()) > 0
        return (low == high) & ~changed


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
