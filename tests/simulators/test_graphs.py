"""Random graphs are acyclic, have the promised number of edges, and depend on the seed alone."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.graphs import is_dag
from pyro_metacadi.simulators import erdos_renyi, scale_free

both = pytest.mark.parametrize("draw", [erdos_renyi, scale_free])


def global_states():
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002 (the caller's may be this one)
    return random.getstate(), numpy_state, torch.get_rng_state().tolist()


@given(st.sampled_from([erdos_renyi, scale_free]), st.integers(1, 15), st.integers(0, 1000))
def test_graphs_are_binary_and_acyclic(draw, num_variables, seed):
    adjacency = draw(num_variables, seed=seed)
    assert adjacency.shape == (num_variables, num_variables)
    assert adjacency.dtype == np.int64
    assert set(np.unique(adjacency)) <= {0, 1}
    assert is_dag(torch.tensor(adjacency))


def test_erdos_renyi_has_the_expected_edges_everywhere_alike():
    graphs = np.stack([erdos_renyi(8, expected_edges=14, seed=seed) for seed in range(1000)])
    edges = graphs.sum((1, 2))
    # Binomial with 28 trials of chance 1/2: standard deviation sqrt(7).
    assert edges.mean() == pytest.approx(14, abs=4 * np.sqrt(7 / 1000))
    assert edges.var() == pytest.approx(7, rel=0.2)
    off_diagonal = graphs.mean(0)[~np.eye(8, dtype=bool)]
    assert off_diagonal == pytest.approx(np.full(56, 0.25), abs=5 * np.sqrt(0.25 * 0.75 / 1000))


def test_scale_free_has_two_edges_a_variable_and_hubs_that_are_causes():
    graphs = np.stack([scale_free(20, seed=seed) for seed in range(300)])
    assert set(graphs.sum((1, 2))) == {37}
    assert graphs.sum(1).max() == 2
    out_degree = graphs.sum(2)
    random_hubs = [erdos_renyi(20, expected_edges=37, seed=s).sum(1).max() for s in range(300)]
    assert out_degree.max(1).mean() > np.mean(random_hubs) + 1
    assert out_degree.mean(0) == pytest.approx(np.full(20, 37 / 20), abs=0.8)  # any label


@both
def test_default_is_two_edges_a_variable_or_all_there_can_be(draw):
    complete = np.stack([draw(4, seed=seed) for seed in range(20)])
    assert (complete.sum((1, 2)) >= 5).all()
    assert draw(1, seed=0).tolist() == [[0]]
    assert draw(2, seed=0).sum() == 1


def test_the_largest_number_of_edges_is_a_complete_graph():
    assert erdos_renyi(6, expected_edges=15, seed=3).sum() == 15
    assert erdos_renyi(6, expected_edges=0, seed=3).sum() == 0


@both
def test_seed_decides_and_other_generators_are_untouched(draw):
    states = global_states()
    first, again, other = draw(12, seed=5), draw(12, seed=5), draw(12, seed=6)
    assert (first == again).all()
    assert (first != other).any()
    assert global_states() == states


@both
@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, "num_variables: expected an integer of at least 1, got 0"),
        (-3, {}, "num_variables"),
        (4, {"expected_edges": 7}, "expected_edges: expected 0 to 6, .* 4 variables.* got 7"),
        (4, {"expected_edges": -1}, "expected_edges"),
        (4, {"expected_edges": float("nan")}, "expected_edges"),
        (4, {"seed": -1}, "seed: expected an integer of at least 0, got -1"),
    ],
)
def test_impossible_graphs_are_refused(draw, size, options, message):
    with pytest.raises(ConfigError, match=message):
        draw(size, **{"seed": 0, **options})
