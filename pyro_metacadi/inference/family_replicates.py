"""Rows drawn from fitted mechanisms of families, for many graphs at once.

A family's mechanism is drawn once for each graph, from its posterior. Rows of a task have a part of
their noise in common, as large as their intraclass correlation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from pyro_metacadi.inference.evidence_chain import EvidenceGraphs
from pyro_metacadi.inference.family_laws import FamilyLaw, law_of
from pyro_metacadi.inference.fitted_mechanisms import FittedMechanisms, OfRows
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["replicated_families"]


class _Judged(NamedTuple):
    """A family's law, and what its mechanism says of the measured rows."""

    law: FamilyLaw
    observed: OfRows


def replicated_families(
    mechanisms: FittedMechanisms,
    rows: TaskRows,
    graphs: EvidenceGraphs,
    *,
    hit: Int8[Tensor, "draw task variable"],
) -> tuple[
    Float[Tensor, "draw row variable"], Float[Tensor, "draw row"], Float[Tensor, "draw row"]
]:
    """Rows for each graph, parents first, with PyTorch's own generator.

    Args:
        mechanisms: Fitted.
        rows: Those that were measured.
        graphs: Drawn.
        hit: Targets, of every graph.

    Returns:
        The rows, their log densities given graph and targets, and those of the measured rows.
    """
    x = rows.x.expand(len(hit), -1, -1).clone()
    log_prob, observed = (x.new_zeros(x.shape[:2]) for _ in range(2))
    by_row = rows.spread(hit.to(x.device).mT).bool().mT  # [draw, row, variable]
    for batch in mechanisms.evidence.batches(graphs.families, num_rows=len(rows.x)):
        mechanisms.of(batch)  # fitted together, which is faster than one by one
    judged: dict[Family, _Judged] = {}
    for family, draws, _ in graphs.parents_first():
        if family not in judged:
            judged[family] = _judged(mechanisms, rows, family)
        law, said = judged[family]
        own = by_row[draws, :, family.variable]
        seen = rows.x[:, family.variable].unsqueeze(0)
        observed[draws] += law.log_prob(seen, said, hit=own).to(x)
        said = _said(mechanisms, rows, family, x[draws])
        drawn = law.sample(said, hit=own).to(x)
        x[draws, :, family.variable] = drawn
        log_prob[draws] += law.log_prob(drawn, said, hit=own).to(x)
    return x, log_prob, observed


def _judged(mechanisms: FittedMechanisms, rows: TaskRows, family: Family) -> _Judged:
    observed = mechanisms.of_rows(rows.inputs, mechanisms.of([family]))
    return _Judged(law_of(mechanisms, rows, family, observed), observed)


def _said(
    mechanisms: FittedMechanisms,
    rows: TaskRows,
    family: Family,
    x: Float[Tensor, "draw row variable"],
) -> OfRows:
    """What a family's mechanism says of rows drawn."""
    inputs = torch.cat([x, rows.covariates.expand(len(x), -1, -1)], -1).flatten(0, 1)
    said = mechanisms.of_rows(inputs, mechanisms.of([family]))
    return said.changed(lambda part: part[0].unflatten(0, x.shape[:2]))
