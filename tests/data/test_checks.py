import warnings

import numpy as np
import pytest

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import warn_about
from pyro_metacadi.errors import MetaCaDIWarning


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape)


def test_a_variable_knocked_out_in_one_task_is_ordinary():
    rows = noise(2, 5, 3)
    rows[0, :, 1] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about(TaskDataset.from_arrays(rows))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
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
