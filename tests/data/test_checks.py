import warnings

import numpy as np
import pytest

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import warn_about
from pyro_metacadi.data.checks import within_reach
from pyro_metacadi.errors import MetaCaDIWarning


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_a_variable_knocked_out_in_one_task_is_ordinary():
    rows = noise(2, 5, 3)
    rows[0, :, 1] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about(TaskDataset.from_arrays(rows))


@pytest.mark.parametrize(("offset", "scale"), [(1e9, 1.0), (1e12, 1.0), (0.0, 1e-300)])
def test_units_far_from_zero_are_ordinary(offset, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about(TaskDataset.from_arrays(noise(2, 20, 3) * scale + offset))


def test_values_out_of_reach_are_cut_and_named():
    tasks = TaskDataset.from_arrays(np.zeros((2, 1, 2)))
    far = [np.array([[0.0, 1e6]]), np.array([[3e6, -np.inf]])]
    with pytest.warns(MetaCaDIWarning, match=r"at task 'task2', column 'X1'; task 'task2', col"):
        cut = within_reach(far, tasks)
    assert [rows.tolist() for rows in cut] == [[[0.0, 1e6]], [[1e6, -1e6]]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (noise(2, 2, 2) * [1, 0] + [[[0, 0.3]], [[0, 0.1 + 0.2]]], "constant at column 'X2'"),
        (noise(2, 5, 8) * [1, 0, 0, 0, 0, 0, 0, 1], "'X2', 'X3', 'X4', 'X5', 'X6' and 1 more"),
        ([noise(4, 2), noise(1, 2)], "two or more in each task, got one at task 'task2'"),
        ([noise(4, 2)], "tasks: expected two or more, got one, 'task1'"),
        (noise(2, 4, 1), "variables: expected two or more, got one, 'X1'"),
    ],
)
def test_each_misleading_dataset_gives_one_warning_with_names(arrays, message):
    with pytest.warns(MetaCaDIWarning, match=message) as caught:
        warn_about(TaskDataset.from_arrays(arrays))
    assert len(caught) == 1
