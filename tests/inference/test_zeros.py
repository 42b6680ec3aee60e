"""Data full of zeros: when laws with an atom are used, and what they are worth."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_metacadi import MetaCaDI, TaskDataset, diagnostics, metrics, simulators
from pyro_metacadi.data.representation import Representation
from pyro_metacadi.inference.empirical_bayes import informative
from pyro_metacadi.inference.evidence import Sampling, evidence_of
from pyro_metacadi.inference.library import MechanismLibrary
from pyro_metacadi.inference.zeros import has_zeros
from pyro_metacadi.left_out import row_scores
from pyro_metacadi.models.families import Family
from tests.helpers import evidence_estimator

CELLS = {"num_variables": 8, "num_tasks": 16, "num_samples": 60, "technical": "10x_chromium"}


def evidence_for(arrays, kind="auto"):
    tasks = TaskDataset.from_arrays(arrays)
    return evidence_of(tasks, Representation.fit(tasks, kind=kind))


def found_zeros(arrays):
    evidence = evidence_for(arrays)
    every = [Family(variable, 0) for variable in range(evidence.num_variables)]
    return has_zeros(evidence, informative(evidence, every))


def positive(*shape, seed=0):
    return np.random.default_rng(seed).uniform(1, 9, shape)


def emptied(rows, share, *, seed=0):
    return rows * (np.random.default_rng(seed).random(rows.shape) >= share)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ([emptied(positive(30, 3), 0.4), emptied(positive(20, 3), 0.4, seed=1)], True),
        ([np.floor(emptied(positive(30, 3), 0.4) * 50)] * 2, True),
        ([positive(30, 3), positive(20, 3)], False),
        ([emptied(positive(30, 3), 0.4) - 0.5] * 2, False),
        ([np.random.default_rng(0).normal(size=(30, 3))] * 2, False),
    ],
    ids=["fractions", "counts", "no zeros", "negative", "normal"],
)
def test_zeros_count_where_they_are_the_least_and_everywhere(arrays, expected):
    assert found_zeros(arrays) is expected


def test_knocked_out_genes_alone_are_not_zeros_everywhere():
    arrays = [positive(30, 5, seed=task) for task in range(5)]
    for task, rows in enumerate(arrays):
        rows[:, task] = 0.0
    assert not found_zeros(arrays)


def test_a_zero_once_in_a_while_is_none_to_speak_of():
    assert not found_zeros([emptied(positive(200, 3), 0.01, seed=t) for t in range(3)])
    assert found_zeros([emptied(positive(200, 3), 0.1, seed=t) for t in range(3)])


def test_variables_that_never_vary_are_not_asked():
    arrays = [np.hstack([positive(20, 3, seed=t), np.zeros((20, 4))]) for t in range(3)]
    assert not found_zeros(arrays)


def test_the_zero_of_logarithms_is_a_one():
    arrays = [np.maximum(1, positive(20, 3, seed=t) - 4) for t in range(3)]
    sampling = Sampling(num_draws=10, warmup=5, num_chains=1, representation="log")
    model = MetaCaDI(sampling=sampling).fit(TaskDataset.from_arrays(arrays), progress=False)
    assert not model._fit.scaling.has_atom


@pytest.fixture(scope="module")
def counts():
    world = simulators.sergio(**CELLS, seed=3)
    model = evidence_estimator(num_draws=100, warmup=50).fit(world.tasks, progress=False)
    return model, world, world.sample_tasks(30, 10, seed=1)


def without_atoms(model):
    """The same model, whose targets are judged by laws without an atom."""
    chains = []
    for chain in model._fit.chains:
        evidence = chain.library.evidence
        plain = evidence.with_hyperparameters(replace(evidence.hyperparameters, hurdle=None))
        chains.append(replace(chain, library=MechanismLibrary(plain)))
    other = MetaCaDI()
    other._fit = replace(model._fit, chains=tuple(chains))
    return other


def test_an_atom_tells_silent_genes_from_those_knocked_out(counts):
    model, _, new = counts
    scores = {}
    for name, judge in (("atom", model), ("none", without_atoms(model))):
        probs = judge.adapt(new.tasks).target_probs.values
        scores[name] = metrics.target_scores(probs, new.intervention_targets)["intv_ap"]
        scores[name, "ece"] = metrics.calibration(probs, new.intervention_targets)["ece"]
    assert scores["atom"] > scores["none"] + 0.05
    assert scores["atom", "ece"] < scores["none", "ece"]
    assert scores["atom", "ece"] < 0.08


def test_training_tasks_keep_what_was_found_and_models_are_saved_with_it(counts, tmp_path):
    model, world, new = counts
    assert model._fit.scaling.has_atom
    assert model.adapt(world.tasks).target_probs.identical(model.posterior.target_probs)
    model.save(tmp_path / "model")
    again = MetaCaDI.load(tmp_path / "model")
    for tasks in (world.tasks, new.tasks):
        assert again.adapt(tasks).target_probs.identical(model.adapt(tasks).target_probs)


def test_a_task_is_judged_the_same_alone_and_among_others(counts):
    model, _, new = counts
    together = model.adapt(new.tasks).target_probs
    alone = model.adapt(new.tasks[2]).target_probs
    np.testing.assert_allclose(alone.values[0], together.values[2], atol=1e-9)


def test_replicated_cells_are_as_often_silent_as_the_measured_ones(counts):
    posterior = counts[0].posterior
    rows = posterior.replicate(40, seed=3)
    known = posterior.log_likelihood(num_draws=40, seed=3)
    np.testing.assert_allclose(rows.observed_log_prob, known, rtol=1e-9, atol=1e-9)
    assert (rows.x >= 0).all()
    measured, drawn = posterior.tasks.values, rows.x.values.reshape(-1, 8)
    np.testing.assert_allclose((drawn == 0).mean(0), (measured == 0).mean(0), atol=0.1)
    np.testing.assert_allclose(np.median(drawn, 0), np.median(measured, 0), atol=25)
    assert {"posterior_predictive", "prior", "prior_predictive"} <= set(
        posterior.to_inference_data(num_draws=2, num_predictive=2).groups()
    )


def test_a_task_with_a_cell_in_which_all_genes_are_loud_is_not_explained(counts):
    model, world, _ = counts
    arrays = [rows.copy() for rows in world.tasks.arrays]
    arrays[0][0] = world.tasks.values.max(0)
    odd = TaskDataset.from_arrays(arrays, variables=world.tasks.variables)
    found = diagnostics.explained_tasks(model.adapt(odd), num_draws=30)
    usual = diagnostics.explained_tasks(model.posterior, num_draws=30)
    assert found.excess[0] > usual.excess[0] + 3
    assert found.statistic[0] == "worst row"
    assert usual.explained.mean() > 0.8


def test_densities_are_finite_and_those_of_zeros_are_probabilities(counts):
    model, _, new = counts
    likelihood = model.adapt(new.tasks).log_likelihood(num_draws=5)
    assert np.isfinite(likelihood).all()
    rows = [np.split(part, [5]) for part in new.tasks.arrays]
    names = {"variables": new.tasks.variables, "tasks": new.tasks.tasks}
    support, query = (
        TaskDataset.from_arrays([part[at] for part in rows], **names) for at in (0, 1)
    )
    scores = np.concatenate(row_scores(model, query, support=support))
    assert np.isfinite(scores).all()
    nothing = np.zeros_like(query.values)
    silent = TaskDataset.from_arrays(np.split(nothing, len(query)), **names)
    assert (np.concatenate(row_scores(model, silent, support=support)) < 0).all()


@pytest.mark.parametrize("rows", [1, 2])
def test_a_silent_and_an_ever_loud_variable_are_no_trouble(rows):
    arrays = [np.floor(emptied(positive(20, 4, seed=t), 0.5, seed=t) * 9) for t in range(5)]
    for part in arrays:
        part[:, 0] = 0
        part[:, 1] += 1
    tasks = TaskDataset.from_arrays(arrays)
    with pytest.warns(UserWarning, match="constant at column 'X1'"):
        model = evidence_estimator(num_draws=20, warmup=5).fit(tasks, progress=False)
    assert model._fit.scaling.has_atom
    found = model.adapt(TaskDataset.from_arrays([part[:rows] for part in arrays]))
    for probs in (found.target_probs, model.posterior.target_probs):
        assert np.isfinite(probs).all()
        assert (probs[:, 0] < 0.5).all()
    assert torch.tensor(found.sample(3)["intervention_target"].values).max() <= 1
