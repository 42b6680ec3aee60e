"""What is declared of targets goes wherever the tasks and the variables go."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi import TaskDataset
from pyro_metacadi.data import log_normalise
from pyro_metacadi.errors import DataError
from tests.helpers import tiny_tasks

VARIABLES, TASKS = ("A", "B", "C"), ("one", "two", "three")


def example(known=None):
    rng = np.random.default_rng(0)
    arrays = [rng.poisson(5, size=(n, 3)) + 1.0 for n in (4, 2, 3)]
    return TaskDataset.from_arrays(arrays, variables=VARIABLES, tasks=TASKS, known_targets=known)


KNOWN = [[1, 0, -1], [-1, -1, -1], [0, 0, 0]]


def known(tasks):
    return tasks.known_targets.tolist()


def test_a_hit_leaves_the_others_open_and_exactly_does_not():
    tasks = example()
    assert tasks.known_targets is None
    assert known(tasks.declare("one", hit=["A"])) == [[1, -1, -1], [-1] * 3, [-1] * 3]
    assert known(tasks.declare("one", exactly=["A"])) == [[1, 0, 0], [-1] * 3, [-1] * 3]
    assert known(tasks.declare(not_hit=["C"])) == [[-1, -1, 0]] * 3
    assert known(tasks.declare([0, 2], hit=["B"], not_hit=["A"])) == [
        [0, 1, -1],
        [-1] * 3,
        [0, 1, -1],
    ]
    assert tasks.known_targets is None


def test_observational_tasks_hit_nothing():
    tasks = example()
    assert known(tasks.declare_observational(["three", "one"])) == [[0] * 3, [-1] * 3, [0] * 3]
    assert tasks.declare_observational("two") == tasks.declare("two", exactly=[])


def test_declarations_add_up_and_the_same_may_be_said_twice():
    tasks = example().declare("one", hit=["A"]).declare("one", not_hit=["B"])
    tasks = tasks.declare("three", exactly=[]).declare("three", not_hit=["B"])
    assert known(tasks) == KNOWN
    assert tasks == example(KNOWN)
    assert tasks != example()
    assert tasks.with_known_targets(None) == example()
    assert example([[-1] * 3] * 3) == example()


def test_what_is_declared_follows_tasks_and_variables():
    tasks = example(KNOWN)
    assert known(tasks[["three", "one"]]) == [KNOWN[2], KNOWN[0]]
    assert tasks["two"].known_targets is None
    assert known(tasks.select(["C", "A"])) == [[-1, 1], [-1, -1], [0, 0]]
    assert known(tasks.align(["B", "C", "A"])) == [[0, -1, 1], [-1] * 3, [0, 0, 0]]
    assert known(tasks.take_rows(2, seed=0)) == KNOWN
    pieces = tasks.split_rows(2, seed=0)
    assert pieces.tasks == ("one/1", "one/2", "two/1", "three/1", "three/2")
    assert known(pieces) == [KNOWN[0], KNOWN[0], KNOWN[1], KNOWN[2], KNOWN[2]]
    assert known(log_normalise(tasks)) == KNOWN
    for same in (pickle.loads(pickle.dumps(tasks)), copy.deepcopy(tasks)):
        assert same == tasks
        with pytest.raises(ValueError, match="read-only"):
            same.known_targets[0, 0] = 0


def test_joined_tasks_keep_what_is_known_of_each():
    other = TaskDataset.from_arrays([np.ones((2, 3))], variables=("C", "A", "B"), tasks=["four"])
    assert example().concatenate(other).known_targets is None
    assert known(example(KNOWN).concatenate(other)) == [*KNOWN, [-1] * 3]
    named = other.declare(exactly=["C"])
    assert known(example().concatenate(named)) == [[-1] * 3] * 3 + [[0, 0, 1]]


def test_the_printed_form_says_in_how_many_tasks_something_is_declared():
    assert repr(example(KNOWN)).endswith("rows a task; targets declared in 2 of 3 tasks)")
    assert "declared" not in repr(example())


@given(
    st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=3, max_size=3), min_size=3, max_size=3)
)
def test_a_matrix_is_the_declarations_it_stands_for(matrix):
    tasks = example()
    for name, line in zip(TASKS, matrix, strict=True):
        hit, not_hit = ([v for v, m in zip(VARIABLES, line, strict=True) if m == k] for k in (1, 0))
        if hit or not_hit:
            tasks = tasks.declare(name, hit=hit, not_hit=not_hit)
    assert tasks == example(matrix)
    assert tasks == example(np.array(matrix, dtype=float))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda t: t.declare("four", hit=["A"]), r"task: expected a known name, got 'four'"),
        (
            lambda t: t.declare("one", hit=["D", "A", 5]),
            r"hit: expected names of variables, got 'D', 5. Use one of 'A', 'B', 'C'",
        ),
        (
            lambda t: t.declare("one", not_hit=["b"]),
            r"not_hit: expected names of variables, got 'b'",
        ),
        (
            lambda t: t.declare("one", exactly=["b"]),
            r"exactly: expected names of variables, got 'b'",
        ),
        (lambda t: t.declare("one", hit="A"), r"hit: expected a list of variables, got 'A'"),
        (lambda t: t.declare("one", hit=None), r"hit: expected a list of variables, got None"),
        (lambda t: t.declare("one"), r"expected variables that are hit or not hit, got none"),
        (
            lambda t: t.declare("one", hit=["A"], exactly=["B"]),
            r"expected exactly= alone, got 'A' in hit= or not_hit= as well",
        ),
        (
            lambda t: t.declare("one", hit=["A", "B"], not_hit=["B"]),
            r"either hit or not, got 'B' declared as both\. Say one",
        ),
        (
            lambda t: t.declare("two", hit=["C"]).declare(not_hit=["C"]),
            r"either hit or not, got 'C' declared as both at task 'two'",
        ),
        (
            lambda t: t.declare("two", hit=["C"]).declare_observational(["two"]),
            r"got 'C' declared as both at task 'two'",
        ),
        (lambda t: t.with_known_targets([[1, 0, 0]]), r"= \[3, 3\], got int64 of shape \[1, 3\]"),
        (lambda t: t.with_known_targets([["A"] * 3] * 3), r"known_targets: expected numbers"),
        (lambda t: t.with_known_targets([[1], [1, 2]]), r"known_targets: expected numbers"),
        (
            lambda t: t.with_known_targets([[-1, -1, -1], [0, 2, 0], [0, 0, 0]]),
            r"or -1 \(unknown\), got 2 at task 'two', column 'B'",
        ),
        (lambda t: t.with_known_targets([[np.nan] * 3] * 3), r"got nan at task 'one', column 'A'"),
    ],
)
def test_bad_declarations_are_named(wrong, message):
    with pytest.raises(DataError, match=message):
        wrong(example())


def test_nothing_declared_is_nothing_stored():
    tasks = tiny_tasks()
    assert tasks.known_targets is None
    assert tasks.concatenate(tasks.split_rows(3)).known_targets is None
