"""Scores of anybody's output against a known graph and known intervention targets.

`evaluate` scores a posterior; the functions behind it take plain arrays, so that a baseline's
output is scored by the same code. Distances count errors (lower is better) and mean little without
the empty graph's, which `evaluate` reports beside them. A score that is not defined on its input is
NaN with an `UndefinedMetricWarning`, never 0.
"""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from pyro_metacadi.errors import DataError, GraphError, UndefinedMetricWarning
from pyro_metacadi.typing import Array

__all__ = ["edge_scores", "evaluate", "expected_shd", "expected_sid", "target_scores"]


def evaluate(
    posterior: Any, *, adjacency: ArrayLike, intervention_targets: ArrayLike
) -> dict[str, float]:
    """Score a posterior over graphs and intervention targets against the truth.

    Args:
        posterior: Has ``edge_probs`` (DataArray over parent, child), ``target_probs`` (DataArray
            over task, variable) and ``sample(num_draws, seed=...)``, a Dataset whose ``adjacency``
            is over chain, draw, parent, child. Distances average over ``sample(1000, seed=0)``, or
            over ``sample_graphs(1000, seed=0)`` of the same draws where there is that method, for
            drawing targets as well takes longer.
        adjacency: True graph, 0/1, shape ``[variable, variable]``; ``adjacency[i, j] = 1`` means
            X_i -> X_j.
        intervention_targets: True targets, 0/1, shape ``[task, variable]``.

    Returns:
        ``e_shd`` and ``e_sid`` (see `expected_shd`, `expected_sid`), ``empty_shd`` (the empty
        graph's SHD: the number of true edges), ``edge_auroc`` and ``edge_ap`` (see `edge_scores`),
        ``intv_auroc``, ``intv_ap``, ``intv_top1`` and ``base_rate`` (see `target_scores`).

    Raises:
        GraphError: `adjacency` is not a DAG over the posterior's variables.
        DataError: `intervention_targets` or the posterior's arrays do not fit.
    """
    edge_probs = posterior.edge_probs.transpose("parent", "child")
    target_probs = posterior.target_probs.transpose("task", "variable").values
    names = [str(name) for name in edge_probs["parent"].values]
    truth = _true_graph(adjacency, names=names)
    targets = _true_targets(intervention_targets, shape=target_probs.shape)
    if hasattr(posterior, "sample_graphs"):
        draws = posterior.sample_graphs(1000, seed=0)
    else:
        draws = posterior.sample(1000, seed=0)["adjacency"]
    draws = draws.transpose("chain", "draw", "parent", "child").values
    return {
        "e_shd": expected_shd(draws, truth),
        "e_sid": expected_sid(draws, truth),
        "empty_shd": float(truth.sum()),
        **edge_scores(edge_probs.values, truth),
        **target_scores(target_probs, targets),
    }


def expected_shd(draws: ArrayLike, adjacency: ArrayLike) -> float:
    """Average structural Hamming distance of `draws` to the true graph.

    Counts pairs of variables that are joined differently: an edge missing, extra or reversed is one
    error each.

    Args:
        draws: Directed acyclic graphs, 0/1, shape ``[*draw, variable, variable]``.
        adjacency: True graph, 0/1, shape ``[variable, variable]``; ``adjacency[i, j] = 1`` means
            X_i -> X_j.

    Raises:
        GraphError: A graph is not square, not 0/1, not of the truth's size or has a cycle.
    """
    return _expected_distance(draws, _true_graph(adjacency), distance="shd")


def expected_sid(draws: ArrayLike, adjacency: ArrayLike) -> float:
    """Average structural intervention distance of `draws` to the true graph.

    Counts ordered pairs (i, j) for which adjusting for i's parents in the draw gives a wrong
    p(x_j | do(x_i)). Undefined for one variable.

    Args:
        draws: Directed acyclic graphs, 0/1, shape ``[*draw, variable, variable]``.
        adjacency: True graph, 0/1, shape ``[variable, variable]``; ``adjacency[i, j] = 1`` means
            X_i -> X_j.

    Raises:
        GraphError: A graph is not square, not 0/1, not of the truth's size or has a cycle.

    Source:
        Peters and Buehlmann, Structural intervention distance, Neural Computation 27 (2015).
    """
    truth = _true_graph(adjacency)
    if len(truth) < 2:
        return _undefined("e_sid", needs="two variables", got="one")
    return _expected_distance(draws, truth, distance="sid")


def edge_scores(edge_probs: ArrayLike, adjacency: ArrayLike) -> dict[str, float]:
    """Rank the ordered pairs of distinct variables by `edge_probs` and score the ranking.

    Args:
        edge_probs: Probabilities, or any scores that rise with belief, shape
            ``[variable, variable]`` (parent, child). The diagonal is not read.
        adjacency: True graph, 0/1, shape ``[variable, variable]``; ``adjacency[i, j] = 1`` means
            X_i -> X_j.

    Returns:
        ``edge_auroc`` and ``edge_ap`` (average precision; chance is the share of true edges).

    Raises:
        GraphError: `adjacency` is not a directed acyclic graph.
        DataError: `edge_probs` has another shape or an entry that is not finite.
    """
    truth = _true_graph(adjacency)
    off_diagonal = ~np.eye(len(truth), dtype=bool)
    scores = _matching_scores(edge_probs, name="edge_probs", read=off_diagonal)
    return _curve_scores(truth[off_diagonal], scores[off_diagonal], prefix="edge")


