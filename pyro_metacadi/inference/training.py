"""Stochastic variational inference: the loop that minimises the objective."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from pyro_metacadi.checks import check_seed
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.guides.metacadi import MetaCaDIGuide
from pyro_metacadi.inference.objective import MetaCaDIObjective
from pyro_metacadi.models.metacadi import MetaCaDIModel

__all__ = ["Callback", "Training", "isolated", "stream_seed", "train"]

Callback = Callable[[int, dict[str, Tensor]], None]


@dataclass(frozen=True)
class Training:
    """How to optimise; the defaults are our choice, the paper's appendix is not public.

    Learning rates fall to zero over the run, along a cosine.

    Attributes:
        num_steps: Gradient steps; every step sees all tasks, split anew.
        support_size: Support rows per task, the paper's N_s.
        query_size: Query rows per task in a step, None for all. A step's noise comes from its one
            graph, hardly from its rows, so more steps on fewer rows learn faster.
        learning_rate: Of the mechanisms and the target predictor (Adam).
        graph_learning_rate: Of the order and edge parameters.
        max_norm: Gradients are clipped to this Euclidean norm.
    """

    num_steps: int = 3000
    support_size: int = 10
    query_size: int | None = 32
    learning_rate: float = 5e-3
    graph_learning_rate: float = 3e-2
    max_norm: float = 10.0

    def __post_init__(self) -> None:
        for name, field in self.__dataclass_fields__.items():
            value = getattr(self, name)
            whole = field.type is not float
            if value is None and name == "query_size":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
                kind = "a whole number" if whole else "a number"
            elif not 0 < float(value) < math.inf:
                kind = "a number"
            else:
                continue
            raise ConfigError(
                f"{name}: expected {kind} > 0, got {value!r}. The default is {field.default!r}."
            )


def stream_seed(seed: int, *keys: int | str) -> int:
    """A seed of its own for each use of one seed, so that no two uses share random numbers.

    Raises:
        ConfigError: `seed` is not a whole number from 0 to 2**64 - 1.
    """
    check_seed(seed)
    digest = hashlib.sha256(repr((int(seed), *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


@contextmanager
def isolated(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run with a seeded RNG and with parameters kept in the modules; restore both afterwards.

    Inside, Pyro's param store is neither read nor written; the caller's random state and Pyro
    settings are what they were once the block ends.
    """
    check_seed(seed)
    devices = [device] if torch.device(device).type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        pyro.settings.context(module_local_params=True),
    ):
        # Not torch.manual_seed, which would seed every CUDA device, saved above or not.
        torch.default_generator.manual_seed(int(seed))
        for used in devices:
            with torch.cuda.device(used):
                torch.cuda.manual_seed(int(seed))
        yield


def train(
    model: MetaCaDIModel,
    guide: MetaCaDIGuide,
    batch: TaskBatch,
    *,
    objective: MetaCaDIObjective,
    options: Training,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> dict[str, np.ndarray]:
    """Fit the parameters of `model` and `guide` in place.

    Call it inside `isolated`, in which model and guide must have been built as well.

    Args:
        model: The program.
        guide: Its guide.
        batch: All rows of all training tasks, on the modules' device.
        objective: What is minimised.
        options: Steps, learning rates, support size.
        callbacks: Called as ``callback(step, terms)`` after every step; `terms` are detached
            tensors. An exception ends the training.
        progress: Whether to show a bar with the current loss.

    Returns:
        History: ``loss`` and each of the objective's terms by name, one value per step.

    Raises:
        MetaCaDIError: If the loss is no longer finite; names the step and the term.
    """
    loss_module = objective(model, guide)
    optimiser = torch.optim.Adam(_parameter_groups(model, guide, options), foreach=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.num_steps)
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    record: dict[str, list[Tensor]] = defaultdict(list)
    with tqdm(range(options.num_steps), disable=not progress, desc="fit", leave=False) as bar:
        for step in bar:
            optimiser.zero_grad(set_to_none=True)
            rows = batch.split(options.support_size, query_size=options.query_size)
            # Pyro's checks of every law cost a step in twenty; the first step shows what is wrong
            # with a component, and divergence is looked for below.
            with pyro.validation_enabled(step == 0):
                loss = loss_module(rows)
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, options.max_norm)
            optimiser.step()
            schedule.step()
            terms = {"loss": loss.detach(), **objective.terms}
            for name, value in terms.items():
                record[name].append(value)
            for callback in callbacks:
                callback(step, terms)
            if step % 50 == 0 or step == options.num_steps - 1:
                _check_finite(step, terms)
                bar.set_postfix(loss=f"{terms['loss'].item():.3f}")
    return {name: torch.stack(values).cpu().numpy() for name, values in record.items()}


def _parameter_groups(
    model: MetaCaDIModel, guide: MetaCaDIGuide, options: Training
) -> list[dict[str, Any]]:
    graph = list(guide.dag.parameters())
    rest = [p for p in model.parameters() if p.requires_grad]
    rest += [p for name, p in guide.named_parameters() if not name.startswith("dag.")]
    return [
        {"params": rest, "lr": options.learning_rate},
        {"params": graph, "lr": options.graph_learning_rate},
    ]


def _check_finite(step: int, terms: dict[str, Tensor]) -> None:
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise MetaCaDIError(
                f"training: expected a finite {name}, got {value.item()} at step {step}. Lower "
                f"the learning rates, or look for extreme values in the data."
            )
