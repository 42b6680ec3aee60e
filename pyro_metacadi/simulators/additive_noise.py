"""A system in which every variable is a function of its parents plus independent noise."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.graphs import topological_order
from pyro_metacadi.simulators.mechanisms import Intervention
from pyro_metacadi.simulators.noise import GaussianLaw

__all__ = ["AdditiveNoiseSystem", "FunctionFamily"]


@runtime_checkable
class FunctionFamily(Protocol):
    """A law over functions of a given number of parents.

    A function takes ``[sample, parent]`` and returns ``[sample]``; indexed by a tensor ``[sample]``
    of positions in its batch, it becomes one function per row.
    """

    def draw(
        self, num_parents: int, *, batch: tuple[int, ...] = (), generator: torch.Generator
    ) -> Any:
        """Draw one function, or a `batch` of independent ones."""


@dataclass(frozen=True, eq=False)
class AdditiveNoiseSystem:
    """x_i = f_i(parents of i) + noise_scale_i N(0, 1), or another law, with interventions.

    Attributes:
        adjacency: ``adjacency[i, j] = 1`` means X_i -> X_j.
        functions: f_i for each variable, the same in every task.
        noise_scale: Standard deviations.
        laws: How each variable scatters around f_i, if it is not replaced.
        interventions: What happens to each variable where it is a target; all of one kind.
        family: Where the functions come from, for interventions that draw another; else None.
        redrawn: For each variable a batch of functions, one per task, that replace f_i where i is a
            target; None for interventions that keep f_i.
    """

    adjacency: Int[Tensor, "parent child"]
    functions: tuple[Any, ...]
    noise_scale: Float[Tensor, " variable"]
    laws: tuple[GaussianLaw, ...]
    interventions: tuple[Intervention, ...]
    family: FunctionFamily | None = None
    redrawn: tuple[Any, ...] | None = None

    def for_tasks(self, num_tasks: int, *, generator: torch.Generator) -> "AdditiveNoiseSystem":
        """Return this system with all that is new in each of `num_tasks` new tasks."""
        if self.family is None or self.interventions[0].kind != "mechanism":
            return self
        batch = (num_tasks,)
        redrawn = tuple(
            self.family.draw(int(num_parents), batch=batch, generator=generator)
            for num_parents in self.adjacency.sum(0)
        )
        return replace(self, redrawn=redrawn)

    def sample(
        self,
        intervention_targets: Int[Tensor, "task variable"],
        *,
        num_samples: Sequence[int],
        generator: torch.Generator,
    ) -> list[Float[Tensor, "_ variable"]]:
        """Draw rows for each task, all tasks at once, parents before children."""
        task = torch.arange(len(num_samples)).repeat_interleave(torch.tensor(num_samples))
        hit = intervention_targets.bool()[task]
        noise = torch.randn(hit.shape, generator=generator, dtype=torch.float64)
        rows = torch.zeros_like(noise)
        for child in topological_order(self.adjacency).tolist():
            loc, scale = self._conditional(child, rows, hit=hit[:, child], task=task)
            law, normal = self.laws[child], noise[:, child]
            replaced = hit[:, child] & self.interventions[child].replaces
            e = torch.where(replaced, normal, law.draw(normal, generator=generator))
            y = loc + scale * e
            rows[:, child] = torch.where(replaced, y, law.distort(y))
        return list(rows.split(list(num_samples)))

    def log_prob_terms(
        self,
        rows: Float[Tensor, "sample variable"],
        intervention_targets: Int[Tensor, " variable"],
        *,
        task: int | None,
    ) -> Float[Tensor, "sample variable"]:
        """Log density of every variable given its parents; 0 or -inf where it is a point mass.

        Raises:
            ConfigError: The targets' functions belong to a task, and `task` does not say which.
        """
        hit = intervention_targets.bool().expand_as(rows)
        if task is None and self.redrawn is not None and bool(hit.any()):
            raise ConfigError(
                "task: expected the position of a task, whose redrawn functions to use, got None "
                "with targets. Pass task=0 for the first task."
            )
        row_task = torch.full((len(rows),), task or 0)
        terms = [
            self._log_density(child, rows, hit=hit[:, child], task=row_task)
            for child in range(rows.shape[1])
        ]
        return torch.stack(terms, dim=-1)

    def _log_density(
        self,
        child: int,
        rows: Float[Tensor, "sample variable"],
        *,
        hit: Bool[Tensor, " sample"],
        task: Int[Tensor, " sample"],
    ) -> Float[Tensor, " sample"]:
        """Log density of `child` given its parents; all rows are hit, or none."""
        loc, scale = self._conditional(child, rows, hit=hit, task=task)
        replaced = bool(hit.all()) and self.interventions[child].replaces
        law = GaussianLaw() if replaced else self.laws[child]
        y, log_slope = law.restore(rows[:, child])
        point_mass = torch.zeros_like(y).masked_fill(y != loc, -math.inf)
        density = law.log_prob((y - loc) / scale) - scale.log() + log_slope
        return torch.where(scale == 0, point_mass, density)

    def _conditional(
        self,
        child: int,
        rows: Float[Tensor, "sample variable"],
        *,
        hit: Bool[Tensor, " sample"],
        task: Int[Tensor, " sample"],
    ) -> tuple[Float[Tensor, " sample"], Float[Tensor, " sample"]]:
        """Mean and standard deviation of `child` given its parents' columns, before distortion."""
        parents = rows[:, self.adjacency[:, child].bool()]
        loc = self.functions[child](parents)
        if self.redrawn is not None:
            loc[hit] = self.redrawn[child][task[hit]](parents[hit])
        scale = self.noise_scale[child] * self.laws[child].factor(parents)
        return self.interventions[child].apply(loc, scale, hit=hit)
