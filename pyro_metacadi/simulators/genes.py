"""`sergio`: worlds of gene expression in single cells. (A file of that name would hide it.)"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pyro_metacadi.simulators._arguments import (
    check_choice,
    check_count,
    check_number,
    random_stream,
)
from pyro_metacadi.simulators.expression import ExpressionSystem
from pyro_metacadi.simulators.expression_options import (
    HALF_RESPONSES,
    Dynamics,
    checked_device,
    interval,
    off_target_matrix,
    pair,
    production_factor,
)
from pyro_metacadi.simulators.graphs import resolve_graph
from pyro_metacadi.simulators.grn import draw_network
from pyro_metacadi.simulators.langevin import Langevin
from pyro_metacadi.simulators.origin import records_origin
from pyro_metacadi.simulators.technical import TechnicalNoise, resolve_technical
from pyro_metacadi.simulators.world import World, draw_world

__all__ = ["sergio"]


@records_origin
def sergio(
    *,
    num_variables: int = 20,
    num_tasks: int,
    num_samples: Any,
    seed: int,
    graph: Any = "scale_free",
    expected_edges: float | int | None = None,
    intervention: str = "knock_out",
    factor: float | int | None = None,
    targets_per_task: Any = 1,
    off_targets: Any = None,
    num_cell_types: int = 10,
    strength: Any = (1.0, 5.0),
    activation: Any = (0.2588, 0.2499),
    rate: Any = (1.0, 3.0),
    decay: float | int = 0.8,
    hill: float | int = 2.0,
    noise: str = "dpd",
    noise_scale: float | int = 1.0,
    half_response: str = "wildtype",
    snapshots: str = "independent",
    dt: float | int = 0.01,
    burn_in: float | int | None = None,
    technical: Any = None,
    device: str | torch.device = "cpu",
) -> World:
    """Draw a world of genes that regulate one another, measured in single cells.

    Gene i of cell type c is produced at ``P_i = sum_j |K_ji| H_ji(x_j)`` over its regulators j,
    with ``H = x^n / (h^n + x^n)`` where j activates and one minus that where it represses; a gene
    without regulators at ``P_i = b_ic``. Expression follows
    ``x(t + dt) = max(0, x + dt (P - decay x) + sqrt(dt) noise)``, starts at the fixed point without
    noise, and is read at steady state. An intervention multiplies the production of its targets. A
    knocked-out gene is 0 in every cell.

    Different from the original by default, each with the option that undoes it:

    * Every cell has a chain of its own, so that rows are independent
      (``snapshots="trajectory"``: joint snapshots of one short trajectory for each cell type, in
      which genes start from their regulators' simulated means and are read 10 steps later than
      the genes that they regulate).
    * Half responses are constants of the world, each regulator's mean in unperturbed cells
      (``half_response="per_run"``: its mean within the task, which partly hides interventions).

    and with none: outlier genes under technical noise are the same in all tasks, where the original
    draws them anew; rows are cells of all types in random order, without their labels.

    Args:
        num_variables: Genes, at least 1; they are named X1, X2, ...
        num_tasks: At least 1; they are named task1, task2, ...
        num_samples: Cells of every task, spread evenly over the cell types, or a sequence with one
            number per task.
        seed: Non-negative. Graph, rates, strengths and outlier genes depend on it only, not on the
            tasks' number and size.
        graph: ``"scale_free"``, ``"erdos_renyi"`` or a 0/1 adjacency matrix; ``graph[i, j] = 1``
            means X_i -> X_j.
        expected_edges: For a graph that is drawn; 2 per variable by default, or as many as there
            can be.
        intervention: ``"knock_out"``, ``"knock_down"`` or ``"over_expression"``.
        factor: What multiplies the production of targets: between 0 and 1 for ``knock_down`` (by
            default 0.5), above 1 for ``over_expression`` (by default 2), None for ``knock_out``.
        targets_per_task: Distinct intended targets of every task, drawn uniformly, or a sequence
            with one number per task; 0 leaves a task unperturbed.
        off_targets: For some genes by name, the names of the genes that are hit whenever this one
            is an intended target: ``{"X1": ["X4", "X7"]}``. They count as intervention targets.
        num_cell_types: They differ in the rates of genes without regulators.
        strength: Range of the uniform law of ``|K|``.
        activation: Parameters of the Beta law of the share of a regulator's edges that activate;
            by default as estimated for E. coli.
        rate: Range of the uniform law of b.
        decay: Per unit of time.
        hill: The exponent n.
        noise: ``"dpd"``, ``"spd"`` or ``"sp"``, see `Langevin`.
        noise_scale: Not negative.
        half_response: ``"wildtype"`` or ``"per_run"``.
        snapshots: ``"independent"`` or ``"trajectory"``.
        dt: Length of a step; less than 1 / decay.
        burn_in: Time before a chain is read: by default 6 / decay, and 0 for ``trajectory``.
        technical: Adds a platform's noise, which turns expression into UMI counts:
            ``"10x_chromium"``, ``"illumina"``, ``"drop_seq"``, ``"smart_seq"``, or a mapping with
            the fields of `TechnicalNoise`. Compare `pyro_metacadi.data.log_normalise`.
        device: Where to compute. Another kind of device draws other cells for the same seed.

    Raises:
        ConfigError: A size, number or name is out of range, or a sequence of another length.
        GraphError: The matrix `graph` is not a directed acyclic graph over the variables.

    Source:
        Dibaeinia and Sinha, SERGIO: a single-cell expression simulator guided by gene regulatory
        networks, Cell Systems 11 (2020); the ranges are those of Haegele et al., BaCaDI (2023).
    """
    names = [f"X{index + 1}" for index in range(check_count("num_variables", num_variables))]
    adjacency = resolve_graph(graph, variables=names, expected_edges=expected_edges, seed=seed)
    dynamics = Dynamics(Langevin(noise, noise_scale, dt), decay, snapshots, burn_in)
    platform = resolve_technical(technical)
    generator = random_stream(seed, "system")
    network = draw_network(
        torch.tensor(adjacency),
        num_cell_types=check_count("num_cell_types", num_cell_types),
        strength=interval("strength", strength),
        rate=interval("rate", rate),
        activation=pair("activation", activation),
        decay=float(decay),
        hill=check_number("hill", hill, sign="positive"),
        generator=generator,
    )
    system = ExpressionSystem(
        network,
        dynamics.langevin,
        dynamics.steps_before_reading,
        snapshots == "trajectory",
        production_factor(intervention, factor),
        None,
        off_target_matrix(off_targets, variables=names),
        platform,
        _outliers(platform, num_variables=len(names), seed=seed),
        checked_device(device),
    )
    if check_choice("half_response", half_response, known=HALF_RESPONSES) == "wildtype":
        system = system.with_wildtype_half_responses(
            burn_in=dynamics.steps_to_steady_state, generator=generator
        )
    return draw_world(
        system,
        names,
        num_tasks=num_tasks,
        num_samples=num_samples,
        targets_per_task=targets_per_task,
        task_stem="task",
        generator=random_stream(seed, "tasks"),
    )


def _outliers(
    platform: TechnicalNoise | None, *, num_variables: int, seed: int
) -> Float[Tensor, " variable"]:
    if platform is None:
        return torch.ones(num_variables, dtype=torch.float64)
    return platform.draw_outliers(num_variables, generator=random_stream(seed, "outliers"))
