import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import Standardizer
from pyro_metacadi.data.scaling import moments, rounding
from pyro_metacadi.errors import DataError
from tests.data.examples import datasets, example


@given(datasets())
def test_each_row_counts_once_over_all_tasks(data):
    rows = np.concatenate(Standardizer.fit(data).transform(data))
    mean, deviation = moments(data.values)
    constant = deviation <= rounding(mean)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(axis=0)[~constant], 1, atol=1e-6)
    assert (rows.std(axis=0)[constant] <= 1).all()


@given(datasets())
def test_inverse_undoes_transform(data):
    scaler = Standardizer.fit(data)
    tolerance = 1e-12 * max(1.0, float(np.abs(data.values).max()))
    for rows, scaled in zip(data.arrays, scaler.transform(data), strict=True):
        np.testing.assert_allclose(scaler.inverse(scaled), rows, rtol=1e-9, atol=tolerance)


@pytest.mark.parametrize(
    ("scale", "offset"), [(1e6, 1e9), (1e6, 1e-6), (1e-6, 0.0), (1.0, 1e9), (1e-200, 0), (1e200, 0)]
)
def test_scale_and_offset_of_the_units_do_not_matter(scale, offset):
    plain = np.random.default_rng(0).normal(size=(2, 500, 3))
    there = TaskDataset.from_arrays(plain * scale + offset)
    here = TaskDataset.from_arrays(plain)
    for rows, expected in zip(
        Standardizer.fit(there).transform(there),
        Standardizer.fit(here).transform(here),
        strict=True,
    ):
        np.testing.assert_allclose(rows, expected, atol=1e-6)


@given(st.floats(-1e300, 1e300), st.integers(1, 50))
def test_a_constant_has_its_value_as_mean_and_no_deviation(value, rows):
    mean, deviation = moments(np.full((rows, 1), value))
    assert mean == value
    assert deviation == 0


def test_a_variable_constant_over_all_tasks_keeps_scale_one():
    data = TaskDataset.from_arrays(np.full((2, 3, 1), 0.1))
    scaler = Standardizer.fit(data)
    assert scaler.scale.tolist() == [1.0]
    assert all((rows == 0).all() for rows in scaler.transform(data))


@pytest.mark.parametrize(
    ("value", "scale"), [(0.3, 1.0), (3e-9, 1.0), (-3e20, 3e5), (3e300, 3e285)]
)
def test_a_variable_constant_up_to_rounding_is_not_blown_up(value, scale):
    column = np.array([value, np.nextafter(value, np.inf), np.nextafter(value, -np.inf)])
    scaler = Standardizer.fit(TaskDataset.from_arrays([column[:, None]]))
    np.testing.assert_allclose(scaler.scale, scale, rtol=0.2)


def test_any_finite_rows_are_standardised():
    extreme = np.array([[1.7e308, -1.7e308, 5e-324]] + [[-1.7e308, 1.7e308, 0.0]] * 4)
    scaler = Standardizer.fit(TaskDataset.from_arrays([extreme]))
    (rows,) = scaler.transform(TaskDataset.from_arrays([extreme]))
    np.testing.assert_allclose(rows[:, :2].std(axis=0), 1)
    assert np.isfinite(rows).all()


def test_what_no_float_can_hold_is_infinite_without_a_warning():
    scaler = Standardizer.fit(TaskDataset.from_arrays([np.array([[0.0], [1e-300]])]))
    (rows,) = scaler.transform(TaskDataset.from_arrays([[[1e300], [-1e300]]]))
    assert rows.ravel().tolist() == [np.inf, -np.inf]


def test_columns_in_another_order_are_matched_by_name():
    data = example()
    scaler = Standardizer.fit(data)
    mixed = data.select(["X3", "X1", "X2"])
    for rows, expected in zip(scaler.transform(mixed), scaler.transform(data), strict=True):
        np.testing.assert_array_equal(rows, expected)


def test_other_variables_are_refused_by_name():
    scaler = Standardizer.fit(example())
    other = TaskDataset.from_arrays([np.ones((2, 3))], variables=["X1", "X2", "Y"])
    with pytest.raises(DataError, match="'X3' missing and 'Y' unknown"):
        scaler.transform(other)
    with pytest.raises(DataError, match=r"expected 3 values on the last axis.*\(4, 2\)"):
        scaler.inverse(np.ones((4, 2)))
