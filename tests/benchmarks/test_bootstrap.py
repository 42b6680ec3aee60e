"""The bootstrap gives the probabilities that can be computed, greedy search climbs to the top."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from benchmarks.baselines import linear_gaussian
from benchmarks.baselines.bootstrap import Estimate, bootstrap, resample
from benchmarks.baselines.dag_extension import dag_extension
from benchmarks.baselines.greedy import greedy_dag
from pyro_metacadi import TaskDataset
from pyro_metacadi.ops import graphs
from pyro_metacadi.simulators.graphs import erdos_renyi


def is_dag(graph):
    return graphs.is_dag(torch.tensor(graph))


def v_structures(graph):
    """Pairs of causes that are not joined, and their common effect."""
    joined = graph | graph.T
    return {
        (i, j, child)
        for child in range(len(graph))
        for i, j in combinations(np.flatnonzero(graph[:, child] > graph[child]), 2)
        if not joined[i, j]
    }


def test_a_probability_is_that_of_drawing_the_deciding_row():
    """Of n rows, a given one is drawn with probability 1 - (1 - 1 / n) ** n."""
    sizes = (2, 5, 1)
    tasks = TaskDataset.from_arrays([np.arange(float(n))[:, None] + [[0, 9]] for n in sizes])

    def first_row_drawn(drawn, rng):
        hit = np.array([[rows.min() == 0, False] for rows in drawn.arrays])
        return Estimate(np.array([[0, hit[0, 0]], [0, 0]]).astype(int), hit)

    num_draws = 2000
    found = bootstrap(first_row_drawn, tasks, seed=0, num_draws=num_draws)
    expected = np.array([1 - (1 - 1 / n) ** n for n in sizes])
    error = 4 * np.sqrt(expected * (1 - expected) / num_draws)
    assert (np.abs(found.target_probs[:, 0] - expected) <= error).all()
    assert found.target_probs[2, 0] == 1
    assert not found.target_probs[:, 1].any()
    assert found.edge_probs[0, 1] == found.target_probs[0, 0]
    assert len(found.graphs) == num_draws


def test_an_edge_without_direction_is_shared_by_both():
    tasks = TaskDataset.from_arrays([np.zeros((3, 2))])
    guess = Estimate(np.array([[0, 1], [1, 0]]), np.zeros((1, 2)))
    found = bootstrap(lambda tasks, rng: guess, tasks, seed=0, num_draws=2000)
    assert found.edge_probs[0, 1] + found.edge_probs[1, 0] == 1
    assert abs(found.edge_probs[0, 1] - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_rows_stay_in_their_task_and_what_is_known_stays_known():
    arrays = [np.arange(2.0 * n).reshape(n, 2) + 100 * n for n in (3, 7)]
    tasks = TaskDataset.from_arrays(arrays, tasks=["a", "b"]).declare_observational(["b"])
    drawn = resample(tasks, np.random.default_rng(0))
    assert (drawn.num_rows == tasks.num_rows).all()
    assert (drawn.known_targets == tasks.known_targets).all()
    assert drawn.tasks == tasks.tasks
    for rows, source in zip(drawn.arrays, tasks.arrays, strict=True):
        assert {*map(tuple, rows)} <= {*map(tuple, source)}
    assert len({*map(tuple, drawn["b"].values)}) < 7


def test_an_estimators_error_is_not_passed_over():
    def fails(tasks, rng):
        raise np.linalg.LinAlgError("singular")

    with pytest.raises(np.linalg.LinAlgError):
        bootstrap(fails, TaskDataset.from_arrays([np.zeros((2, 1))]), seed=0)


@given(st.integers(1, 7), st.integers(0, 10**6))
def test_directions_respect_colliders_and_skeleton(num_variables, seed):
    graph = erdos_renyi(num_variables, seed=seed)
    pattern = np.zeros_like(graph)
    for i, j, child in v_structures(graph):
        pattern[[i, j], child] = 1
    undirected = (graph == 1) & (pattern == 0)
    pattern = pattern | undirected | undirected.T
    found = dag_extension(pattern, np.random.default_rng(seed))
    assert is_dag(found)
    assert ((found | found.T) == (graph | graph.T)).all()
    assert v_structures(found) == v_structures(graph)


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_whatever_the_directions_the_skeleton_stays_and_cycles_go(num_variables, seed):
    rng = np.random.default_rng(seed)
    graph = (rng.random((num_variables, num_variables)) < 0.5).astype(int)
    np.fill_diagonal(graph, 0)
    found = dag_extension(graph, rng)
    assert is_dag(found)
    assert ((found | found.T) == (graph | graph.T)).all()
    assert not (found & found.T).any()


@given(st.integers(2, 5), st.integers(0, 10**6))
def test_greedy_search_ends_where_no_change_gains(num_variables, seed):
    """Every family has a random score; all single changes are tried by hand."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(num_variables, 2**num_variables))
    power = 2 ** np.arange(num_variables)

    def score(graph):
        return sum(table[j, graph[:, j] @ power] for j in range(num_variables))

    found = greedy_dag(lambda child, parents: table[child, parents @ power], num_variables)
    assert is_dag(found)
    for i, j in np.argwhere(~np.eye(num_variables, dtype=bool)):
        toggled, turned = found.copy(), found.copy()
        toggled[i, j] ^= 1
        turned[i, j], turned[j, i] = 0, 1
        for other in (toggled, turned) if found[i, j] else (toggled,):
            assert not is_dag(other) or score(other) <= score(found) + 1e-9


@pytest.mark.parametrize("rows", [1, 4])
def test_the_law_of_a_hit_is_integrated_over_its_prior(rows):
    values = np.random.default_rng(rows).normal(1, 2, size=(rows, 1))
    gram = np.hstack([np.ones((rows, 1)), values])
    moments = linear_gaussian.Moments((gram.T @ gram)[None], np.array([float(rows)]), np.zeros(1))
    shape, rate, weight = (
        getattr(linear_gaussian, name) for name in ("SHAPE", "RATE", "MEAN_ROWS")
    )

    covariance = np.eye(rows) + 1 / weight  # over the mean as well, in units of the variance

    def density(variance):
        prior = stats.invgamma.pdf(variance, shape, scale=rate)
        return prior * stats.multivariate_normal.pdf(values[:, 0], cov=variance * covariance)

    expected, _ = integrate.quad(density, 0, np.inf, epsabs=1e-10)
    assert np.exp(linear_gaussian.own_law(moments, 0)[0]) == pytest.approx(expected, rel=1e-6)


def test_with_controls_only_a_family_scores_as_a_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3))
    x[:, 2] += x[:, 0] - 2 * x[:, 1]
    tasks = TaskDataset.from_arrays(np.split(x, [100])).declare(exactly=[])
    parents = np.array([[True, True, False], [False, False, False]])
    scores, hit = linear_gaussian.family_scores(linear_gaussian.Moments.of(tasks), 2, parents)
    y = (x - x.mean(0)) / x.std(0)
    line, *_ = np.linalg.lstsq(y[:, :2], y[:, 2], rcond=None)
    for score, residual, size in zip(
        scores, (y[:, 2] - y[:, :2] @ line, y[:, 2]), (4, 2), strict=True
    ):
        law = stats.norm.logpdf(residual, 0, residual.std()).sum()
        assert score == pytest.approx(law - size * np.log(300) / 2, abs=0.01)
    assert not hit.any()
