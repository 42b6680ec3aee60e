"""A screen finds the parent that is missing, among many variables; few are not screened."""

import numpy as np
import pytest
import torch

from pyro_metacadi import simulators
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference import screening
from pyro_metacadi.inference.evidence import evidence_of
from pyro_metacadi.inference.screening import FEW_VARIABLES, MOST_WORTH, Screen, screen_of
from pyro_metacadi.models.families import Family


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


def gains(evidence, families, *, odds=ODDS):
    screen, found = Screen(evidence, odds), {}
    for batch, design in evidence.designs(families):
        found.update(zip(batch, screen.gain(batch, design).mT, strict=True))
    return torch.stack([found[family] for family in families], 1)


def all_but_one(adjacency):
    """For every true edge: the family with all parents but this one, and which it is."""
    for parent, child in np.argwhere(adjacency):
        others = [int(j) for j in np.flatnonzero(adjacency[:, child]) if j != parent]
        yield Family(int(child), sum(1 << j for j in others)), int(parent)


def test_the_parent_that_is_missing_is_worth_it(large):
    world, evidence = large
    missing = list(all_but_one(world.adjacency.astype(bool)))
    worth = Screen(evidence, ODDS)([family for family, _ in missing])
    assert np.mean([parent in worth[family] for family, parent in missing]) > 0.95


def test_those_worth_it_are_few_and_neither_parents_nor_the_variable_itself(large):
    families = [*empty(60), *(Family(i, 0b111 << i + 1) for i in range(50))]
    for (variable, parents), worth in Screen(large[1], ODDS)(families).items():
        assert len(set(worth)) == len(worth) == MOST_WORTH
        assert variable not in worth
        assert not any(parents >> j & 1 for j in worth)


def test_what_known_parents_explain_no_longer_points_at_their_causes():
    """X1 -> X2 -> X3, X4 -> X3 weakly: once X2 is known, X4 comes before X1."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(900, 60))
    noise[:, 1] += 3 * noise[:, 0]
    noise[:, 2] += 3 * noise[:, 1] + 0.5 * noise[:, 3]
    world = world_of(60, expected_edges=0)
    tasks = type(world.tasks).from_arrays(np.split(noise, 15))
    evidence = evidence_of(tasks, Representation.fit(tasks, kind="identity"), target_prior=0.02)
    before, after = gains(evidence, [Family(2, 0)]), gains(evidence, [Family(2, 0b10)])
    assert before[0, 0] > before[3, 0]
    assert after[3, 0] > after[0, 0]


def test_few_variables_are_not_screened(large):
    world = world_of(FEW_VARIABLES, expected_edges=5)
    assert screen_of(units_of(world), np.zeros((FEW_VARIABLES,) * 2)) is None
    assert screen_of(large[1], ODDS) is not None


def test_some_rows_stand_for_all_where_there_are_many(large, monkeypatch):
    everything = gains(large[1], empty(60))
    rows, floats = len(large[1].rows.x), screening._num_functions(large[1]) * 60
    monkeypatch.setattr(screening, "BASIS_FLOATS", floats * rows // 3)
    some = gains(large[1], empty(60))
    strong = everything > 30  # nats
    assert strong.sum() > 50
    ratio = (some[strong] / everything[strong]).median()
    assert 0.8 < ratio < 1.25


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
    ((batch, design),) = evidence.designs([Family(1, 0)])
    left = screening._residuals(evidence, batch, design)[:, 0]
    assert left.abs().mean() > 0
    if num_hits == 1:
        assert left[:60].abs().mean() < 0.05 * left[60:].abs().mean()
    assert gains(evidence, [Family(1, 0)], odds=np.zeros((40, 40)))[:, 0].argmax() == 0


def test_likely_edges_are_worth_it_whatever_the_rows_say(large):
    family, odds = Family(5, 0), ODDS.copy()
    before = Screen(large[1], odds)([family])[family]
    likely = next(j for j in range(60) if j not in before and j != 5)
    odds[likely, 5] = 1000.0
    assert Screen(large[1], odds)([family])[family][0] == likely


def test_variables_that_never_vary_are_nobodys_candidates():
    world = world_of(40, expected_edges=0)
    arrays = [np.column_stack([a[:, :30], np.zeros((len(a), 10))]) for a in world.tasks.arrays]
    tasks = type(world.tasks).from_arrays(arrays)
    evidence = evidence_of(tasks, Representation.fit(tasks, kind="identity"), target_prior=0.02)
    worth = Screen(evidence, np.full((40, 40), -3.0))(empty(40))
    assert all(worth[Family(i, 0)] == [] for i in range(30, 40))
    assert all(len(worth[Family(i, 0)]) == MOST_WORTH for i in range(30))
    assert all(max(worth[Family(i, 0)]) < 30 for i in range(30))


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
    missing = list(all_but_one(world.adjacency.astype(bool)))
    worth = Screen(evidence, np.full((40, 40), -3.0))([family for family, _ in missing])
    assert np.mean([parent in worth[family] for family, parent in missing]) > 0.95
