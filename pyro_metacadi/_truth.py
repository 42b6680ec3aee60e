"""What a score needs of its input: graphs without cycles, 0/1 targets, finite scores."""

import numpy as np
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import Labels, as_numeric, in_order
from pyro_metacadi.errors import DataError, GraphError
from pyro_metacadi.typing import Array

__all__ = ["EDGE", "HIT", "distinct_graphs", "matching_scores", "true_graph", "true_targets"]

EDGE, HIT = ("parent", "child"), ("task", "variable")
"""What rows and columns of a graph, and of targets, are."""


def distinct_graphs(draws: ArrayLike, *, num_variables: int) -> tuple[Array, Array]:
    """Return the different graphs among `draws`, ``[graph, parent, child]``, and their counts."""
    array, size = as_numeric(draws, what="draws", error=GraphError), num_variables
    if array.ndim < 2 or array.shape[-2:] != (size, size) or array.size == 0:
        raise GraphError(
            f"draws: expected at least one graph over the truth's {size} variables, shape "
            f"[*draw, {size}, {size}], got shape {list(array.shape)}. "
            "Pass one 0/1 adjacency matrix per draw."
        )
    flat = _binary(array, "draws", GraphError).reshape(-1, size**2)
    # As strings of bytes: by axis, numpy would make a field of every entry.
    strings = np.ascontiguousarray(flat).view(np.dtype((np.void, size**2)))[:, 0]
    strings, counts = np.unique(strings, return_counts=True)
    graphs = strings.view(np.int8).reshape(-1, size, size)
    _check_acyclic(graphs, name="draws")
    return graphs, counts


def true_graph(adjacency: ArrayLike, *, names: Labels = None, size: int | None = None) -> Array:
    """Return the true graph as int8 (all that gadjid takes), or say why it is none."""
    labels = names, names
    array = in_order(adjacency, what="adjacency", dims=EDGE, labels=labels, error=GraphError)
    size = size or max((1, *array.shape))
    if array.shape != (size, size):
        raise GraphError(
            f"adjacency: expected shape [{size}, {size}], one row and column per variable, "
            f"got {list(array.shape)}. Pass adjacency[i, j] = 1 for X_i -> X_j, square."
        )
    graph = _binary(array, "adjacency", GraphError)
    _check_acyclic(graph[None], name="adjacency", variables=names)
    return graph


def true_targets(
    intervention_targets: ArrayLike, *, shape: tuple[int, ...], labels: tuple[Labels, Labels]
) -> Array:
    what = "intervention_targets"
    array = in_order(intervention_targets, what=what, dims=HIT, labels=labels, error=DataError)
    if array.ndim != 2 or array.shape != shape:
        raise DataError(
            f"intervention_targets: expected shape [task, variable] as target_probs, "
            f"{list(shape)}, got {list(array.shape)}. Pass one row of 0/1 per scored task."
        )
    return _binary(array, "intervention_targets", DataError)


def matching_scores(scores: Array, *, name: str, read: Array) -> Array:
    """Return `scores` as floats, finite wherever the mask `read` says that they are used."""
    array = scores.astype(float)
    if array.shape != read.shape:
        raise DataError(
            f"{name}: expected the truth's shape {list(read.shape)}, got {list(array.shape)}. "
            "Score the same tasks and variables as the truth, in the same order."
        )
    wrong = np.argwhere(read & ~np.isfinite(array))
    if len(wrong):
        where = tuple(wrong[0].tolist())
        raise DataError(
            f"{name}: expected finite numbers, got {array[where]} at {list(where)}. "
            "Replace it by the score of an unlikely entry."
        )
    return array


def _binary(array: Array, name: str, error: type[DataError] | type[GraphError]) -> Array:
    wrong = array[(array != 0) & (array != 1)]
    if wrong.size:
        raise error(f"{name}: expected 0 or 1, got {wrong[0]}. Threshold it first.")
    return np.ascontiguousarray(array, dtype=np.int8)


def _check_acyclic(graphs: Array, *, name: str, variables: Labels = None) -> None:
    """Raise on a cycle in any of ``graphs [graph, parent, child]``: gadjid would panic on it."""
    present, left = graphs.astype(bool), np.ones(graphs.shape[:2], dtype=bool)
    # Whoever has no parent left is on no cycle; peel such variables until none can be.
    while (peeled := left & (present & left[:, :, None]).any(axis=1)).sum() < left.sum():
        left = peeled
    if left.any():
        import torch  # only to say what is wrong: scoring itself is numpy

        from pyro_metacadi.ops.graphs import find_cycle

        cycle = find_cycle(torch.from_numpy(graphs[left.any(axis=1)][0])) or []
        names = [variables[index] if variables else f"X{index + 1}" for index in cycle]
        raise GraphError(
            f"{name}: expected directed acyclic graphs, got the cycle {' -> '.join(names)}. "
            "Remove one of its edges."
        )
