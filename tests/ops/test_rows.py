"""Sums and products over the rows of each task are those of plain loops."""

from itertools import groupby

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.ops.rows import TaskRows, equal_runs

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**32)


def task_rows(sizes, *, seed=0, width=3, num_covariates=1, **options):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(n, width)) for n in sizes]
    rows = TaskRows.from_arrays(arrays, num_covariates=num_covariates, **options)
    return rows, arrays


def random(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


@given(SIZES, SEEDS)
def test_sums_grams_and_spread_are_those_of_loops(sizes, seed):
    rows, _ = task_rows(sizes)
    total = sum(sizes)
    left, right = random(2, total, 3, seed=seed), random(2, total, 2, seed=seed + 1)
    sums, gram = rows.sum(left[..., 0]), rows.gram(left, right)
    per_task = random(2, len(sizes), seed=seed)
    spread = rows.spread(per_task)
    assert gram.shape == (2, len(sizes), 3, 2)
    end = 0
    for task, size in enumerate(sizes):
        at = slice(end, end := end + size)
        torch.testing.assert_close(sums[:, task], left[:, at, 0].sum(-1))
        for s in range(2):
            torch.testing.assert_close(gram[s, task], left[s, at].T @ right[s, at])
        assert (spread[:, at] == per_task[:, task : task + 1]).all()
    assert spread.shape == (2, total)


@given(SIZES)
def test_runs_cover_every_row_once_and_in_order(sizes):
    rows, _ = task_rows(sizes)
    assert equal_runs(sizes) == [(size, len(list(group))) for size, group in groupby(sizes)]
    values = torch.arange(2 * sum(sizes)).view(2, -1)
    for dim, shaped in ((-1, values), (1, values.unsqueeze(-1)), (0, values.T)):
        runs = list(rows.runs(shaped, dim=dim))
        at = dim % shaped.ndim
        assert [run.shape[at : at + 2] for run in runs] == [(n, k) for k, n in equal_runs(sizes)]
        joined = torch.cat([run.flatten(at, at + 1) for run in runs], at)
        assert joined.tolist() == shaped.tolist()


def test_sums_are_in_float64_whatever_the_values_are():
    rows, _ = task_rows([4, 2])
    values = torch.tensor([1e8, 1, -1e8, 1, 1, 1], dtype=torch.float32)
    assert rows.sum(values).tolist() == [2, 2]
    assert rows.sum(values).dtype == torch.float64
    assert rows.num_rows.dtype == torch.float64


@pytest.mark.parametrize("num_covariates", [0, 1, 2])
def test_arrays_are_joined_and_their_last_columns_are_covariates(num_covariates):
    rows, arrays = task_rows((3, 1, 3), num_covariates=num_covariates, dtype=torch.float64)
    joined = np.concatenate(arrays)
    assert rows.x.shape == (7, 3 - num_covariates)
    np.testing.assert_array_equal(rows.inputs, joined)
    np.testing.assert_array_equal(rows.covariates, joined[:, 3 - num_covariates :])
    assert (rows.sizes, rows.num_tasks) == ((3, 1, 3), 3)
    assert rows.num_rows.tolist() == [3, 1, 3]


def test_rows_are_float32_unless_told_otherwise():
    rows, _ = task_rows((2,))
    assert rows.x.dtype == rows.covariates.dtype == torch.float32
