"""When training stops: rows are held out until their loss no longer falls."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from pyro_metacadi.data.batch import TaskBatch, split_rows
from pyro_metacadi.data.lazy_batch import AnyBatch

__all__ = ["Course", "Plateau", "hold_out"]

COOLDOWN = 1 / 3
"""Steps over which learning rates fall, relative to those before."""

HELD_OUT_TASKS = 500


@dataclass
class Plateau:
    """Whether a series of losses has stopped falling.

    Attributes:
        patience: So many values in a row that are no lower than the lowest before end the search.
        tolerance: By how much a value must be lower in order to count.
        lowest: Of the values that counted.
        waited: Values since then.
    """

    patience: int
    tolerance: float = 0.0
    lowest: float = field(default=math.inf, init=False)
    waited: int = field(default=0, init=False)

    def reached(self, loss: float) -> bool:
        """Take the next value in, and say whether the series has stopped falling."""
        if loss < self.lowest - self.tolerance:
            self.lowest, self.waited = loss, 0
        else:
            self.waited += 1
        return self.waited >= self.patience


class Course:
    """How far training is: its learning rates, when it stops, and whether it converged.

    Args:
        num_steps: At most.
        patience: Of the `Plateau` of held-out losses; None if none are measured, and learning rates
            fall from the first step to the last.
        tolerance: Of the `Plateau`.

    Attributes:
        end: Steps in all.
        cooling: First step of the cool-down.
        converged: Whether the held-out loss stopped falling before the cool-down had to begin; None
            if it is not measured.
        loss: The latest held-out loss.
    """

    def __init__(self, num_steps: int, *, patience: int | None, tolerance: float) -> None:
        self.end = num_steps
        self.converged = None if patience is None else False
        self.cooling = 0 if patience is None else math.floor(num_steps / (1 + COOLDOWN))
        self.loss = math.inf
        self._plateau = Plateau(patience or 1, tolerance)

    def learn(self, step: int, loss: float) -> None:
        """Take in the held-out loss after a step; begin the cool-down where it stopped falling."""
        self.loss = loss
        if not self.converged and step < self.cooling and self._plateau.reached(loss):
            self.converged, self.cooling = True, step + 1
            self.end = min(self.end, self.cooling + math.ceil(COOLDOWN * self.cooling))

    def learning_rate(self, step: int) -> float:
        """Of a step, relative to that of the first."""
        done = max(0, step - self.cooling) / max(1, self.end - self.cooling)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2


def hold_out(
    batch: AnyBatch, share: float, *, support_size: int
) -> tuple[AnyBatch, TaskBatch | None]:
    """Set rows of every task aside at random.

    Args:
        batch: All rows.
        share: Of a task's rows, rounded up; but two rows are left.
        support_size: Support rows per task of the second batch.

    Returns:
        What is left, and a batch whose query rows are those set aside and whose support rows are
        some of what is left. It has the tasks of more than two rows, 500 of them at most, drawn at
        random; None if there are none.
    """
    chosen = torch.cat([_set_aside(part.mask, share) for part in batch.parts()])
    eligible = chosen.any(-1).nonzero().squeeze(-1)
    if not len(eligible):
        return batch, None
    left = batch.without(chosen)
    drawn = [split_rows(part.mask, support_size) for part in left.parts()]
    support = torch.cat([one.support for one in drawn])
    support_mask = torch.cat([one.support_mask for one in drawn])
    tasks = eligible
    if len(tasks) > HELD_OUT_TASKS:
        tasks = eligible[torch.randperm(len(eligible))[:HELD_OUT_TASKS].to(eligible.device)]
    # Chosen rows first, so that padding is as narrow as it can be.
    widest = int(chosen.sum(-1).max())
    first = (~chosen[tasks]).byte().argsort(dim=-1, stable=True)[:, :widest]
    mask = chosen[tasks].gather(1, first)
    some = batch.choose(tasks)
    return left, TaskBatch(
        some.gather(first, mask),
        mask,
        some.gather(support[tasks], support_mask[tasks]),
        support_mask[tasks],
        some.known,
    )


def _set_aside(mask: Bool[Tensor, "task sample"], share: float) -> Bool[Tensor, "task sample"]:
    """Rows of each task, drawn at random among those that there are."""
    rows = mask.sum(-1)
    wanted = (rows * share).ceil().long()
    count = torch.minimum(wanted, (rows - 2).clamp(min=0)).unsqueeze(-1)
    key = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, torch.inf)
    return key.argsort(-1).argsort(-1) < count
