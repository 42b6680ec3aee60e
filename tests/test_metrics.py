"""Scores are what their names say: by hand, by orientation, by ties, and where undefined."""

import math
import subprocess
import sys
import time
from dataclasses import dataclass, replace

import gadjid
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pyro_metacadi import metrics
from pyro_metacadi._truth import distinct_graphs
from pyro_metacadi.errors import DataError, GraphError, UndefinedMetricWarning

CHAIN = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])  # X1 -> X2 -> X3
EMPTY = np.zeros((3, 3), dtype=int)
NAMED = pd.DataFrame(CHAIN, index=list("AZC"), columns=list("AZC"))
EDGE = np.array([[0, 1], [0, 0]])


@dataclass(frozen=True)
class FakePosterior:
    edge_probs: xr.DataArray
    target_probs: xr.DataArray
    graphs: xr.Dataset

    def sample(self, num_draws: int, *, seed: int = 0) -> xr.Dataset:
        assert (num_draws, seed) == (1000, 0)
        return self.graphs


def fake_posterior(graphs, target_probs, names=("A", "B", "C")) -> FakePosterior:
    graphs = np.asarray(graphs, dtype=np.int8)
    sites = {"adjacency": (("chain", "draw", "parent", "child"), graphs)}
    edges = {"dims": ("parent", "child"), "coords": {"parent": list(names), "child": list(names)}}
    return FakePosterior(
        xr.DataArray(graphs.mean((0, 1)), **edges),
        xr.DataArray(np.asarray(target_probs, dtype=float), dims=("task", "variable")),
        xr.Dataset(sites),
    )


@st.composite
def dags(draw, size=None):
    d = size or draw(st.integers(2, 6))
    order = np.array(draw(st.permutations(range(d))))
    bits = draw(st.lists(st.booleans(), min_size=d * d, max_size=d * d))
    upper = np.triu(np.array(bits).reshape(d, d), 1).astype(np.int8)
    return upper[np.ix_(order, order)]


class TestDistances:
    @pytest.mark.parametrize(
        ("guess", "shd", "sid"),
        [
            (EDGE, 0, 0),
            (EDGE.T, 1, 2),  # turned round: both interventions go wrong
            (np.zeros((2, 2), dtype=int), 1, 1),  # missing: only do(X1) does
        ],
    )
    def test_two_variables_by_hand(self, guess, shd, sid):
        assert metrics.expected_shd(guess, EDGE) == shd
        assert metrics.expected_sid(guess, EDGE) == sid

    def test_superfluous_edge_costs_shd_but_no_sid(self):
        assert metrics.expected_shd(EDGE, np.zeros((2, 2))) == 1
        assert metrics.expected_sid(EDGE, np.zeros((2, 2))) == 0

    def test_rows_are_causes(self):
        collider = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
        fork_guess = np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]])
        as_given = metrics.expected_sid(fork_guess, collider)
        transposed = metrics.expected_sid(fork_guess.T, collider.T)
        assert as_given != transposed
        assert metrics.expected_shd(fork_guess, collider) == metrics.expected_shd(
            fork_guess.T, collider.T
        )

    def test_feeding_the_transpose_changes_both_distances(self):
        assert metrics.expected_shd(CHAIN.T, CHAIN) == 2
        assert metrics.expected_sid(CHAIN.T, CHAIN) == 6
        assert metrics.expected_sid(CHAIN, CHAIN) == 0

    @given(dags(), st.data())
    def test_equal_gadjid_on_every_graph(self, truth, data):
        guess = data.draw(dags(len(truth)))
        sid = gadjid.sid(truth, guess, edge_direction="from row to column")[1]
        assert metrics.expected_shd(guess, truth) == gadjid.shd(truth, guess)[1]
        assert metrics.expected_sid(guess, truth) == sid

    @given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9))
    def test_mixture_is_the_weighted_mean(self, right, empty, turned):
        draws = np.stack([CHAIN] * right + [EMPTY] * empty + [CHAIN.T] * turned)
        total = right + empty + turned
        assert metrics.expected_shd(draws, CHAIN) == pytest.approx((2 * empty + 2 * turned) / total)
        assert metrics.expected_sid(draws, CHAIN) == pytest.approx((3 * empty + 6 * turned) / total)

    def test_any_leading_draw_axes_and_integer_types(self):
        draws = np.stack([CHAIN, EMPTY, CHAIN, CHAIN])
        for dtype in (bool, np.int8, np.int64, np.uint8, float):
            chains = draws.reshape(2, 2, 3, 3).astype(dtype)
            assert metrics.expected_shd(chains, CHAIN.astype(dtype)) == 0.5

    def test_thousand_distinct_graphs_of_twenty_variables_are_quick(self):
        rng = np.random.default_rng(0)
        draws = np.triu(rng.random((1000, 20, 20)) < 0.2, 1)
        assert metrics.expected_shd(draws, np.zeros((20, 20))) == pytest.approx(38, abs=1)
        assert metrics.expected_sid(draws, draws[0]) > 0


