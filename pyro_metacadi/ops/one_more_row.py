"""One more row of a task that hit a variable, given the task's rows: its density, and draws."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.ops.generic_law import StudentParameters
from pyro_metacadi.ops.rows import TaskRows

__all__ = ["OneMoreRow"]


class OneMoreRow(NamedTuple):
    """A mixture, of each task its own, around the observational prediction of a row.

    Component k says x ~ N(slope f + intercept + shift, scale^2) in the law's units; the last one is
    Student's t law of the generic law, whatever f is.

    Attributes:
        log_share: Log weights; the generic law is last.
        slope: Of each component but the generic one.
        intercept: Likewise, in the law's units.
        shift: Mean of the task's own shift.
        scale: Standard deviation about it.
        unit: One standard deviation of the variable, in the law's units.
        offset: The variable's mean, in the law's units.
        generic: In standard deviations of the variable.
    """

    log_share: Float[Tensor, "component_and_generic *set task"]
    slope: Float[Tensor, " component"]
    intercept: Float[Tensor, " component"]
    shift: Float[Tensor, "component *set task"]
    scale: Float[Tensor, "component *set task"]
    unit: Float[Tensor, "*set 1"]
    offset: Float[Tensor, "*set 1"]
    generic: StudentParameters

    def of(self, at: int) -> "OneMoreRow":
        """That of one set."""
        return self._replace(
            log_share=self.log_share[:, at],
            shift=self.shift[:, at],
            scale=self.scale[:, at],
            unit=self.unit[at],
            offset=self.offset[at],
            generic=StudentParameters(*(part[at] for part in self.generic)),
        )

    def log_prob(
        self, x: Float[Tensor, "*set row"], prediction: Float[Tensor, "*set row"], rows: TaskRows
    ) -> Float[Tensor, "*set row"]:
        """Log density of values, in standard deviations of the variable."""
        terms = [
            law.log_prob(x.double() * self.unit + self.offset) + self.unit.log()
            for law in self._normal_laws(prediction, rows)
        ]
        terms.append(self.generic.of_rows(rows).log_prob(x.double()))
        share = rows.spread(self.log_share)
        return torch.stack([a + b for a, b in zip(terms, share, strict=True)]).logsumexp(0)

    def sample(
        self, prediction: Float[Tensor, "draw row"], rows: TaskRows
    ) -> Float[Tensor, "draw row"]:
        """Draws, with PyTorch's own generator; all rows of a task are of one component."""
        drawn = [
            (law.sample() - self.offset) / self.unit for law in self._normal_laws(prediction, rows)
        ]
        drawn.append(self.generic.of_rows(rows).sample((len(prediction),)))
        which = torch.distributions.Categorical(logits=self.log_share.movedim(0, -1))
        component = rows.spread(which.sample((len(prediction),)))
        return torch.stack(drawn).gather(0, component.unsqueeze(0)).squeeze(0)

    def _normal_laws(
        self, prediction: Float[Tensor, "*set row"], rows: TaskRows
    ) -> list[torch.distributions.Normal]:
        f = prediction.double() * self.unit + self.offset
        parts = zip(self.slope, self.intercept, self.shift, self.scale, strict=True)
        return [
            torch.distributions.Normal(a * f + b + rows.spread(shift), rows.spread(scale))
            for a, b, shift, scale in parts
        ]
