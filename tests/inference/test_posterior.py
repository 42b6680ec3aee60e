import networkx as nx
import numpy as np
import pytest
import torch

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.chains import Chain
from pyro_metacadi.inference.draws import GraphDraws
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.ops.graphs import is_dag
from tests.helpers import evidence_fit, fitted, random_states, tiny_tasks

NAMES = ("X1", "X2", "X3")
CHAINS = pytest.mark.parametrize("num_chains", [1, 2])


def new_tasks():
    return tiny_tasks(rows=(3, 2, 1), seed=9)


def posterior(num_chains=1):
    return fitted(num_chains).adapt(new_tasks())


@CHAINS
def test_probabilities_are_labelled_by_name_and_lie_between_0_and_1(num_chains):
    result = posterior(num_chains)
    edge, target = result.edge_probs, result.target_probs
    assert (edge.dims, edge.shape) == (("parent", "child"), (3, 3))
    assert (target.dims, target.shape) == (("task", "variable"), (3, 3))
    assert tuple(edge["parent"].values) == tuple(target["variable"].values) == NAMES
    assert tuple(target.task.values) == new_tasks().tasks
    for probabilities in (edge.values, target.values):
        assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diag(edge) == 0).all()


@CHAINS
def test_edge_probabilities_are_exact(num_chains):
    result = posterior(num_chains)
    drawn = result.sample(8000).adjacency.values
    frequency = drawn.mean((0, 1))
    exact = result.edge_probs.values
    error = np.sqrt(exact * (1 - exact) / (8000 * num_chains))
    assert (np.abs(frequency - exact) <= 4.5 * error).all()


@CHAINS
def test_draws_are_small_integers_and_every_graph_is_a_dag(num_chains):
    drawn = posterior(num_chains).sample(50)
    assert drawn.adjacency.dims == ("chain", "draw", "parent", "child")
    assert drawn.intervention_target.dims == ("chain", "draw", "task", "variable")
    assert dict(drawn.sizes) == {
        **{"chain": num_chains, "draw": 50, "parent": 3, "child": 3, "task": 3, "variable": 3}
    }
    for values in (drawn.adjacency.values, drawn.intervention_target.values):
        assert values.dtype == np.int8
        assert set(np.unique(values)) <= {0, 1}
    assert all(is_dag(graph) for graph in torch.as_tensor(drawn.adjacency.values).flatten(0, 1))


def test_draws_are_seeded_and_leave_the_callers_random_state_alone():
    before = random_states()
    first, again, other = (posterior().sample(20, seed=s) for s in (0, 0, 1))
    assert first.identical(again)
    assert not first.identical(other)
    assert random_states() == before


def test_the_graphs_do_not_depend_on_the_tasks():
    first = fitted().adapt(new_tasks()).sample(20).adjacency
    second = fitted().adapt(tiny_tasks(seed=3)).sample(20).adjacency
    assert first.identical(second)


def test_chains_are_drawn_independently_and_count_alike():
    result = posterior(2)
    drawn = result.sample(50).adjacency
    assert not np.array_equal(drawn[0], drawn[1])
    per_chain = [c.guide.dag.edge_probability().detach() for c in result._chains]
    assert not torch.equal(*per_chain)
    np.testing.assert_allclose(result.edge_probs, torch.stack(per_chain).mean(0), rtol=1e-6)


def test_rankings_are_sorted_and_complete():
    table = posterior().rank_targets()
    assert list(table.columns) == ["task", "rank", "variable", "probability", "declared"]
    assert len(table) == 9
    probabilities = posterior().target_probs
    for task, group in table.groupby("task", sort=False):
        assert list(group["rank"]) == [1, 2, 3]
        assert set(group["variable"]) == set(NAMES)
        assert group["probability"].is_monotonic_decreasing
        for row in group.itertuples():
            assert row.probability == probabilities.sel(task=task, variable=row.variable)


@CHAINS
def test_the_log_likelihood_is_per_row_and_names_its_task(num_chains):
    values = posterior(num_chains).log_likelihood(num_draws=7)
    assert values.dims == ("chain", "draw", "obs")
    assert values.shape == (num_chains, 7, 6)
    assert np.isfinite(values).all()
    assert list(values.obs_task.values) == ["task1"] * 3 + ["task2"] * 2 + ["task3"]
    assert "in-sample" in values.attrs["note"]


