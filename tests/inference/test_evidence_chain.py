"""A chain's draws, probabilities and densities agree with one another and with their seed."""

from itertools import combinations

import arviz as az
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.inference import evidence_chain as module
from pyro_metacadi.inference.evidence_chain import EvidenceChain, EvidenceGraphs
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.models.families import families_of
from pyro_metacadi.ops.graphs import is_dag
from pyro_metacadi.ops.target_counts import CountedTargets
from tests.helpers import evidence_fit, random_dag, random_states, tiny_world


def chain():
    return evidence_fit()._fit.chains[0]


def new_world(num_tasks=12, num_samples=5, seed=7):
    return tiny_world().sample_tasks(num_tasks=num_tasks, num_samples=num_samples, seed=seed)


def prepared(tasks):
    return chain().prepare(evidence_fit()._fit.scaling.transform(tasks))


def test_families_and_index_take_every_draw_apart():
    graphs = chain().draw_graphs(40, seed=0)
    assert len(set(graphs.families)) == len(graphs.families)
    for adjacency, index in zip(graphs.adjacency, graphs.index, strict=True):
        assert [graphs.families[at] for at in index] == families_of(adjacency)


def test_parents_come_before_their_children_in_every_draw_and_everybody_once():
    graphs = chain().draw_graphs(40, seed=0)
    place = torch.full(graphs.index.shape, -1)
    for at, (family, draws, _) in enumerate(graphs.parents_first()):
        assert (place[draws, family.variable] == -1).all()
        assert [graphs.families[n] for n in graphs.index[draws, family.variable]] == [family] * len(
            draws
        )
        place[draws, family.variable] = at
    assert (place >= 0).all()
    draw, parent, child = graphs.adjacency.nonzero().T
    assert (place[draw, parent] < place[draw, child]).all()


def test_different_graphs_count_as_often_as_they_were_drawn():
    tasks = prepared(new_world().tasks)
    for number in (1, 7, 40):
        graphs = chain().draw_graphs(number, seed=0)
        index, counts = graphs.different
        assert counts.sum() == number
        assert len(torch.unique(index, dim=0)) == len(index)
        each = torch.sigmoid(chain().target_log_odds(tasks, graphs)).mean(0)
        found = chain().target_probability(tasks, graphs)
        np.testing.assert_allclose(found, each, atol=1e-12)


@pytest.mark.parametrize("most_floats", [1, 500, module.MOST_FLOATS])
def test_chains_together_say_what_each_says_alone(monkeypatch, most_floats):
    monkeypatch.setattr(module, "MOST_FLOATS", most_floats)
    tasks = prepared(new_world().tasks)
    whole, part = chain().draw_graphs(40, seed=0), chain().draw_graphs(7, seed=0)
    strangers = torch.stack([random_dag(4, seed=seed) for seed in range(9)])
    other = EvidenceGraphs(strangers, torch.zeros(9, dtype=torch.float64))
    drawn = [whole, part, other, whole]
    together = chain().target_probabilities(tasks, drawn)
    for found, graphs in zip(together, drawn, strict=True):
        each = torch.sigmoid(chain().target_log_odds(tasks, graphs)).mean(0)
        np.testing.assert_allclose(found, each, atol=1e-12)


def test_certain_targets_are_no_more_than_certain():
    """Whatever the number of draws: shares of thirds and sevenths do not add up to one."""
    tasks, certain = prepared(new_world().tasks), MechanismLibrary(chain().library.evidence)
    certain.log_ratio = lambda tasks, families: torch.full((len(families), 12), 500.0).double()
    one = EvidenceChain(certain, chain().adjacency, chain().log_score)
    for number in range(1, 60):
        found = one.target_probability(tasks, one.draw_graphs(number, seed=0))
        assert found.max() <= 1


def test_the_probability_of_an_edge_is_its_share_of_the_draws():
    expected = chain().adjacency.double().mean(0).numpy()
    np.testing.assert_array_equal(chain().edge_probability(), expected)
    together = np.mean([c.edge_probability() for c in evidence_fit()._fit.chains], axis=0)
    np.testing.assert_allclose(evidence_fit().posterior.edge_probs, together)


@pytest.mark.parametrize(("wanted", "chosen"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9])])
def test_few_draws_are_evenly_spaced_whatever_the_seed(wanted, chosen):
    scores = torch.arange(10, dtype=torch.float64)
    ten = EvidenceChain(chain().library, chain().adjacency[:10], scores)
    for seed in (0, 1):
        assert ten.draw_graphs(wanted, seed=seed).log_score.tolist() == chosen


def test_all_draws_are_the_chain():
    whole = chain().draw_graphs(60, seed=3)
    assert torch.equal(whole.adjacency, chain().adjacency)
    assert torch.equal(whole.log_score, chain().log_score)


@given(more=st.integers(0, 40))
def test_more_draws_than_states_are_the_states_in_their_order_equally_often(more):
    """As shuffled ones, they would have the effective size of independent draws."""
    size = len(chain().adjacency)
    one = EvidenceChain(chain().library, chain().adjacency, torch.arange(size).double())
    drawn = one.draw_graphs(size + more, seed=more)
    assert (drawn.log_score.diff() >= 0).all()
    times = drawn.log_score.unique(return_counts=True)[1]
    assert len(times) == size
    assert times.max() - times.min() <= 1


