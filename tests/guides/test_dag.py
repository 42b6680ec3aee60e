import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.errors import GraphError
from pyro_metacadi.guides import DAGGuide, known_graph
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.ops.constraints import GraphConstraints
from pyro_metacadi.ops.relax import adjacency_from_order
from tests.helpers import random_dag


def dag_guide():
    with isolated(0):
        dag = DAGGuide(3)
        with torch.no_grad():
            dag.order_loc.normal_()
            dag.edge_logits.normal_()
    return dag


@given(d=st.integers(1, 7), seed=st.integers(0, 10_000))
def test_a_known_graph_comes_back_from_its_order_and_edges(d, seed):
    adjacency = random_dag(d, seed=seed)
    values = known_graph(adjacency)
    assert torch.equal(adjacency_from_order(values["order_score"], values["edge"]), adjacency)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float64])
def test_a_known_graph_may_have_any_dtype(dtype):
    adjacency = random_dag(4, seed=0)
    values = known_graph(adjacency.to(dtype))
    assert torch.equal(adjacency_from_order(values["order_score"], values["edge"]), adjacency)


def test_a_known_graph_may_be_an_array_as_a_world_has_it():
    adjacency = random_dag(4, seed=0)
    values = known_graph(adjacency.int().numpy())
    assert torch.equal(values["edge"], adjacency)


@pytest.mark.parametrize(
    ("adjacency", "message"),
    [
        (torch.tensor([[0, 1], [1, 0]]), r"acyclic graph, got the cycle X\d -> X\d -> X\d"),
        (torch.eye(2), r"acyclic graph, got the cycle X\d -> X\d"),
        (torch.zeros(2, 3), r"square matrix \[parent, child\], got shape \[2, 3\]"),
        (torch.tensor([[0.0, 0.5], [0.0, 0.0]]), r"entries 0 or 1, got 0.5 at \[0, 1\]"),
    ],
)
def test_a_known_graph_that_is_no_dag_is_refused(adjacency, message):
    with pytest.raises(GraphError, match=message):
        known_graph(adjacency)


DEMANDS = GraphConstraints(
    ["A", "B", "C", "D"],
    required=[(0, 1)],
    forbidden=[(3, 2)],
    tiers=[[3], [0, 1, 2]],
    max_indegree=2,
)


@pytest.mark.parametrize("seed", range(30))
def test_a_known_graph_comes_back_under_demands_or_is_refused(seed):
    adjacency = random_dag(4, seed=seed)
    wanted = adjacency[0, 1] == 1 and adjacency[3, 2] == 0 and not adjacency[:, 3].any()
    if not (wanted and (adjacency.sum(0) <= 2).all()):
        adjacency = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    values = known_graph(adjacency, constraints=DEMANDS)
    assert torch.equal(DEMANDS.adjacency(values["order_score"], values["edge"]), adjacency)


@pytest.mark.parametrize("size", [3, 100])
def test_a_long_known_chain_comes_back_whatever_is_prescribed(size):
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    adjacency = torch.zeros(size, size)
    adjacency[order[:-1], order[1:]] = 1
    tiers = [order[: size // 2].tolist(), order[size // 2 :].tolist()]
    demands = GraphConstraints([f"X{i}" for i in range(size)], tiers=tiers)
    values = known_graph(adjacency, constraints=demands)
    assert torch.equal(demands.adjacency(values["order_score"], values["edge"]), adjacency)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], r"lacks the required edge 'A' -> 'B'"),
        ([(0, 1), (3, 2)], r"has the forbidden edge 'D' -> 'C'"),
        ([(0, 1), (2, 3)], r"has the forbidden edge 'C' -> 'D'"),
        ([(0, 1), (2, 1), (3, 1)], r"at most 2 parents of a variable, got 3 of 'B'"),
    ],
)
def test_a_known_graph_against_the_demands_is_refused(edges, message):
    adjacency = torch.zeros(4, 4)
    for parent, child in edges:
        adjacency[parent, child] = 1
    with pytest.raises(GraphError, match=message):
        known_graph(adjacency, constraints=DEMANDS)


def test_the_laws_are_gumbel_scores_and_bernoulli_edges_without_a_diagonal():
    dag = dag_guide()
    with isolated(0):
        order, edge = dag.order(), dag.edge()
        locations, logits = dag.order_loc.detach(), dag.edge_logits.detach()
    score, indicator = torch.tensor([0.3, -1.0, 2.0]), torch.eye(3).roll(1, 0)
    expected = dist.Gumbel(locations, torch.ones(3)).log_prob(score).sum()
    torch.testing.assert_close(order.log_prob(score), expected)
    per_pair = dist.Bernoulli(logits=logits).log_prob(indicator)
    off_diagonal = per_pair.sum() - per_pair.diagonal().sum()
    torch.testing.assert_close(edge.log_prob(indicator), off_diagonal)
    assert edge.log_prob(indicator) == edge.log_prob(indicator + torch.eye(3))
    assert order.has_rsample
    assert edge.has_rsample


def test_the_exact_edge_probability_is_the_frequency_of_the_edge():
    dag, num_draws = dag_guide(), 20_000
    with isolated(1), torch.no_grad():
        order, edge = dag.order().sample((num_draws,)), dag.edge().sample((num_draws,))
        exact = dag.edge_probability()
    frequency = adjacency_from_order(order, edge).mean(0)
    error = (exact * (1 - exact) / num_draws).sqrt()
    assert ((frequency - exact).abs() <= 4 * error).all()
    assert (exact.diagonal() == 0).all()
