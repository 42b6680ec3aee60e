"""What the variable of one family does in the tasks that were measured: draws and densities.

Both laws know the measured rows of each task: a hit looks like one more of them.
"""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pyro_metacadi.inference.fitted_mechanisms import FittedMechanisms, Joined, OfRows
from pyro_metacadi.inference.redrawn import RedrawnWeights
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.hurdle import Hurdle
from pyro_metacadi.ops.hurdle_hits import OneMoreHurdleRow
from pyro_metacadi.ops.one_more_row import OneMoreRow
from pyro_metacadi.ops.rows import TaskRows
from pyro_metacadi.ops.task_values import TaskValues, is_present

__all__ = ["FamilyLaw", "law_of"]


class FamilyLaw(Protocol):
    """Of values given what the mechanism says of their rows, free or hit."""

    def sample(self, said: OfRows, *, hit: Bool[Tensor, "draw row"]) -> Float[Tensor, "draw row"]:
        """Draws, with PyTorch's own generator."""

    def log_prob(
        self, x: Float[Tensor, "draw row"], said: OfRows, *, hit: Bool[Tensor, "draw row"]
    ) -> Float[Tensor, "draw row"]:
        """Log density of values."""


def law_of(
    mechanisms: FittedMechanisms, rows: TaskRows, family: Family, observed: OfRows
) -> FamilyLaw:
    """The law of a family's variable.

    Args:
        mechanisms: Fitted.
        rows: Those that were measured.
        family: Whose variable is meant.
        observed: What its mechanism says of them.
    """
    hyper, fitted = mechanisms.evidence.hyperparameters, mechanisms.of([family])
    values = mechanisms.evidence.values(rows, [family], weight=torch.ones_like(rows.num_rows))
    if fitted.hurdle is not None and hyper.hurdle is not None:
        hit = hyper.hurdle.one_more_row(values, fitted.hurdle, observed.mean).of(0)
        return _HurdleLaw(hit.hurdle, hit, rows, hyper.correlation)
    return _NormalLaw(
        hyper.law.one_more_row(values, observed.mean, fitted.noise_variance).of(0),
        fitted.noise_variance[0],
        _redrawn(mechanisms, values, fitted, observed),
        rows,
        hyper.correlation,
    )


class _NormalLaw(NamedTuple):
    """Normal noise about a draw of the mechanism's weights."""

    hit: OneMoreRow
    noise_variance: Float[Tensor, ""]
    redrawn: RedrawnWeights | None
    rows: TaskRows
    correlation: float

    def sample(self, said: OfRows, *, hit: Bool[Tensor, "draw row"]) -> Float[Tensor, "draw row"]:
        noise = _noise(self.rows, said.mean, self.correlation)
        free = said.mean + _by_draw(said.scaled) + self.noise_variance.sqrt() * noise
        changed = self.hit.sample(said.mean, self.rows)
        if self.redrawn is not None and said.features is not None:
            changed = self.redrawn.sample(changed, said.features, self.rows)
        return torch.where(hit, changed, free)

    def log_prob(
        self, x: Float[Tensor, "draw row"], said: OfRows, *, hit: Bool[Tensor, "draw row"]
    ) -> Float[Tensor, "draw row"]:
        variance = self.noise_variance + said.scaled.square().sum(-1)
        free = torch.distributions.Normal(said.mean.double(), variance.sqrt().double()).log_prob(x)
        changed = self.hit.log_prob(x, said.mean, self.rows)
        if self.redrawn is not None and said.features is not None:
            changed = self.redrawn.log_prob(changed, x, said.features, self.rows)
        return torch.where(hit, changed, free)


class _HurdleLaw(NamedTuple):
    """An atom at zero beside normal amounts; the mean weights' prediction is taken as given."""

    free: Hurdle
    hit: OneMoreHurdleRow
    rows: TaskRows
    correlation: float

    def sample(self, said: OfRows, *, hit: Bool[Tensor, "draw row"]) -> Float[Tensor, "draw row"]:
        noise = _noise(self.rows, said.mean, self.correlation)
        zero = -self.hit.offset / self.hit.unit
        free = self.free.value(said.mean, uniform=torch.rand_like(noise), normal=noise, zero=zero)
        return torch.where(hit, self.hit.sample(said.mean, self.rows), free)

    def log_prob(
        self, x: Float[Tensor, "draw row"], said: OfRows, *, hit: Bool[Tensor, "draw row"]
    ) -> Float[Tensor, "draw row"]:
        present = is_present(x, scale=self.hit.unit, offset=self.hit.offset)
        changed = self.hit.log_prob(x, present, said.mean, self.rows)
        return torch.where(hit, changed, self.free.log_prob(x, present, said.mean))


def _redrawn(
    mechanisms: FittedMechanisms, values: TaskValues, fitted: Joined, observed: OfRows
) -> RedrawnWeights | None:
    """Weights that each task would have drawn anew, if hits do."""
    if observed.features is None:
        return None
    hyper = mechanisms.evidence.hyperparameters
    return RedrawnWeights.of(
        observed.features,
        values.x,
        values.rows,
        noise_variance=fitted.noise_variance,
        share=hyper.redrawn_share,
        others=hyper.law.log_prob(values, observed.mean, fitted.noise_variance),
    )


def _by_draw(scaled: Float[Tensor, "draw row feature"]) -> Float[Tensor, "draw row"]:
    """What one draw of the weights adds to the mean prediction, of every graph."""
    z = torch.randn(len(scaled), scaled.shape[-1], 1).to(scaled)
    return (scaled @ z).squeeze(-1)


def _noise(
    rows: TaskRows, mean: Float[Tensor, "draw row"], correlation: float
) -> Float[Tensor, "draw row"]:
    """Standard normal; rows of a task have a part in common, as large as their correlation."""
    own = torch.randn(len(mean), len(rows.x), dtype=torch.float64)
    common = torch.randn(len(mean), rows.num_tasks, dtype=torch.float64)
    return ((1 - correlation) ** 0.5 * own + correlation**0.5 * rows.spread(common)).to(mean)
