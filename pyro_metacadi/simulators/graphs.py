"""Random directed acyclic graphs. Everywhere ``adjacency[i, j] = 1`` means X_i -> X_j."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import as_numeric
from pyro_metacadi.errors import ConfigError, GraphError
from pyro_metacadi.ops.graphs import check_dag
from pyro_metacadi.simulators._arguments import (
    check_choice,
    check_count,
    check_number,
    random_stream,
)

__all__ = ["erdos_renyi", "resolve_graph", "scale_free"]


def erdos_renyi(
    num_variables: int, *, expected_edges: float | int | None = None, seed: int
) -> Int[np.ndarray, "parent child"]:
    """Draw a graph whose variables, in a random order, are joined independently with one chance.

    Args:
        num_variables: At least 1.
        expected_edges: Mean number of edges; 2 per variable by default, or as many as there can be.
        seed: Non-negative.

    Returns:
        0/1 adjacency matrix; ``adjacency[i, j] = 1`` means X_i -> X_j.

    Raises:
        ConfigError: A size is not positive, or there cannot be so many edges.
    """
    edges = _resolve_edges(num_variables, expected_edges)
    generator = random_stream(seed, "graph")
    possible = num_variables * (num_variables - 1) / 2
    chance = edges / possible if possible else 0.0
    drawn = torch.rand(num_variables, num_variables, generator=generator) < chance
    return _relabelled(drawn.triu(diagonal=1), generator)


def scale_free(
    num_variables: int, *, expected_edges: float | int | None = None, seed: int
) -> Int[np.ndarray, "parent child"]:
    """Draw a graph by preferential attachment: a few hubs are causes of many variables.

    Each new variable gets ``m = max(1, round(expected_edges / num_variables))`` causes among the
    earlier ones (all of them while there are fewer), more likely the well connected. Labels are
    random. The number of edges is fixed: a little under ``m * num_variables``, and at least one for
    every variable but the first.

    Args:
        num_variables: At least 1.
        expected_edges: Approximate number of edges; 2 per variable by default, or as many as there
            can be.
        seed: Non-negative.

    Returns:
        0/1 adjacency matrix; ``adjacency[i, j] = 1`` means X_i -> X_j.

    Raises:
        ConfigError: A size is not positive, or there cannot be so many edges.

    Source:
        Barabasi and Albert, Emergence of scaling in random networks, Science 286 (1999).
    """
    edges = _resolve_edges(num_variables, expected_edges)
    generator = random_stream(seed, "graph")
    edges_per_variable = max(1, round(edges / num_variables))
    grown = torch.zeros(num_variables, num_variables, dtype=torch.bool)
    for new in range(1, num_variables):
        # The first variable has no edge yet, and must be found all the same.
        degree = (grown.sum(0) + grown.sum(1))[:new].double().clamp(min=1)
        causes = torch.multinomial(degree, min(edges_per_variable, new), generator=generator)
        grown[causes, new] = True
    return _relabelled(grown, generator)


def resolve_graph(
    graph: str | ArrayLike,
    *,
    variables: Sequence[str],
    expected_edges: float | int | None,
    seed: int,
) -> Int[np.ndarray, "parent child"]:
    """Draw the graph of that name, or check the adjacency matrix that the user brought.

    Raises:
        ConfigError: The name is not known, or `expected_edges` comes with a matrix.
        GraphError: The matrix is not a 0/1 directed acyclic graph over the variables.
    """
    samplers = {"erdos_renyi": erdos_renyi, "scale_free": scale_free}
    if isinstance(graph, str):
        name = check_choice("graph", graph, known=tuple(samplers))
        return samplers[name](len(variables), expected_edges=expected_edges, seed=seed)
    if expected_edges is not None:
        raise ConfigError(
            "expected_edges: expected None with an adjacency matrix for graph, got "
            f"{expected_edges}. Leave it out."
        )
    # A copy in plain float64, for torch knows no foreign byte order, no longdouble, no stride < 0.
    adjacency = as_numeric(graph, what="graph", error=GraphError).astype(np.float64, order="C")
    size = len(variables)
    if adjacency.shape != (size, size):
        raise GraphError(
            f"graph: expected a name or numbers of shape [{size}, {size}] for {size} variables, "
            f"got shape {list(adjacency.shape)}. Pass one row and one column per variable."
        )
    check_dag(torch.from_numpy(adjacency), variables=variables)
    return adjacency.astype(np.int64)


def _resolve_edges(num_variables: int, expected_edges: float | int | None) -> float:
    check_count("num_variables", num_variables)
    possible = num_variables * (num_variables - 1) // 2
    if expected_edges is None:
        return float(min(2 * num_variables, possible))
    if not 0 <= check_number("expected_edges", expected_edges) <= possible:
        raise ConfigError(
            f"expected_edges: expected 0 to {possible}, the most that {num_variables} variables "
            f"can have, got {expected_edges}. Ask for fewer edges or more variables."
        )
    return float(expected_edges)


def _relabelled(
    adjacency: torch.Tensor, generator: torch.Generator
) -> Int[np.ndarray, "parent child"]:
    label = torch.randperm(len(adjacency), generator=generator)
    return adjacency[label][:, label].long().numpy()