class TestEdgeScores:
    def test_ranking_by_hand(self):
        probs = np.array([[0.0, 0.9, 0.8], [0.1, 0.0, 0.7], [0.2, 0.3, 0.0]])
        scores = metrics.edge_scores(probs, CHAIN)
        assert scores["edge_ap"] == pytest.approx((1 + 2 / 3) / 2)
        assert scores["edge_auroc"] == pytest.approx(7 / 8)

    def test_diagonal_is_not_read(self):
        rng = np.random.default_rng(1)
        probs = rng.random((3, 3))
        filled = probs.copy()
        np.fill_diagonal(filled, np.nan)
        assert metrics.edge_scores(probs, CHAIN) == metrics.edge_scores(filled, CHAIN)

    def test_constant_scores_give_chance(self):
        scores = metrics.edge_scores(np.full((3, 3), 0.3), CHAIN)
        assert scores == {"edge_auroc": 0.5, "edge_ap": pytest.approx(2 / 6)}

    def test_transposed_scores_are_wrong(self):
        assert metrics.edge_scores(CHAIN, CHAIN)["edge_ap"] == 1
        assert metrics.edge_scores(CHAIN.T, CHAIN)["edge_ap"] < 0.5


class TestTargetScores:
    def test_equal_sklearn_on_the_pooled_tasks_with_a_target(self):
        rng = np.random.default_rng(2)
        truth = (rng.random((8, 5)) < 0.3).astype(int)
        truth[0] = 0
        truth[1:, 0] = 1
        probs = rng.random((8, 5)).round(1)
        scores = metrics.target_scores(probs, truth)
        pooled = truth[1:].ravel(), probs[1:].ravel()
        assert scores["intv_auroc"] == pytest.approx(roc_auc_score(*pooled))
        assert scores["intv_ap"] == pytest.approx(average_precision_score(*pooled))
        assert scores["base_rate"] == pytest.approx(truth[1:].mean())

    def test_tasks_without_targets_do_not_count(self):
        truth = np.array([[1, 0, 0], [0, 0, 0]])
        probs = np.array([[0.9, 0.1, 0.1], [1.0, 1.0, 1.0]])
        scores = metrics.target_scores(probs, truth)
        assert scores == {"intv_auroc": 1, "intv_ap": 1, "intv_top1": 1, "base_rate": 1 / 3}

    def test_constant_scores_give_chance(self):
        truth = np.eye(4, dtype=int)
        scores = metrics.target_scores(np.full((4, 4), 0.5), truth)
        assert scores == {"intv_auroc": 0.5, "intv_ap": 0.25, "intv_top1": 0.25, "base_rate": 0.25}

    def test_top1_breaks_ties_at_random_in_expectation(self):
        truth = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1]])
        probs = np.array([[0.5, 0.2, 0.5], [0.9, 0.1, 0.1], [0.1, 0.2, 0.1]])
        assert metrics.target_scores(probs, truth)["intv_top1"] == pytest.approx((0.5 + 1 + 0) / 3)


