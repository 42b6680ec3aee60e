"""Additive-noise worlds with small neural networks, or straight lines, as mechanisms."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.simulators._arguments import check_choice, check_count, random_stream
from pyro_metacadi.simulators.additive_noise import AdditiveNoiseSystem
from pyro_metacadi.simulators.graphs import resolve_graph
from pyro_metacadi.simulators.mechanisms import Intervention, LinearFunction, NetworkFunction
from pyro_metacadi.simulators.noise import NOISES, draw_laws
from pyro_metacadi.simulators.origin import records_origin
from pyro_metacadi.simulators.world import World, assemble_world, draw_world

__all__ = ["linear_anm", "nn_anm"]


@records_origin
def nn_anm(
    *,
    num_variables: int = 20,
    num_tasks: int | None = None,
    num_samples: Any = 10,
    num_observational: int | None = None,
    seed: int,
    graph: Any = "erdos_renyi",
    expected_edges: float | int | None = None,
    noise: str = "gaussian",
    targets_per_task: Any = None,
) -> World:
    """Draw a world of neural networks with BaCaDI's noise, interventions and, by default, tasks.

    x_i = f_i(parents) + noise. Each f_i is a network with one layer of five sigmoid units whose
    weights and biases are N(0, 1); variables without parents are noise only. The noise is Gaussian
    with variance 0.05 + 0.1 u_i, u_i ~ U[0, 1]. A target becomes N(m_i, 0.5), 0.5 the variance,
    whatever its parents; m_i = z + 5 sign(z) with z ~ N(0, 2^2) is drawn once per variable, so it
    lies at least 5 away from 0, where the other variables are within about 2.

    Without `num_tasks` the tasks are BaCaDI's: one observational, then one for each variable, in
    their order, with this variable as its only target.

    Args:
        num_variables: At least 1; they are named X1, X2, ...
        num_tasks: At least 1; they are named task1, task2, ... None for BaCaDI's tasks.
        num_samples: Rows of every task with a target, or, with `num_tasks`, a sequence with one
            number per task.
        num_observational: Rows of BaCaDI's observational task, 100 by default.
        seed: Non-negative. Graph, functions, noise and interventions depend on it only, not on the
            tasks' number and size.
        graph: ``"erdos_renyi"``, ``"scale_free"`` or a 0/1 adjacency matrix; ``graph[i, j] = 1``
            means X_i -> X_j.
        expected_edges: For a graph that is drawn; 2 per variable by default, or as many as there
            can be.
        noise: As for `gp_anm`, with networks for scales; targets keep their normal law.
        targets_per_task: With `num_tasks`: distinct targets of every task, drawn uniformly, 1 by
            default, or a sequence with one number per task; 0 leaves a task observational.

    Raises:
        ConfigError: A size or name is out of range, a sequence of another length, or an argument
            that BaCaDI's tasks, or `num_tasks`, leave no room for.
        GraphError: The matrix `graph` is not a directed acyclic graph over the variables.

    Source:
        Haegele et al., BaCaDI: Bayesian causal discovery with unknown interventions, AISTATS 2023
        (its nonlinear data; the widths and constants are those of its published code).
    """
    plan = _Plan(num_tasks, num_samples, num_observational, targets_per_task)
    return _world(
        NetworkFunction.draw,
        plan,
        noise=noise,
        num_variables=num_variables,
        graph=graph,
        expected_edges=expected_edges,
        seed=seed,
    )


@records_origin
def linear_anm(
    *,
    num_variables: int = 20,
    num_tasks: int | None = None,
    num_samples: Any = 10,
    num_observational: int | None = None,
    seed: int,
    graph: Any = "erdos_renyi",
    expected_edges: float | int | None = None,
    targets_per_task: Any = None,
) -> World:
    """Draw a world of straight lines: as `nn_anm`, with f_i(x) = weight . x, weights N(0, 1).

    Args:
        num_variables: As for `nn_anm`.
        num_tasks: As for `nn_anm`.
        num_samples: As for `nn_anm`.
        num_observational: As for `nn_anm`.
        seed: As for `nn_anm`.
        graph: As for `nn_anm`; ``graph[i, j] = 1`` means X_i -> X_j.
        expected_edges: As for `nn_anm`.
        targets_per_task: As for `nn_anm`.

    Raises:
        ConfigError: As for `nn_anm`.
        GraphError: As for `nn_anm`.

    Source:
        As for `nn_anm` (its linear data).
    """
    plan = _Plan(num_tasks, num_samples, num_observational, targets_per_task)
    return _world(
        LinearFunction.draw,
        plan,
        noise="gaussian",
        num_variables=num_variables,
        graph=graph,
        expected_edges=expected_edges,
        seed=seed,
    )


@dataclass(frozen=True)
class _Plan:
    """Which tasks to draw: BaCaDI's, or so many with random targets."""

    num_tasks: int | None
    num_samples: Any
    num_observational: int | None
    targets_per_task: Any

    def __post_init__(self) -> None:
        idle = "targets_per_task" if self.num_tasks is None else "num_observational"
        if getattr(self, idle) is not None:
            rule = "with" if self.num_tasks is None else "without"
            raise ConfigError(
                f"{idle}: expected a value only {rule} num_tasks, got {getattr(self, idle)!r} and "
                f"num_tasks={self.num_tasks}. Leave one of them out."
            )
        if self.num_tasks is None:
            check_count("num_samples", self.num_samples)

    def draw(self, system: AdditiveNoiseSystem, variables: list[str], *, seed: int) -> World:
        """Draw the tasks of `system`."""
        common: dict[str, Any] = {"task_stem": "task", "generator": random_stream(seed, "tasks")}
        if self.num_tasks is not None:
            return draw_world(
                system,
                variables,
                num_tasks=self.num_tasks,
                num_samples=self.num_samples,
                targets_per_task=1 if self.targets_per_task is None else self.targets_per_task,
                **common,
            )
        rows = 100 if self.num_observational is None else self.num_observational
        check_count("num_observational", rows)
        each_once = torch.eye(len(variables), dtype=torch.long)
        return assemble_world(
            system,
            variables,
            intervention_targets=torch.cat([torch.zeros_like(each_once[:1]), each_once]),
            num_samples=[rows, *[self.num_samples] * len(variables)],
            **common,
        )


