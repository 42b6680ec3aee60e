"""Hits that draw their mechanism anew: found where they are, and judged in closed form."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from pyro_metacadi import MetaCaDI, metrics, simulators
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.inference.redrawn import SMALLEST_SHARE, with_redrawn
from pyro_metacadi.models.families import Family
from pyro_metacadi.ops.evidence import kish_weight
from pyro_metacadi.ops.rows import TaskRows
from tests.helpers import evidence_estimator, evidence_fit, tiny_world

FAMILIES = [Family(0, 0), Family(1, 0b0101), Family(2, 0b0001), Family(3, 0b0111)]


@cache
def redrawn_world():
    """Shared, so leave it as it is."""
    return simulators.gp_anm(
        num_variables=6, num_tasks=18, num_samples=80, intervention="mechanism", seed=1
    )


@cache
def redrawn_fit():
    """Shared, so leave it as it is."""
    return evidence_estimator().fit(redrawn_world().tasks, progress=False)


def library(share):
    evidence = evidence_fit()._fit.scaling.evidence
    hyper = replace(evidence.hyperparameters, redrawn_share=share)
    return MechanismLibrary(evidence.with_hyperparameters(hyper))


def new_rows(sizes=(10, 3, 1)):
    tasks = tiny_world().sample_tasks(num_tasks=len(sizes), num_samples=sizes, seed=5).tasks
    return evidence_fit()._fit.scaling.transform(tasks)


def test_a_mixture_of_equals_is_either():
    value = torch.tensor([-3.0, 0.0, 700.0]).double()
    torch.testing.assert_close(with_redrawn(value, value, 0.3), value)


def test_hits_of_redrawn_mechanisms_are_taken_for_such():
    assert redrawn_fit()._fit.scaling.evidence.hyperparameters.redrawn_share > 0.5


@pytest.mark.parametrize("targets", [0, 1], ids=["observational", "replaced by N(0, 1)"])
def test_where_none_is_redrawn_the_share_is_zero(targets):
    world = simulators.gp_anm(
        num_variables=5, num_tasks=10, num_samples=60, targets_per_task=targets, seed=2
    )
    model = evidence_estimator().fit(world.tasks, progress=False)
    assert model._fit.scaling.evidence.hyperparameters.redrawn_share == 0.0


def test_new_tasks_are_found_at_least_as_well_as_by_the_other_laws():
    """Over several worlds together: log loss of the targets of few rows."""
    loss = dict.fromkeys(("learned", "none"), 0.0)
    for seed in range(3):
        world = simulators.gp_anm(
            num_variables=6, num_tasks=18, num_samples=80, intervention="mechanism", seed=seed
        )
        model = evidence_estimator().fit(world.tasks, progress=False)
        new = world.sample_tasks(num_tasks=40, num_samples=10, seed=7)
        evidence = model._fit.scaling.evidence
        assert evidence.hyperparameters.redrawn_share >= SMALLEST_SHARE
        for name, share in (("learned", evidence.hyperparameters.redrawn_share), ("none", 0.0)):
            hyper = replace(evidence.hyperparameters, redrawn_share=share)
            judge = MechanismLibrary(evidence.with_hyperparameters(hyper))
            chains = [replace(chain, library=judge) for chain in model._fit.chains]
            tasks = chains[0].prepare(model._fit.scaling.transform(new.tasks))
            found = np.mean([c.target_probability(tasks, c.usual_graphs) for c in chains], axis=0)
            truth = new.intervention_targets
            loss[name] -= np.log(np.where(truth == 1, found, 1 - found)).mean()
    assert loss["learned"] < loss["none"]


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_log_odds_are_a_mixture_with_a_multivariate_normal(family):
    sizes, share = (10, 3, 1), 0.4
    arrays = new_rows(sizes)
    without, mixed = library(0.0), library(share)
    ratio = without.log_ratio(without.prepare(arrays), [family])[0]
    got = mixed.log_ratio(mixed.prepare(arrays), [family])[0]
    evidence = without.evidence
    ((_, mechanism),) = evidence.mechanisms([family])
    noise = mechanism.noise_variance[0]
    for task, (array, size) in enumerate(zip(arrays, sizes, strict=True)):
        rows = TaskRows.from_arrays([array], dtype=torch.float64)
        features = evidence.features(rows, [family])[0].double()
        x = rows.x[:, family.variable]
        correlation = evidence.hyperparameters.correlation
        weight = float(kish_weight(rows.num_rows, correlation))
        own = features @ features.mT
        spread = features @ mechanism.covariance[0] @ features.mT
        white = noise / weight * torch.eye(size)
        mean = features @ mechanism.mean[0]
        # Powers of densities have the same constants in both, which their ratio does without.
        redrawn = MultivariateNormal(torch.zeros(size).double(), own + white).log_prob(x)
        free = MultivariateNormal(mean, spread + white).log_prob(x)
        expected = torch.logaddexp(
            math.log1p(-share) + ratio[task], math.log(share) + redrawn - free
        )
        assert abs(float(ratio[task])) < 20  # tempered beyond
        torch.testing.assert_close(got[task], expected, atol=2e-3, rtol=2e-3)


def test_a_row_of_its_own_mixes_the_other_laws_with_a_normal_one():
    place, share, family = new_rows((1,))[0], 0.6, Family(2, 0b0001)
    (free, hit), (same, others) = (
        library(s).new_row_log_prob(place, [family])[0, :, 0] for s in (share, 0.0)
    )
    evidence = library(share).evidence
    ((_, mechanism),) = evidence.mechanisms([family])
    rows = TaskRows.from_arrays([place], dtype=torch.float64)
    features = evidence.features(rows, [family])[0].double()
    variance = features.square().sum() + mechanism.noise_variance[0]
    redrawn = torch.distributions.Normal(0, variance.sqrt()).log_prob(rows.x[0, 2])
    torch.testing.assert_close(free, same)
    torch.testing.assert_close(hit, with_redrawn(others, redrawn, share), atol=2e-3, rtol=2e-3)


def test_training_tasks_are_judged_by_the_same_mixture():
    share, family = 0.4, Family(1, 0b0101)
    evidence = library(0.0).evidence
    arrays = evidence_fit()._fit.scaling.transform(tiny_world().tasks)
    rows = TaskRows.from_arrays(arrays, dtype=torch.float64)
    features = evidence.features(rows, [family])[0].double()
    ((_, mechanism),) = evidence.mechanisms([family])
    plain, mixed = (library(s).mechanisms.of([family]).log_ratio[0] for s in (0.0, share))
    weight = kish_weight(rows.num_rows, evidence.hyperparameters.correlation)
    noise, first = mechanism.noise_variance[0], 0
    for task, size in enumerate(rows.sizes):
        own, x = features[first : first + size], rows.x[first : first + size, 1]
        first += size
        white = noise / weight[task]
        normal = MultivariateNormal(
            torch.zeros(size).double(), own @ own.mT + white * torch.eye(size)
        )
        # A row that counts w times has the density to the power of w, whose constant differs.
        constant = (
            0.5
            * size
            * ((2 * torch.pi * white).log() - weight[task] * (2 * torch.pi * noise).log())
        )
        redrawn = normal.log_prob(x) + constant - mechanism.free[0, task]
        expected = with_redrawn(plain[task], redrawn, share)
        torch.testing.assert_close(mixed[task], expected, atol=0.02, rtol=2e-3)
    assert not torch.allclose(plain, mixed, atol=0.05)


def test_the_density_of_a_row_of_its_own_integrates_to_one():
    judge, place = library(0.6), new_rows((1,))[0]
    grid = np.repeat(place, 4001, axis=0)
    grid[:, 2] = np.linspace(-60, 60, 4001)
    for family in (Family(2, 0), Family(2, 0b0001)):
        density = judge.new_row_log_prob(grid, [family])[0, 1].exp()
        assert float(density.sum() * 0.03) == pytest.approx(1, abs=2e-3)


def test_a_row_given_its_task_is_what_it_adds_to_a_hit():
    """The hit's density of the task with one of its rows twice, over that of the task."""
    share, family, array = 0.6, Family(2, 0b0001), new_rows((6,))[0]
    judge = library(share)
    prepared = judge.prepare([array])
    got = judge.row_log_prob(prepared, [family])[0, 1]
    evidence = judge.evidence
    hyper = evidence.hyperparameters
    ((_, mechanism),) = evidence.mechanisms([family])

    def hit(rows):
        made = TaskRows.from_arrays([rows], dtype=torch.float64)
        features = evidence.features(made, [family])[0].double()
        values = evidence.values(made, [family], weight=torch.ones(1).double())
        mean = (features @ mechanism.mean[0])[None]
        law = hyper.law.log_prob(values, mean, mechanism.noise_variance)[0, 0]
        white = mechanism.noise_variance[0] * torch.eye(len(rows))
        normal = MultivariateNormal(torch.zeros(len(rows)).double(), features @ features.mT + white)
        return with_redrawn(law, normal.log_prob(values.x[0]), share)

    for at, row in enumerate(array):
        expected = hit(np.vstack([array, row])) - hit(array)
        torch.testing.assert_close(got[at], expected, atol=2e-3, rtol=2e-3)


def test_training_tasks_are_judged_and_saved_with_it(tmp_path):
    model = redrawn_fit()
    share = model._fit.scaling.evidence.hyperparameters.redrawn_share
    found = model.posterior.target_probs.values
    truth = redrawn_world().intervention_targets
    assert metrics.target_scores(found, truth)["intv_ap"] > 0.9
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    assert again._fit.scaling.evidence.hyperparameters.redrawn_share == share
    np.testing.assert_allclose(again.posterior.target_probs.values, found, atol=1e-6)


def test_pointwise_likelihoods_are_finite_and_of_every_row():
    model = redrawn_fit()
    data = model.adapt(redrawn_world().tasks[:4]).log_likelihood(num_draws=5)
    assert data.shape == (2, 5, 4 * 80)
    assert np.isfinite(data.values).all()
