"""Rows drawn in place of those that were measured follow the laws that score the measured ones."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from pyro_metacadi.errors import MetaCaDIError
from pyro_metacadi.inference.graph_score import CERTAIN, GraphOdds
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.prior_graphs import prior_graphs
from pyro_metacadi.inference.redrawn import RedrawnWeights
from pyro_metacadi.models.noise import NegativeBinomialNoise
from pyro_metacadi.ops.generic_law import StudentParameters
from pyro_metacadi.ops.graphs import is_dag
from pyro_metacadi.ops.one_more_row import OneMoreRow
from pyro_metacadi.ops.predictive import one_more_row_log_prob
from pyro_metacadi.ops.rows import TaskRows
from tests.helpers import (
    counts_of,
    evidence_fit,
    fitted,
    random_states,
    tiny_estimator,
    tiny_tasks,
)
from tests.inference.test_posterior import EmptyGraphs

ENGINES = pytest.mark.parametrize("model", [fitted, evidence_fit], ids=["svi", "evidence"])


@ENGINES
def test_measured_rows_are_scored_as_by_the_log_likelihood_of_the_same_draws(model):
    posterior = model(2).posterior
    rows = posterior.replicate(20, seed=3)
    drawn, known = posterior.sample(20, seed=3), posterior.log_likelihood(num_draws=20, seed=3)
    assert rows.adjacency.identical(drawn.adjacency)
    assert rows.intervention_target.identical(drawn.intervention_target)
    np.testing.assert_allclose(rows.observed_log_prob, known, rtol=1e-5, atol=1e-5)


@ENGINES
def test_replicated_rows_look_like_the_measured_ones(model):
    posterior = model(2).posterior
    rows = posterior.replicate(40)
    assert rows.x.dims == ("chain", "draw", "obs", "variable")
    measured = posterior.tasks.values
    error = 6 * measured.std(0) / np.sqrt(len(measured))
    assert (np.abs(rows.x.values.mean((0, 1, 2)) - measured.mean(0)) < error).all()
    share = rows.x.values.std((0, 1, 2)) / measured.std(0)
    assert ((share > 0.6) & (share < 1.6)).all()
    assert np.isfinite(rows.log_prob).all()


@ENGINES
def test_replicates_are_seeded_and_leave_the_callers_random_state_alone(model):
    posterior, before = model(2).posterior, random_states()
    first, again, other = (posterior.replicate(5, seed=s) for s in (0, 0, 1))
    assert first.identical(again)
    assert not np.array_equal(first.x, other.x)
    assert random_states() == before


@ENGINES
def test_of_the_prior_graphs_are_dags_and_know_nothing_of_the_data(model):
    posterior = model(2).posterior
    rows = posterior.replicate(60, prior=True)
    graphs = torch.tensor(rows.adjacency.values).flatten(0, 1)
    assert all(is_dag(graph) for graph in graphs)
    share = rows.adjacency.values.mean((0, 1))
    d = len(share)
    off = share[~np.eye(d, dtype=bool)]
    assert np.ptp(off) < 5 * np.sqrt(off.mean() / 120) + 0.05  # of every edge alike
    assert np.isfinite(rows.x).all()


def test_counts_are_drawn_as_counts_of_the_measured_depth():
    tasks = counts_of(tiny_tasks())
    posterior = tiny_estimator(noise=NegativeBinomialNoise).fit(tasks, progress=False).posterior
    rows = posterior.replicate(10)
    assert (rows.x.values == np.floor(rows.x.values)).all()
    assert (rows.x.values >= 0).all()
    known = posterior.log_likelihood(num_draws=10)
    np.testing.assert_allclose(rows.observed_log_prob, known, rtol=1e-4, atol=1e-4)


def test_a_chain_that_cannot_draw_rows_says_so_and_is_exported_without():
    tasks = tiny_tasks()
    posterior = Posterior([EmptyGraphs()], tasks, standardised=tasks.arrays)
    with pytest.raises(MetaCaDIError, match=r"replicate: expected chains that can draw rows"):
        posterior.replicate(3)
    assert "posterior_predictive" not in set(posterior.to_inference_data(num_draws=2).groups())


def test_prior_graphs_are_as_frequent_as_enumeration_says():
    rng = np.random.default_rng(0)
    log_odds = rng.normal(scale=1.5, size=(3, 3))
    weight: dict[bytes, float] = {}
    for order in permutations(range(3)):
        pairs = [(order[a], order[b]) for a in range(3) for b in range(a + 1, 3)]
        for edges in product([0, 1], repeat=3):
            graph = np.zeros((3, 3), dtype=np.int8)
            for (i, j), edge in zip(pairs, edges, strict=True):
                graph[i, j] = edge
            if graph.sum(0).max() <= 1:
                score = np.exp((graph * log_odds).sum())
                weight[graph.tobytes()] = weight.get(graph.tobytes(), 0.0) + score
    drawn = prior_graphs(GraphOdds(log_odds, max_indegree=1), 20_000, seed=0)
    found = [graph.numpy().tobytes() for graph in drawn]
    total = sum(weight.values())
    for graph, value in weight.items():
        share = value / total
        assert abs(found.count(graph) / 20_000 - share) < 5 * np.sqrt(share / 20_000)


def test_prior_graphs_of_many_variables_have_come_to_their_law():
    """Of pairs, each with one probable edge: orders count by 1 + odds, or by 1."""
    cause, odds = np.arange(0, 30, 2), np.exp(3.0)
    log_odds = np.full((30, 30), -50.0)
    log_odds[cause, cause + 1] = 3.0
    drawn = prior_graphs(GraphOdds(log_odds), 400, seed=0).double()
    expected = odds / (
        2 + odds
    )  # (1 + odds) / (2 + odds) of the orders, odds / (1 + odds) of those
    assert float(drawn[:, cause, cause + 1].mean()) == pytest.approx(expected, abs=0.02)


def test_prior_graphs_keep_demands():
    log_odds = np.zeros((5, 5))
    log_odds[3, 1], log_odds[0, 2] = CERTAIN, -CERTAIN
    drawn = prior_graphs(GraphOdds(log_odds, tier=[0, 0, 1, 0, 1]), 300, seed=1)
    assert (drawn[:, 3, 1] == 1).all()
    assert (drawn[:, 0, 2] == 0).all()
    assert (drawn[:, [2, 4]][:, :, [0, 1, 3]] == 0).all()
    assert drawn[:, 1, 4].float().mean() == pytest.approx(0.5, abs=0.15)


def test_a_limit_of_parents_that_no_graph_keeps_is_named():
    with pytest.raises(MetaCaDIError, match=r"prior: expected graphs of at most 0 parents, got 0"):
        prior_graphs(GraphOdds(np.full((4, 4), 9.0), max_indegree=0), 3, seed=0)


def one_more_row():
    def tensor(*values):
        return torch.tensor(values, dtype=torch.float64)

    return OneMoreRow(
        log_share=tensor([0.5], [0.3], [0.2]).log(),
        slope=tensor(0.0, 0.5),
        intercept=tensor(1.0, -1.0),
        shift=tensor([0.5], [-0.2]),
        scale=tensor([0.3], [1.2]),
        unit=tensor(2.0),
        offset=tensor(0.7),
        generic=StudentParameters(tensor(5.0), tensor(-0.4), tensor(0.8)),
    )


def test_draws_of_one_more_row_have_its_density():
    rows = TaskRows(torch.zeros(1, 1), torch.zeros(1, 0), (1,))
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)
    prediction = torch.full((len(grid), 1), 0.9, dtype=torch.float64)
    density = one_more_row().log_prob(grid[:, None], prediction, rows)[:, 0].exp()
    cumulative = density.cumsum(0) * (grid[1] - grid[0])
    assert cumulative[-1] == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    drawn = one_more_row().sample(torch.full((20_000, 1), 0.9, dtype=torch.float64), rows)
    empirical = np.searchsorted(np.sort(drawn[:, 0].numpy()), grid.numpy()) / 20_000
    assert np.abs(empirical - cumulative.numpy()).max() < 0.012  # Kolmogorov, p = 0.005


def test_redrawn_weights_score_one_more_row_as_the_closed_form_does():
    rng = torch.Generator().manual_seed(0)
    sizes = (5, 9)
    features = torch.randn(1, 14, 3, generator=rng, dtype=torch.float64)
    x = torch.randn(1, 14, generator=rng, dtype=torch.float64)
    rows = TaskRows(x.T, torch.zeros(14, 0), sizes)
    noise = torch.tensor([0.3], dtype=torch.float64)
    weights = RedrawnWeights.of(
        features, x, rows, noise_variance=noise, share=0.5, others=torch.full((1, 2), -1e6).double()
    )
    found = weights.log_prob(torch.full_like(x, -1e6), x, features, rows)
    expected = one_more_row_log_prob(features, x, rows, noise_variance=noise)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    torch.manual_seed(0)
    many = features.expand(4000, -1, -1)
    drawn = weights.sample(torch.zeros(4000, 14).double(), many, rows)
    task = features[0, :5] @ weights.mean[0]
    np.testing.assert_allclose(drawn[:, :5].mean(0), task, atol=0.08)
