"""Climbing ends where no single change helps, on a graph that respects what is certain."""

import itertools

import numpy as np
import pytest
import torch

from pyro_metacadi.inference.graph_score import (
    CERTAIN,
    MOST_PARENTS,
    GraphScore,
    adjacency_of,
    with_parent,
)
from pyro_metacadi.inference.search import climb, reachable
from pyro_metacadi.models.families import Family, families_of
from pyro_metacadi.ops.graphs import is_dag
from tests.helpers import random_dag

GAIN = 1e-5
"""Changes that gain less do not count as help."""


def random_score(num_variables, *, seed, log_odds=0.0, spread=3.0):
    """Independent scores of all families, and a prior."""
    values = np.random.default_rng(seed).normal(
        scale=spread, size=(num_variables, 2**num_variables)
    )
    odds = np.broadcast_to(log_odds, (num_variables, num_variables))
    return GraphScore(lambda families: [float(values[family]) for family in families], odds)


def total(adjacency, score):
    families = families_of(torch.tensor(adjacency))
    return sum(score(families).values())


def is_acyclic(adjacency):
    return is_dag(torch.tensor(adjacency))


def single_changes(adjacency):
    """Every graph that one added, removed, reversed or exchanged edge away, cyclic ones too."""
    size = len(adjacency)
    pairs = list(itertools.permutations(range(size), 2))
    for i, j in pairs:
        other = adjacency.copy()
        other[i, j] ^= True
        yield other
        if adjacency[i, j]:
            other = adjacency.copy()
            other[i, j], other[j, i] = False, True
            yield other
    for i, j, k in itertools.permutations(range(size), 3):
        if adjacency[i, k] and not adjacency[j, k]:
            other = adjacency.copy()
            other[i, k], other[j, k] = False, True
            yield other


def certain_odds(num_variables, *, seed):
    """Some edges of a random DAG required, some of the others forbidden."""
    rng = np.random.default_rng(seed)
    dag = random_dag(num_variables, seed=seed).numpy() > 0
    chosen = rng.random(dag.shape) < 0.4
    return np.where(chosen, np.where(dag, CERTAIN, -CERTAIN), rng.normal(size=dag.shape))


def empty(num_variables):
    return [Family(i, 0) for i in range(num_variables)]


@pytest.mark.parametrize("num_variables", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(15))
def test_a_climb_ends_where_no_single_change_helps(num_variables, seed):
    score = random_score(num_variables, seed=seed)
    reached = adjacency_of(climb(empty(num_variables), score))
    assert is_acyclic(reached)
    best = max((total(g, score) for g in single_changes(reached) if is_acyclic(g)), default=-np.inf)
    assert best <= total(reached, score) + GAIN


@pytest.mark.parametrize("seed", range(15))
def test_a_climb_from_a_graph_ends_no_lower(seed):
    score = random_score(4, seed=seed)
    start = random_dag(4, seed=seed).numpy() > 0
    reached = adjacency_of(climb(families_of(torch.tensor(start)), score))
    assert is_acyclic(reached)
    assert total(reached, score) >= total(start, score)


@pytest.mark.parametrize("seed", range(15))
def test_required_edges_stay_and_forbidden_ones_are_not_added(seed):
    odds = certain_odds(4, seed=seed)
    score = random_score(4, seed=seed, log_odds=odds, spread=30.0)
    reached = adjacency_of(climb(families_of(torch.tensor(odds >= CERTAIN)), score))
    assert is_acyclic(reached)
    assert reached[odds >= CERTAIN].all()
    assert not reached[odds <= -CERTAIN].any()


def test_required_edges_cost_nothing_and_only_they_are_free():
    odds = np.array([[0, CERTAIN, -CERTAIN], [0, 0, 0.7], [0, 0.2, 0]])
    score = GraphScore(lambda families: [1.0] * len(families), odds)
    allowed, missing, forbidden = Family(1, 0b101), Family(1, 0b100), Family(2, 0b011)
    assert score([allowed])[allowed] == pytest.approx(1.2)
    assert score.allows(allowed)
    assert not score.allows(missing)
    assert not score.allows(forbidden)
    assert score.log_prior(Family(2, 0b010)) == pytest.approx(0.7)


