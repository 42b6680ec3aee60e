"""Hyper-parameters are those that the data were made with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_metacadi import TaskDataset, simulators
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference.empirical_bayes import (
    SMALLEST_CORRELATION,
    best_kernel,
    best_law,
    informative,
    initial_law,
    row_correlation,
    target_rate,
)
from pyro_metacadi.inference.evidence import evidence_of, fit_evidence
from pyro_metacadi.inference.graph_score import GraphOdds
from pyro_metacadi.models.families import Family, families_of
from tests.helpers import evidence_estimator

CHAIN = np.diag([1, 1, 1], k=1)


def evidence(arrays, *, target_prior=0.2):
    tasks = TaskDataset.from_arrays(arrays)
    representation = Representation.fit(tasks, kind="identity")
    return evidence_of(tasks, representation, target_prior=target_prior)


def no_edges(num_variables):
    return [Family(i, 0) for i in range(num_variables)]


def resembling_rows(correlation, *, hit, seed, num_tasks=36, num_rows=20, num_variables=6):
    """Rows share an effect of their task; `hit`: a sixth of the tasks moves each variable."""
    rng = np.random.default_rng(seed)
    shape = (num_tasks, num_rows, num_variables)
    arrays = np.sqrt(1 - correlation) * rng.normal(size=shape)
    arrays += np.sqrt(correlation) * rng.normal(size=(num_tasks, 1, num_variables))
    if hit:
        for t, array in enumerate(arrays):
            array[:, t % num_variables] += 4
    return list(arrays)


CORRELATIONS = pytest.mark.parametrize(
    ("correlation", "tolerance"), [(0.0, 0.02), (0.05, 0.06), (0.1, 0.08), (0.3, 0.15)]
)


@CORRELATIONS
def test_the_correlation_of_rows_is_recovered(correlation, tolerance):
    for seed in range(2):
        found = evidence(resembling_rows(correlation, hit=False, seed=seed))
        assert abs(row_correlation(found, no_edges(6)) - correlation) <= tolerance


@CORRELATIONS
def test_hits_make_rows_look_more_alike_and_never_less(correlation, tolerance):
    for seed in range(2):
        found = evidence(resembling_rows(correlation, hit=True, seed=seed))
        estimate = row_correlation(found, no_edges(6))
        assert correlation - tolerance <= estimate <= 2 * correlation + 0.05


def test_no_data_are_taken_for_independent_beyond_doubt():
    found = evidence(resembling_rows(0.0, hit=False, seed=0))
    assert row_correlation(found, no_edges(6)) >= SMALLEST_CORRELATION


@pytest.mark.parametrize("rows", [(1, 1, 1, 1), (1, 2, 30, 1), (500, 2, 3), (5,)])
def test_the_correlation_is_a_number_whatever_the_sizes(rows):
    rng = np.random.default_rng(0)
    found = evidence([rng.normal(size=(n, 3)) for n in rows])
    assert 0 <= row_correlation(found, no_edges(3)) <= 1


def chain_tasks(law, *, seed, num_tasks=16, num_rows=30):
    """X1 -> X2 -> X3 -> X4, all near 3; every second task hits one variable."""
    rng = np.random.default_rng(seed)
    arrays = []
    for t in range(num_tasks):
        x = np.full((num_rows, 4), 3.0)
        for i in range(4):
            prediction = 3 + 0.9 * (x[:, i - 1] - 3) if i else x[:, 0]
            noise = (0.4 if i else 1.0) * rng.normal(size=num_rows)
            hit = t % 2 and t // 2 % 4 == i
            x[:, i] = law(prediction, noise, rng) if hit else prediction + noise
        arrays.append(x)
    return arrays


LAWS = {
    # law of the values; expected slope, intercept and scale in raw units
    "hard N(0, 1)": (lambda f, e, rng: rng.normal(size=len(f)), 0.0, 0.0, 1.0),
    "halving": (lambda f, e, rng: 0.5 * f + e, 0.5, 0.0, None),
    "knock-out": (lambda f, e, rng: 0 * f, 0.0, 0.0, 0.0),
}


@pytest.fixture(params=LAWS)
def world(request):
    """Evidence of data under a law of interventions, and the law's slope, intercept and scale."""
    law, *expected = LAWS[request.param]
    arrays = chain_tasks(law, seed=0)
    unit = np.median(np.concatenate(arrays).std(axis=0))
    return evidence(arrays), families_of(torch.tensor(CHAIN)), unit, expected


def test_the_law_of_interventions_is_recovered(world):
    found, families, unit, (slope, intercept, scale) = world
    law = best_law(found, families)
    assert law.weight[0] > 0.9
    assert float(law.slope[0]) == pytest.approx(slope, abs=0.15)
    assert float(law.intercept[0]) * unit == pytest.approx(intercept, abs=0.3)
    if scale is not None:
        assert not law.relative[0] or scale == 0
        assert float(law.scale[0]) * unit == pytest.approx(scale, abs=0.15)


