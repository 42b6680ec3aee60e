import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_metacadi import TaskDataset
from pyro_metacadi.errors import DataError
from tests.data.examples import example


def test_tasks_of_unequal_size_keep_their_rows_and_get_default_names():
    data = TaskDataset.from_arrays([[[1, 2]], [[3, 4], [5, 6]]])
    assert data.variables == ("X1", "X2")
    assert data.tasks == ("task1", "task2")
    assert len(data) == 2
    assert data.num_rows.tolist() == [1, 2]
    assert [rows.tolist() for rows in data.arrays] == [[[1, 2]], [[3, 4], [5, 6]]]


@pytest.mark.parametrize(
    "rows",
    [
        np.array([[1, 0], [0, 1]]),
        np.array([[True, False], [False, True]]),
        np.array([[1, 0], [0, 1]], dtype=np.float16),
        np.asfortranarray(np.array([[1, 0], [0, 1]], dtype=np.float32)),
        np.array([[1, 0], [0, 1]], dtype=object),
        torch.tensor([[1, 0], [0, 1]]),
        pd.DataFrame({"X1": [1, 0], "X2": [0, 1]}),
        [[1, 0], [0, 1]],
    ],
)
def test_every_numeric_input_is_stored_as_contiguous_float64(rows):
    (stored,) = TaskDataset.from_arrays([rows]).arrays
    assert stored.dtype == np.float64
    assert stored.flags.c_contiguous
    assert stored.tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_one_array_with_a_task_axis_is_the_same_as_a_list_of_arrays():
    cube = np.arange(12.0).reshape(2, 3, 2)
    assert TaskDataset.from_arrays(cube) == TaskDataset.from_arrays(list(cube))


def test_stored_rows_are_copies_that_nobody_can_change():
    mine = np.ones((2, 2))
    data = TaskDataset.from_arrays([mine])
    mine[0, 0] = 7
    assert data.arrays[0][0, 0] == 1
    data.arrays.append(mine)
    assert len(data.arrays) == 1
    for same in (data, pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
        assert same == data
        with pytest.raises(ValueError, match="read-only"):
            same.arrays[0][0, 0] = 2
    with pytest.raises(AttributeError):
        data.tasks = ("other",)


def test_column_names_of_data_frames_are_kept_and_must_agree():
    frame = pd.DataFrame({"b": [1.0], "a": [2.0]})
    assert TaskDataset.from_arrays([frame, frame]).variables == ("b", "a")
    with pytest.raises(DataError, match=r"got 'a', 'b' at task 'task2'"):
        TaskDataset.from_arrays([frame, frame[["a", "b"]]])


ONE = np.ones((2, 2))
HOLE = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 4.0]])
BAD_ARRAYS = {
    "no tasks": ([], {}, "at least one task"),
    "none": (None, {}, "sequence of 2-D arrays, got None"),
    "text": ("abc", {}, "got 'abc'"),
    "frame": (pd.DataFrame({"a": [1]}), {}, r"Use TaskDataset\.from_dataframe"),
    "one number": (np.array(3.0), {}, r"sequence of 2-D arrays, got array\(3\.\)"),
    "dict": ({"a": ONE}, {}, r"tasks=list\(d\)"),
    "dataset": (example(), {}, r"Use \.arrays or \.values"),
    "one matrix": (ONE, {}, r"got shape \(2,\) at task 'task1'"),
    "one-dimensional": ([ONE, [1.0, 2.0]], {}, r"got shape \(2,\) at task 'task2'"),
    "ragged": ([[[1.0], [1.0, 2.0]]], {}, "rows of equal length"),
    "zero rows": ([ONE, np.ones((0, 2))], {}, "at least one row, .* at task 'task2'"),
    "zero variables": ([np.ones((3, 0))], {}, "at least one variable"),
    "uneven columns": ([ONE, ONE, np.ones((2, 3))], {}, "got 3 at task 'task3'"),
    "nan": ([ONE, HOLE], {}, r"NaN at task 'task2', column 'X2' \(2 of 3 rows\)\. Drop"),
    "masked": ([np.ma.masked_less(np.arange(4.0).reshape(2, 2), 1)], {}, r"NaN .* 'X1' \(1 of 2"),
    "none cell": ([[[1.0, None]]], {}, "NaN at task 'task1', column 'X2'"),
    "infinite": ([ONE * np.inf], {"tasks": ["hot"]}, "infinite values at task 'hot', column 'X1'"),
    "too large": ([[[10**400]]], {}, "infinite values"),
    "longdouble": ([np.array([[1e400]], dtype=np.longdouble)], {}, "infinite values"),
    "words": ([[[1, "a"], [2, "b"]]], {}, r"no numbers at task 'task1', column 'X2' \(2 of 2"),
    "digits": ([[["1", 2.0]]], {}, "numbers written as strings at task 'task1', column 'X1'"),
    "complex": ([np.ones((1, 1)) * 1j], {}, "values that are no numbers"),
    "gradient": ([torch.ones(2, 2, requires_grad=True)], {}, r"expected an array .*detach"),
    "too few names": ([ONE], {"variables": ["a"]}, "variables: expected 2 names, got 1"),
    "too many names": ([ONE], {"tasks": ["a", "b"]}, "tasks: expected 1 names, got 2"),
    "names in one string": ([ONE], {"variables": "ab"}, "sequence of names, got 'ab'"),
    "names without order": ([ONE], {"variables": {"a", "b"}}, "expected a sequence of names"),
    "blank name": ([ONE], {"variables": ["a", "\t"]}, r"visible text .* got '\\t'\. Rename"),
    "null": ([ONE], {"variables": ["a", "a\0"]}, r"variables: .* got 'a\\x00'"),
    "half a pair": ([ONE], {"tasks": ["\ud800"]}, r"tasks: .* got '\\ud800'"),
    "repeated variable": ([ONE], {"variables": ["a", "a"]}, "variables: .*'a' more than once"),
    "repeated task": ([ONE, ONE], {"tasks": [1, "1"]}, "tasks: .*'1' more than once"),
}


