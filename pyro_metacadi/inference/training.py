"""Stochastic variational inference: the loop that minimises the objective."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from pyro_metacadi._ranks import agreed, world_size
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.data.lazy_batch import AnyBatch
from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.guides.metacadi import MetaCaDIGuide
from pyro_metacadi.inference.gradient_step import (
    CapturedStep,
    GradientStep,
    Step,
    check_cuda_graphs,
)
from pyro_metacadi.inference.memory import step_memory
from pyro_metacadi.inference.objective import MetaCaDIObjective, reconstruction
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.stopping import Course, hold_out
from pyro_metacadi.inference.task_choice import TaskChooser, seed_rank
from pyro_metacadi.inference.training_options import Training
from pyro_metacadi.models.metacadi import MetaCaDIModel

__all__ = ["Callback", "Trained", "Training", "held_out_loss", "train"]

Callback = Callable[[int, dict[str, Tensor]], None]

HELD_OUT_GRAPHS = 8
HELD_OUT_VALUES, HELD_OUT_BYTES = 2**17, 24
"""Values of held-out rows that are scored at once, and bytes that a feature of each takes."""

CHECK_FINITE = 50


class Trained(NamedTuple):
    """What is known of a run.

    Attributes:
        history: ``loss``, each of the objective's terms by name, and ``held_out``, the latest
            held-out loss, if there is any; one value per step.
        converged: Whether the held-out loss stopped falling before the steps ran out; None if
            nothing is held out.
    """

    history: dict[str, np.ndarray]
    converged: bool | None


def train(
    model: MetaCaDIModel,
    guide: MetaCaDIGuide,
    batch: AnyBatch,
    *,
    objective: MetaCaDIObjective,
    options: Training,
    memory: int | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> Trained:
    """Fit the parameters of `model` and `guide` in place.

    Call it inside `isolated`, in which model and guide must have been built as well.

    Args:
        model: The program.
        guide: Its guide.
        batch: All rows of all training tasks, on the modules' device or on disk. Of the latter,
            each step reads its support and query rows.
        objective: What is minimised.
        options: Steps, learning rates, support size, when to stop.
        memory: Bytes that a step may take; where all of its tasks would take more, some are
            computed at a time. None for as many as it takes.
        callbacks: Called as ``callback(step, terms)`` after every step; `terms` are detached
            tensors. An exception ends the training.
        progress: Whether to show a bar with the current loss.

    Raises:
        MetaCaDIError: If the loss is no longer finite; names the step and the term.
        ConfigError: There are fewer tasks in a step than processes, or `memory` is too little.
    """
    if options.cuda_graphs:
        check_cuda_graphs(batch.device)
    held_out = None
    if options.patience is not None:
        batch, held_out = hold_out(batch, options.held_out, support_size=options.support_size)
    loss_module: nn.Module = objective(model, guide)
    choose, at_once = TaskChooser(batch, options.tasks_per_step), None
    if memory is not None:
        needed = agreed(
            step_memory(
                objective(model, guide),
                batch,
                support_size=options.support_size,
                query_size=options.query_size,
            )
        )
        at_once = needed.at_once(choose.num_tasks, memory)
    if world_size() > 1:
        # Buffers are constants: to exchange them at every step would take time and could fail.
        loss_module = DistributedDataParallel(loss_module, broadcast_buffers=False)
        seed_rank(batch.device)
    groups = _parameter_groups(model, guide, options)
    optimiser = torch.optim.Adam(groups, fused=True, capturable=options.cuda_graphs)
    plain = GradientStep(loss_module, objective, optimiser, max_norm=options.max_norm)
    step_once: Step = CapturedStep(plain, batch.device) if options.cuda_graphs else plain
    course = Course(
        options.num_steps,
        patience=None if held_out is None else options.patience,
        tolerance=options.tolerance * batch.num_variables,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, course.learning_rate)
    record: dict[str, list[Tensor]] = defaultdict(list)
    with tqdm(total=options.num_steps, disable=not progress, desc="fit", leave=False) as bar:
        for step in range(options.num_steps):
            rows = choose().split(options.support_size, query_size=options.query_size)
            rows = replace(rows, at_once=at_once)
            # Pyro's checks of every law cost a step in twenty; the first step shows what is wrong
            # with a component, and divergence is looked for below.
            with pyro.validation_enabled(step == 0):
                terms = step_once(rows)
            for name, value in terms.items():
                record[name].append(value)
            if step % CHECK_FINITE == 0 or step == course.end - 1:
                _check_finite(step, terms)
                bar.set_postfix(loss=f"{terms['loss'].item():.3f}")
            if held_out is not None:
                if step % options.check_every == 0:
                    loss_there = held_out_loss(model, guide, held_out, memory=memory)
                    course.learn(step, agreed(loss_there))
                record["held_out"].append(torch.tensor(course.loss))
            schedule.step()
            for callback in callbacks:
                callback(step, terms)
            bar.update()
            if step >= course.end - 1:
                break
    history = {name: torch.stack(values).cpu().numpy() for name, values in record.items()}
    return Trained(history, course.converged)


@torch.no_grad()
def held_out_loss(
    model: MetaCaDIModel, guide: MetaCaDIGuide, batch: TaskBatch, *, memory: int | None = None
) -> float:
    """Negative log-likelihood of a query row, averaged over rows, tasks and draws of the guide.

    The draws have the same random numbers each time, so that changes are those of the parameters;
    the caller's random state is untouched. Many rows are scored a few tasks at a time, for the
    features of all graphs are in memory together: in `memory` bytes, but for one task at least.
    """
    most = HELD_OUT_VALUES
    if memory is not None:
        at_once = HELD_OUT_GRAPHS * model.mechanisms.num_features * HELD_OUT_BYTES
        most = min(most, memory // at_once)
    own = model.own_size // model.mechanisms.num_features  # as much as that of so many values
    values = batch.x[0].numel() + batch.support[0].numel() + own
    size = max(1, most // values)
    total = 0.0
    for index in torch.arange(batch.num_tasks, device=batch.device).split(size):
        some = batch if len(index) == batch.num_tasks else batch.choose(index)
        with (
            isolated(0, batch.device),
            pyro.validation_enabled(False),
            pyro.plate("draws", HELD_OUT_GRAPHS, dim=-3),
        ):
            guide_trace = poutine.trace(guide).get_trace(some)
            model_trace = poutine.trace(poutine.replay(model, guide_trace)).get_trace(some)
            model_trace.compute_log_prob(lambda name, _: name == "x")
        total += reconstruction(model_trace).item() * (len(index) / batch.num_tasks)
    return total / HELD_OUT_GRAPHS


def _parameter_groups(
    model: MetaCaDIModel, guide: MetaCaDIGuide, options: Training
) -> list[dict[str, Any]]:
    graph = list(guide.dag.parameters())
    rest = [p for p in model.parameters() if p.requires_grad]
    rest += [p for name, p in guide.named_parameters() if not name.startswith("dag.")]
    rates: list[Any] = [options.learning_rate, options.graph_learning_rate]
    if options.cuda_graphs:  # a recorded step reads them where they are
        rates = [torch.tensor(rate, device=rest[0].device) for rate in rates]
    return [{"params": some, "lr": rate} for some, rate in zip((rest, graph), rates, strict=True)]


def _check_finite(step: int, terms: dict[str, Tensor]) -> None:
    for name, value in terms.items():
        if not torch.isfinite(value):
            raise MetaCaDIError(
                f"training: expected a finite {name}, got {value.item()} at step {step}. Lower "
                f"the learning rates, or look for extreme values in the data."
            )
