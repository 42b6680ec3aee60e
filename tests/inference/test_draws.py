import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.inference import draws
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.ops.graphs import is_dag
from tests.helpers import state, tiny_chain

D, ROWS = 3, (5, 2, 1)
GRAPH_PRIOR, TARGET_PRIOR = 0.2, 0.3


def chain():
    return tiny_chain(graph_prior=GRAPH_PRIOR, target_prior=TARGET_PRIOR)


def all_rows():
    rng = np.random.default_rng(0)
    return TaskBatch.from_arrays([rng.normal(size=(n, D)) for n in ROWS])


def equal(first, second):
    return all(np.array_equal(first[name], second[name]) for name in first)


def test_graphs_are_seeded_dags():
    graphs = chain().draw_graphs(200, seed=3)
    assert graphs.adjacency.shape == (200, D, D)
    assert all(is_dag(adjacency) for adjacency in graphs.adjacency)
    assert torch.equal(graphs.edge, chain().draw_graphs(200, seed=3).edge)
    assert not torch.equal(graphs.edge, chain().draw_graphs(200, seed=4).edge)


def test_targets_do_not_share_random_numbers_with_the_graphs():
    """With a predictor that ignores the graph, targets say nothing of the order."""
    fit = chain()
    for parameter in fit.guide.predictor.parameters():
        parameter.data.zero_()
    batch = TaskBatch.from_arrays([np.zeros((3, D))])
    graphs = fit.draw_graphs(4000, seed=5)
    target = fit.draw_jointly(batch, graphs, seed=5)["intervention_target"][:, 0]
    for i in range(D):
        correlation = np.corrcoef(graphs.order_score[:, i].numpy(), target[:, i])[0, 1]
        assert abs(correlation) < 5 / np.sqrt(4000)


def test_target_probabilities_are_the_mean_over_graphs_of_the_guides():
    fit, batch = chain(), all_rows()
    graphs = fit.draw_graphs(7, seed=0)
    total = np.zeros((3, D))
    for order_score, edge in zip(graphs.order_score, graphs.edge, strict=True):
        with isolated(0), torch.no_grad():
            logits, _ = fit.guide.infer_targets(batch, order_score=order_score, edge=edge)
        total += torch.sigmoid(logits.double()).numpy()
    np.testing.assert_allclose(fit.target_probability(batch, graphs), total / 7, atol=1e-6)


def test_targets_are_drawn_as_often_as_their_probability_says():
    fit, batch = chain(), all_rows()
    graphs = fit.draw_graphs(3000, seed=0)
    drawn = fit.draw_jointly(batch, graphs, seed=1)["intervention_target"]
    probability = fit.target_probability(batch, graphs)
    error = np.sqrt(probability * (1 - probability) / 3000)
    assert (np.abs(drawn.mean(0) - probability) < 5 * error).all()


def test_joint_draws_are_small_integers_of_the_documented_shapes():
    fit = chain()
    drawn = fit.draw_jointly(all_rows(), fit.draw_graphs(6, seed=0), seed=1)
    assert drawn["adjacency"].shape == (6, D, D)
    assert drawn["intervention_target"].shape == (6, 3, D)
    assert {array.dtype for array in drawn.values()} == {np.dtype(np.int8)}


def test_scored_draws_are_the_joint_draws():
    fit = chain()
    graphs = fit.draw_graphs(6, seed=0)
    plain = fit.draw_jointly(all_rows(), graphs, seed=1)
    assert equal(plain, fit.score(all_rows(), graphs, seed=1))


@pytest.mark.parametrize("size", [1, 4])
def test_results_do_not_depend_on_how_many_graphs_are_held_at_once(size, monkeypatch):
    fit, batch = chain(), all_rows()
    graphs = fit.draw_graphs(6, seed=0)
    whole = fit.target_probability(batch, graphs)
    likelihood = {}
    for chunk in (draws.CHUNK_FLOATS, size * batch.mask.numel() * D * 5):
        monkeypatch.setattr(draws, "CHUNK_FLOATS", chunk)
        likelihood[chunk] = fit.score(batch, graphs, seed=1)
        assert likelihood[chunk]["log_likelihood"].shape == (6, sum(ROWS))
    np.testing.assert_allclose(fit.target_probability(batch, graphs), whole, atol=1e-6)
    first, second = likelihood.values()
    np.testing.assert_array_equal(first["adjacency"], second["adjacency"])


def test_densities_equal_those_computed_by_hand():
    fit, batch = chain(), all_rows()
    graphs = fit.draw_graphs(4, seed=0)
    scored = fit.score(batch, graphs, seed=1)
    for k in range(4):
        expected = by_hand(fit, batch, graphs, k, target=scored["intervention_target"][k])
        for name, value in expected.items():
            np.testing.assert_allclose(scored[name][k], value, rtol=1e-4, atol=1e-4, err_msg=name)


def by_hand(fit, batch, graphs, k, *, target):
    """Densities of draw k: the readout, a function of graph and data, enters neither p nor q."""
    order_score, edge = graphs.order_score[k], graphs.edge[k]
    off_diagonal, target = ~torch.eye(D, dtype=torch.bool), torch.as_tensor(target).float()
    with isolated(0), torch.no_grad():
        logits, adapted = fit.guide.infer_targets(batch, order_score=order_score, edge=edge)
        mechanisms, dag = fit.model.mechanisms, fit.guide.dag
        adjacency = graphs.adjacency[k]
        observational = mechanisms.observe(batch.x, adjacency)
        features = mechanisms.features(batch.x, adjacency)
        interventional = mechanisms.intervene(features, adapted["readout"])
        locations, edge_logits = dag.order_loc.clone(), dag.edge_logits.clone()
    loc = torch.where(target.unsqueeze(1).bool(), interventional, observational)
    log_likelihood = dist.Normal(loc, 1.0).log_prob(batch.x).sum(-1)[batch.mask]
    log_p = (
        dist.Gumbel(0.0, 1.0).log_prob(order_score).sum()
        + dist.Bernoulli(GRAPH_PRIOR).log_prob(edge)[off_diagonal].sum()
        + dist.Bernoulli(TARGET_PRIOR).log_prob(target).sum()
        + log_likelihood.sum()
    )
    log_q = (
        dist.Gumbel(locations, 1.0).log_prob(order_score).sum()
        + dist.Bernoulli(logits=edge_logits).log_prob(edge)[off_diagonal].sum()
        + dist.Bernoulli(logits=logits).log_prob(target).sum()
    )
    return {"log_likelihood": log_likelihood, "log_p": log_p, "log_q": log_q}


def test_drawing_changes_no_parameter_and_needs_no_gradient():
    fit, batch = chain(), all_rows()
    before = state(fit)
    graphs = fit.draw_graphs(4, seed=0)
    fit.target_probability(batch, graphs)
    fit.score(batch, graphs, seed=0)
    assert state(fit) == before
    assert all(p.grad is None for part in fit for p in part.parameters())
