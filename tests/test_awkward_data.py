import numpy as np
import pytest

from pyro_metacadi import TaskDataset
from pyro_metacadi.errors import MetaCaDIWarning
from tests.helpers import tiny_estimator, tiny_tasks


def fit(tasks):
    return tiny_estimator().fit(tasks, num_steps=3, progress=False)


def changed(change):
    arrays = [array.copy() for array in tiny_tasks().arrays]
    return TaskDataset.from_arrays(change(arrays) or arrays)


def constant(arrays):
    for array in arrays:
        array[:, 1] = 3.0


def duplicated(arrays):
    for array in arrays:
        array[:, 1] = array[:, 0]


WARNED = {
    "a constant column": (constant, r"got a constant at column 'X2'"),
    "a task of one row": (lambda arrays: [*arrays, arrays[0][:1]], r"got one at task 'task5'"),
    "one task": (lambda arrays: arrays[:1], r"tasks: expected two or more, got one, 'task1'"),
    "one variable": (lambda arrays: [a[:, :1] for a in arrays], r"got one, 'X1'. A graph over"),
}
ACCEPTED = {
    "large units": lambda arrays: [a * 1e6 for a in arrays],
    "small units far from zero": lambda arrays: [a * 1e-6 + 1e3 for a in arrays],
    "equal columns": duplicated,
    "tasks of three rows": lambda arrays: [a[:3] for a in arrays],
    "tasks of two rows": lambda arrays: [a[:2] for a in arrays],
    "an outlier": lambda arrays: [*arrays[:3], np.vstack([arrays[3], np.full((1, 3), 1e9)])],
}


def assert_finite(model):
    for result in (model.posterior, model.adapt(model.posterior.tasks)):
        for probabilities in (result.edge_probs, result.target_probs):
            assert np.isfinite(probabilities).all()
        assert np.isfinite(result.log_likelihood(num_draws=2)).all()


@pytest.mark.parametrize("case", WARNED)
def test_data_that_cannot_tell_what_is_asked_are_warned_about(case):
    change, message = WARNED[case]
    with pytest.warns(MetaCaDIWarning, match=message) as caught:
        model = fit(changed(change))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_finite(model)


@pytest.mark.parametrize("case", ACCEPTED)
def test_awkward_data_give_finite_probabilities(case):
    assert_finite(fit(changed(ACCEPTED[case])))


def test_units_do_not_matter():
    first, second = (fit(changed(c)) for c in (lambda a: a, ACCEPTED["large units"]))
    np.testing.assert_allclose(
        first.posterior.target_probs, second.posterior.target_probs, atol=1e-4
    )
