"""Sums over subsets are those of brute force, and subsets are drawn in proportion to them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyro_metacadi.errors import ConfigError, MetaCaDIError
from pyro_metacadi.ops.subsets import (
    MOST_CANDIDATES,
    ScoreTable,
    random_orders,
    sample_subsets,
    subset_levels,
    subset_logsumexp,
)

FALSE_ALARM = 2e-5
SEEDS = st.integers(0, 2**32)


def tables(num_candidates, *, seed=0, batch=(), missing=0.3, scale=3.0):
    """Random log values; a share of `missing` is -inf."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch, 2**num_candidates)
    values = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    return values.masked_fill(torch.rand(shape, generator=generator) < missing, -torch.inf)


def subsets_of(mask):
    return [s for s in range(mask + 1) if s & ~mask == 0]


@given(st.integers(0, 6), SEEDS, st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([1.0, 1e4]))
def test_the_zeta_transform_is_the_sum_over_subsets(size, seed, missing, scale):
    table = tables(size, seed=seed, missing=missing, scale=scale)
    expected = [table[subsets_of(mask)].logsumexp(0) for mask in range(2**size)]
    torch.testing.assert_close(subset_logsumexp(table), torch.stack(expected))


@given(st.integers(1, 5), SEEDS)
def test_levels_sum_over_the_lowest_bits_only(size, seed):
    table = tables(size, seed=seed)
    for k, level in enumerate(subset_levels(table)):
        for mask in range(2**size):
            agree = [s for s in subsets_of(mask) if s >> k == mask >> k]
            torch.testing.assert_close(level[mask], table[agree].logsumexp(0))


def test_a_batch_is_transformed_row_by_row():
    table = tables(4, batch=(2, 3))
    for i, j in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        torch.testing.assert_close(subset_logsumexp(table)[i, j], subset_logsumexp(table[i, j]))


@pytest.mark.parametrize("mask", [0b0000, 0b0101, 0b1011, 0b1111])
def test_subsets_are_drawn_in_proportion(mask):
    table = tables(4, batch=(2,), missing=0.2, seed=mask, scale=1.0)
    table[:, 0] = 0.0
    allowed = torch.full((40_000, 2), mask)
    drawn = sample_subsets(
        subset_levels(table), allowed, generator=torch.Generator().manual_seed(1)
    )
    for row, subset in zip(table, drawn.T, strict=True):
        counts = torch.bincount(subset, minlength=16)
        inside = torch.tensor([bool(s & ~mask == 0) for s in range(16)])
        mass = row.exp() * inside
        assert counts[mass == 0].sum() == 0
        expected = (mass / mass.sum() * len(subset))[mass > 0]
        if len(expected) > 1:
            assert chisquare(counts[mass > 0], expected).pvalue > FALSE_ALARM


def test_a_set_without_a_scored_subset_is_refused():
    levels = subset_levels(torch.full((1, 4), -torch.inf, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"^allowed: expected sets with a subset of finite"):
        sample_subsets(levels, torch.tensor([3]), generator=torch.Generator())


def floats(*values):
    return torch.tensor(values, dtype=torch.float64)


SMALL = ScoreTable([[1], [2, 0], []], [floats(0, 1), floats(0, 2, 3, 4), floats(5)])


def test_bits_and_padding_follow_the_candidates():
    assert SMALL.bits().tolist() == [[0, 1, 0], [2, 0, 1], [0, 0, 0]]
    inf = float("inf")
    assert SMALL.padded().tolist() == [[0, 1, -inf, -inf], [0, 2, 3, 4], [5, -inf, -inf, -inf]]


def test_a_graphs_score_is_the_sum_over_its_parent_sets():
    graphs = torch.zeros(4, 3, 3, dtype=torch.float64)
    graphs[1, 1, 0] = 1  # X2 -> X1
    graphs[2, [0, 2], 1] = 1  # X1, X3 -> X2
    graphs[3, 0, 2] = 1  # no candidate
    assert SMALL.log_prob(graphs).tolist() == [5, 6, 9, -torch.inf]


def test_random_orders_are_uniform_where_all_are_possible():
    drawn = random_orders(
        subset_logsumexp(SMALL.padded()),
        SMALL.bits(),
        num_orders=6000,
        generator=torch.Generator().manual_seed(0),
    )
    counts = torch.unique(drawn, dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert chisquare(counts).pvalue > FALSE_ALARM


def test_random_orders_find_the_only_one():
    inf = float("inf")
    chain = ScoreTable([[1], [2], []], [floats(-inf, 0), floats(-inf, 0), floats(0)])
    zeta, generator = subset_logsumexp(chain.padded()), torch.Generator()
    drawn = random_orders(zeta, chain.bits(), num_orders=5, generator=generator)
    assert drawn.tolist() == [[2, 1, 0]] * 5


@pytest.mark.parametrize(
    ("candidates", "scores", "message"),
    [
        ([[0], []], [floats(0, 0), floats(0)], r"candidates: .* other than 0 itself .*got \[0\]\."),
        ([[], [2]], [floats(0), floats(0, 0)], r"candidates: expected distinct .*variable 1, got"),
        ([[], [0, 0]], [floats(0), floats(0, 0, 0, 0)], r"candidates: .*got \[0, 0\]\. Count"),
        (
            [[1], []],
            [floats(0), floats(0)],
            r"log_score: expected 2 floats for the 1 candidates of",
        ),
        ([[]], [torch.tensor([0])], r"log_score: expected 1 floats .*got torch\.int64 of shape"),
        ([[]], [floats(float("nan"))], r"log_score: expected finite values or -inf.* variable 0\."),
        ([[]], [floats(float("inf"))], r"log_score: expected finite values or -inf.* variable 0\."),
        ([[]], [], r"log_score: expected a tensor for each variable, got 0 for 1 lists"),
        ([], [], r"log_score: expected a tensor for each variable, got 0 for 0 lists"),
        (
            [list(range(1, MOST_CANDIDATES + 2)), *[[]] * (MOST_CANDIDATES + 1)],
            [floats(0)] * (MOST_CANDIDATES + 2),
            r"candidates: expected at most 16 for variable 0, got 17\. Keep",
        ),
    ],
)
def test_a_table_that_is_no_score_is_refused_by_name(candidates, scores, message):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        ScoreTable(candidates, scores)
    assert isinstance(caught.value, MetaCaDIError)


@given(st.integers(0, 2**32))
def test_graphs_of_parent_sets_have_the_scores_of_these_sets(seed):
    generator = torch.Generator().manual_seed(seed)
    candidates = [[2, 1, 3], [], [0], [2, 0]]
    scores = [torch.randn(1 << len(c), generator=generator).double() for c in candidates]
    table = ScoreTable(candidates, scores)
    chosen = torch.stack(
        [torch.randint(len(s), (5, 2), generator=generator) for s in scores], dim=-1
    )
    graphs = table.adjacency(chosen)
    assert graphs.shape == (5, 2, 4, 4)
    expected = sum(s[c] for s, c in zip(scores, chosen.unbind(-1), strict=True))
    torch.testing.assert_close(table.log_prob(graphs.double()), expected)
    assert int(table.adjacency(torch.tensor([5, 0, 0, 2]))[3, 0]) == 1  # bit 2 is candidate 3
