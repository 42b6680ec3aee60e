"""The paper's engine: DP-DAG guides trained by stochastic variational inference."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pyro_metacadi.checks import NUM_SEEDS
from pyro_metacadi.components import Components
from pyro_metacadi.data.checks import within_reach
from pyro_metacadi.data.counts import CountUnits, check_counts
from pyro_metacadi.data.lazy_batch import batch_of
from pyro_metacadi.data.scaling import Standardizer
from pyro_metacadi.data.tasks import TaskDataset
from pyro_metacadi.engines.protocol import MemoryNeeded, Outcome
from pyro_metacadi.engines.svi_scaling import CountScaling, StandardScaling, SVIScaling
from pyro_metacadi.errors import ConfigError, MetaCaDIWarning
from pyro_metacadi.inference.draws import SVIChain
from pyro_metacadi.inference.memory import step_memory
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.storage import fill_module
from pyro_metacadi.inference.training import Callback, Training, train
from pyro_metacadi.models.noise.counts import reads_counts

__all__ = ["SVIEngine"]


@dataclass(frozen=True)
class SVIEngine:
    """The paper's: DP-DAG guides trained by stochastic variational inference, one per restart."""

    name: ClassVar[str] = "svi"
    fits_to_support: ClassVar[bool] = True
    components: Components

    @classmethod
    def resolve(cls, *, sampling: Any = None, **choices: Any) -> "SVIEngine":
        """An engine of `Components`."""
        if sampling is not None:
            raise ConfigError(
                f"sampling: expected none with engine='svi', which draws from a guide, got "
                f"{sampling!r}. Pass engine='evidence' with it."
            )
        return cls(Components.resolve(**choices))

    @classmethod
    def from_json(cls, data: Any, **replacements: Any) -> "SVIEngine":
        """An engine of the `Components` that were written down."""
        components = Components.from_json(data, **replacements)
        components.build_objective()  # not needed before the next fit, but refused now if bad
        return cls(components)

    def to_json(self) -> dict[str, Any]:
        """The components as plain data."""
        return self.components.to_json()

    def fit_chains(
        self,
        tasks: TaskDataset,
        *,
        num_steps: int | None,
        num_chains: int | None,
        seed: int,
        device: torch.device,
        memory: int,
        progress: bool,
        callbacks: Sequence[Callback],
    ) -> Outcome:
        """Train a model and its guide from each of `num_chains` consecutive seeds; default 1.

        They have converged if the held-out loss of each stopped falling before the steps ran out.
        """
        options = self.components.training
        if num_steps is not None:
            options = Training(**{**vars(options), "num_steps": num_steps})
        scaling = self._scaling(tasks)
        if isinstance(scaling, CountScaling):  # standardised values are never so far from others
            reach, reach_in = scaling.reach, scaling.reach_in
            rows = within_reach(scaling.of_counts(tasks), tasks, reach=reach, reach_in=reach_in)
        else:
            rows = scaling.transform(tasks)
        batch = batch_of(rows, known=tasks.known_targets, device=device)
        chains, runs = [], []
        for index in range(num_chains or 1):
            with isolated((seed + index) % NUM_SEEDS, device):
                chain = self._build(scaling).to(device)
                run = train(
                    *chain,
                    batch,
                    objective=self.components.build_objective(),
                    options=options,
                    memory=memory,
                    callbacks=callbacks,
                    progress=progress,
                )
            chains.append(chain)
            runs.append(run)
        converged = [run.converged for run in runs]
        if False in converged:
            warnings.warn(
                f"fit: expected the held-out loss to stop falling, got one that still fell after "
                f"{options.num_steps} steps. Pass a larger num_steps.",
                MetaCaDIWarning,
                stacklevel=3,
            )
        return Outcome(
            tuple(chains),
            tuple(run.history for run in runs),
            scaling,
            None if None in converged else all(converged),
        )

    def _scaling(self, tasks: TaskDataset, *, measured_on: TaskDataset | None = None) -> SVIScaling:
        """What the noise model asks for: standardised values, or counts, all of which are checked.

        Units are those of all tasks, unless they are `measured_on` some.
        """
        noise = self.components.build_noise(len(tasks.variables))
        some = measured_on or tasks
        if reads_counts(noise):
            check_counts(tasks)
            return CountScaling(CountUnits.fit(some, library_size=noise.library_size))
        return StandardScaling(Standardizer.fit(some))

    def _build(self, scaling: SVIScaling) -> SVIChain:
        names = scaling.units.variables
        chain = self.components.build(len(names), variables=names)
        noise: Any = chain.model.noise
        if isinstance(scaling, CountScaling):
            noise.set_units(scaling.units)
        return chain

    def memory_needed(self, tasks: TaskDataset, *, device: torch.device) -> MemoryNeeded:
        """What a step of gradients takes, measured on the largest task."""
        options, at = self.components.training, int(tasks.num_rows.argmax())
        largest, known = tasks[at], tasks.known_targets
        scaling = self._scaling(tasks, measured_on=largest)
        batch = batch_of(
            scaling.transform(largest),
            known=None if known is None else known[at : at + 1],
            device=device,
        )
        with isolated(0, device):
            chain = self._build(scaling).to(device)
            step = step_memory(
                self.components.build_objective()(*chain),
                batch,
                support_size=options.support_size,
                query_size=options.query_size,
            )
        num_tasks = min(options.tasks_per_step or len(tasks), len(tasks))
        return MemoryNeeded(step.least(num_tasks), step.most(num_tasks))

    def restore(
        self,
        tensors: Mapping[str, Tensor],
        *,
        tasks: TaskDataset,
        num_chains: int,
        device: torch.device,
    ) -> tuple[tuple[SVIChain, ...], SVIScaling]:
        """Build chains and fill them."""
        noise = self.components.build_noise(len(tasks.variables))
        kind = CountScaling if reads_counts(noise) else StandardScaling
        scaling = kind.restore(tensors, variables=tasks.variables)
        chains = []
        for index in range(num_chains):
            with isolated(0):
                chain = self._build(scaling)
            for part, module in chain._asdict().items():
                fill_module(module, tensors, prefix=f"chain{index}.{part}.")
            chains.append(chain.to(device))
        return tuple(chains), scaling
