import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.predictive import log_derivative, row_log_density
from pyro_metacadi.models import LearnedGaussianNoise
from tests.helpers import tiny_estimator, tiny_tasks

ENGINES = pytest.mark.parametrize("engine", ["svi", "evidence"])


@pytest.fixture(scope="module")
def models():
    hit, free = tiny_tasks(num_variables=2, rows=(12, 9)), np.random.default_rng(1)
    tasks = TaskDataset.from_arrays([*hit.arrays, *free.normal(size=(5, 12, 2))])
    evidence = MetaCaDI(sampling=Sampling(20, 10, 1, "identity"))
    return {
        "svi": tiny_estimator().fit(tasks, num_chains=2, progress=False),
        "evidence": evidence.fit(tasks, num_chains=2, progress=False),
    }


def rows(*sizes, seed=5):
    return tiny_tasks(num_variables=2, rows=sizes, seed=seed).arrays


def density(model, *, support, query, seed=0):
    chains = model._fit.chains
    return row_log_density(chains, support=support, query=query, num_graphs=7, seed=seed)


@ENGINES
def test_densities_integrate_to_one(models, engine):
    side = np.linspace(-25, 25, 251)
    plane = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    found = density(models[engine], support=rows(5), query=[plane])
    assert found.shape == (len(plane),)
    mass = np.exp(found).sum() * (side[1] - side[0]) ** 2
    # The generic law of a hit has heavy tails, which the plane cuts.
    assert mass == pytest.approx(1, abs=0.01)
    assert mass < 1.001


@ENGINES
def test_no_row_and_no_other_task_has_a_part_in_a_rows_density(models, engine):
    support, query = rows(5, 3), rows(4, 6, seed=6)
    found = density(models[engine], support=support, query=query)
    alone = [
        density(models[engine], support=[seen], query=[row[None]])
        for seen, task in zip(support, query, strict=True)
        for row in task
    ]
    np.testing.assert_allclose(found, np.concatenate(alone), atol=1e-5)


@ENGINES
def test_the_rows_seen_have_a_part_in_it(models, engine):
    query = rows(4, seed=6)
    first, second = (density(models[engine], support=[s], query=query) for s in rows(5, 5))
    assert np.abs(first - second).max() > 1e-4


@ENGINES
def test_chains_count_alike(models, engine):
    support, query, chains = rows(5), rows(4, seed=6), models[engine]._fit.chains
    each = [
        row_log_density([chain], support=support, query=query, num_graphs=7, seed=0)
        for chain in chains
    ]
    mean = np.logaddexp(*each) - np.log(2)
    np.testing.assert_allclose(density(models[engine], support=support, query=query), mean)


def test_a_density_is_the_sum_over_who_was_hit(models):
    chain, support, query = models["svi"]._fit.chains[0], rows(5), rows(4, seed=6)
    found = row_log_density([chain], support=support, query=query, num_graphs=1, seed=3)
    graphs = chain.draw_graphs(1, seed=3)
    seen, asked = chain.prepare(support), chain.prepare(query)
    with torch.no_grad():
        values = {"order_score": graphs.order_score[0], "edge": graphs.edge[0]}
        logits, adapted = chain.guide.infer_targets(seen, **values)
        mechanisms, adjacency = chain.model.mechanisms, graphs.adjacency[0]
        features = mechanisms.features(asked.x, adjacency)
        means = [
            mechanisms.observe(asked.x, adjacency)[0],
            mechanisms.intervene(features, adapted["readout"])[0],
        ]
        total, (first, second) = 0, torch.sigmoid(logits[0])
        for a in (0, 1):
            for b in (0, 1):
                loc = torch.stack([means[a][:, 0], means[b][:, 1]], -1)
                likelihood = chain.model.noise(loc, features).log_prob(asked.x[0]).sum(-1).exp()
                prior = (first if a else 1 - first) * (second if b else 1 - second)
                total = total + prior * likelihood
    np.testing.assert_allclose(found, total.log().numpy(), rtol=1e-4)


class NoChain:
    def draw_graphs(self, num_draws, *, seed):
        return None


def test_other_chains_are_refused():
    with pytest.raises(TypeError, match="no density is known for NoChain"):
        row_log_density([NoChain()], support=rows(2), query=rows(2), num_graphs=1, seed=0)


@pytest.mark.parametrize("kind", ["identity", "sqrt", "log", "counts"])
def test_the_derivative_is_that_of_the_representation(kind):
    values = np.random.default_rng(0).uniform(1, 20, (5, 2))
    tasks = TaskDataset.from_arrays([values])
    representation = Representation.fit(tasks, kind=kind)

    def image(moved):
        return representation.transform(TaskDataset.from_arrays([moved]))[0][:, :2]

    expected, h = 0.0, 1e-6
    for column in range(2):
        step = np.zeros(2)
        step[column] = h
        change = (image(values + step) - image(values - step))[:, column]
        expected = expected + np.log(change / (2 * h))
    np.testing.assert_allclose(
        log_derivative(representation, values, training=values), expected, rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["identity", "sqrt", "log", "counts"])
def test_the_derivative_at_positive_values_is_their_own_also_below_all_of_training(kind):
    """Otherwise densities of a model of logarithms would not integrate to one."""
    values = np.random.default_rng(0).uniform(1, 20, (5, 2))
    representation = Representation.fit(TaskDataset.from_arrays([values]), kind=kind)
    found = log_derivative(representation, values, training=values + 10)
    np.testing.assert_array_equal(found, log_derivative(representation, values, training=values))


@pytest.mark.parametrize("kind", ["sqrt", "counts"])
def test_the_derivative_at_zero_is_finite(kind):
    values = np.array([[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]])
    representation = Representation.fit(TaskDataset.from_arrays([values]), kind=kind)
    found = log_derivative(representation, values, training=values)
    assert np.isfinite(found).all()
    if kind == "sqrt":
        assert found[0] == found[1]


def test_the_noise_that_a_model_learned_is_its_own():
    support, query, found = rows(5), rows(4, seed=6), []
    for _ in range(2):
        for seed in (0, 1):
            model = tiny_estimator(noise=LearnedGaussianNoise)
            model.fit(tiny_tasks(num_variables=2), seed=seed, progress=False)
            with torch.no_grad():
                model._fit.chains[0].model.noise.log_scale.fill_(seed)
            found.append(density(model, support=support, query=query))
    np.testing.assert_array_equal(found[:2], found[2:])
    assert np.abs(found[0] - found[1]).max() > 0.1
