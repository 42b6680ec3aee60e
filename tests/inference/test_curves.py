"""Mechanisms along one parent: slopes that are known, and what hits make of them."""

import numpy as np
import pytest
import torch

from pyro_metacadi import TaskDataset
from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIError, MetaCaDIWarning
from pyro_metacadi.inference.hit_curves import Asked, hit_curve
from pyro_metacadi.inference.posterior import Posterior
from pyro_metacadi.inference.seeds import isolated
from tests.helpers import fitted, random_states, tiny_tasks
from tests.inference.test_interventions import BOTH, BY_X, BY_Z, confounded, known_graph
from tests.inference.test_simulated import with_zeros


def slope(curves):
    return np.polyfit(curves["parent_value"], curves["mean"], 1)[0]


@pytest.mark.parametrize(
    ("parent", "child", "expected"),
    [("X", "Y", BY_X), ("Z", "X", 1.0), ("Z", "Y", BY_Z), ("W", "Y", 0.0), ("Y", "Z", 0.0)],
)
def test_curves_have_the_slopes_of_the_mechanism_not_of_all_paths(parent, child, expected):
    curves = known_graph("evidence").posterior.mechanism_curves(parent, child)
    # Where X and Z differ more than they ever did, functions return to their mean.
    assert slope(curves) == pytest.approx(expected, abs=0.2)
    assert (curves["lower"] <= curves["mean"]).all()
    assert (curves["mean"] <= curves["upper"]).all()
    assert curves.attrs["parent"] == parent


def test_curves_of_the_svi_engine_follow_the_mechanism_too():
    curves = known_graph("svi").posterior.mechanism_curves("Z", "X")
    assert slope(curves) == pytest.approx(1, abs=0.3)


def test_intervals_are_of_graphs_and_weights_not_of_the_rows_that_means_are_over():
    ask = {"num_graphs": 40, "most_tasks": 0}
    # With one graph and one value of every weight there is nothing to be unsure of.
    sure = known_graph("svi").posterior.mechanism_curves("X", "Y", **ask)
    assert float((sure["upper"] - sure["lower"]).mean()) < 0.35
    unsure = known_graph("evidence").posterior.mechanism_curves("X", "Y", **ask)
    assert float((unsure["upper"] - unsure["lower"]).min()) > 0.1


@BOTH
def test_the_curve_of_a_replaced_variable_is_flat_at_the_tasks_mean(model):
    curves = known_graph(model).posterior.mechanism_curves("X", "Y")
    assert curves["task"].values.tolist() == ["task5"]  # alone declared to hit Y
    hit = curves["interventional"].sel(task="task5")
    rows = confounded()["task5"].values[:, 2]
    tolerance = 0.35 if model == "evidence" else 0.7
    np.testing.assert_allclose(hit[5:-5], rows.mean(), atol=tolerance)


@pytest.mark.parametrize("center", [-15.0, 15.0])
def test_hit_curves_follow_a_new_task_beyond_all_training_rows(center):
    rows = np.array(confounded().arrays[0])
    rows[:, 2] = center + np.random.default_rng(1).normal(size=len(rows))
    model = known_graph("evidence")
    new = model.adapt(TaskDataset.from_arrays([rows], variables=confounded().variables))
    curve = new.mechanism_curves("X", "Y")["interventional"]
    np.testing.assert_allclose(curve, center, atol=0.5)


def test_hit_curves_of_the_svi_engine_are_adapted_predictions():
    chain, rows = fitted()._fit.chains[0], tiny_tasks().arrays[0]
    graphs, along = chain.draw_graphs(12, seed=0), np.array([-1.0, 0.0, 1.5])
    units = fitted()._fit.scaling.units
    found = hit_curve(chain, graphs, Asked(rows, parent=1, child=0, along=along, units=units))
    asked = np.tile(rows.mean(0), (3, 1))
    asked[:, 1] = along
    batch, expected = TaskBatch.from_arrays([rows]), []
    with isolated(0), torch.no_grad():
        for site in graphs.chunks(1):
            _, adapted = chain.guide.infer_targets(batch, **site)
            adjacency = chain.model.adjacency(**site)
            x, mechanisms = torch.tensor(asked[None]).float(), chain.model.mechanisms
            loc = mechanisms.intervene(mechanisms.features(x, adjacency), adapted["readout"])
            expected.append(loc[0, 0, :, 0].numpy() * units.scale[0] + units.mean[0])
    error = 4.5 * float(chain.model.noise.scale) * units.scale[0] / np.sqrt(12 * 50)
    np.testing.assert_allclose(found, np.mean(expected, 0), atol=error)


def test_curves_where_zeros_are_everywhere_stay_above_zero():
    posterior = with_zeros().posterior
    task = posterior.tasks.tasks[0]
    with pytest.warns(MetaCaDIWarning, match="declared hit"):  # nothing hit it, to be sure
        declared = with_zeros().adapt(posterior.tasks[:1].declare(task, hit=["X2"]))
    curves = declared.mechanism_curves("X1", "X2", num_rows=20)
    assert (curves["mean"] > 0).all()
    rows = posterior.tasks[task].values[:, 1]
    np.testing.assert_allclose(curves["interventional"].sel(task=task), rows.mean(), rtol=0.35)


def test_curves_are_seeded_and_leave_the_callers_random_state_alone():
    before = random_states()
    first, again = (fitted(2).posterior.mechanism_curves("X1", "X2", values=[0, 1]) for _ in "12")
    assert random_states() == before
    assert first.identical(again)
    np.testing.assert_array_equal(first["parent_value"], [0, 1])


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (("A", "X"), {}, DataError, "parent: expected a known name, got 'A'"),
        (("X", "A"), {}, DataError, "child: expected a known name, got 'A'"),
        (("X", "X"), {}, ConfigError, "child: expected another than the parent"),
        (("X", "Y"), {"values": []}, ConfigError, "do: expected a finite number"),
        (("X", "Y"), {"values": [0.0, np.nan]}, ConfigError, "do: expected a finite number"),
        (("X", "Y"), {"num_graphs": 0}, ConfigError, "num_graphs: expected at least 1"),
        (("X", "Y"), {"num_rows": 0}, ConfigError, "num_rows: expected at least 1"),
        (("X", "Y"), {"most_tasks": -1}, ConfigError, "most_tasks: expected at least 0"),
        (("X", "Y"), {"interval": 0.0}, ConfigError, "interval: expected"),
        (("X", "Y"), {"seed": 0.5}, ConfigError, "seed: expected"),
    ],
)
def test_curves_that_cannot_be_asked_for_are_refused(names, options, error, message):
    with pytest.raises(error, match=message):
        known_graph("evidence").posterior.mechanism_curves(*names, **options)


def test_a_posterior_that_knows_no_training_rows_has_no_curves():
    tasks = tiny_tasks()
    bare = Posterior(fitted()._fit.chains, tasks, standardised=tasks.arrays)
    with pytest.raises(MetaCaDIError, match="mechanism_curves: expected a posterior that knows"):
        bare.mechanism_curves("X1", "X2")
    asked = Asked(np.ones((2, 2)), parent=0, child=1, along=np.ones(1), units=None)
    with pytest.raises(TypeError, match="no curve is known for object"):
        hit_curve(object(), None, asked)
