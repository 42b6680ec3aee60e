"""Which further parents are worth scoring where there are many variables."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi._ranks import gathered, own_part
from pyro_metacadi.models.evidence import MechanismEvidence
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.design import Design
from pyro_metacadi.typing import Array

__all__ = ["Screen", "screen_of"]

FEW_VARIABLES = 25
"""With so few, every variable is worth scoring as a parent."""

MOST_WORTH = 8
"""Further parents of a family that are scored."""

RESOLUTION = 1 / 3
"""Of the functions of one parent that are looked for."""

LEAST_WEIGHT = 0.01
"""Of a row whose task hit the variable, so that one whom all tasks hit has parents to try too."""

BASIS_FLOATS = 2**26
"""Of the functions of all variables: 256 MiB. Where there are more, some rows stand for all."""


def screen_of(evidence: MechanismEvidence, edge_log_odds: Array) -> "Screen | None":
    """A screen; None, all are worth scoring, where there are few variables."""
    return Screen(evidence, edge_log_odds) if evidence.num_variables > FEW_VARIABLES else None


class Screen:
    """Finds further parents functions of which explain what a family's parents leave.

    Those are worth scoring that explain most of the residuals, in tasks that do not hit the
    variable, the prior considered. One product of matrices finds them for many families.

    Args:
        evidence: Under hyper-parameters learned for some graph.
        edge_log_odds: Log prior odds of every edge ``[parent, child]``.
    """

    def __init__(self, evidence: MechanismEvidence, edge_log_odds: Array) -> None:
        rows, num_functions = evidence.rows, _num_functions(evidence)
        self._evidence = evidence
        self._odds = torch.tensor(edge_log_odds, dtype=torch.float64, device=rows.x.device)
        floats = evidence.num_variables * len(rows.x) * num_functions
        self._step = math.ceil(floats / BASIS_FLOATS)
        self._basis = _functions_of_each(evidence, step=self._step)
        self._constant = rows.x.amax(0) == rows.x.amin(0)
        self._found: dict[Family, list[int]] = {}

    def __call__(self, families: Sequence[Family]) -> dict[Family, list[int]]:
        """Further parents worth scoring of each family, the best first."""
        missing = [family for family in dict.fromkeys(families) if family not in self._found]
        found: dict[Family, list[int]] = {}
        for batch, design in self._evidence.designs(own_part(missing)):
            gain = self.gain(batch, design).cpu()
            best = gain.topk(min(MOST_WORTH, len(gain)), dim=0)
            for at, family in enumerate(batch):
                finite = best.values[:, at].isfinite()
                found[family] = best.indices[finite, at].tolist()
        self._found.update(gathered(found) if missing else found)
        return {family: self._found[family] for family in families}

    def gain(self, families: Sequence[Family], design: Design) -> Float[Tensor, "parent family"]:
        """About what each further parent gains, in nats; -inf for those that cannot be one."""
        at = [family.variable for family in families]
        left = _residuals(self._evidence, families, design)[:: self._step]
        explained = (self._basis.mT @ left).square().sum(-2)
        # Half a sum of squares in units of the noise is about what an edge gains.
        gain = explained.double() * (self._step / 2) + self._odds[:, at]
        gain[self._constant], gain[:, self._constant[at]] = -torch.inf, -torch.inf
        no_further = self._evidence.input_mask(families)[:, : len(gain)].mT.clone()
        no_further[at, range(len(at))] = True
        return gain.masked_fill(no_further, -torch.inf)


def _residuals(
    evidence: MechanismEvidence, families: Sequence[Family], design: Design
) -> Float[Tensor, "row family"]:
    """Of each family, in units of its noise; smaller the more likely the row's task hit it."""
    mechanism = evidence.fitted(families, design)
    free = (1 - mechanism.target_probability).clamp(min=LEAST_WEIGHT)
    weight = evidence.rows.spread(free / mechanism.noise_variance.unsqueeze(-1).sqrt())
    rest = (design.x - design.predict(mechanism.mean)) * weight
    return rest.mT.to(design.x.dtype)


def _functions_of_each(
    evidence: MechanismEvidence, *, step: int
) -> Float[Tensor, "parent row function"]:
    """An orthonormal basis of functions of each variable, of every `step`-th row."""
    coarse = evidence.with_resolution(RESOLUTION)
    alone = [Family(j, 1 << j) for j in range(evidence.num_variables)]
    found = [
        torch.linalg.qr(coarse.features(evidence.rows, batch)[:, ::step]).Q
        for batch in coarse.batches(alone, num_rows=len(evidence.rows.x))
    ]
    return torch.cat(found)


def _num_functions(evidence: MechanismEvidence) -> int:
    return len(evidence.with_resolution(RESOLUTION).landmarks_of([Family(0, 1)])) + 1
