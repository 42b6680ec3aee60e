"""Screening keeps the true parents of many variables, and everything of few."""

import numpy as np
import pytest
import torch

from pyro_metacadi import simulators
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference import screening
from pyro_metacadi.inference.evidence import evidence_of
from pyro_metacadi.inference.screening import MOST_SCREENED, screened_edges
from pyro_metacadi.models.evidence import Family


def units_of(world):
    return evidence_of(world.tasks, Representation.fit(world.tasks, kind="auto"), target_prior=0.02)


def world_of(num_variables, **options):
    return simulators.gp_anm(
        **{"num_variables": num_variables, "num_tasks": 10, "num_samples": 60, "seed": 0, **options}
    )


@pytest.fixture(scope="module")
def large():
    world = world_of(60, expected_edges=90)
    return world, units_of(world)


ODDS = np.full((60, 60), -3.0)


def empty(num_variables):
    return [Family(i, 0) for i in range(num_variables)]


def test_the_true_edges_are_kept_and_most_others_are_not(large):
    world, evidence = large
    kept = screened_edges(evidence, empty(60), ODDS)
    true = world.adjacency.astype(bool)
    assert kept[true].mean() > 0.97
    assert kept.mean() < 2 * MOST_SCREENED / 60


def test_an_edge_is_kept_in_both_directions_and_no_variable_is_its_own_parent(large):
    kept = screened_edges(large[1], empty(60), ODDS)
    np.testing.assert_array_equal(kept, kept.T)
    assert not kept.diagonal().any()
    assert (kept.sum(0) >= MOST_SCREENED).all()


def test_what_known_parents_explain_no_longer_points_at_their_causes():
    """X1 -> X2 -> X3, X4 -> X3 weakly: once X2 is known, X4 comes before X1."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(900, 60))
    noise[:, 1] += 3 * noise[:, 0]
    noise[:, 2] += 3 * noise[:, 1] + 0.5 * noise[:, 3]
    world = world_of(60, expected_edges=0)
    tasks = type(world.tasks).from_arrays(np.split(noise, 15))
    evidence = evidence_of(tasks, Representation.fit(tasks, kind="identity"), target_prior=0.02)
    families = empty(60)
    families[2] = Family(2, 0b10)

    def explained(families):
        left = screening._residuals(evidence, families)
        return screening._explained(evidence, left)[:, 2]

    before, after = explained(empty(60)), explained(families)
    assert before[0] > before[3]
    assert after[3] > after[0]


def test_few_variables_are_not_screened():
    world = world_of(6)
    assert screened_edges(units_of(world), empty(6), np.zeros((6, 6))) is None


@pytest.mark.parametrize("num_hits", [1, 10])
def test_rows_of_tasks_that_hit_a_variable_hardly_count_unless_there_are_no_others(num_hits):
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(10, 60, 40))
    rows[:, :, 1] = np.sin(2 * rows[:, :, 0]) + 0.2 * generator.normal(size=(10, 60))
    world = world_of(40, expected_edges=0)
    tasks = type(world.tasks).from_arrays(list(rows))
    known = torch.full((10, 40), -4.0, dtype=torch.float64)
    known[:num_hits, 1] = torch.inf
    evidence = evidence_of(tasks, Representation.fit(tasks, kind="identity"), prior_log_odds=known)
    left = screening._residuals(evidence, empty(40))[:, 1]
    assert left.abs().mean() > 0
    if num_hits == 1:
        assert left[:60].abs().mean() < 0.05 * left[60:].abs().mean()
    explained = screening._explained(evidence, left[:, None].expand(-1, 40))[:, 1]
    assert set(explained.topk(2).indices.tolist()) == {0, 1}  # itself and its cause


def test_edges_of_the_graph_and_likely_ones_are_kept_whatever_the_rows_say(large):
    families, odds = empty(60), ODDS.copy()
    kept = screened_edges(large[1], families, odds)
    left_out = np.argwhere(~kept & ~np.eye(60, dtype=bool))
    (parent, child), (likely, other) = left_out[0], left_out[-1]
    families[child] = Family(int(child), 1 << int(parent))
    odds[likely, other] = 100.0
    again = screened_edges(large[1], families, odds)
    assert again[parent, child]
    assert again[child, parent]
    assert again[likely, other]


def test_variables_that_never_vary_are_nobodys_candidates():
    world = world_of(40, expected_edges=0)
    arrays = [np.column_stack([a[:, :30], np.zeros((len(a), 10))]) for a in world.tasks.arrays]
    tasks = type(world.tasks).from_arrays(arrays)
    evidence = evidence_of(tasks, Representation.fit(tasks, kind="identity"), target_prior=0.02)
    kept = screened_edges(evidence, empty(40), np.full((40, 40), -3.0))
    assert not kept[30:].any()
    assert not kept[:, 30:].any()
    assert (kept[:30, :30].sum(0) >= MOST_SCREENED).all()


def test_parents_are_found_beside_covariates():
    world = world_of(40, expected_edges=60)
    generator = np.random.default_rng(0)
    batch = generator.integers(0, 3, size=sum(map(len, world.tasks.arrays)))
    arrays, at = [], 0
    for array in world.tasks.arrays:
        arrays.append(array + 2.0 * batch[at : at + len(array), None])
        at += len(array)
    covariates = {"batch": batch.astype(str)}
    tasks = type(world.tasks).from_arrays(arrays, covariates=covariates)
    evidence = evidence_of(tasks, Representation.fit(tasks, kind="identity"), target_prior=0.02)
    kept = screened_edges(evidence, empty(40), np.full((40, 40), -3.0))
    assert kept[world.adjacency.astype(bool)].mean() > 0.95
