import re
import warnings

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


def rounded(arrays):
    for array in arrays:
        array[:, 1] = np.where(np.arange(len(array)) % 2, 0.3, 0.1 + 0.2)


WARNED = {
    "a column constant up to rounding": (rounded, r"got a constant at column 'X2'"),
    "a constant column": (constant, r"got a constant at column 'X2'"),
    "a task of one row": (lambda arrays: [*arrays, arrays[0][:1]], r"got one at task 'task5'"),
    "one task": (lambda arrays: arrays[:1], r"tasks: expected two or more, got one, 'task1'"),
    "one variable": (lambda arrays: [a[:, :1] for a in arrays], r"got one, 'X1'. A graph over"),
}
ACCEPTED = {
    "large units": lambda arrays: [a * 1e6 for a in arrays],
    "small units far from zero": lambda arrays: [a * 1e-6 + 1e3 for a in arrays],
    "units so small": lambda arrays: [a * 1e-300 for a in arrays],
    "the largest numbers": lambda arrays: [np.where(a > -0.5, 1.7e308, -1.7e308) for a in arrays],
    "far from zero": lambda arrays: [a + 1e9 for a in arrays],
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


def shifted_column(arrays):
    for array in arrays:
        array[:, 1] += 1e8


FAR = {
    "all in other units": (lambda a: a, lambda arrays: [a * 1e9 for a in arrays]),
    "one column shifted": (lambda a: a, shifted_column),
    "without the training's offset": (ACCEPTED["far from zero"], lambda a: a),
    "the largest against the smallest": (
        ACCEPTED["units so small"],
        lambda arrays: [a * 1e300 for a in arrays],
    ),
}


@pytest.mark.parametrize("case", FAR)
def test_new_data_far_from_the_training_data_are_cut_with_a_warning(case):
    trained, adapted = FAR[case]
    model = fit(changed(trained))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = model.adapt(changed(adapted))
    cut = [one for one in caught if re.search(r"'task1', column 'X\d'.* cut", str(one.message))]
    others = [str(one.message) for one in caught if one not in cut]
    assert len(cut) == 1
    assert all("Are they in the same units?" in other for other in others)
    assert {one.filename for one in caught} == {__file__}
    assert np.isfinite(result.target_probs).all()
    assert np.isfinite(result.log_likelihood(num_draws=2)).all()


@pytest.mark.parametrize(("value", "warned"), [(0.5, 0), (5e8, 1)])
@pytest.mark.parametrize("same", [constant, rounded])
def test_a_new_value_of_a_constant_column_gives_finite_probabilities(same, value, warned):
    with pytest.warns(MetaCaDIWarning, match="constant"):
        model = fit(changed(same))
    new = TaskDataset.from_arrays([np.full((3, 3), [0.0, value, 0.0])])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = model.adapt(new)
    assert len(caught) == warned
    assert np.isfinite(result.target_probs).all()


def test_units_do_not_matter():
    first, second = (fit(changed(c)) for c in (lambda a: a, ACCEPTED["large units"]))
    np.testing.assert_allclose(
        first.posterior.target_probs, second.posterior.target_probs, atol=1e-4
    )