def _world(
    draw_function: Callable[..., Any],
    plan: _Plan,
    *,
    noise: str,
    num_variables: int,
    graph: Any,
    expected_edges: float | int | None,
    seed: int,
) -> World:
    check_choice("noise", noise, known=NOISES)
    variables = [f"X{index + 1}" for index in range(check_count("num_variables", num_variables))]
    drawn = resolve_graph(graph, variables=variables, expected_edges=expected_edges, seed=seed)
    adjacency, generator = torch.tensor(drawn), random_stream(seed, "system")
    # Variables without parents are noise only; a network of no parents would be a constant.
    roots = LinearFunction(torch.zeros(0, dtype=torch.float64))
    functions = tuple(
        draw_function(count, generator=generator) if count else roots
        for count in adjacency.sum(0).tolist()
    )
    variance = 0.05 + 0.1 * torch.rand(num_variables, generator=generator, dtype=torch.float64)
    interventions = _draw_interventions(num_variables, generator=generator)
    laws = draw_laws(
        noise,
        adjacency,
        functions=functions,
        noise_scale=variance.sqrt(),
        draw_function=draw_function,
        generator=random_stream(seed, "noise"),
    )
    system = AdditiveNoiseSystem(adjacency, functions, variance.sqrt(), laws, interventions)
    return plan.draw(system, variables, seed=seed)


def _draw_interventions(
    num_variables: int, *, generator: torch.Generator
) -> tuple[Intervention, ...]:
    z = 2 * torch.randn(num_variables, generator=generator, dtype=torch.float64)
    return tuple(
        Intervention("hard", mean, math.sqrt(0.5), shift=0.0)
        for mean in (z + 5 * z.sign()).tolist()
    )