@pytest.mark.parametrize(("arrays", "names", "message"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_unusable_arrays_are_refused_by_name(arrays, names, message):
    with pytest.raises(DataError, match=message):
        TaskDataset.from_arrays(arrays, **names)


def test_a_long_list_of_faults_is_cut_short():
    with pytest.raises(DataError, match=r"'X5' \(2 of 2 rows\) and 15 more\. Drop"):
        TaskDataset.from_arrays([np.full((2, 20), np.nan)])


@pytest.mark.parametrize(
    ("key", "tasks"),
    [
        ("drug", ["drug"]),
        (0, ["wild"]),
        (-1, ["heat"]),
        (np.int64(1), ["drug"]),
        (slice(1, None), ["drug", "heat"]),
        (slice(None, None, -1), ["heat", "drug", "wild"]),
        (["heat", "wild"], ["heat", "wild"]),
        (["heat", 0], ["heat", "wild"]),
        (np.array(["heat", "wild"]), ["heat", "wild"]),
        (np.array([2, 0]), ["heat", "wild"]),
        ([True, False, True], ["wild", "heat"]),
        (np.array([True, False, True]), ["wild", "heat"]),
    ],
)
def test_indexing_selects_tasks_by_name_position_slice_list_and_mask(key, tasks):
    data = example()
    part = data[key]
    assert isinstance(part, TaskDataset)
    assert list(part.tasks) == tasks
    for name, rows in zip(part.tasks, part.arrays, strict=True):
        np.testing.assert_array_equal(rows, data.arrays[data.tasks.index(name)])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("drgu", r"got 'drgu'\. Did you mean 'drug'"),
        ("zzz", "Use one of 'wild', 'drug', 'heat'"),
        (3, "position from -3 to 2, got 3"),
        (-4, "got -4"),
        (True, "got True"),
        (1.0, "got 1.0"),
        (None, "got None"),
        ([], r"got none from \[\]"),
        (slice(3, None), "got none"),
        (slice("wild", "heat"), r"slice of tasks: .* pass a list, such as \['wild'\]"),
        (slice(None, None, 0), "a step other than 0"),
        ([False] * 3, "got none"),
        ([True, False], "expected 3 values, got 2"),
        ([0, 0], "'wild' more than once"),
        (["wild", "nope"], "got 'nope'"),
    ],
)
def test_indexing_with_an_unknown_task_is_refused(key, message):
    with pytest.raises(DataError, match=message):
        example()[key]


def test_iteration_and_membership_are_over_tasks():
    data = example()
    assert [part.tasks for part in data] == [("wild",), ("drug",), ("heat",)]
    assert all(len(part) == 1 for part in data)
    assert "drug" in data
    assert "cold" not in data


def test_equality_is_by_content_and_repr_is_a_summary():
    assert example() == example()
    assert example() != example().select(["X2", "X1", "X3"])
    assert example() != example()[:2]
    assert example() != "something else"
    assert repr(example()) == (
        "TaskDataset(3 tasks: wild, drug, heat; 3 variables: X1, X2, X3; 2-5 rows a task)"
    )
    assert "and 2 more; " in repr(TaskDataset.from_arrays(np.ones((7, 4, 2))))


def test_select_reorders_and_drops_variables():
    part = example().select(["X3", "X1"])
    assert part.variables == ("X3", "X1")
    np.testing.assert_array_equal(part.arrays[1], example().arrays[1][:, [2, 0]])


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (["X1", "X12"], r"got 'X12'\. Did you mean 'X2', 'X1'"),
        (["X1", "X1"], "more than once"),
        ([], "at least one variable"),
        ("X1", "sequence of names"),
        (3, "sequence of names"),
    ],
)
def test_select_refuses_unknown_variables(variables, message):
    with pytest.raises(DataError, match=message):
        example().select(variables)


def test_align_reorders_by_name_and_names_what_differs():
    mixed = example().select(["X3", "X1", "X2"])
    assert mixed.align(example().variables) == example()
    with pytest.raises(DataError, match="'X4' missing and 'X3' unknown"):
        example().align(("X1", "X2", "X4"))
    with pytest.raises(DataError, match="sequence of names, got 'X1'"):
        example().align("X1")
