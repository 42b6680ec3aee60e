import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.errors import ConfigError, DataError
from tests.data.examples import datasets, example


@given(datasets())
def test_concatenating_the_parts_of_a_dataset_gives_it_back(data):
    parts = list(data)
    assert parts[0].concatenate(*parts[1:]) == data


def test_concatenate_refuses_equal_task_names_and_other_variables():
    with pytest.raises(DataError, match="'wild', 'drug', 'heat' more than once"):
        example().concatenate(example())
    with pytest.raises(DataError, match="'X3' missing and none unknown"):
        example().concatenate(example(width=2))


@given(datasets(), st.integers(1, 4))
def test_consecutive_pieces_hold_every_row_once_and_in_order(data, size):
    cut = data.split_rows(size)
    np.testing.assert_array_equal(cut.values, data.values)
    assert cut.num_rows.max() <= size
    assert cut.tasks[0] == f"{data.tasks[0]}/1"
    for task, rows in zip(data.tasks, data.num_rows, strict=True):
        assert sum(name.startswith(f"{task}/") for name in cut.tasks) == -(-rows // size)


@given(datasets(), st.integers(1, 4), st.integers(0, 9))
def test_shuffled_pieces_hold_every_row_once_and_follow_the_seed(data, size, seed):
    cut = data.split_rows(size, seed=seed)
    np.testing.assert_array_equal(np.sort(cut.values, axis=0), np.sort(data.values, axis=0))
    assert cut == data.split_rows(size, seed=np.random.default_rng(seed))


def test_dropping_the_remainder_leaves_pieces_of_one_size():
    cut = example().split_rows(2, drop_remainder=True)
    assert cut.tasks == ("wild/1", "drug/1", "drug/2", "heat/1")
    assert set(cut.num_rows) == {2}
    with pytest.raises(DataError, match=r"at least 4, got 3 at task 'wild', 2 at task 'heat'"):
        example().split_rows(4, drop_remainder=True)


@given(datasets(), st.integers(0, 9))
def test_taken_rows_are_rows_of_the_task_in_their_order(data, seed):
    n = int(data.num_rows.min())
    part = data.take_rows(n, seed=seed)
    assert set(part.num_rows) == {n}
    assert part == data.take_rows(n, seed=seed)
    for few, rows in zip(part.arrays, data.arrays, strict=True):
        remaining = iter(rows.tolist())
        assert all(row in remaining for row in few.tolist())


def test_random_rows_leave_the_callers_generators_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    example().take_rows(1, seed=0)
    example().split_rows(2, seed=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda data: data.take_rows(3, seed=0), DataError, "at least 3, got 2 at task 'heat'"),
        (lambda data: data.take_rows(0, seed=0), ConfigError, "n: expected a whole number"),
        (lambda data: data.take_rows(1, seed=-1), ConfigError, "seed: .*got -1"),
        (lambda data: data.take_rows(1, seed="a"), ConfigError, "seed: .*got 'a'"),
        (lambda data: data.split_rows(-2), ConfigError, "rows_per_task: .*got -2"),
        (lambda data: data.split_rows(2, seed=1.5), ConfigError, "seed: .*got 1.5"),
        (lambda data: data.to_dataframe("X1"), DataError, "no other column has, got 'X1'"),
        (np.asarray, DataError, "tasks of unequal size"),
    ],
)
def test_impossible_requests_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(example())