def test_the_graph_has_the_probable_edges():
    result = posterior()
    threshold = float(np.sort(result.edge_probs.values.ravel())[-3])
    graph = result.to_networkx(threshold)
    assert isinstance(graph, nx.DiGraph)
    assert tuple(graph.nodes) == NAMES
    assert graph.number_of_edges() == 3
    for parent, child, data in graph.edges(data=True):
        probability = float(result.edge_probs.sel(parent=parent, child=child))
        assert data["probability"] == probability >= threshold
    assert result.to_networkx(1.0).number_of_edges() == 0


def test_probabilities_do_not_depend_on_when_they_are_asked_for():
    first, second = posterior(), posterior()
    second.sample(5)
    second.log_likelihood(num_draws=2)
    assert np.array_equal(first.target_probs, second.target_probs)


def test_more_graphs_make_the_probabilities_no_different_in_expectation():
    few = [fitted().adapt(new_tasks(), num_graphs=16, seed=s).target_probs for s in range(20)]
    many = fitted().adapt(new_tasks(), num_graphs=2000).target_probs
    error = np.std(few, axis=0, ddof=1) / np.sqrt(20)
    assert (np.abs(np.mean(few, axis=0) - many.values) < 6 * error + 1e-6).all()


@pytest.mark.parametrize("method", ["sample", "log_likelihood", "to_inference_data"])
@pytest.mark.parametrize("num_draws", [0, -1])
def test_a_number_of_draws_below_one_is_named(method, num_draws):
    with pytest.raises(ConfigError, match=rf"num_draws: expected at least 1, got {num_draws}"):
        getattr(posterior(), method)(num_draws=num_draws)


@pytest.mark.parametrize(
    "method", ["sample", "sample_graphs", "log_likelihood", "to_inference_data"]
)
@pytest.mark.parametrize("num_draws", [1.5, "2", float("nan"), True, None])
def test_a_number_of_draws_that_is_not_whole_is_named(method, num_draws):
    with pytest.raises(ConfigError, match=r"num_draws: expected a whole number, got"):
        getattr(posterior(), method)(num_draws=num_draws)


@pytest.mark.parametrize("threshold", [-1, 0, 2, float("nan"), "0.5", None, torch.tensor(0.5)])
def test_a_threshold_that_no_probability_can_have_is_named(threshold):
    with pytest.raises(ConfigError, match=r"threshold: expected a number above 0 and at most 1"):
        posterior().to_networkx(threshold)


@CHAINS
def test_inference_data_has_the_documented_groups_shapes_and_dtypes(num_chains):
    result, size = posterior(num_chains), (num_chains, 6)
    data = result.to_inference_data(num_draws=6, num_predictive=5)
    predictive = (num_chains, 5)
    shapes = {
        "posterior": {
            "adjacency": (*size, 3, 3),
            "intervention_target": (*size, 3, 3),
            "edge_prob": (*size, 3, 3),
            "target_prob": (*size, 3, 3),
        },
        "sample_stats": {"log_p": size, "log_q": size, "loss": (num_chains, 4)},
        "log_likelihood": {"x": (*size, 6)},
        "posterior_predictive": {"x": (*predictive, 6, 3)},
        "prior": {
            "adjacency": (*predictive, 3, 3),
            "intervention_target": (*predictive, 3, 3),
        },
        "prior_predictive": {"x": (*predictive, 6, 3)},
        "observed_data": {"x": (6, 3)},
        "constant_data": {"obs_task": (6,)},
    }
    assert set(data.groups()) == set(shapes)
    fewer = result.to_inference_data(num_draws=2, num_predictive=0)
    assert set(data.groups()) - set(fewer.groups()) == {
        *("posterior_predictive", "prior", "prior_predictive")
    }
    assert data.sample_stats.loss.dims == ("chain", "step")
    losses = np.atleast_2d(fitted(num_chains).history["loss"])
    np.testing.assert_array_equal(data.sample_stats.loss, losses)
    for group, variables in shapes.items():
        assert {n: v.shape for n, v in getattr(data, group).data_vars.items()} == variables
    drawn = data.posterior
    assert drawn.adjacency.dtype == drawn.intervention_target.dtype == np.int8
    np.testing.assert_array_equal(data.observed_data.x, np.concatenate(new_tasks().arrays))
    assert list(data.constant_data.obs_task.values) == ["task1"] * 3 + ["task2"] * 2 + ["task3"]
    plain = result.sample(6)
    np.testing.assert_array_equal(drawn.adjacency, plain.adjacency)
    np.testing.assert_array_equal(drawn.intervention_target, plain.intervention_target)
    mean = drawn.target_prob.mean(("chain", "draw"))
    np.testing.assert_allclose(mean, result.target_probs)
    assert data.attrs["inference_library"] == "pyro_metacadi"