def test_the_rate_of_targets_is_near_the_truth_under_the_law(world):
    found, families, *_ = world
    law = best_law(found, families)
    found = found.with_hyperparameters(replace(found.hyperparameters, law=law))
    hits, tasks, prior = 8, 16, 20  # twenty tasks with one target are added to them
    expected = (hits + prior) / (4 * (tasks + prior))
    assert target_rate(found, families) == pytest.approx(expected, rel=0.02)


def test_alike_rows_are_noticed_and_chance_is_not():
    rng, families = np.random.default_rng(0), no_edges(6)
    for num_rows, sd, low, high in ((10, 0.0, 0.002, 0.01), (50, 0.3, 0.04, 0.1)):
        arrays = [rng.normal(size=(num_rows, 6)) + sd * rng.normal(size=(1, 6)) for _ in range(40)]
        assert low <= row_correlation(evidence(arrays), families) <= high


@pytest.mark.parametrize("num_variables", [1, 2, 8])
def test_the_rate_of_targets_is_bounded(num_variables):
    rng = np.random.default_rng(0)
    for scale in (0.0, 10.0):
        arrays = [
            rng.normal(size=(20, num_variables)) + scale * rng.normal(size=num_variables)
            for _ in range(8)
        ]
        rate = target_rate(evidence(arrays), no_edges(num_variables))
        assert 0.1 / num_variables <= rate <= 0.3


def test_without_hits_the_law_and_the_rate_are_finite():
    rng = np.random.default_rng(0)
    found = evidence([rng.normal(size=(20, 3)) for _ in range(4)])
    law = best_law(found, no_edges(3))
    for name in ("slope", "intercept", "scale", "weight"):
        assert getattr(law, name).isfinite().all()
    assert (law.weight > 0).all()
    assert float(law.weight.sum()) == pytest.approx(1)


def test_the_best_law_has_no_less_evidence_than_the_one_to_begin_with(world):
    found, families, *_ = world

    def score(law):
        changed = replace(found.hyperparameters, law=law)
        return sum(found.with_hyperparameters(changed).scores(families))

    initial = initial_law(float(found.offset.median()))
    assert score(best_law(found, families)) >= score(initial)


def test_a_kernel_is_chosen_that_is_as_smooth_as_the_functions():
    chosen = []
    for length_scale in (0.7, 6.0):
        world = simulators.gp_anm(
            num_variables=4,
            num_tasks=12,
            num_samples=40,
            seed=0,
            length_scale=length_scale,
            graph=[[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]],
            noise_scale=0.3,
        )
        families = families_of(torch.tensor(world.adjacency))
        found = evidence(world.tasks.arrays)
        best = best_kernel(found, families)
        assert sum(found.with_hyperparameters(best).scores(families)) >= sum(found.scores(families))
        chosen.append(best.kernel.length_scale)
    assert chosen[0] < 1.5 < chosen[1]


def test_variables_that_never_vary_say_nothing():
    arrays = chain_tasks(LAWS["hard N(0, 1)"][0], seed=1)
    constant = [np.column_stack([a, np.full(len(a), 7.0)]) for a in arrays]
    assert informative(evidence(constant), no_edges(5)) == no_edges(4)
    assert informative(evidence(arrays), no_edges(4)) == no_edges(4)


def test_a_variable_that_never_varies_leaves_what_is_learned_as_it_is():
    arrays = chain_tasks(LAWS["halving"][0], seed=1, num_tasks=24)
    constant = [np.column_stack([a, np.full(len(a), 7.0)]) for a in arrays]
    learned = []
    for data in (arrays, constant):
        fit = fit_of(data)
        learned.append(fit.evidence.hyperparameters)
    first, second = learned
    assert first.kernel == second.kernel
    # Both begin with one target per task, of one variable more or less.
    assert first.target_prior == pytest.approx(second.target_prior, rel=0.15)
    assert float(first.law.slope) == pytest.approx(float(second.law.slope), abs=0.05)


def fit_of(arrays):
    estimator = evidence_estimator(num_draws=5, warmup=2, num_chains=1)
    found = evidence(arrays)
    return fit_evidence(
        found,
        graph_odds=GraphOdds(np.full((found.num_variables, found.num_variables), -1.0)),
        target_prior=None,
        sampling=estimator.components.sampling,
        num_chains=1,
        seed=0,
    )


def test_hyperparameters_stay_if_no_variable_varies():
    found = evidence([np.zeros((5, 3))] * 3, target_prior=0.15)
    fit = fit_of([np.zeros((5, 3))] * 3)
    assert fit.evidence.hyperparameters.law.weight.isfinite().all()
    assert informative(found, no_edges(3)) == []
    assert fit.log_score.isfinite().all()
