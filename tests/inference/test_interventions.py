"""What would happen if: effects that are known, what does not move, units, seeds, bad input."""

import warnings
from functools import cache, partial

import numpy as np
import pytest
import xarray as xr

from pyro_metacadi import MetaCaDI, TaskDataset
from pyro_metacadi.data.scaling import moments
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIError, MetaCaDIWarning
from pyro_metacadi.guides import SharedDeepSets
from pyro_metacadi.inference.evidence import Sampling
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.training import Training
from pyro_metacadi.models import LearnedGaussianNoise, Mechanisms
from tests.helpers import (
    evidence_fit,
    fitted,
    random_states,
    tiny_estimator,
    tiny_tasks,
    tiny_world,
)

NAMES = ("Z", "X", "Y", "W")
GRAPH = np.array([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
"""Z confounds X -> Y; W is alone."""
BY_Z, BY_X = 1.5, -0.8
BOTH = pytest.mark.parametrize("model", ["evidence", "svi"])


def confounded(*, num_rows=60, num_tasks=6, seed=0):
    """Linear mechanisms, noise of 0.5; each of the last four tasks replaces one, as is declared."""
    rng, arrays = np.random.default_rng(seed), []
    known = np.eye(num_tasks, 4, k=-2, dtype=np.int8)
    for hit in known.astype(bool):
        noise, new = 0.5 * rng.normal(size=(num_rows, 4)), 1 + rng.normal(size=(num_rows, 4))
        z = np.where(hit[0], new[:, 0], 2 * noise[:, 0])
        x = np.where(hit[1], new[:, 1], z + noise[:, 1])
        y = np.where(hit[2], new[:, 2], BY_Z * z + BY_X * x + noise[:, 2])
        arrays.append(np.stack([z, x, y, np.where(hit[3], new[:, 3], 3 + noise[:, 3])], 1))
    return TaskDataset.from_arrays(arrays, variables=NAMES, known_targets=known)


def evidence_of(tasks):
    return MetaCaDI(graph_prior=GRAPH, sampling=Sampling(20, 5, 1)).fit(tasks, progress=False)


@cache
def known_graph(model):
    """A fit of `confounded` under its graph; shared, so leave it as it is."""
    if model == "evidence":
        return evidence_of(confounded())
    parts = {"noise": LearnedGaussianNoise, "predictor": SharedDeepSets}
    parts["mechanisms"] = partial(Mechanisms, width=8)
    training = Training(patience=None, support_size=10, query_size=50)
    svi = MetaCaDI.paper(graph_prior=GRAPH, objective="elbo", training=training, **parts)
    return svi.fit(confounded(), num_steps=200, progress=False)


@cache
def tiny(model):
    return evidence_fit() if model == "evidence" else fitted(2)


@BOTH
def test_effects_are_those_of_interventions_not_of_conditioning(model):
    tasks, found = confounded(), known_graph(model).posterior.causal_effects()
    shift = moments(tasks.values)[1]
    expected = np.diag(shift)
    expected[0, 1:3] = shift[0], shift[0] * (BY_Z + BY_X)
    expected[1, 2] = shift[1] * BY_X  # regression of Y on X alone has a slope above 0
    tolerance = 0.1 if model == "evidence" else 0.3
    np.testing.assert_allclose(found["mean"], expected, atol=tolerance)
    assert (found["lower"] <= found["mean"] + 1e-9).all()
    assert (found["mean"] <= found["upper"] + 1e-9).all()
    np.testing.assert_array_equal(found["path_prob"], (expected != 0).astype(float))
    assert (found["mean"].values[expected == 0] == 0).all()


def test_intervals_of_effects_cover_the_truth_and_shrink_with_more_rows():
    widths = []
    for model in (evidence_of(confounded(num_rows=10, seed=1)), known_graph("evidence")):
        effect = model.posterior.causal_effects(["X"]).sel(cause="X", effect="Y")
        truth = BY_X * float(effect["end"] - effect["start"])
        assert effect["lower"] <= truth <= effect["upper"]
        widths.append(float(effect["upper"] - effect["lower"]))
    assert widths[1] < 0.7 * widths[0]


@BOTH
def test_rows_under_an_intervention_have_the_moments_of_the_mutilated_system(model):
    drawn = known_graph(model).posterior.predict({"X": 1.0}, num_draws=1000)
    x = drawn["x"].values.reshape(-1, 4)
    np.testing.assert_allclose(x.mean(0), [0, 1, BY_X, 3], atol=0.35)
    deviation = np.sqrt([1, 0, BY_Z**2 + 0.25, 0.25])
    np.testing.assert_allclose(x.std(0), deviation, atol=0.3 if model == "svi" else 0.15)
    assert np.corrcoef(x[:, 0], x[:, 2])[0, 1] > 0.8
    inside = (x >= drawn["lower"].values) & (x <= drawn["upper"].values)
    np.testing.assert_allclose(inside.mean(0)[[0, 2, 3]], 0.9, atol=0.01)


@BOTH
def test_the_system_as_it_is_has_the_moments_of_observational_tasks(model):
    x = known_graph(model).posterior.predict(num_draws=1000)["x"].values.reshape(-1, 4)
    seen = np.concatenate(confounded(num_tasks=2, seed=5).arrays)
    np.testing.assert_allclose(x.mean(0), seen.mean(0), atol=0.35)
    np.testing.assert_allclose(np.cov(x.T), np.cov(seen.T), atol=0.6 if model == "svi" else 0.3)


@BOTH
def test_what_descends_from_nothing_held_does_not_move(model):
    posterior = known_graph(model).posterior
    before, after = (posterior.predict(do, num_draws=50)["x"] for do in (None, {"X": 0.5}))
    moved = np.abs(after - before).max(("chain", "draw"))
    assert (moved.sel(variable=["Z", "W"]) < 1e-9).all()
    assert (moved.sel(variable=["X", "Y"]) > 0.1).all()


@BOTH
def test_a_scan_is_its_settings_one_by_one(model):
    posterior, names = tiny(model).posterior, tiny(model).variables
    scan = posterior.predict({names[0]: [-0.5, 0.5], names[1]: 0.2}, num_draws=20)
    assert scan["x"].dims == ("setting", "chain", "draw", "variable")
    assert scan["mean"].dims == scan["do"].dims == ("setting", "variable")
    for at, value in enumerate([-0.5, 0.5]):
        alone = posterior.predict({names[0]: value, names[1]: 0.2}, num_draws=20)
        assert alone["x"].dims == ("chain", "draw", "variable")
        for name in ("x", "mean", "lower", "upper", "do"):
            np.testing.assert_allclose(scan[name][at], alone[name], atol=1e-6)
    assert (scan["x"].isel(variable=1) == 0.2).all()
    assert np.isnan(scan["do"].isel(variable=slice(2, None))).all()


@BOTH
def test_draws_are_seeded_and_leave_the_callers_random_state_alone(model):
    posterior, name, before = tiny(model).posterior, tiny(model).variables[0], random_states()
    first, again, other = (posterior.predict({name: 0.1}, num_draws=9, seed=s) for s in (0, 0, 1))
    effects = [posterior.causal_effects([name], num_graphs=5, seed=s) for s in (0, 0)]
    assert random_states() == before
    assert first.identical(again)
    assert effects[0].identical(effects[1])
    assert not np.isclose(first["x"].isel(variable=1), other["x"].isel(variable=1)).any()
    assert (np.diff(first["x"].isel(variable=1), axis=0) != 0).all()  # chains differ


@BOTH
def test_new_tasks_have_no_part_in_it_and_a_saved_model_says_the_same(model, tmp_path):
    mc = tiny(model)
    mc.save(tmp_path / "model")
    do = {mc.variables[0]: 0.3}
    expected = mc.posterior.predict(do, num_draws=20)
    loaded = MetaCaDI.load(tmp_path / "model")
    xr.testing.assert_allclose(loaded.posterior.predict(do, num_draws=20), expected)
    new = tiny_world().tasks[:1] if model == "evidence" else tiny_tasks(rows=(3,), seed=9)
    assert mc.adapt(new).predict(do, num_draws=20).identical(expected)


def test_a_contrast_is_in_standard_deviations_and_has_a_direction():
    posterior, tasks = known_graph("evidence").posterior, confounded()
    there = posterior.causal_effects(["X", "Z"], contrast=(-0.5, 0.5))
    back = posterior.causal_effects(["X", "Z"], contrast=(0.5, -0.5))
    assert list(there["cause"].values) == ["X", "Z"]
    assert list(there["effect"].values) == list(NAMES)
    np.testing.assert_allclose(there["mean"], -back["mean"], atol=1e-9)
    mean, deviation = (part[[1, 0]] for part in moments(tasks.values))
    np.testing.assert_allclose(there["start"], mean - 0.5 * deviation)
    np.testing.assert_allclose(there["end"], mean + 0.5 * deviation)


BAD_DO = [
    ({"A": 1.0}, DataError, r"do: expected a known name, got 'A'"),
    ({1: 1.0}, DataError, r"do: expected a known name, got 1"),
    ({"X": np.nan}, ConfigError, r"finite number .* at 'X', got nan"),
    ({"X": [0.0, np.inf]}, ConfigError, r"finite number .* at 'X'"),
    ({"X": []}, ConfigError, r"finite number .* at 'X', got \[\]"),
    ({"X": "1"}, ConfigError, r"finite number .* at 'X', got '1'"),
    ({"X": None}, ConfigError, r"finite number .* got None"),
    ({"X": True}, ConfigError, r"finite number .* got True"),
    ({"X": [[1.0]]}, ConfigError, r"finite number"),
    ({"X": [[1.0], [1.0, 2.0]]}, ConfigError, r"finite number"),
    ({"X": [0.0, 1.0], "Z": [0.0, 1.0, 2.0]}, ConfigError, r"as many values .* got \[2, 3\]"),
    ({}, ConfigError, r"do: expected a dict such as \{'Z': 1.0\}, got \{\}\. Pass None"),
    (["X"], ConfigError, r"do: expected a dict"),
    ("X", ConfigError, r"do: expected a dict"),
]


@pytest.mark.parametrize(("do", "error", "message"), BAD_DO)
def test_what_cannot_be_held_is_refused(do, error, message):
    with pytest.raises(error, match=message):
        known_graph("evidence").posterior.predict(do)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_draws": 0}, r"num_draws: expected at least 1"),
        ({"num_draws": 2.5}, r"num_draws: expected a whole number"),
        ({"seed": -1}, r"seed: expected"),
        ({"interval": 1}, r"interval: expected a number between 0 and 1, got 1\. Try 0\.9"),
        ({"interval": "wide"}, r"interval: expected"),
        ({"covariates": {"batch": "b1"}}, r"covariates: expected none for a model .* 'batch'"),
        ({"covariates": "b1"}, r"covariates: expected a dict"),
        ({"total": 100}, r"total: expected none for a model of values that are no counts"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        known_graph("evidence").posterior.predict({"X": 1.0}, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"causes": "X"}, ConfigError, r"causes: expected a list of variables, got 'X'"),
        ({"causes": []}, ConfigError, r"causes: expected a list"),
        ({"causes": ["V"]}, DataError, r"causes: expected a known name, got 'V'"),
        ({"contrast": (1.0, 1.0)}, ConfigError, r"contrast: expected two different numbers"),
        ({"contrast": 1.0}, ConfigError, r"contrast: .* got 1\.0\. Try \(0\.0, 1\.0\)"),
        ({"contrast": (0.0, np.nan)}, ConfigError, r"contrast: expected"),
        ({"contrast": "01"}, ConfigError, r"contrast: expected"),
        ({"num_graphs": 0}, ConfigError, r"num_graphs: expected at least 1"),
        ({"num_rows": 0}, ConfigError, r"num_rows: expected at least 1"),
    ],
)
def test_effects_that_cannot_be_asked_for_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        known_graph("evidence").posterior.causal_effects(**options)