class EmptyGraphs:
    """A chain of no engine: no edges, no targets, and a statistic of its own."""

    device = torch.device("cpu")
    edge_probability_note = "none at all"

    def prepare(self, standardised, *, known=None):
        return [len(rows) for rows in standardised]

    def edge_probability(self):
        return np.zeros((3, 3))

    def draw_graphs(self, num_draws, *, seed):
        return GraphDraws(torch.zeros(num_draws, 3), torch.zeros(num_draws, 3, 3))

    def target_probability(self, tasks, graphs):
        return np.zeros((len(tasks), 3))

    def target_probability_by_graph(self, tasks, graphs):
        return np.zeros((len(graphs.adjacency), len(tasks), 3))

    def target_evidence(self, tasks, graphs):
        return None

    def draw_jointly(self, tasks, graphs, *, seed):
        num_draws = len(graphs.adjacency)
        return {
            "adjacency": graphs.adjacency.numpy().astype(np.int8),
            "intervention_target": np.zeros((num_draws, len(tasks), 3), dtype=np.int8),
        }

    def score(self, tasks, graphs, *, seed):
        drawn = self.draw_jointly(tasks, graphs, seed=seed)
        num_draws = len(drawn["adjacency"])
        likelihood = np.zeros((num_draws, sum(tasks)))
        return {**drawn, "log_likelihood": likelihood, "temperature": np.arange(num_draws)}

    def tensors(self):
        return {}


def test_any_chain_will_do_and_names_its_own_statistics():
    chains, tasks = [EmptyGraphs(), EmptyGraphs()], new_tasks()
    assert all(isinstance(chain, Chain) for chain in (*chains, *fitted()._fit.chains))
    result = Posterior(chains, tasks, standardised=tasks.arrays)
    assert result.edge_probs.sum() == result.target_probs.sum() == 0
    assert result.sample(4).adjacency.sum() == result.sample_graphs(4).sum() == 0
    assert result.log_likelihood(num_draws=4).shape == (2, 4, 6)
    statistics = result.to_inference_data(num_draws=4).sample_stats
    assert list(statistics.data_vars) == ["temperature"]
    np.testing.assert_array_equal(statistics.temperature, [[0, 1, 2, 3]] * 2)


@pytest.mark.parametrize("engine", ["svi", "evidence"])
def test_target_probabilities_are_means_over_those_given_each_graph(engine):
    result = (fitted(2) if engine == "svi" else evidence_fit()).posterior
    by_graph = result.target_probs_by_graph()
    assert by_graph.dims == ("chain", "draw", "task", "variable")
    assert by_graph.shape[:2] == (2, 32)
    assert list(by_graph.task.values) == list(result.tasks.tasks)
    means = by_graph.mean(("chain", "draw"))
    np.testing.assert_allclose(means, result.target_probs, rtol=1e-5, atol=1e-7)


def test_edge_probabilities_are_means_over_chains():
    result = evidence_fit().posterior
    by_chain = result.edge_probs_by_chain()
    assert by_chain.dims == ("chain", "parent", "child")
    np.testing.assert_allclose(by_chain.mean("chain"), result.edge_probs)
    drawn = result.sample_graphs(60).mean("draw")  # all that there are
    np.testing.assert_allclose(by_chain, drawn)


def test_inference_data_survives_a_file_and_arviz_summarises_it(tmp_path):
    import arviz as az

    data = posterior(2).to_inference_data(num_draws=20)
    data.to_netcdf(str(tmp_path / "posterior.nc"))
    again = az.from_netcdf(str(tmp_path / "posterior.nc"))
    assert again.posterior.adjacency.dtype == np.int8
    for group in data.groups():
        for name, values in data[group].data_vars.items():
            np.testing.assert_array_equal(values, again[group][name])
    summary = az.summary(data, var_names=["intervention_target"], kind="stats")
    assert len(summary) == 9
    assert summary["mean"].between(0, 1).all()
