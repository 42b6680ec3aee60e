"""Additive-noise worlds whose mechanisms are draws from a Gaussian process."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pyro_metacadi.simulators._arguments import (
    check_choice,
    check_count,
    check_number,
    random_stream,
)
from pyro_metacadi.simulators.additive_noise import AdditiveNoiseSystem
from pyro_metacadi.simulators.graphs import resolve_graph
from pyro_metacadi.simulators.mechanisms import FourierFamily, FourierFunction, Intervention
from pyro_metacadi.simulators.noise import NOISES, draw_laws
from pyro_metacadi.simulators.origin import records_origin
from pyro_metacadi.simulators.world import World, draw_world

__all__ = ["gp_anm"]


@records_origin
def gp_anm(
    *,
    num_variables: int,
    num_tasks: int,
    num_samples: Any,
    seed: int,
    graph: Any = "erdos_renyi",
    expected_edges: float | int | None = None,
    length_scale: float | int = 1.0,
    num_features: int = 200,
    noise: str = "gaussian",
    noise_scale: float | int = 0.4,
    intervention: str = "hard",
    targets_per_task: Any = 1,
    intervention_mean: float | int = 0.0,
    intervention_scale: float | int = 1.0,
    intervention_shift: float | int = 1.0,
) -> World:
    """Draw a world: x_i = f_i(parents) + noise, each f_i one draw from a Gaussian process.

    The kernel is over all parents jointly, and the same functions hold in every task. Noise is
    Gaussian with standard deviation ``noise_scale * sqrt(u_i)``, or ``sqrt(u_i)`` for variables
    without parents, u_i ~ U[1, 2]. Other laws of the noise share graph, functions and u_i:

    * ``"heteroscedastic"``: the standard deviation is multiplied by the exponential of another
      draw from the process, a function of the parents, whose average over rows is 1;
    * ``"post-nonlinear"``: x_i = g_i(f_i(parents) + noise), g_i a random sinh-arcsinh function that
      keeps mean and standard deviation of the rows;
    * ``"student_t"``: Student's t with 3, 4 or 5 degrees of freedom, divided by its deviation.

    Args:
        num_variables: At least 1; they are named X1, X2, ...
        num_tasks: At least 1; they are named task1, task2, ...
        num_samples: Rows of every task, or a sequence with one number per task.
        seed: Non-negative. Graph, functions and noise depend on it only, not on the tasks' number
            and size.
        graph: ``"erdos_renyi"``, ``"scale_free"`` or a 0/1 adjacency matrix; ``graph[i, j] = 1``
            means X_i -> X_j.
        expected_edges: For a graph that is drawn; 2 per variable by default, or as many as there
            can be.
        length_scale: Of the RBF kernel, in units of the parents.
        num_features: Random Fourier features per function.
        noise: ``"gaussian"``, ``"heteroscedastic"``, ``"post-nonlinear"`` or ``"student_t"``. Hits
            that replace a variable, ``hard`` and ``do``, replace its noise; a ``shift`` is added
            before g_i.
        noise_scale: See above.
        intervention: ``"hard"``, ``"do"``, ``"shift"`` or ``"mechanism"``, see `Intervention`.
        targets_per_task: Distinct targets of every task, drawn uniformly, or a sequence with one
            number per task; 0 leaves a task observational.
        intervention_mean: Mean of a target under ``hard``; its constant value under ``do``.
        intervention_scale: Standard deviation of a target under ``hard``.
        intervention_shift: Added to a target under ``shift``.

    Raises:
        ConfigError: A size, number or name is out of range, or a sequence of another length.
        GraphError: The matrix `graph` is not a directed acyclic graph over the variables.

    Source:
        Brouillard et al., Differentiable causal discovery from interventional data, NeurIPS 2020
        (the generator of its additive-noise data; ``intervention_mean=2`` is its shifted normal).
    """
    family = FourierFamily(num_features, length_scale)
    check_choice("noise", noise, known=NOISES)
    change = Intervention(intervention, intervention_mean, intervention_scale, intervention_shift)
    check_number("noise_scale", noise_scale, sign="positive")
    variables = [f"X{index + 1}" for index in range(check_count("num_variables", num_variables))]
    adjacency = resolve_graph(graph, variables=variables, expected_edges=expected_edges, seed=seed)
    system = _draw_system(
        torch.tensor(adjacency),
        family,
        intervention=change,
        noise=noise,
        noise_scale=float(noise_scale),
        generator=random_stream(seed, "system"),
        noise_generator=random_stream(seed, "noise"),
    )
    return draw_world(
        system,
        variables,
        num_tasks=num_tasks,
        num_samples=num_samples,
        targets_per_task=targets_per_task,
        task_stem="task",
        generator=random_stream(seed, "tasks"),
    )


def _draw_system(
    adjacency: Int[Tensor, "parent child"],
    family: FourierFamily,
    *,
    intervention: Intervention,
    noise: str,
    noise_scale: float,
    generator: torch.Generator,
    noise_generator: torch.Generator,
) -> AdditiveNoiseSystem:
    num_parents = adjacency.sum(0)
    functions = tuple(
        _observational(family, int(count), generator=generator) for count in num_parents
    )
    scale = _draw_noise_scale(num_parents, noise_scale=noise_scale, generator=generator)
    laws = draw_laws(
        noise,
        adjacency,
        functions=functions,
        noise_scale=scale,
        draw_function=family.draw,
        generator=noise_generator,
    )
    interventions = (intervention,) * len(num_parents)
    return AdditiveNoiseSystem(adjacency, functions, scale, laws, interventions, family)


def _observational(
    family: FourierFamily, num_parents: int, *, generator: torch.Generator
) -> FourierFunction:
    function = family.draw(num_parents, generator=generator)
    # A function of no parents is a random constant; without intervention that constant is 0.
    return function if num_parents else function.scaled(0.0)


def _draw_noise_scale(
    num_parents: Int[Tensor, " variable"], *, noise_scale: float, generator: torch.Generator
) -> Float[Tensor, " variable"]:
    spread = torch.rand(len(num_parents), generator=generator, dtype=torch.float64)
    return (1 + spread).sqrt() * torch.where(num_parents > 0, noise_scale, 1.0).double()
