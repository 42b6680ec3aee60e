"""BaCaDI's density is the sum over graphs and hits that it stands for; its graphs have no cycle."""

from itertools import product

import numpy as np
import pyro
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.baselines import acyclic, bacadi
from benchmarks.baselines.additive_kernel import AdditiveKernel
from pyro_metacadi import TaskDataset
from pyro_metacadi.ops import graphs


def two_tasks(*, control=False):
    rng = np.random.default_rng(0)
    tasks = TaskDataset.from_arrays([rng.normal(size=(3, 2)), rng.normal(size=(1, 2))])
    return tasks.declare_observational(["task1"]) if control else tasks


def mean_of(weights, adjacency, rows, child):
    """A network with sigmoids, written out: units after units, the constant after the parents."""
    d, units = len(adjacency), bacadi.NUM_UNITS
    first = weights[: units * (d + 1), child].reshape(units, d + 1)
    second, offset = weights[units * (d + 1) : -2, child], weights[-2, child]
    inside = (rows * adjacency[:, child]) @ first[:, :-1].T + first[:, -1]
    return second @ (1 / (1 + np.exp(-inside))).T + offset


def one_graph(weights, adjacency, hit, standardised):
    """Log density of all rows given a graph and who was hit."""
    total = 0.0
    for rows, where in zip(standardised, hit, strict=True):
        for child, values in enumerate(rows.T):
            n = len(values)
            if where[child]:
                shared = bacadi.HIT_MEAN_VARIANCE * np.ones((n, n))
                covariance = bacadi.HIT_VARIANCE * np.eye(n) + shared
                total += stats.multivariate_normal(np.zeros(n), covariance).logpdf(values)
            else:
                mean = mean_of(weights, adjacency, rows, child)
                deviation = np.sqrt(bacadi.NOISE_VARIANCE * np.exp(weights[-1, child]))
                total += stats.norm(mean, deviation).logpdf(values).sum()
    return total


def likelihoods(density, edges, hit, weights):
    """Of one particle, with these graphs drawn."""
    return density.log_likelihood(
        torch.tensor(np.stack(edges), dtype=torch.float32)[:, None],
        torch.where(torch.tensor(hit)[None] == 1, torch.inf, -torch.inf),
        torch.tensor(weights, dtype=torch.float32)[None],
    ).item()


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("hit", [*product([0, 1], repeat=4)])
def test_the_likelihood_of_hits_is_the_average_over_all_graphs(hit, control):
    """Children apart from each other or all together: the same, for edges are independent."""
    tasks, hit = two_tasks(control=control), np.reshape(hit, (2, 2))
    density = bacadi.Density(tasks)
    weights = np.random.default_rng(1).normal(size=density.shapes[2])
    scaled = (tasks.values - tasks.values.mean(0)) / tasks.values.std(0)
    standardised = np.split(scaled, np.cumsum(tasks.num_rows)[:-1])
    edges = [np.array([[0, a], [b, 0]]) for a, b in product([0, 1], repeat=2)]
    seen = hit * [[0], [1]] if control else hit
    terms = [one_graph(weights, adjacency, seen, standardised) for adjacency in edges]
    expected = np.logaddexp.reduce(terms) - np.log(4)
    assert likelihoods(density, edges, hit, weights) == pytest.approx(expected, rel=1e-5)


def test_the_weight_of_a_particle_is_its_likelihood_times_its_prior():
    density = bacadi.Density(two_tasks())
    weights = np.random.default_rng(1).normal(size=(2, *density.shapes[2]))
    graph, hit = np.array([[[0, 1], [0, 0]]] * 2), np.array([np.eye(2), np.ones((2, 2))])
    found = density.of_hard(
        torch.tensor(graph).float(), torch.tensor(hit == 1), torch.tensor(weights).float()
    )
    # Of two variables, each is hit, and each edge is there, with probability one half.
    expected = [
        likelihoods(density, [one], where, theta) + stats.norm.logpdf(theta).sum()
        for one, where, theta in zip(graph, hit, weights, strict=True)
    ]
    assert np.diff(found) == pytest.approx(np.diff(expected), rel=1e-4)


def test_a_negligible_term_changes_nothing_and_has_no_gradient():
    terms = torch.tensor([[0.0, 0.0], [-1.0, -200.0]], requires_grad=True)
    total = bacadi.log_sum(terms)
    total.sum().backward()
    assert torch.allclose(total, terms.logsumexp(0))
    assert torch.allclose(terms.grad, torch.tensor([[0.7311, 1], [0.2689, 0]]), atol=1e-4)


@st.composite
def adjacencies(draw):
    d = draw(st.integers(1, 6))
    bits = draw(st.lists(st.booleans(), min_size=d * d, max_size=d * d))
    return np.reshape(bits, (d, d)) & ~np.eye(d, dtype=bool)


@given(adjacencies())
def test_only_graphs_with_a_cycle_are_cyclic(adjacency):
    value = acyclic.cyclicity(torch.tensor(adjacency, dtype=torch.float64).float()).item()
    assert (value < 1e-4) == graphs.is_dag(torch.tensor(adjacency))


@given(adjacencies(), st.integers(0, 100))
def test_a_graph_keeps_its_strongest_edges_and_loses_cycles_only(adjacency, seed):
    strengths = np.random.default_rng(seed).uniform(0.1, 1, adjacency.shape)
    strengths = np.where(adjacency, strengths, -strengths)
    dag = acyclic.strongest_dag(strengths)
    assert graphs.is_dag(torch.tensor(dag))
    assert (dag <= adjacency).all()
    for edge in zip(*np.nonzero(adjacency & (dag == 0)), strict=True):
        stronger = dag * (strengths > strengths[edge])
        stronger[edge] = 1
        assert not graphs.is_dag(torch.tensor(stronger))


def test_the_kernel_is_a_sum_and_pushes_particles_apart():
    torch.manual_seed(0)
    sizes, bandwidths = [2, 3], [0.7, 4.0]
    one, other = torch.randn(3, 5), torch.randn(3, 5)

    def kernel(x, y):
        parts = (x - y).square().split(sizes, dim=-1)
        return sum(torch.exp(-part.sum(-1) / h) for part, h in zip(parts, bandwidths, strict=True))

    particles = torch.cat([one, other])
    log_kernel, slope = AdditiveKernel(sizes, bandwidths).log_kernel_and_grad(particles)
    variable = particles.clone().requires_grad_()
    values = kernel(particles[:, None], variable)
    assert torch.allclose(log_kernel.exp(), values[..., None].expand(-1, -1, 5))
    for at in range(len(particles)):
        (gradient,) = torch.autograd.grad(values[at].sum(), variable, retain_graph=True)
        assert torch.allclose(log_kernel[at].exp() * slope[at], -gradient, atol=1e-6)


def test_nothing_global_is_touched_and_controls_are_not_hit(monkeypatch):
    monkeypatch.setattr(bacadi, "NUM_STEPS", 5)
    with pyro.get_param_store().scope():
        mine = pyro.param("svgd_particles", torch.zeros(3))
        before = torch.get_rng_state()
        found = bacadi.fit(two_tasks(control=True), seed=0, weighted=False)
        assert (torch.get_rng_state() == before).all()
        assert pyro.param("svgd_particles") is mine
        assert list(pyro.get_param_store().keys()) == ["svgd_particles"]
    assert (found.target_probs.sel(task="task1") == 0).all()
    assert len(found.graphs) == bacadi.NUM_PARTICLES
