"""Which tasks a gradient step sees, in one process or in several."""

import torch

from pyro_metacadi._ranks import rank, world_size
from pyro_metacadi.data.lazy_batch import AnyBatch
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.seeds import stream_seed

__all__ = ["TaskChooser", "seed_rank"]


class TaskChooser:
    """Draws the tasks of each step; several processes get equally many, and none the same ones.

    Every task is in a step with the same probability, so that the mean of the processes' gradients
    has the expectation of that of all tasks.

    Args:
        batch: All tasks.
        number: Tasks that all processes together see in a step; None for all.

    Attributes:
        num_tasks: Tasks that this process sees in a step.

    Raises:
        ConfigError: There are fewer than processes.
    """

    def __init__(self, batch: AnyBatch, number: int | None) -> None:
        number = batch.num_tasks if number is None else min(number, batch.num_tasks)
        if number < world_size():
            raise ConfigError(
                f"processes: expected at most one for each of the {number} tasks of a step, got "
                f"{world_size()}. Start fewer."
            )
        self._batch, self.num_tasks = batch, number // world_size()
        # The same in all processes, whatever else is drawn in each.
        seed = stream_seed(torch.initial_seed(), "tasks") % 2**63
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self) -> AnyBatch:
        """The tasks of the next step."""
        if self.num_tasks == self._batch.num_tasks:
            return self._batch
        order = torch.randperm(self._batch.num_tasks, generator=self._generator)
        own = order[rank() * self.num_tasks : (rank() + 1) * self.num_tasks]
        return self._batch.choose(own)


def seed_rank(device: torch.device) -> None:
    """Draw other graphs and rows in each process."""
    seed = stream_seed(torch.initial_seed(), "rank", rank()) % 2**63
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