def test_the_probability_of_a_target_is_the_average_over_the_draws():
    tasks, graphs = prepared(new_world().tasks), chain().draw_graphs(40, seed=0)
    targets = chain().library.evidence.hyperparameters.targets
    assert isinstance(targets, CountedTargets)
    by_draw = [
        torch.sigmoid(
            targets.posterior_log_odds(chain().library.log_ratio(tasks, families_of(graph)).mT)
        ).numpy()
        for graph in graphs.adjacency
    ]
    found = chain().target_probability(tasks, graphs)
    assert found.shape == (12, 4)
    np.testing.assert_allclose(found, np.mean(by_draw, axis=0), atol=1e-12)


def test_frequencies_of_joint_draws_are_the_probabilities_given_the_graph():
    tasks = prepared(new_world().tasks)
    graph = chain().adjacency[:1].expand(4000, 4, 4)
    graphs = EvidenceGraphs(graph, torch.zeros(4000, dtype=torch.float64))
    drawn = chain().draw_jointly(tasks, graphs, seed=0)["intervention_target"]
    expected = chain().target_probability(tasks, graphs)
    assert drawn.dtype == np.int8
    deviation = np.abs(drawn.mean(0) - expected)
    assert (deviation <= 5 * np.sqrt(expected * (1 - expected) / 4000) + 1e-3).all()
    centred = drawn - expected
    for t, s in combinations(range(12), 2):  # tasks are independent
        assert np.abs(centred[:, t].T @ centred[:, s] / 4000).max() < 0.03


def test_draws_follow_from_the_seed_and_leave_the_callers_random_state():
    before = random_states()
    posterior = evidence_fit().adapt(new_world().tasks)
    first, again, other = (posterior.sample(30, seed=seed) for seed in (0, 0, 1))
    posterior.sample(100)
    posterior.log_likelihood(num_draws=3)
    assert random_states() == before
    assert first.identical(again)
    assert not first.intervention_target.equals(other.intervention_target)
    chains = first.intervention_target.values
    assert not np.array_equal(chains[0], chains[1])


def test_more_draws_than_the_chain_has_are_dags_from_it():
    draws = evidence_fit().posterior.sample(200).adjacency.values
    assert draws.shape == (2, 200, 4, 4)
    assert all(is_dag(torch.tensor(g)) for g in draws.reshape(-1, 4, 4))


def test_the_likelihood_is_finite_and_better_under_the_true_targets():
    world = new_world(num_tasks=40)
    tasks, graphs = prepared(world.tasks), chain().draw_graphs(1, seed=0)
    density = chain().library.row_log_prob(tasks, graphs.families).numpy()[graphs.index[0]]
    assert np.isfinite(density).all()
    hit = np.repeat(np.asarray(world.intervention_targets), 5, axis=0).T > 0
    true = np.where(hit, density[:, 1], density[:, 0]).sum(0).mean()
    nobody, everybody = density[:, 0].sum(0).mean(), density[:, 1].sum(0).mean()
    assert true > max(nobody, everybody) + 0.5


def test_the_likelihood_of_a_draw_is_that_under_its_targets():
    tasks, graphs = prepared(new_world().tasks), chain().draw_graphs(20, seed=0)
    scored = chain().score(tasks, graphs, seed=4)
    drawn = chain().draw_jointly(tasks, graphs, seed=4)
    for name, values in drawn.items():
        np.testing.assert_array_equal(scored[name], values)
    density = chain().library.row_log_prob(tasks, graphs.families).numpy()
    for draw, index in enumerate(graphs.index):
        hit = np.repeat(drawn["intervention_target"][draw], 5, axis=0).T > 0
        expected = np.where(hit, density[index, 1], density[index, 0]).sum(0)
        np.testing.assert_allclose(scored["log_likelihood"][draw], expected)
    np.testing.assert_array_equal(scored["lp"], graphs.log_score.numpy())


@pytest.mark.parametrize("num_draws", [10, 80])
def test_inference_data_of_four_chains_has_defined_diagnostics(num_draws):
    data = evidence_fit(4).posterior.to_inference_data(num_draws=num_draws)
    lp = data["sample_stats"]["lp"]
    assert lp.sizes == {"chain": 4, "draw": num_draws}
    assert np.isfinite(lp).all()
    assert np.isfinite(float(az.rhat(data["sample_stats"][["lp"]])["lp"]))
    assert data["log_likelihood"]["x"].shape == (4, num_draws, 180)
    assert data["posterior"]["adjacency"].dtype == np.int8


def test_the_log_score_of_a_draw_is_its_evidence_and_prior():
    model = evidence_fit()
    evidence = model._fit.scaling.evidence
    odds = model.components.graph_odds(model.variables).edge_log_odds
    for adjacency, score in zip(chain().adjacency[:5], chain().log_score[:5], strict=True):
        expected = sum(evidence.scores(families_of(adjacency)))
        expected += float((adjacency.numpy() * odds).sum())
        # Scored again, in other batches.
        assert float(score) == pytest.approx(expected, abs=1e-4)
