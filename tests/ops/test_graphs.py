"""Cycles are found when, and only when, there is one; orders are permutations."""

from itertools import pairwise

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.errors import GraphError, MetaCaDIError
from pyro_metacadi.ops.graphs import (
    check_dag,
    descendants,
    find_cycle,
    is_dag,
    levels,
    order_ranks,
    precedence,
    topological_order,
)
from tests.helpers import random_dag

DTYPES = [torch.float64, torch.float32, torch.bfloat16]
SCORES = st.one_of(st.floats(-1e30, 1e30), st.sampled_from([0.0, -0.0, 1.0, 1e30, -1e30]))
LONG = torch.diag(torch.ones(63), 1)
"""A chain of 64 variables; with an edge from the last to the first, a cycle of length 64."""


@st.composite
def digraphs(draw):
    size, seed = draw(st.integers(1, 12)), draw(st.integers(0, 2**32))
    density = draw(st.floats(0, 0.4))
    uniform = torch.rand(size, size, generator=torch.Generator().manual_seed(seed))
    return (uniform < density).long()


def as_networkx(adjacency):
    return nx.from_numpy_array(adjacency.numpy(), create_using=nx.DiGraph)


@given(digraphs())
def test_a_cycle_is_found_exactly_when_networkx_finds_one(adjacency):
    cycle = find_cycle(adjacency)
    acyclic = nx.is_directed_acyclic_graph(as_networkx(adjacency))
    assert (cycle is None) == is_dag(adjacency) == acyclic


@given(digraphs())
def test_the_cycle_found_is_one(adjacency):
    cycle = find_cycle(adjacency)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(set(cycle)) == len(cycle) - 1 >= 1
        assert all(adjacency[i, j] == 1 for i, j in pairwise(cycle))


@given(digraphs())
def test_topological_order_puts_parents_before_children(adjacency):
    dag = adjacency.triu(1)
    relabelled = torch.randperm(len(dag), generator=torch.Generator().manual_seed(len(dag)))
    dag = dag[relabelled][:, relabelled]
    position = torch.argsort(topological_order(dag))
    assert sorted(topological_order(dag).tolist()) == list(range(len(dag)))
    assert all(position[i] < position[j] for i, j in torch.nonzero(dag).tolist())


@given(digraphs())
def test_topological_order_stops_where_cycles_lead_to(adjacency):
    graph = as_networkx(adjacency)
    on_cycles = {node for component in nx.simple_cycles(graph, 12) for node in component}
    reached = on_cycles.union(*(nx.descendants(graph, node) for node in on_cycles))
    assert set(topological_order(adjacency).tolist()) == set(graph) - reached


def test_a_cycle_through_64_variables_is_found():
    cycle = LONG.clone()
    cycle[-1, 0] = 1
    assert is_dag(LONG)
    assert not is_dag(cycle)
    assert sorted(find_cycle(cycle)[1:]) == list(range(64))


@pytest.mark.parametrize("dtype", DTYPES)
@given(scores=st.lists(SCORES, min_size=1, max_size=64))
def test_ranks_are_a_permutation_with_ties_by_index(dtype, scores):
    score = torch.tensor(scores, dtype=dtype)
    values = score.tolist()  # what the precision leaves of the scores: more ties
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert torch.argsort(order_ranks(score)).tolist() == expected
    assert sorted(order_ranks(score).tolist()) == list(range(len(values)))


@given(st.lists(SCORES, min_size=1, max_size=20))
def test_precedence_is_a_strict_total_order(scores):
    before = precedence(order_ranks(torch.tensor(scores)))
    size = len(scores)
    assert not before.diagonal().any()
    assert torch.equal(before ^ before.T, ~torch.eye(size, dtype=torch.bool))
    assert is_dag(before)


def test_ranks_and_precedence_of_draws_are_those_of_each_draw():
    scores = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    rank, before = order_ranks(scores), precedence(order_ranks(scores))
    for i, j in torch.cartesian_prod(torch.arange(3), torch.arange(2)):
        assert torch.equal(rank[i, j], order_ranks(scores[i, j]))
        assert torch.equal(before[i, j], precedence(rank[i, j]))


@given(size=st.integers(1, 9), seed=st.integers(0, 10_000))
def test_levels_are_longest_paths_and_descendants_are_reached(size, seed):
    graphs = torch.stack([random_dag(size, seed=seed + at) for at in range(2)])
    level, reached = levels(graphs.to(torch.int8)), descendants(graphs.bool())
    for at, graph in enumerate(graphs):
        known = nx.from_numpy_array(graph.numpy(), create_using=nx.DiGraph)
        generations = list(nx.topological_generations(known))
        assert [n in generations[level[at, n]] for n in range(size)] == [True] * size
        for node in range(size):
            after = nx.descendants(known, node) | {node}
            assert set(reached[at, node].nonzero().flatten().tolist()) == after


def test_levels_and_descendants_of_a_long_chain():
    assert levels(LONG).tolist() == list(range(64))
    assert torch.equal(descendants(LONG), torch.ones(64, 64).triu().bool())


@pytest.mark.parametrize("dtype", [*DTYPES, torch.int64, torch.int8, torch.bool])
def test_a_dag_of_any_dtype_passes(dtype):
    assert check_dag(LONG.to(dtype)) is None
    assert check_dag(torch.zeros(1, 1, dtype=dtype)) is None


TWO_CYCLE = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(
    ("adjacency", "variables", "message"),
    [
        (torch.zeros(3), None, r"a square matrix \[parent, child\], got shape \[3\]"),
        (torch.zeros(2, 3), None, r"square matrix .*, got shape \[2, 3\]\. Pass one row"),
        (torch.zeros(1, 2, 2), None, r"got shape \[1, 2, 2\]"),
        (torch.tensor([[0, 0.5], [0, 0]]), None, r"0 or 1, got 0\.5 at \[0, 1\]\. Threshold"),
        (torch.tensor([[0, 0], [-1, 0]]), None, r"0 or 1, got -1 at \[1, 0\]"),
        (torch.tensor([[0, torch.nan], [0, 0]]), None, r"0 or 1, got nan at \[0, 1\]"),
        (torch.tensor([[0, 2], [2, 0]]), None, r"0 or 1, got 2 at \[0, 1\]"),
        (torch.eye(2), None, r"got the cycle X1 -> X1\. Rows are causes"),
        (torch.tensor([[0, 0], [0, 1]]), ["Raf", "Mek"], r"got the cycle Mek -> Mek\."),
        (TWO_CYCLE, None, r"got the cycle (X2 -> X3 -> X2|X3 -> X2 -> X3)\."),
        (
            TWO_CYCLE,
            ["A", "B", "C"],
            r"got the cycle (B -> C -> B|C -> B -> C)\. .* remove or turn",
        ),
    ],
)
def test_a_graph_that_is_no_dag_is_refused_by_name(adjacency, variables, message):
    with pytest.raises(GraphError, match=f"^adjacency: expected .*{message}") as caught:
        check_dag(adjacency, variables=variables)
    assert isinstance(caught.value, MetaCaDIError)
