"""Scores of anybody's output against a known graph and known intervention targets.

`evaluate` scores a posterior; the functions behind it take plain arrays, so that a baseline's
output is scored by the same code. Distances count errors (lower is better) and mean little without
the empty graph's, which `evaluate` reports beside them. Where both sides carry names (a DataArray,
a DataFrame) rows and columns are matched by name, otherwise by position. A score that is not
defined on its input is NaN with an `UndefinedMetricWarning`, never 0. Whether probabilities keep
their word is another question than whether they rank well: `calibration` and `reliability`.
"""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from pyro_metacadi._arrays import axis_labels, in_order
from pyro_metacadi._truth import (
    EDGE,
    HIT,
    distinct_graphs,
    matching_scores,
    true_graph,
    true_targets,
)
from pyro_metacadi.calibration import calibration, reliability
from pyro_metacadi.errors import DataError, UndefinedMetricWarning
from pyro_metacadi.typing import Array

__all__ = [
    "calibration",
    "edge_scores",
    "evaluate",
    "expected_shd",
    "expected_sid",
    "reliability",
    "target_scores",
]


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
        ``intv_auroc``, ``intv_ap``, ``intv_top1`` and ``base_rate`` (see `target_scores`); of the
        ordered pairs of distinct variables ``edge_ece``, ``edge_brier`` and
        ``edge_spiegelhalter_z``, of all (task, variable) pairs, also in tasks without a target,
        ``intv_ece``, ``intv_brier`` and ``intv_spiegelhalter_z`` (see `calibration`).

    Raises:
        GraphError: `adjacency` is not a DAG over the posterior's variables.
        DataError: `intervention_targets` or the posterior's arrays do not fit.
    """
    _check_posterior(posterior)
    edge_probs, target_probs = posterior.edge_probs, posterior.target_probs
    names, _ = axis_labels(edge_probs, dims=EDGE)
    truth = true_graph(adjacency, names=names, size=edge_probs.sizes["parent"])
    ranked = edge_scores(edge_probs, truth) | target_scores(target_probs, intervention_targets)
    if hasattr(posterior, "sample_graphs"):
        draws = posterior.sample_graphs(1000, seed=0)
    else:
        draws = posterior.sample(1000, seed=0)["adjacency"]
    draws = draws.transpose("chain", "draw", "parent", "child").values
    return {
        "e_shd": expected_shd(draws, truth),
        "e_sid": expected_sid(draws, truth),
        "empty_shd": float(truth.sum()),
        **ranked,
        **_calibration_scores(edge_probs, truth, prefix="edge"),
        **_calibration_scores(target_probs, intervention_targets, prefix="intv"),
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
    return _expected_distance(draws, true_graph(adjacency), distance="shd")


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
    truth = true_graph(adjacency)
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
    names, _ = axis_labels(edge_probs, dims=EDGE)
    labels = names, names
    scores = in_order(edge_probs, what="edge_probs", dims=EDGE, labels=labels, error=DataError)
    truth = true_graph(adjacency, names=names)
    off_diagonal = ~np.eye(len(truth), dtype=bool)
    scores = matching_scores(scores, name="edge_probs", read=off_diagonal)
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
    labels = axis_labels(target_probs, dims=HIT)
    scores = in_order(
        target_probs, what="target_probs", dims=HIT, labels=(None, None), error=DataError
    )
    truth = true_targets(intervention_targets, shape=scores.shape, labels=labels)
    read = np.ones(scores.shape, dtype=bool)
    scores = matching_scores(scores, name="target_probs", read=read)
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


def _check_posterior(posterior: Any) -> None:
    parts = {"edge_probs": EDGE, "target_probs": HIT}
    axes = [getattr(getattr(posterior, name, None), "dims", ()) for name in parts]
    if list(map(set, axes)) != list(map(set, parts.values())) or not hasattr(posterior, "sample"):
        raise DataError(
            "posterior: expected edge_probs, target_probs and sample(), as MetaCaDI.adapt returns "
            f"them, got {type(posterior).__name__}. Score arrays with edge_scores, target_scores."
        )


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


def _calibration_scores(probs: Any, truth: ArrayLike, *, prefix: str) -> dict[str, float]:
    scores = {f"{prefix}_{name}": name for name in ("ece", "brier", "spiegelhalter_z")}
    if probs.size <= (len(probs) if prefix == "edge" else 0):  # a graph's diagonal is not scored
        return {name: _undefined(name, needs="a pair to score", got="none") for name in scores}
    values = calibration(probs, truth)
    return {name: values[score] for name, score in scores.items()}


def _expected_distance(draws: ArrayLike, truth: Array, *, distance: Literal["shd", "sid"]) -> float:
    """Average the distance over draws; equal graphs, common in a posterior, are measured once."""
    import gadjid

    graphs, counts = distinct_graphs(draws, num_variables=len(truth))
    if distance == "shd":
        errors = [gadjid.shd(truth, graph)[1] for graph in graphs]
    else:
        direction = "from row to column"
        errors = [gadjid.sid(truth, graph, edge_direction=direction)[1] for graph in graphs]
    return float(np.average(errors, weights=counts))


def _undefined(name: str, *, needs: str, got: str) -> float:
    message = f"{name}: expected {needs}, got {got}. It is reported as NaN."
    warnings.warn(message, UndefinedMetricWarning, stacklevel=3)
    return float("nan")