class TestEvaluate:
    def test_flat_dict_of_floats_by_hand(self):
        posterior = fake_posterior([[CHAIN, EMPTY], [CHAIN, CHAIN.T]], [[0.9, 0.1, 0.2]])
        scores = metrics.evaluate(posterior, adjacency=CHAIN, intervention_targets=[[1, 0, 0]])
        assert scores == {
            "e_shd": 1.0,
            "e_sid": (3 + 6) / 4,
            "empty_shd": 2.0,
            "edge_auroc": 1.0,
            "edge_ap": 1.0,
            "intv_auroc": 1.0,
            "intv_ap": 1.0,
            "intv_top1": 1.0,
            "base_rate": pytest.approx(1 / 3),
            "edge_ece": pytest.approx((2 * 0.25 + 2 * 0.5) / 6),  # .25 is never true, .5 always
            "edge_brier": pytest.approx((2 * 0.25**2 + 2 * 0.5**2) / 6),
            "edge_spiegelhalter_z": pytest.approx(-0.25 / math.sqrt(2 * 0.5**2 * 0.25 * 0.75)),
            "intv_ece": pytest.approx((0.1 + 0.1 + 0.2) / 3),
            "intv_brier": pytest.approx((0.1**2 + 0.1**2 + 0.2**2) / 3),
            "intv_spiegelhalter_z": pytest.approx(-0.28 / math.sqrt(0.1728)),
        }
        assert all(type(value) is float for value in scores.values())

    def test_axes_are_read_by_name(self):
        right = fake_posterior([[CHAIN]], [[0.9, 0.1, 0.2], [0.1, 0.7, 0.2]])
        turned = FakePosterior(
            right.edge_probs.transpose("child", "parent"),
            right.target_probs.transpose("variable", "task"),
            right.graphs.transpose("child", "parent", "draw", "chain"),
        )
        truth = {"adjacency": CHAIN, "intervention_targets": [[1, 0, 0], [0, 1, 0]]}
        assert metrics.evaluate(turned, **truth) == metrics.evaluate(right, **truth)

    @pytest.mark.parametrize("kind", ["frame", "array"])
    def test_labelled_truth_is_matched_by_name(self, kind):
        posterior = fake_posterior([[CHAIN, EMPTY]], [[0.9, 0.1, 0.2], [0.3, 0.8, 0.1]])
        named = posterior.target_probs.assign_coords(task=["s", "t"], variable=list("ABC"))
        posterior = replace(posterior, target_probs=named)
        graph = xr.DataArray(CHAIN, coords=posterior.edge_probs.coords)[[2, 0, 1], [1, 0, 2]]
        hits = xr.DataArray([[1, 0, 0], [0, 1, 0]], coords=named.coords)[::-1, [1, 2, 0]]
        if kind == "frame":
            graph, hits = graph.to_pandas(), hits.to_pandas()
        else:
            graph, hits = graph.T, hits.T
        truth = {"adjacency": CHAIN, "intervention_targets": [[1, 0, 0], [0, 1, 0]]}
        assert metrics.evaluate(
            posterior, adjacency=graph, intervention_targets=hits
        ) == metrics.evaluate(posterior, **truth)
        assert metrics.edge_scores(posterior.edge_probs.T, graph)["edge_ap"] == 1

    def test_numbers_that_pandas_makes_up_are_no_names(self):
        posterior = fake_posterior([[CHAIN]], [[0.9, 0.1, 0.2]])
        truth = {"adjacency": CHAIN, "intervention_targets": [[1, 0, 0]]}
        frames = {name: pd.DataFrame(values) for name, values in truth.items()}
        assert metrics.evaluate(posterior, **frames) == metrics.evaluate(posterior, **truth)

    @pytest.mark.parametrize(
        "posterior",
        [
            None,
            CHAIN,
            replace(fake_posterior([[CHAIN]], [[1, 0, 0]]), edge_probs=xr.DataArray(CHAIN)),
        ],
        ids=["nothing", "array", "other axes"],
    )
    def test_what_is_no_posterior_is_refused(self, posterior):
        with pytest.raises(DataError, match="posterior: expected edge_probs, target_probs and"):
            metrics.evaluate(posterior, adjacency=CHAIN, intervention_targets=[[1, 0, 0]])

    def test_cycle_is_named_by_the_variables(self):
        posterior = fake_posterior([[CHAIN]], [[0.9, 0.1, 0.2]])
        cyclic = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
        with pytest.raises(GraphError, match=r"cycle [ABC] -> [ABC] -> [ABC] -> [ABC]\."):
            metrics.evaluate(posterior, adjacency=cyclic, intervention_targets=[[1, 0, 0]])

    @pytest.mark.parametrize(
        ("adjacency", "targets", "error", "message"),
        [
            (np.eye(2, k=1), [[1, 0, 0]], GraphError, r"expected shape \[3, 3\].*got \[2, 2\]"),
            (CHAIN * 0.5, [[1, 0, 0]], GraphError, "adjacency: expected 0 or 1, got 0.5"),
            (NAMED, [[1, 0, 0]], GraphError, "labels of axis parent: .* 'B' missing and 'Z' unkn"),
            (xr.DataArray(CHAIN), [[1, 0, 0]], GraphError, "axes parent, child, got dim_0, dim_1"),
            (CHAIN, [[1, 0]], DataError, r"as target_probs, \[1, 3\], got \[1, 2\]"),
            (CHAIN, [1, 0, 0], DataError, r"expected shape \[task, variable\]"),
            (CHAIN, [[2, 0, 0]], DataError, "intervention_targets: expected 0 or 1, got 2"),
        ],
    )
    def test_truth_that_does_not_fit_is_refused(self, adjacency, targets, error, message):
        posterior = fake_posterior([[CHAIN]], [[0.9, 0.1, 0.2]])
        with pytest.raises(error, match=message):
            metrics.evaluate(posterior, adjacency=adjacency, intervention_targets=targets)