def target_scores(target_probs: ArrayLike, intervention_targets: ArrayLike) -> dict[str, float]:
    """Score the ranking of variables as intervention targets, over the tasks that have a target.

    Args:
        target_probs: Probabilities, or any scores that rise with belief and are comparable across
            tasks, shape ``[task, variable]``.
        intervention_targets: True targets, 0/1, shape ``[task, variable]``.

    Returns:
        ``intv_auroc`` and ``intv_ap`` (average precision) over all (task, variable) pairs pooled;
        ``intv_top1``, the share of tasks whose most probable variable is a target (ties broken at
        random, in expectation); ``base_rate``, the share of targets, which is chance for
        ``intv_ap``.

    Raises:
        DataError: An array has another shape, targets are not 0/1, or a score is not finite.
    """
    shape = np.shape(target_probs)
    truth = _true_targets(intervention_targets, shape=shape)
    scores = _matching_scores(target_probs, name="target_probs", read=np.ones(shape, dtype=bool))
    hit = truth.any(axis=1)
    truth, scores = truth[hit], scores[hit]
    result = _curve_scores(truth.ravel(), scores.ravel(), prefix="intv")
    if not hit.any():
        needs = "a task with a target"
        return result | {
            name: _undefined(name, needs=needs, got="none") for name in ("intv_top1", "base_rate")
        }
    best = scores == scores.max(axis=1, keepdims=True)
    top1 = ((best & (truth == 1)).sum(axis=1) / best.sum(axis=1)).mean()
    return result | {"intv_top1": float(top1), "base_rate": float(truth.mean())}


def _curve_scores(truth: Array, scores: Array, *, prefix: str) -> dict[str, float]:
    """AUROC and average precision; the trapezoid would give a constant score (1 + p) / 2, not p."""
    names = (f"{prefix}_auroc", f"{prefix}_ap")
    positives = int(truth.sum())
    if positives in (0, truth.size):
        got = f"{positives} ones of {truth.size} entries"
        return {name: _undefined(name, needs="true ones and zeros", got=got) for name in names}
    from sklearn.metrics import average_precision_score, roc_auc_score

    values = (roc_auc_score(truth, scores), average_precision_score(truth, scores))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _expected_distance(draws: ArrayLike, truth: Array, *, distance: Literal["shd", "sid"]) -> float:
    """Average the distance over draws; equal graphs, common in a posterior, are measured once."""
    import gadjid

    graphs, counts = _distinct_graphs(draws, num_variables=len(truth))
    if distance == "shd":
        errors = [gadjid.shd(truth, graph)[1] for graph in graphs]
    else:
        direction = "from row to column"
        errors = [gadjid.sid(truth, graph, edge_direction=direction)[1] for graph in graphs]
    return float(np.average(errors, weights=counts))


def _distinct_graphs(draws: ArrayLike, *, num_variables: int) -> tuple[Array, Array]:
    """Return the different graphs among `draws`, ``[graph, parent, child]``, and their counts."""
    array, size = np.asarray(draws), num_variables
    if array.ndim < 2 or array.shape[-2:] != (size, size) or array.size == 0:
        raise GraphError(
            f"draws: expected at least one graph over the truth's {size} variables, shape "
            f"[*draw, {size}, {size}], got shape {list(array.shape)}. "
            "Pass one 0/1 adjacency matrix per draw."
        )
    flat = _binary(array, "draws", GraphError).reshape(-1, size**2)
    flat, counts = np.unique(flat, axis=0, return_counts=True)
    graphs = flat.reshape(-1, size, size)
    _check_acyclic(graphs, name="draws")
    return graphs, counts


def _true_graph(adjacency: ArrayLike, *, names: Sequence[str] | None = None) -> Array:
    """Return the true graph as int8 (all that gadjid takes), or say why it is none."""
    array = np.asarray(adjacency)
    size = len(names) if names is not None else max((1, *array.shape))
    if array.shape != (size, size):
        raise GraphError(
            f"adjacency: expected shape [{size}, {size}], one row and column per variable, "
            f"got {list(array.shape)}. Pass adjacency[i, j] = 1 for X_i -> X_j, square."
        )
    graph = _binary(array, "adjacency", GraphError)
    _check_acyclic(graph[None], name="adjacency", variables=names)
    return graph


def _true_targets(intervention_targets: ArrayLike, *, shape: tuple[int, ...]) -> Array:
    array = np.asarray(intervention_targets)
    if array.ndim != 2 or array.shape != shape:
        raise DataError(
            f"intervention_targets: expected shape [task, variable] as target_probs, "
            f"{list(shape)}, got {list(array.shape)}. Pass one row of 0/1 per scored task."
        )
    return _binary(array, "intervention_targets", DataError)


def _matching_scores(scores: ArrayLike, *, name: str, read: Array) -> Array:
    """Return `scores` as floats, finite wherever the mask `read` says that they are used."""
    array = np.asarray(scores, dtype=float)
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


def _check_acyclic(graphs: Array, *, name: str, variables: Sequence[str] | None = None) -> None:
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


def _undefined(name: str, *, needs: str, got: str) -> float:
    message = f"{name}: expected {needs}, got {got}. It is reported as NaN."
    warnings.warn(message, UndefinedMetricWarning, stacklevel=3)
    return float("nan")
