"""How to optimise by gradient steps."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from pyro_metacadi.errors import ConfigError

__all__ = ["Training"]

OPTIONAL = ("tasks_per_step", "query_size", "patience")


@dataclass(frozen=True)
class Training:
    """How to optimise; the defaults are our choice, the paper's appendix is not public.

    Some rows of every task are held out. Learning rates stay as they are until the loss of these
    rows (`pyro_metacadi.inference.training.held_out_loss`) stops falling, and then fall to zero,
    along a cosine: a cool-down of a third of the steps before it. Where `num_steps` would end it
    too soon it begins earlier, and the run has not converged.

    Attributes:
        num_steps: Gradient steps at most; the tasks of every step are split anew.
        tasks_per_step: Tasks that a step sees, drawn anew; None for all. The gradient's expectation
            is that of all tasks.
        support_size: Support rows per task, the paper's N_s.
        query_size: Query rows per task in a step, None for all. A step's noise comes from its one
            graph, hardly from its rows, so more steps on fewer rows learn faster.
        learning_rate: Of the mechanisms and the target predictor (Adam).
        graph_learning_rate: Of the order and edge parameters.
        max_norm: Gradients are clipped to this Euclidean norm.
        patience: Training goes on until the held-out loss has not fallen so many times in a row.
            None holds nothing out: the run has `num_steps`, and learning rates fall from the start.
        check_every: Steps from one measurement of the held-out loss to the next.
        tolerance: By how much the held-out loss must fall, in nats per variable.
        held_out: Share of a task's rows that are held out (rounded up; two rows are left), of 500
            tasks at most.
        cuda_graphs: Record a step once and replay it, on a GPU: faster where operations are small.
            Not for parts whose Python code has to run at every step.
    """

    num_steps: int = 3000
    tasks_per_step: int | None = None
    support_size: int = 10
    query_size: int | None = 32
    learning_rate: float = 5e-3
    graph_learning_rate: float = 3e-2
    max_norm: float = 10.0
    patience: int | None = 10
    check_every: int = 50
    tolerance: float = 5e-3
    held_out: float = 0.1
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        for name, field in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if value is None and name in OPTIONAL:
                continue
            expected = _expected(field.type, value)
            if expected is not None:
                raise ConfigError(
                    f"{name}: expected {expected}, got {value!r}. The default is {field.default!r}."
                )
        if self.held_out >= 1:
            raise ConfigError(
                f"held_out: expected a share below 1, got {self.held_out!r}. The default is "
                f"{type(self).held_out!r}."
            )


def _expected(kind: Any, value: Any) -> str | None:
    """What an option of `Training` should be; None if it is."""
    if kind is bool:
        return None if isinstance(value, bool) else "True or False"
    whole = kind is not float
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return "a whole number > 0" if whole else "a number > 0"
    return None if 0 < float(value) < math.inf else "a number > 0"
