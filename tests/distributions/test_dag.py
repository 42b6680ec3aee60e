"""The law over DAGs is the one that enumerating all orders and edges gives."""

import itertools

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyro_metacadi.distributions import OrderedDAG, edge_probability
from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.graphs import is_dag

SEEDS = st.integers(0, 2**32)
SIZES = pytest.mark.parametrize("size", [1, 2, 3, 4])
FALSE_ALARM = 2e-5


def law(size, *, seed=0, scale=1.0, dtype=torch.float64, **options):
    draw = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    order_loc = scale * torch.randn(size, **draw)
    edge_logits = scale * torch.randn(size, size, **draw)
    return OrderedDAG(order_loc.to(dtype), edge_logits.to(dtype), **options)


def drawn(distribution, draws, *, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return distribution.rsample(torch.Size([draws]))


def mass_by_hand(distribution, graph):
    """Sum over orders and over all indicators, those of backward pairs included."""
    size = len(graph)
    strength, chance = distribution.order_loc.exp(), torch.sigmoid(distribution.edge_logits)
    pairs = list(itertools.permutations(range(size), 2))
    total = 0.0
    for order in itertools.permutations(range(size)):
        mass = 1.0
        for k, first in enumerate(order):
            mass *= float(strength[first] / strength[list(order[k:])].sum())
        for edges in itertools.product([0, 1], repeat=len(pairs)):
            masses = [float(chance[p] if e else 1 - chance[p]) for p, e in zip(pairs, edges)]  # noqa: B905
            allowed = [e and order.index(i) < order.index(j) for (i, j), e in zip(pairs, edges)]  # noqa: B905
            if all(graph[p] == e for p, e in zip(pairs, allowed)):  # noqa: B905
                total += mass * torch.tensor(masses, dtype=torch.float64).prod().item()
    return total


@pytest.mark.parametrize(("size", "number"), [(1, 1), (2, 3), (3, 25), (4, 543)])
def test_the_support_is_every_dag_once(size, number):
    support = law(size).enumerate_support()
    assert support.shape == (number, size, size)
    assert len({tuple(graph.flatten().tolist()) for graph in support}) == number
    for graph in support:
        assert set(graph.flatten().tolist()) <= {0.0, 1.0}
        assert nx.is_directed_acyclic_graph(nx.DiGraph(torch.nonzero(graph).tolist()))


@given(st.integers(1, 4), SEEDS, st.sampled_from([0.0, 1.0, 5.0, 30.0]))
def test_masses_sum_to_one(size, seed, scale):
    distribution = law(size, seed=seed, scale=scale)
    mass = distribution.log_prob(distribution.enumerate_support()).exp().sum()
    assert float(mass) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_mass_is_the_sum_over_orders_and_indicators(size):
    distribution = law(size, seed=size)
    for graph in distribution.enumerate_support():
        got = float(distribution.log_prob(graph).exp())
        assert got == pytest.approx(mass_by_hand(distribution, graph), rel=1e-10)


@given(st.integers(1, 4), SEEDS)
def test_marginals_are_the_closed_form(size, seed):
    distribution = law(size, seed=seed, scale=2.0)
    support = distribution.enumerate_support()
    marginal = torch.einsum("g,gij->ij", distribution.log_prob(support).exp(), support)
    torch.testing.assert_close(marginal, distribution.edge_mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_draws_follow_the_masses(size):
    distribution, draws = law(size, seed=size, scale=0.3), 100_000
    support = distribution.enumerate_support()
    power = 2.0 ** torch.arange(size * size, dtype=torch.float64)
    codes = support.flatten(1) @ power  # a graph as a number; the support's are sorted below
    sorted_codes, order = codes.sort()
    found = torch.searchsorted(sorted_codes, drawn(distribution, draws).flatten(1) @ power)
    counts = torch.bincount(found, minlength=len(support))
    expected = draws * distribution.log_prob(support[order]).exp()
    assert torch.equal(sorted_codes[found], drawn(distribution, draws).flatten(1) @ power)
    assert expected.min() > 5
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > FALSE_ALARM


def test_edge_probabilities_are_the_frequencies_of_twenty_variables():
    distribution, draws = law(20, seed=20), 20_000
    frequency = drawn(distribution, draws).mean(0)
    chance = distribution.edge_mean
    off_diagonal = ~torch.eye(20, dtype=torch.bool)
    error = (frequency - chance) / (chance * (1 - chance) / draws).sqrt()
    assert error[off_diagonal].abs().max() < 5
    assert not frequency.diagonal().any()
    assert not chance.diagonal().any()


def test_edge_probabilities_of_draws_are_those_of_each_draw():
    order_loc = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    edge_logits = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    together = edge_probability(order_loc, edge_logits)
    for i in range(3):
        torch.testing.assert_close(together[i], edge_probability(order_loc[i], edge_logits[i]))
        mean = OrderedDAG(order_loc[i], edge_logits[i]).edge_mean
        torch.testing.assert_close(together[i], mean)


def test_a_row_is_a_cause():
    later = OrderedDAG(torch.tensor([0.0, 30.0]), torch.full((2, 2), 30.0))
    assert drawn(later, 1).tolist() == [[[0, 0], [1, 0]]]  # X2 comes first: X2 -> X1
    torch.testing.assert_close(later.edge_mean, torch.tensor([[0.0, 0.0], [1.0, 0.0]]))


@pytest.mark.parametrize(
    "graph", [torch.eye(3), torch.ones(3, 3), torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])]
)
def test_a_cyclic_graph_has_no_mass(graph):
    assert law(3).log_prob(graph.double()) == -torch.inf


def test_masses_of_a_batch_of_graphs_are_those_of_each():
    distribution = law(3)
    support = distribution.enumerate_support()[:24].reshape(4, 6, 3, 3)
    together = distribution.log_prob(support)
    for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(6)):
        torch.testing.assert_close(together[i, j], distribution.log_prob(support[i, j]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
@given(size=st.integers(1, 64), seed=SEEDS, scale=st.sampled_from([0.0, 1.0, 50.0, 1e30]))
def test_every_draw_is_a_dag_with_finite_gradients(dtype, temperature, size, seed, scale):
    distribution = law(size, seed=seed, scale=scale, dtype=dtype, temperature=temperature)
    parameters = [distribution.order_loc, distribution.edge_logits]
    for parameter in parameters:
        parameter.requires_grad_()
    adjacency = drawn(distribution, 2, seed=seed)
    assert adjacency.dtype == dtype
    for graph in adjacency.detach():
        assert ((graph == 0) | (graph == 1)).all()
        assert is_dag(graph)
    for gradient in torch.autograd.grad(adjacency.sum(), parameters):
        assert gradient.isfinite().all()


def test_gradients_of_masses_and_draws_reach_orders_and_edges():
    distribution = law(4)
    parameters = [p.requires_grad_() for p in (distribution.order_loc, distribution.edge_logits)]
    support = distribution.enumerate_support()
    for value in (distribution.log_prob(support[3]), drawn(distribution, 9).sum()):
        for gradient in torch.autograd.grad(value, parameters):
            assert gradient.isfinite().all()
            assert gradient.any()


def test_sampling_is_silent_about_gradients():
    assert not law(4).sample().requires_grad


@pytest.mark.parametrize(
    "call",
    [lambda d: d.enumerate_support(), lambda d: d.log_prob(torch.zeros(5, 5).double())],
    ids=["enumerate_support", "log_prob"],
)
def test_more_than_four_variables_are_not_enumerated(call):
    with pytest.raises(ConfigError, match=r"^OrderedDAG: expected at most 4 .*, got 5\. Use"):
        call(law(5))
