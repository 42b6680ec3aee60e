"""Counts are checked; normalised, cells are comparable, and each is treated on its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import log_normalise
from pyro_metacadi.data.counts import CountUnits, check_counts
from pyro_metacadi.errors import ConfigError, DataError, MetaCaDIWarning

COUNTS = arrays(np.float64, (3, 4), elements=st.integers(0, 10**6).map(float))


def dataset(*tables):
    return TaskDataset.from_arrays(tables, variables=["a", "b", "c", "d"])


@given(COUNTS)
def test_every_cell_has_the_same_total(counts):
    normalised = log_normalise(dataset(counts), total=500)
    total = np.expm1(normalised.values).sum(1)
    assert total == pytest.approx(np.where(counts.sum(1) > 0, 500, 0))


@given(COUNTS, COUNTS)
def test_a_cell_is_treated_the_same_in_any_company(first, second):
    together = log_normalise(dataset(first, second))
    assert (together.arrays[1] == log_normalise(dataset(second)).values).all()


def test_values_are_logs_of_scaled_counts_and_names_stay():
    rows = [[[1, 3], [0, 0]], [[5, 5]]]
    tasks = TaskDataset.from_arrays(rows, variables=["A", "B"], tasks=["x", "y"])
    normalised = log_normalise(tasks)
    assert normalised.variables == ("A", "B")
    assert normalised.tasks == ("x", "y")
    expected = np.log1p([[2500, 7500], [0, 0], [5000, 5000]])
    assert normalised.values == pytest.approx(expected)


def test_negative_values_are_refused_by_task_and_column():
    tasks = dataset(np.ones((2, 4)), [[1, 1, -2, 1]])
    with pytest.raises(DataError, match=r"counts: .* got -2.0 at task 'task2', column 'c'\."):
        log_normalise(tasks)


def test_values_that_are_no_counts_are_warned_about():
    with pytest.warns(MetaCaDIWarning, match="counts: expected whole numbers, got 0.5") as caught:
        log_normalise(dataset([[1, 0.5, 2, 0]]))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("total", [0, -1.0, np.inf, np.nan])
def test_impossible_totals_are_refused(total):
    with pytest.raises(ConfigError, match="total: expected a positive number"):
        log_normalise(dataset([[1, 2, 3, 4]]), total=total)


@given(COUNTS, st.booleans())
def test_units_standardise_the_logarithms_of_counts_over_sizes(counts, library_size):
    tasks = dataset(counts, counts[:1] + 1)
    units = CountUnits.fit(tasks, library_size=library_size)
    totals = tasks.values.sum(1, keepdims=True)
    assert units.total == pytest.approx(np.median(totals[totals > 0]))
    size = np.maximum(totals, 1) / units.total if library_size else np.ones_like(totals)
    columns = np.log1p(tasks.values / size)
    assert units.mean == pytest.approx(columns.mean(0))
    varies = columns.std(0) > 1e-6
    assert units.scale[varies] == pytest.approx(columns.std(0)[varies])
    assert (units.scale > 0).all()


def test_tasks_without_any_count_have_units():
    units = CountUnits.fit(dataset(np.zeros((2, 4))))
    assert (units.total, units.mean.tolist(), units.scale.tolist()) == (1.0, [0.0] * 4, [1.0] * 4)


def test_counts_are_passed_on():
    tasks = dataset([[0, 1, 2, 2**40]])
    assert check_counts(tasks) is tasks


@pytest.mark.parametrize("value", [-1.0, 0.5, 2.0**53, 1e300])
def test_what_is_no_count_is_refused_by_task_and_column(value):
    tasks = dataset(np.ones((2, 4)), [[1, 1, value, 1]])
    with pytest.raises(DataError) as caught:
        check_counts(tasks)
    assert str(caught.value).startswith(
        f"counts: expected whole numbers from 0 to below 2^53, got {value} at task 'task2', "
        f"column 'c'. "
    )
