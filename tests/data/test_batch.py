"""Support and query rows are disjoint, drawn anew, and together the task."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.data import TaskBatch
from pyro_metacadi.errors import ConfigError

UNEQUAL = (1, 2, 3, 10, 110)
SIZES = st.lists(st.integers(1, 25), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**32)


def batch_of(sizes, width=2):
    """Rows numbered from 1, so that every value is unique and none is the padding's zero."""
    values = np.arange(1.0, sum(sizes) * width + 1).reshape(-1, width)
    return TaskBatch.from_arrays(np.split(values, np.cumsum(sizes)[:-1]), dtype=torch.float64)


def split(batch, support_size, *, seed=0, **options):
    return batch.split(support_size, generator=torch.Generator().manual_seed(seed), **options)


def kept(rows, mask):
    """The rows of one task that exist, in order."""
    return sorted(rows[mask].tolist())


def expected_support(rows, support_size):
    """All the support asked for, or half of the rows where fewer would be left for the query."""
    return support_size if rows >= 2 * support_size else max(1, rows // 2)


@given(SIZES, st.integers(1, 3))
def test_arrays_are_padded_with_masked_zeros(sizes, width):
    batch = batch_of(sizes, width)
    assert (batch.num_tasks, batch.num_samples, batch.num_variables) == (
        len(sizes),
        max(sizes),
        width,
    )
    assert batch.mask.sum(-1).tolist() == sizes
    assert not batch.x[~batch.mask].any()
    assert batch.x[batch.mask].flatten().tolist() == list(range(1, sum(sizes) * width + 1))


def test_outside_training_every_row_is_support_and_query():
    batch = batch_of(UNEQUAL)
    assert torch.equal(batch.x, batch.support)
    assert torch.equal(batch.mask, batch.support_mask)


def test_the_default_precision_is_single():
    batch = TaskBatch.from_arrays([np.ones((2, 3))])
    assert batch.x.dtype == torch.float32
    assert batch.mask.dtype == torch.bool


@pytest.mark.parametrize("support_size", [1, 2, 10, 200])
def test_support_and_query_are_disjoint_and_together_the_task(support_size):
    batch = batch_of(UNEQUAL)
    parts = split(batch, support_size)
    for task in range(len(UNEQUAL)):
        support = kept(parts.support[task], parts.support_mask[task])
        query = kept(parts.x[task], parts.mask[task])
        assert sorted(support + query) == kept(batch.x[task], batch.mask[task])


@given(SIZES, st.integers(1, 30), SEEDS)
def test_every_row_is_used_once_whatever_the_sizes(sizes, support_size, seed):
    batch = batch_of(sizes)
    parts = split(batch, support_size, seed=seed)
    used = torch.cat([parts.x[parts.mask], parts.support[parts.support_mask]])
    assert sorted(used.tolist()) == sorted(batch.x[batch.mask].tolist())
    assert not parts.x[~parts.mask].any()
    assert not parts.support[~parts.support_mask].any()


@given(SIZES, st.integers(1, 30))
def test_sizes_are_as_promised_and_no_task_is_dropped(sizes, support_size):
    parts = split(batch_of(sizes), support_size)
    support = [expected_support(rows, support_size) for rows in sizes]
    assert parts.support_mask.sum(-1).tolist() == support
    assert parts.mask.sum(-1).tolist() == [n - s for n, s in zip(sizes, support, strict=True)]
    assert parts.num_tasks == len(sizes)
    assert parts.support.shape[1] == max(support)


@pytest.mark.parametrize(
    ("rows", "support", "query"), [(1, 1, 0), (2, 1, 1), (3, 1, 2), (10, 5, 5), (110, 10, 100)]
)
def test_small_tasks_give_half_of_their_rows(rows, support, query):
    parts = split(batch_of([rows]), 10)
    assert int(parts.support_mask.sum()) == support
    assert int(parts.mask.sum()) == query


@given(SIZES, st.integers(1, 30), st.integers(1, 30), SEEDS)
def test_query_size_caps_the_query_rows_only(sizes, support_size, query_size, seed):
    batch = batch_of(sizes)
    everything = split(batch, support_size, seed=seed)
    capped = split(batch, support_size, seed=seed, query_size=query_size)
    assert torch.equal(capped.support, everything.support)
    assert torch.equal(capped.x, everything.x[:, :query_size])
    assert torch.equal(capped.mask, everything.mask[:, :query_size])


def test_rows_are_drawn_anew_at_every_call():
    batch, generator = batch_of(UNEQUAL), torch.Generator().manual_seed(0)
    first, second = (batch.split(10, generator=generator) for _ in range(2))
    assert not torch.equal(first.support, second.support)
    assert not torch.equal(first.x, second.x)


def test_every_row_is_as_likely_to_be_support():
    generator = torch.Generator().manual_seed(0)
    draws = [batch_of([3, 8], width=1).split(2, generator=generator) for _ in range(4000)]
    values = torch.cat([parts.support[parts.support_mask] for parts in draws]).flatten().long()
    frequency = torch.bincount(values)[1:] / len(draws)
    expected = torch.tensor([1 / 3] * 3 + [2 / 8] * 8)
    error = (frequency - expected) / (expected * (1 - expected) / len(draws)).sqrt()
    assert error.abs().max() < 5


@given(SEEDS)
def test_the_generator_alone_decides(seed):
    batch, state = batch_of(UNEQUAL), torch.get_rng_state()
    first, again, other = (split(batch, 10, seed=s) for s in (seed, seed, seed + 1))
    assert torch.equal(first.support, again.support)
    assert torch.equal(first.x, again.x)
    assert not torch.equal(first.x, other.x)
    assert torch.equal(torch.get_rng_state(), state)


def test_splitting_leaves_the_batch_alone():
    batch = batch_of(UNEQUAL)
    before = batch.x.clone()
    split(batch, 10).x.zero_()
    assert torch.equal(batch.x, before)


def test_a_batch_moves_as_a_whole():
    moved = batch_of([2, 3]).to("meta")
    tensors = (moved.x, moved.mask, moved.support, moved.support_mask)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"support_size": 0}, "support_size: expected at least 1, got 0"),
        ({"support_size": -3}, "support_size: expected at least 1, got -3"),
        ({"support_size": 2, "query_size": 0}, "query_size: expected at least 1, got 0"),
        ({"support_size": 2, "query_size": -1}, "query_size: expected at least 1, got -1"),
    ],
)
def test_a_size_below_one_is_refused(sizes, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        batch_of([5]).split(**sizes)
