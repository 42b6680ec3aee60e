"""Every graph is a DAG, in every precision; gradients are those of the relaxation."""

import networkx as nx
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pyro_metacadi.ops.graphs import is_dag
from pyro_metacadi.ops.relax import adjacency_from_order, straight_through

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
SCALES = [0.0, 1e-30, 1.0, 1e30]
SIZES, SEEDS = st.integers(1, 64), st.integers(0, 2**32)
TEMPERATURES = st.floats(-6, 6).map(lambda exponent: 10.0**exponent)


def random_scores(size, *, seed, dtype):
    """Scores of mixed scale, a third of them copies of others."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor(SCALES)[torch.randint(len(SCALES), (size,), generator=generator)]
    scores = (torch.randn(size, generator=generator).clamp(-1, 1) * scale).to(dtype)
    tied = torch.rand(size, generator=generator) < 1 / 3
    return torch.where(tied, scores[torch.randint(size, (size,), generator=generator)], scores)


def random_edges(*shape, seed, dtype=torch.float64):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.7).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@given(size=SIZES, seed=SEEDS, temperature=TEMPERATURES)
@example(size=64, seed=0, temperature=1e-6)
@example(size=64, seed=0, temperature=1e6)
def test_every_graph_is_a_dag_with_finite_gradients(dtype, size, seed, temperature):
    score = random_scores(size, seed=seed, dtype=dtype).requires_grad_()
    edge = random_edges(size, size, seed=seed, dtype=dtype).requires_grad_()
    adjacency = adjacency_from_order(score, edge, temperature=temperature)
    hard = adjacency.detach()
    assert adjacency.dtype == dtype
    assert ((hard == 0) | (hard == 1)).all()
    assert not hard.diagonal().any()
    assert is_dag(hard)
    assert nx.is_directed_acyclic_graph(nx.DiGraph(torch.nonzero(hard).tolist()))
    adjacency.sum().backward()
    assert score.grad.isfinite().all()
    assert edge.grad.isfinite().all()


@given(size=st.integers(1, 8), seed=SEEDS)
def test_the_graph_is_the_permuted_upper_triangle(size, seed):
    score = random_scores(size, seed=seed, dtype=torch.float64)
    edge = random_edges(size, size, seed=seed)
    order = torch.argsort(score, descending=True, stable=True)
    permutation = torch.eye(size, dtype=torch.float64)[order]  # row k: the variable of rank k
    upper = torch.ones(size, size, dtype=torch.float64).triu(1)
    expected = edge * (permutation.T @ upper @ permutation)
    assert torch.equal(adjacency_from_order(score, edge), expected)


def test_a_row_is_a_cause():
    adjacency = adjacency_from_order(torch.tensor([0.0, 1.0]), torch.ones(2, 2))
    assert adjacency.tolist() == [[0, 0], [1, 0]]  # X2 has the larger score: X2 -> X1


def test_many_draws_are_each_draw():
    score = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    edge = random_edges(3, 4, 5, 5, seed=0, dtype=torch.float32)
    adjacency = adjacency_from_order(score, edge)
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(4)):
        assert torch.equal(adjacency[i, j], adjacency_from_order(score[i, j], edge[i, j]))


def test_many_orders_may_share_their_edges():
    score = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    edge = torch.ones(3, 5, 5)
    assert torch.equal(
        adjacency_from_order(score, edge)[1], adjacency_from_order(score[1], edge[1])
    )


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_the_gradient_is_that_of_the_pairwise_sigmoid(temperature):
    score = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    edge, weight = random_edges(6, 6, seed=1), torch.arange(36.0).reshape(6, 6)
    score.requires_grad_()
    soft = edge * torch.sigmoid((score[:, None] - score) / temperature)
    hard = adjacency_from_order(score, edge, temperature=temperature)
    (expected,) = torch.autograd.grad((soft * weight).sum(), score)
    (got,) = torch.autograd.grad((hard * weight).sum(), score)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float16])
@pytest.mark.parametrize("hard_dtype", [torch.bool, torch.int64, torch.float32])
@given(seed=SEEDS)
def test_straight_through_is_exactly_the_hard_value(dtype, hard_dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    soft = 100 * torch.randn(50, generator=generator).to(dtype)
    soft.requires_grad_()
    hard = (torch.rand(50, generator=generator) < 0.5).to(hard_dtype)
    value = straight_through(hard, soft)
    assert value.dtype == dtype
    assert torch.equal(value.detach(), hard.to(dtype))
    value.square().sum().backward()
    assert torch.equal(soft.grad, 2 * hard.to(dtype))
