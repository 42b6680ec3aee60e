"""What is said of a task follows from its rows alone, in whatever company and order they come."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_metacadi import TaskDataset
from pyro_metacadi.inference import library as module
from pyro_metacadi.inference.empirical_bayes import initial_law
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.models.families import Family
from pyro_metacadi.models.portions import Portions
from pyro_metacadi.ops.evidence import kish_weight
from pyro_metacadi.ops.rows import TaskRows
from tests.helpers import evidence_estimator, evidence_fit, tiny_world

FAMILIES = [Family(0, 0), Family(1, 0b0101), Family(2, 0b0001), Family(3, 0b0111), Family(1, 0)]


def new_tasks(rows=(10, 3, 1, 7, 2) * 4):
    return tiny_world().sample_tasks(num_tasks=len(rows), num_samples=rows, seed=5).tasks


def library():
    return MechanismLibrary(evidence_fit()._fit.scaling.evidence)


def ratios(tasks, *, families=FAMILIES, known=None):
    known = known or library()
    prepared = known.prepare(evidence_fit()._fit.scaling.transform(tasks))
    return known.log_ratio(prepared, families)


def test_twenty_tasks_together_equal_one_by_one():
    tasks, known = new_tasks(), library()
    together = ratios(tasks, known=known)
    for position, task in enumerate(tasks):
        alone = ratios(task, known=known)
        torch.testing.assert_close(together[:, position], alone[:, 0], atol=1e-6, rtol=0)


def test_the_order_of_tasks_and_of_rows_does_not_matter():
    tasks, rng = new_tasks(), np.random.default_rng(0)
    order = rng.permutation(len(tasks))
    shuffled = TaskDataset.from_arrays([rng.permutation(tasks.arrays[t]) for t in order])
    torch.testing.assert_close(ratios(shuffled), ratios(tasks)[:, order], atol=1e-6, rtol=0)


def test_families_are_judged_alike_in_any_company():
    tasks, known = new_tasks(), library()
    together = ratios(tasks, known=known)
    for position, family in enumerate(FAMILIES):
        alone = ratios(tasks, families=[family])
        torch.testing.assert_close(together[position], alone[0], atol=1e-6, rtol=0)
    again = ratios(tasks, families=[*FAMILIES[::-1], FAMILIES[0]], known=known)
    torch.testing.assert_close(again, together[[4, 3, 2, 1, 0, 0]], atol=1e-6, rtol=0)


def test_families_are_judged_in_groups_of_any_size(monkeypatch):
    tasks = new_tasks()
    together = ratios(tasks)
    monkeypatch.setattr(module, "MOST_FLOATS", 1)  # every batch alone
    torch.testing.assert_close(ratios(tasks), together)


def test_families_of_one_batch_or_of_many_are_judged_alike(monkeypatch):
    expected = ratios(new_tasks())
    monkeypatch.setattr(Portions, "in_cache", 0)
    torch.testing.assert_close(ratios(new_tasks()), expected, atol=1e-9, rtol=0)


def test_a_task_that_was_trained_on_keeps_the_targets_found_then():
    training, known = tiny_world().tasks, library()
    found = {
        family: mechanism.target_probability[at]
        for batch, mechanism in known.evidence.mechanisms(FAMILIES)
        for at, family in enumerate(batch)
    }
    prior = known.evidence.prior_log_odds.mT[[family.variable for family in FAMILIES]]
    probability = torch.stack([found[family] for family in FAMILIES])
    expected = ratios(training, known=known)
    torch.testing.assert_close(torch.sigmoid(expected + prior), probability, atol=1e-8, rtol=0)
    rng = np.random.default_rng(1)
    for t in (4, 1):
        rows = TaskDataset.from_arrays([rng.permutation(training.arrays[t])])
        torch.testing.assert_close(ratios(rows, known=known)[:, 0], expected[:, t])


def test_a_task_beside_a_trained_one_is_judged_as_without_it():
    training, fresh = tiny_world().tasks, new_tasks((5, 4))
    mixed = TaskDataset.from_arrays([fresh.arrays[0], training.arrays[2], fresh.arrays[1]])
    torch.testing.assert_close(ratios(mixed)[:, [0, 2]], ratios(fresh), atol=1e-6, rtol=0)
    torch.testing.assert_close(ratios(mixed)[:, 1], ratios(training)[:, 2])


def test_rows_that_differ_in_one_value_are_a_new_task():
    rows = tiny_world().tasks.arrays[0].copy()
    rows[3, 2] += 1e-3
    known = library()
    transform = evidence_fit()._fit.scaling.transform
    assert known.prepare(transform(TaskDataset.from_arrays([rows]))).trained == (-1,)
    assert known.prepare(transform(TaskDataset.from_arrays([rows[:-1]]))).trained == (-1,)
    assert known.prepare(transform(tiny_world().tasks)).trained == tuple(range(6))


@pytest.mark.parametrize("num_rows", [1, 4])
def test_log_odds_are_those_of_densities(num_rows):
    """Against the weights' posterior integrated out by the multivariate normal density."""
    fitted = evidence_fit()._fit.scaling.evidence
    # A law without a slope: how sure the prediction is makes no difference to it.
    unrelated = replace(fitted.hyperparameters, law=initial_law(0.0))
    known, family = MechanismLibrary(fitted.with_hyperparameters(unrelated)), Family(2, 0b0001)
    evidence = known.evidence
    arrays = evidence_fit()._fit.scaling.transform(new_tasks((num_rows,)))
    rows = TaskRows.from_arrays(arrays)
    ((_, mechanism),) = evidence.mechanisms([family])
    features = evidence.features(rows, [family])[0].double()
    x, mean = rows.x[:, 2].double(), features @ mechanism.mean[0]
    weight = kish_weight(rows.num_rows, evidence.hyperparameters.correlation)
    spread = features @ mechanism.covariance[0] @ features.mT
    noise = mechanism.noise_variance[0]
    covariance = spread + noise / weight * torch.eye(num_rows)
    free = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
    constant = torch.log(2 * torch.pi * noise / weight) - weight * torch.log(2 * torch.pi * noise)
    free = free + 0.5 * num_rows * constant
    values = evidence.values(rows, [family], weight=weight)
    law = evidence.hyperparameters.law
    total = spread.diagonal().sum().view(1, 1)
    hit = law.log_prob(values, mean.float()[None], mechanism.noise_variance, spread=total)
    expected = hit - free
    found = known.log_ratio(known.prepare(arrays), [family])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_densities_of_rows_are_normalised():
    known, family = library(), Family(1, 0b0001)
    grid = np.linspace(-40, 40, 4001)
    arrays = [np.array([[0.3, value, 0.0, 0.0]]) for value in grid]  # a task each
    density = known.row_log_prob(known.prepare(arrays), [family])[0].exp()
    assert float(density[0].sum() * (grid[1] - grid[0])) == pytest.approx(1, abs=1e-3)


