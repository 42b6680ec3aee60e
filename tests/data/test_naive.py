import numpy as np
import pytest
from hypothesis import given

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import mean_shift, variance_ratio
from pyro_metacadi.errors import DataError
from tests.data.examples import datasets, example

SCORES = [mean_shift, variance_ratio]


def test_scores_are_the_documented_formulas():
    rng = np.random.default_rng(0)
    reference = TaskDataset.from_arrays(rng.normal(size=(3, 40, 4)))
    tasks = TaskDataset.from_arrays([rng.normal(2, 3, size=(n, 4)) for n in (5, 9)])
    pooled = reference.values
    for position, rows in enumerate(tasks.arrays):
        z = np.abs(rows.mean(0) - pooled.mean(0)) / (pooled.std(0) / np.sqrt(len(rows)))
        np.testing.assert_allclose(mean_shift(tasks, reference=reference)[position], z)
        ratio = np.abs(np.log(rows.var(0, ddof=1) / pooled.var(0, ddof=1)))
        np.testing.assert_allclose(variance_ratio(tasks, reference=reference)[position], ratio)


@pytest.mark.parametrize("score", SCORES)
@given(tasks=datasets())
def test_scores_are_finite_and_not_negative_even_for_constants(score, tasks):
    scores = score(tasks, reference=tasks)
    assert scores.shape == (len(tasks), len(tasks.variables))
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()


@pytest.mark.parametrize("score", SCORES)
def test_the_variable_that_was_hit_stands_out(score):
    rng = np.random.default_rng(1)
    reference = TaskDataset.from_arrays(rng.normal(size=(2, 200, 5)))
    rows = rng.normal(size=(1, 20, 5))
    rows[:, :, 2] = rows[:, :, 2] * 5 + 4
    assert score(TaskDataset.from_arrays(rows), reference=reference)[0].argmax() == 2


def test_constants_are_compared_without_rounding():
    reference = TaskDataset.from_arrays(np.full((1, 7, 3), 0.1))
    tasks = TaskDataset.from_arrays([[[0.1, 0.2, 0.1], [0.1, 0.2, 0.3], [0.1, 0.2, 0.1]]])
    assert mean_shift(tasks, reference=reference).tolist() == [[0.0, 1e12, 1e12]]
    np.testing.assert_allclose(variance_ratio(tasks, reference=reference), [[0, 0, np.log(1e12)]])


def test_one_row_has_no_variance():
    one = TaskDataset.from_arrays([[[5.0, 1.0]]])
    many = TaskDataset.from_arrays(np.random.default_rng(0).normal(size=(1, 9, 2)))
    assert variance_ratio(one, reference=many).tolist() == [[0.0, 0.0]]
    assert variance_ratio(many, reference=one).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("score", SCORES)
def test_columns_follow_the_scored_tasks_by_name(score):
    mixed = example().select(["X3", "X1", "X2"])
    np.testing.assert_array_equal(
        score(mixed, reference=example()), score(example(), reference=example())[:, [2, 0, 1]]
    )
    with pytest.raises(DataError, match="missing"):
        score(example(), reference=example(width=2))