@pytest.mark.parametrize("score", [metrics.expected_shd, metrics.expected_sid])
@pytest.mark.parametrize(
    ("draws", "adjacency", "message"),
    [
        (EDGE + EDGE.T, EDGE, "draws: .* got the cycle X[12] -> X[12] -> X[12]"),
        (np.eye(2), EDGE, "draws: .* cycle X1 -> X1"),
        (CHAIN, EDGE, r"draws: .* over the truth's 2 variables"),
        (np.zeros((0, 2, 2)), EDGE, "draws: expected at least one graph"),
        (EDGE * np.nan, EDGE, "draws: expected 0 or 1, got nan"),
        (EDGE, EDGE + EDGE.T, "adjacency: .* cycle"),
        (EDGE, [0, 1], "adjacency: expected shape"),
        (EDGE, [[0, 1], [0]], "adjacency: expected an array of numbers, got list"),
        (EDGE, [["a", "b"], ["c", "d"]], "adjacency: expected numbers, got 'a'"),
        ([["a", "b"], ["c", "d"]], EDGE, "draws: expected numbers, got 'a'"),
        (EDGE, 1, "adjacency: expected shape"),
        (EDGE, np.zeros((0, 0)), "adjacency: expected shape"),
    ],
)
def test_graphs_that_cannot_be_scored_are_refused(score, draws, adjacency, message):
    with pytest.raises(GraphError, match=message):
        score(draws, adjacency)


TRACKED = torch.ones(2, 2, requires_grad=True)


@pytest.mark.parametrize(
    ("score", "args", "message"),
    [
        (metrics.edge_scores, (np.ones((2, 3)), EDGE), r"edge_probs: .* \[2, 2\], got \[2, 3\]"),
        (metrics.edge_scores, (EDGE * np.nan, EDGE), r"edge_probs: .* got nan at \[0, 1\]"),
        (metrics.edge_scores, (TRACKED, EDGE), r"edge_probs: .* got Tensor .*detach"),
        (
            metrics.edge_scores,
            ([[0, pd.NA], [0, 0]], EDGE),
            "edge_probs: expected numbers, got <NA>",
        ),
        (
            metrics.target_scores,
            ([["a", "b"]], [[1, 0]]),
            "target_probs: expected numbers, got 'a'",
        ),
        (metrics.target_scores, ([[1, 0]], [["a", "b"]]), "intervention_targets: expected numbers"),
        (metrics.target_scores, ([[np.inf, 0]], [[1, 0]]), r"target_probs: .* inf at \[0, 0\]"),
        (metrics.target_scores, ([0.5, 0.5], [1, 0]), r"expected shape \[task, variable\]"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused(score, args, message):
    with pytest.raises(DataError, match=message):
        score(*args)


class TestUndefined:
    def check(self, score, names):
        with pytest.warns(UndefinedMetricWarning) as caught:
            scores = score()
        assert {str(warning.message).partition(":")[0] for warning in caught} == names
        assert {name for name, value in scores.items() if math.isnan(value)} == names

    def test_no_true_edge(self):
        self.check(lambda: metrics.edge_scores(CHAIN, EMPTY), {"edge_auroc", "edge_ap"})

    def test_no_task_with_a_target(self):
        names = {"intv_auroc", "intv_ap", "intv_top1", "base_rate"}
        self.check(lambda: metrics.target_scores(np.ones((2, 3)), np.zeros((2, 3))), names)

    def test_every_variable_a_target(self):
        names = {"intv_auroc", "intv_ap"}
        self.check(lambda: metrics.target_scores(np.ones((2, 3)), np.ones((2, 3))), names)

    def test_one_variable(self):
        posterior = fake_posterior(np.zeros((1, 1, 1, 1)), [[0.5]], names=["A"])
        truth = {"adjacency": [[0]], "intervention_targets": [[1]]}
        names = {"e_sid", "edge_auroc", "edge_ap", "intv_auroc", "intv_ap"}
        names |= {"edge_ece", "edge_brier", "edge_spiegelhalter_z"}
        self.check(lambda: metrics.evaluate(posterior, **truth), names)

    def test_distances_of_the_empty_truth_are_defined(self):
        assert metrics.expected_shd(CHAIN, EMPTY) == 2
        assert metrics.expected_sid(CHAIN, EMPTY) == 0


def test_importing_metrics_is_numpy_only():
    code = (
        "import sys, pyro_metacadi.metrics;"
        "sys.exit(str([m for m in ('torch', 'sklearn', 'gadjid', 'pandas') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_equal_graphs_of_many_variables_are_found_in_seconds():
    generator = np.random.default_rng(0)
    graphs = np.triu(generator.random((20, 600, 600)) < 0.01, 1).astype(np.int8)
    graphs[7] = graphs[3]
    start = time.perf_counter()
    different, counts = distinct_graphs(graphs, num_variables=600)
    assert time.perf_counter() - start < 20  # a field of every entry would take minutes
    assert len(different) == 19
    assert sorted(counts.tolist()) == [1] * 18 + [2]
    assert {graph.tobytes() for graph in different} == {graph.tobytes() for graph in graphs}
