"""A gradient step: operation by operation, or recorded once as a CUDA graph and replayed."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pyro_metacadi._ranks import together, world_size
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.inference.objective import MetaCaDIObjective

__all__ = ["CapturedStep", "GradientStep", "Step", "check_cuda_graphs"]

Step = Callable[[TaskBatch], dict[str, Tensor]]
"""From the rows of a step to the objective's terms and their sum, ``loss``."""

WARM_UP = 3
"""Steps before the one that is recorded, so that libraries and the optimiser have set up."""


class GradientStep:
    """Change the parameters once, down the gradient of the loss of some rows.

    Args:
        loss: `objective` of model and guide, as a module.
        objective: It tells its terms.
        optimiser: Of the parameters.
        max_norm: Gradients are clipped to this Euclidean norm.
    """

    def __init__(
        self,
        loss: nn.Module,
        objective: MetaCaDIObjective,
        optimiser: torch.optim.Optimizer,
        *,
        max_norm: float,
    ) -> None:
        self._loss, self.objective, self._optimiser = loss, objective, optimiser
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self._max_norm = max_norm

    def __call__(self, rows: TaskBatch) -> dict[str, Tensor]:
        """Take the step."""
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(rows)
        with together():
            loss.backward()
        nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
        self._optimiser.step()
        return {"loss": loss.detach(), **self.objective.terms}


class CapturedStep:
    """The same, with the work of one step recorded as a CUDA graph and replayed by all later ones.

    The host then starts one graph instead of a thousand operations. What Python does in a step is
    done no more: a program that depends on more than its rows and its parameters, on the
    number of the step for example, must not be recorded.

    Args:
        step: To record; its optimiser must be `capturable`, and all rows of one shape.
        device: Of the rows.
    """

    def __init__(self, step: GradientStep, device: torch.device) -> None:
        self._step, self._left = step, WARM_UP
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        # Traces refer to themselves. One that is left of an earlier loss would keep the parameters'
        # gradients in the stream of that loss, which cannot be recorded.
        gc.collect()

    def __call__(self, rows: TaskBatch) -> dict[str, Tensor]:
        """Take the step.

        Raises:
            MetaCaDIError: It cannot be recorded.
        """
        if self._left:
            self._left -= 1
            return self._aside(rows)
        if self._graph is None:
            self._rows = rows.copied()
            self._graph = self._recorded()
        for own, new in zip(self._rows.tensors(), rows.tensors(), strict=True):
            own.copy_(new)
        self._graph.replay()
        # The recorded tensors will be written again by the next step.
        terms = {name: value.clone() for name, value in self._terms.items()}
        self._step.objective.terms = {name: terms[name] for name in terms if name != "loss"}
        return terms

    def _aside(self, rows: TaskBatch) -> dict[str, Tensor]:
        """In a stream of its own, as what is to be recorded has to be tried."""
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            terms = self._step(rows)
        here.wait_stream(self._stream)
        return terms

    def _recorded(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        generator = torch.cuda.default_generators[self._stream.device_index]
        drawn = generator.clone_state()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._terms = self._step(self._rows)
        except RuntimeError as error:
            # One that was being recorded would draw no more numbers.
            generator.graphsafe_set_state(drawn)
            first = error.__context__ or error  # ending the recording may fail because of it
            if isinstance(first, torch.OutOfMemoryError):
                raise first from None
            raise MetaCaDIError(
                f"cuda_graphs: expected a step that the device takes without the host, got: "
                f"{str(first).splitlines()[0]} A part of your own that reads a tensor's value in "
                f"Python is the usual cause. Use Training(cuda_graphs=False)."
            ) from error
        return graph


def check_cuda_graphs(device: torch.device) -> None:
    """Whether steps can be recorded.

    Raises:
        ConfigError: The device is no GPU, or there are several processes.
    """
    if device.type != "cuda":
        raise ConfigError(
            f"cuda_graphs: expected a CUDA device, got {str(device)!r}. Use device='cuda', or "
            f"Training(cuda_graphs=False)."
        )
    if world_size() > 1:
        raise ConfigError(
            f"cuda_graphs: expected one process, got {world_size()}. Use "
            f"Training(cuda_graphs=False): what processes tell each other is not recorded."
        )