def test_values_beyond_all_rows_are_warned_of():
    with pytest.warns(MetaCaDIWarning, match=r"do: expected values between .* got 90 at 'X'"):
        known_graph("evidence").posterior.predict({"X": [0.0, 90.0]}, num_draws=3)


def test_variables_that_every_task_hit_are_warned_of_unless_they_are_held():
    tasks = tiny_tasks().declare(tiny_tasks().tasks, hit=["X2"])
    model = tiny_estimator(target_prior=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MetaCaDIWarning)  # most targets are ones
        posterior = model.fit(tasks, progress=False).posterior
    with pytest.warns(MetaCaDIWarning, match=r"mechanisms: .* got 'X2', which every task seems"):
        posterior.predict({"X1": 0.0}, num_draws=3)
    with pytest.warns(MetaCaDIWarning, match=r"mechanisms: .* got 'X2'"):
        posterior.causal_effects(["X1"], num_graphs=3)
    with pytest.warns(MetaCaDIWarning, match=r"mechanisms: .* got 'X2'"):
        posterior.mechanism_curves("X1", "X2", num_graphs=3)
    posterior.predict({"X2": 0.0}, num_draws=3)
    posterior.mechanism_curves("X2", "X1", num_graphs=3)


def test_nothing_is_predicted_where_nothing_was_trained():
    with pytest.raises(MetaCaDIError, match=r"Call \.fit"):
        MetaCaDI().posterior.predict()
    chains, tasks = fitted()._fit.chains, tiny_tasks()
    bare = Posterior(chains, tasks, standardised=tasks.arrays)
    with pytest.raises(MetaCaDIError, match="training tasks, got one without"):
        bare.predict()