def test_densities_are_finite_far_away():
    known = library()
    prepared = known.prepare([np.full((2, 4), 1e6), np.full((1, 4), -1e6)])
    assert known.row_log_prob(prepared, FAMILIES).isfinite().all()
    assert known.log_ratio(prepared, FAMILIES).isfinite().all()


def test_ranks_stay_where_all_are_certain():
    """A row far away and one still farther: both are hits beyond doubt, the second the more so."""
    known, family = library(), Family(1, 0b0001)
    prepared = known.prepare([np.array([[0.0, value, 0.0, 0.0]] * 4) for value in (8.0, 9.0)])
    first, second = known.log_ratio(prepared, [family])[0].tolist()
    assert 20 < first < second < 30


def test_a_variable_that_never_varied_is_no_target_unless_it_does():
    """Where hits look like its one value, it would be the target of every task."""
    arrays = [np.random.default_rng(task).normal(size=(30, 5)) for task in range(8)]
    for task, rows in enumerate(arrays):
        rows[:, 1 + task % 4] = 0
        rows[:, 0] = 0
    model = evidence_estimator(num_draws=20, warmup=5)
    with pytest.warns(UserWarning, match="constant at column 'X1'"):
        model.fit(TaskDataset.from_arrays(arrays), progress=False)
    found = model.adapt(TaskDataset.from_arrays([rows[:5] for rows in arrays])).target_probs
    for probs in (model.posterior.target_probs, found):
        assert (probs[:, 0] < 0.3).all()
        assert (probs.values[np.arange(8), 1 + np.arange(8) % 4] > 0.9).all()
    moved = arrays[0][:5].copy()
    moved[:, 0] = 3.0
    probs = model.adapt(TaskDataset.from_arrays([moved])).target_probs
    assert np.isfinite(probs).all()
    assert probs[0, 0] != found[0, 0]


def test_families_that_are_expected_are_judged_together():
    known = MechanismLibrary(evidence_fit()._fit.scaling.evidence)
    usual, other = [Family(0, 0b10), Family(1, 0)], Family(2, 0)
    known.expect(usual)
    tasks = known.prepare(evidence_fit()._fit.scaling.transform(new_tasks((4,))))
    known.log_ratio(tasks, [other])
    assert list(tasks.log_ratio) == [other]
    known.log_ratio(tasks, usual[:1])
    assert set(tasks.log_ratio) == {other, *usual}