@pytest.mark.parametrize("seed", range(5))
def test_paths_are_those_of_powers_of_the_adjacency(seed):
    adjacency = random_dag(6, seed=seed).numpy() > 0
    powers = sum(np.linalg.matrix_power(adjacency.astype(int), n) for n in range(6))
    np.testing.assert_array_equal(reachable(adjacency), powers > 0)


def test_a_long_path_is_followed_to_its_end():
    path = np.eye(33, k=1, dtype=bool)
    np.testing.assert_array_equal(reachable(path), np.triu(np.ones((33, 33), dtype=bool)))


def test_neighbours_differ_by_one_edge_or_by_an_exchange():
    family, score = Family(1, 0b1001), random_score(5, seed=0)
    near, exchanged = score.near([family])[family], score.exchanged([family])[family]
    assert len(set(near)) == len(near)
    assert set(near) == {Family(1, p) for p in (0b1000, 0b0001, 0b1101, 0b11001)}
    assert set(exchanged) == {Family(1, p) for p in (0b1100, 0b11000, 0b0101, 0b10001)}


def test_a_family_of_many_parents_gets_no_further_one():
    full = Family(0, (2**MOST_PARENTS - 1) << 1)
    score = GraphScore(lambda families: [0.0] * len(families), np.zeros((12, 12)))
    assert all(one.parents.bit_count() < MOST_PARENTS for one in score.near([full])[full])
    assert all(one.parents.bit_count() == MOST_PARENTS for one in score.exchanged([full])[full])


def test_an_adjacency_and_its_families_are_each_others_inverse():
    adjacency = random_dag(5, seed=3).numpy() > 0
    np.testing.assert_array_equal(adjacency_of(families_of(torch.tensor(adjacency))), adjacency)


def screened(score, worth):
    """The score with further parents that a function of the family says."""
    by_family = lambda families: {family: worth(family) for family in families}  # noqa: E731
    return GraphScore(score.evidence, score.edge_log_odds, by_family)


def test_only_parents_worth_it_are_tried():
    family, score = Family(2, 0b01), random_score(5, seed=0)
    near = screened(score, lambda one: [1] if one.parents else [1, 3])
    assert near.near([family])[family] == [Family(2, 0b11), Family(2, 0b0)]
    # In the place of the first variable come those that are worth it without it.
    assert near.exchanged([family])[family] == [Family(2, 0b10), Family(2, 0b1000)]


def random_worth(num_variables, *, seed):
    def worth(family):
        generator = np.random.default_rng([seed, *family])
        return np.flatnonzero(generator.random(num_variables) < 0.4).tolist()

    return worth


@pytest.mark.parametrize("seed", range(20))
def test_a_screened_climb_ends_where_nothing_worth_it_helps(seed):
    worth, score = random_worth(5, seed=seed), random_score(5, seed=seed)
    families = climb(empty(5), screened(score, worth))
    reached = adjacency_of(families)
    assert is_acyclic(reached)
    for other in filter(is_acyclic, single_changes(reached)):
        added = [(int(i), int(j)) for i, j in np.argwhere(other & ~reached)]
        turned = all(reached[j, i] for i, j in added)
        if turned or all(
            i in worth(families[j])
            and with_parent(families[j], i) in families_of(torch.tensor(other))
            for i, j in added
        ):
            assert total(other, score) <= total(reached, score) + GAIN


@pytest.mark.parametrize("seed", range(10))
def test_edges_not_worth_it_are_turned_or_removed_only(seed):
    start = random_dag(5, seed=seed).numpy() > 0
    score = random_score(5, seed=seed)
    reached = adjacency_of(
        climb(families_of(torch.tensor(start)), screened(score, lambda family: []))
    )
    assert not (reached & ~start & ~start.T).any()
    assert total(reached, score) >= total(start, score)


def test_scores_that_are_no_numbers_are_never_chosen():
    def evidence(families):
        return [float("nan") if family.parents else 0.0 for family in families]

    assert climb(empty(3), GraphScore(evidence, np.zeros((3, 3)))) == empty(3)
    everywhere = GraphScore(lambda families: [float("nan")] * len(families), np.zeros((3, 3)))
    assert climb(empty(3), everywhere) == empty(3)
