"""Rows drawn from fitted mechanisms of families, for many graphs at once.

A family's mechanism is drawn once for each graph, from its posterior. Rows of a task have a part of
their noise in common, as large as their intraclass correlation.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from pyro_metacadi.inference.fitted_mechanisms import FittedMechanisms, OfRows
from pyro_metacadi.inference.redrawn import RedrawnWeights
from pyro_metacadi.models.families import Family, members
from pyro_metacadi.ops.one_more_row import OneMoreRow
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["replicated_families"]


class _FamilyLaw(NamedTuple):
    """What one family's variable does, free and hit, in the tasks that were measured."""

    family: Family
    hit: OneMoreRow
    noise_variance: Float[Tensor, ""]
    redrawn: RedrawnWeights | None
    observed: OfRows


def replicated_families(
    mechanisms: FittedMechanisms,
    rows: TaskRows,
    families: Sequence[Family],
    index: Int[Tensor, "draw variable"],
    *,
    hit: Int8[Tensor, "draw task variable"],
) -> tuple[
    Float[Tensor, "draw row variable"], Float[Tensor, "draw row"], Float[Tensor, "draw row"]
]:
    """Rows for each graph, parents first, with PyTorch's own generator.

    Args:
        mechanisms: Fitted.
        rows: Those that were measured.
        families: Of all graphs.
        index: Position of every variable's family of every graph in `families`.
        hit: Targets, of every graph.

    Returns:
        The rows, their log densities given graph and targets, and those of the measured rows.
    """
    x = rows.x.expand(len(index), -1, -1).clone()
    log_prob, observed = (x.new_zeros(x.shape[:2]) for _ in range(2))
    by_row = rows.spread(hit.to(x.device).mT).bool().mT  # [draw, row, variable]
    done = torch.zeros(index.shape, dtype=torch.bool)
    laws: dict[int, _FamilyLaw] = {}
    for batch in mechanisms.evidence.batches(families, num_rows=len(rows.x)):
        mechanisms.of(batch)  # fitted together, which is faster than one by one
    while not done.all():
        for at, draws in _ready(families, index, done):
            if at not in laws:
                laws[at] = _law_of(mechanisms, rows, families[at])
            variable = families[at].variable
            drawn, density, seen = _drawn(
                mechanisms, rows, laws[at], x[draws], by_row[draws, :, variable]
            )
            x[draws, :, variable] = drawn
            log_prob[draws] += density
            observed[draws] += seen
            done[draws, variable] = True
    return x, log_prob, observed


def _ready(
    families: Sequence[Family],
    index: Int[Tensor, "draw variable"],
    done: Bool[Tensor, "draw variable"],
) -> list[tuple[int, Int[Tensor, " some"]]]:
    """Families not yet drawn, and the graphs that have drawn all of their parents."""
    found = []
    for at, family in enumerate(families):
        waits = (index[:, family.variable] == at) & ~done[:, family.variable]
        ready = waits & done[:, list(members(family.parents))].all(-1)
        if ready.any():
            found.append((at, ready.nonzero().squeeze(-1)))
    return found


def _law_of(mechanisms: FittedMechanisms, rows: TaskRows, family: Family) -> _FamilyLaw:
    hyper = mechanisms.evidence.hyperparameters
    fitted = mechanisms.of([family])
    observed = mechanisms.of_rows(rows.inputs, fitted)
    weight = torch.ones_like(rows.num_rows)
    values = mechanisms.evidence.values(rows, [family], weight=weight)
    law = hyper.law.one_more_row(values, observed.mean, fitted.noise_variance)
    redrawn = None
    if observed.features is not None:
        others = hyper.law.log_prob(values, observed.mean, fitted.noise_variance)
        redrawn = RedrawnWeights.of(
            observed.features,
            values.x,
            rows,
            noise_variance=fitted.noise_variance,
            share=hyper.redrawn_share,
            others=others,
        )
    return _FamilyLaw(family, law.of(0), fitted.noise_variance[0], redrawn, observed)


def _drawn(
    mechanisms: FittedMechanisms,
    rows: TaskRows,
    law: _FamilyLaw,
    x: Float[Tensor, "some row variable"],
    hit: Bool[Tensor, "some row"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Values of one variable given its parents', their log densities, and those measured."""
    beside = rows.covariates.expand(len(x), -1, -1)
    inputs = torch.cat([x, beside], -1).flatten(0, 1)
    said = mechanisms.of_rows(inputs, mechanisms.of([law.family]))
    said = said.changed(lambda part: part[0].unflatten(0, hit.shape))
    function = said.mean + _by_draw(said.scaled)
    noise = _noise(rows, len(x), mechanisms.evidence.hyperparameters.correlation)
    free = function + law.noise_variance.sqrt() * noise.to(function)
    changed = law.hit.sample(said.mean, rows)
    if law.redrawn is not None and said.features is not None:
        changed = law.redrawn.sample(changed, said.features, rows)
    value = torch.where(hit, changed, free)
    seen = rows.x[:, law.family.variable].unsqueeze(0)
    return (
        value,
        _log_prob(law, value, said, rows, hit=hit),
        _log_prob(law, seen, law.observed, rows, hit=hit),
    )


def _by_draw(scaled: Float[Tensor, "some row feature"]) -> Float[Tensor, "some row"]:
    """What one draw of the weights adds to the mean prediction, of every graph."""
    z = torch.randn(len(scaled), scaled.shape[-1], 1).to(scaled)
    return (scaled @ z).squeeze(-1)


def _noise(rows: TaskRows, num_draws: int, correlation: float) -> Float[Tensor, "draw row"]:
    own = torch.randn(num_draws, len(rows.x), dtype=torch.float64)
    common = torch.randn(num_draws, rows.num_tasks, dtype=torch.float64)
    return (1 - correlation) ** 0.5 * own + correlation**0.5 * rows.spread(common)


def _log_prob(
    law: _FamilyLaw,
    x: Float[Tensor, "some row"],
    said: OfRows,
    rows: TaskRows,
    *,
    hit: Bool[Tensor, "draw row"],
) -> Float[Tensor, "draw row"]:
    variance = law.noise_variance + said.scaled.square().sum(-1)
    free = torch.distributions.Normal(said.mean.double(), variance.sqrt().double()).log_prob(x)
    changed = law.hit.log_prob(x, said.mean, rows)
    if law.redrawn is not None and said.features is not None:
        changed = law.redrawn.log_prob(changed, x, said.features, rows)
    return torch.where(hit, changed, free)
