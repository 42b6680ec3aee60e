from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.data.batch import TaskBatch
from pyro_metacadi.inference.seeds import isolated
from pyro_metacadi.inference.stopping import Course, Plateau, hold_out


def batch(rows):
    """Every row has a value of its own."""
    ends = np.cumsum([0, *rows])
    arrays = [np.arange(1.0 + a, 1.0 + b)[:, None].repeat(2, 1) for a, b in pairwise(ends)]
    return TaskBatch.from_arrays(arrays)


def values(x, mask):
    return set(x[..., 0][mask].tolist())


@given(
    rows=st.lists(st.integers(1, 12), min_size=1, max_size=4).filter(lambda n: max(n) > 2),
    share=st.floats(0.05, 0.95),
    support_size=st.integers(1, 5),
)
def test_rows_held_out_are_in_no_other_part(rows, share, support_size):
    whole = batch(rows)
    with isolated(0):
        left, held_out = hold_out(whole, share, support_size=support_size)
    out = values(held_out.x, held_out.mask)
    support = values(held_out.support, held_out.support_mask)
    assert out | values(left.x, left.mask) == values(whole.x, whole.mask)
    assert not out & values(left.x, left.mask)
    assert support <= values(left.x, left.mask)
    assert held_out.mask.any(-1).all()
    assert held_out.support_mask.any(-1).all()
    expected = [min(int(np.ceil(np.float32(n) * np.float32(share))), max(n - 2, 0)) for n in rows]
    assert (whole.mask.sum(-1) - left.mask.sum(-1)).tolist() == expected
    assert (held_out.x[~held_out.mask] == 0).all()


def test_what_is_left_is_split_without_the_rows_held_out():
    with isolated(0):
        left, held_out = hold_out(batch([10, 6]), 0.3, support_size=3)
        split = left.split(3)
    seen = values(split.x, split.mask) | values(split.support, split.support_mask)
    assert seen == values(left.x, left.mask)
    assert not seen & values(held_out.x, held_out.mask)


def test_tasks_of_one_and_two_rows_hold_nothing_out():
    whole = batch([1, 2])
    assert hold_out(whole, 0.5, support_size=3) == (whole, None)
    _, held_out = hold_out(batch([1, 5, 2]), 0.5, support_size=3)
    assert held_out.num_tasks == 1


def test_a_plateau_is_reached_after_as_many_values_as_it_is_patient():
    plateau = Plateau(patience=3)
    losses = [5.0, 4.0, 4.5, 3.0, 3.0, 3.5, 3.1, 1.0]
    assert [plateau.reached(loss) for loss in losses] == [False] * 6 + [True, False]


def test_small_steps_down_count_once_they_add_up_to_the_tolerance():
    plateau = Plateau(patience=3, tolerance=1.0)
    assert not any(plateau.reached(loss) for loss in np.arange(20, 0, -0.5))
    plateau = Plateau(patience=3, tolerance=1.0)
    assert any(plateau.reached(loss) for loss in np.arange(20, 0, -0.3))


def test_without_held_out_losses_learning_rates_fall_along_a_cosine():
    course = Course(100, patience=None, tolerance=0.0)
    rates = [course.learning_rate(step) for step in range(101)]
    np.testing.assert_allclose(rates, (1 + np.cos(np.pi * np.arange(101) / 100)) / 2)
    assert (course.end, course.converged) == (100, None)


def test_learning_rates_stay_until_the_plateau_and_then_fall_for_a_third_of_the_steps_so_far():
    course = Course(1000, patience=2, tolerance=0.0)
    for step, loss in enumerate([3.0, 2.0, 2.0, 2.0]):
        assert course.learning_rate(step * 10) == 1.0
        assert course.converged is False
        course.learn(step * 10, loss)
    assert (course.converged, course.cooling, course.end) == (True, 31, 31 + 11)
    assert course.learning_rate(31) == 1.0
    assert 0 < course.learning_rate(41) < course.learning_rate(36) < 1.0
    assert course.learning_rate(42) == pytest.approx(0.0)


def test_a_plateau_found_while_cooling_is_none():
    course = Course(100, patience=1, tolerance=0.0)
    assert course.cooling == 75
    for step in range(0, 100, 5):
        course.learn(step, loss=-float(min(step, 75)))
    assert (course.converged, course.end) == (False, 100)
    assert course.learning_rate(75) == 1.0 > course.learning_rate(76)


@given(num_steps=st.integers(1, 400), patience=st.integers(1, 5), every=st.integers(1, 50))
def test_training_ends_in_time_with_learning_rates_near_zero(num_steps, patience, every):
    course = Course(num_steps, patience=patience, tolerance=0.0)
    step = 0
    while step < course.end:
        assert 0 < course.learning_rate(step) <= 1
        if step % every == 0:
            course.learn(step, loss=1.0)
        step += 1
    assert step <= num_steps
    assert course.learning_rate(step) == pytest.approx(0.0)
