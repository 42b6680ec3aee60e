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


def by_quadrature(values):
    """Density of a hit variable's values: normal given the variance, which is summed out."""
    n = len(values)
    covariance = np.eye(n) + bacadi.HIT_MEAN_VARIANCE
    quadratic = values @ np.linalg.solve(covariance, values)
    log_variance = np.linspace(-15, 30, 2000)
    variance = np.exp(log_variance)
    given = np.exp(-quadratic / variance / 2) / np.sqrt(
        np.linalg.det(2 * np.pi * covariance) * variance**n
    )
    prior = stats.invgamma(bacadi.HIT_SHAPE, scale=bacadi.HIT_RATE).pdf(variance)
    return np.trapezoid(given * prior * variance, log_variance)


def prior_of(weights, adjacency):
    """Log density of all weights but those of causes that the graph lacks."""
    d, units = len(adjacency), bacadi.NUM_UNITS
    first, others = np.split(stats.norm.logpdf(weights), [units * (d + 1)])
    first = first.reshape(units, d + 1, d)
    return (first[:, :d] * adjacency).sum() + first[:, d].sum() + others.sum()


def one_graph(weights, adjacency, hit, standardised):
    """Log density of all rows and the networks, given a graph and who was hit."""
    total = prior_of(weights, adjacency)
    for rows, where in zip(standardised, hit, strict=True):
        for child, values in enumerate(rows.T):
            if where[child]:
                total += np.log(by_quadrature(values))
            else:
                mean = mean_of(weights, adjacency, rows, child)
                deviation = np.sqrt(bacadi.NOISE_VARIANCE * np.exp(weights[-1, child]))
                total += stats.norm(mean, deviation).logpdf(values).sum()
    return total


def log_joint(density, edges, hit, weights):
    """Of one particle, with these graphs drawn."""
    return density.log_joint(
        torch.tensor(np.stack(edges), dtype=torch.float32)[:, None],
        torch.where(torch.tensor(hit)[None] == 1, torch.inf, -torch.inf),
        torch.tensor(weights, dtype=torch.float32)[None],
    ).item()


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("hit", [*product([0, 1], repeat=4)])
def test_the_density_given_hits_is_the_average_over_all_graphs(hit, control):
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
    assert log_joint(density, edges, hit, weights) == pytest.approx(expected, rel=1e-5)


def test_knock_outs_are_told_from_what_varies():
    """Of rows that are constant, at any value, a hit is much likelier than of rows that vary."""
    num_rows = torch.tensor([[10.0]], dtype=torch.double)
    for value in (0.0, -1.0, 3.0):
        constant, spread = (
            bacadi.hit_law(10 * level, 10 * (level**2 + variance), num_rows)
            for level, variance in ((torch.tensor([[value]]), v) for v in (0.0, 1.0))
        )
        assert constant > spread + 10


def test_particles_are_weighted_by_rows_and_networks_alone(monkeypatch):
    """A particle with all of the weight, by enumeration, is all that is drawn."""
    density = bacadi.Density(two_tasks())
    torch.manual_seed(0)
    particles = density.parts(torch.randn(4, sum(s.numel() for s in density.shapes)))
    monkeypatch.setattr(bacadi, "NUM_PARTICLES", 4)
    monkeypatch.setattr(bacadi, "_moved", lambda density, **_: particles)
    strengths = bacadi.edge_strengths(particles.graph).numpy()
    graphs = np.stack([acyclic.strongest_dag(one) for one in strengths])
    hit = (particles.hits > 0).int().numpy()
    weights = particles.networks.numpy()
    logs = [log_joint(density, [graphs[i]], hit[i], weights[i]) for i in range(4)]
    share = np.exp(logs - np.logaddexp.reduce(logs))
    found = bacadi.fit(two_tasks(), seed=0)
    assert found.edge_probs.values == pytest.approx(np.tensordot(share, graphs, 1), abs=0.03)
    assert found.target_probs.values == pytest.approx(np.tensordot(share, hit, 1), abs=0.03)
    alike = bacadi.fit(two_tasks(), seed=0, weighted=False)
    assert alike.edge_probs.values == pytest.approx(graphs.mean(0))
    assert alike.target_probs.values == pytest.approx(hit.mean(0))


def test_an_edge_costs_the_prior_of_its_weights():
    """Particles' sites have no prior of networks but this one: without the edge there is none."""
    density = bacadi.Density(two_tasks())
    weights = torch.zeros(1, *density.shapes[2])
    graphs = torch.zeros(2, 1, 2, 2)
    graphs[1, 0, 0, 1] = 1
    without, with_edge = density._networks_prior(graphs, weights)[:, 0]
    cost = bacadi.NUM_UNITS * 0.5 * np.log(2 * np.pi)
    assert (without - with_edge).tolist() == pytest.approx([0, cost], rel=1e-5)
    with pyro.plate("particles", 3, dim=-1):
        trace = pyro.poutine.trace(density.model).get_trace(0.5)
    trace.compute_log_prob()
    site = trace.nodes["particle"]
    graph, hits, _ = density.parts(site["value"])
    priors = zip((graph, hits), bacadi.DEVIATIONS[:2], strict=True)
    expected = sum(stats.norm.logpdf(part, scale=v).sum() for part, v in priors)
    assert site["log_prob"].sum().item() == pytest.approx(expected, rel=1e-4)


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
