"""A design in parts, held or made anew, says what the whole says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.ops.design import Design
from pyro_metacadi.ops.evidence import fit_mechanism, kish_weight
from pyro_metacadi.ops.rows import TaskRows

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=6)


def both(sizes, most_rows, *, seed=0, dtype=torch.float64):
    """The whole, and the same in parts that are made anew."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64).to(dtype)
    rows = TaskRows(x, x[:, :0], tuple(sizes))
    weights = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).to(dtype)

    def features_of(part):
        return torch.tanh(part.inputs @ weights)

    y = torch.randn(2, sum(sizes), generator=generator, dtype=torch.float64).to(dtype)
    whole = Design.of(features_of(rows), y, rows)
    return whole, Design.made_anew(features_of, y, rows, most_rows=most_rows)


@given(SIZES, st.integers(1, 20), st.integers(0, 1000))
def test_pieces_are_the_tasks_in_order_and_no_larger_than_need_be(sizes, most_rows, seed):
    x = torch.randn(sum(sizes), 2, generator=torch.Generator().manual_seed(seed))
    pieces = TaskRows(x, x[:, :1], tuple(sizes)).pieces(most_rows)
    assert [size for piece in pieces for size in piece.sizes] == sizes
    assert torch.equal(torch.cat([piece.x for piece in pieces]), x)
    assert torch.equal(torch.cat([piece.covariates for piece in pieces]), x[:, :1])
    assert all(len(piece.x) <= most_rows or len(piece.sizes) == 1 for piece in pieces)


@given(SIZES, st.integers(1, 12), st.integers(0, 1000))
def test_parts_say_what_the_whole_says(sizes, most_rows, seed):
    whole, parts = both(sizes, most_rows, seed=seed)
    weight = torch.rand(2, len(sizes), generator=torch.Generator().manual_seed(seed)).double()
    mean, root = torch.randn(2, 4).double(), torch.randn(2, 4, 4).double()
    for left, right in (
        (whole.cross, parts.cross),
        (whole.features, parts.features),
        (whole.weighted_gram(weight), parts.weighted_gram(weight)),
        (whole.predict(mean), parts.predict(mean)),
        (whole.spread(root @ root.mT), parts.spread(root @ root.mT)),
        (whole.exact().weighted_gram(weight), parts.exact().weighted_gram(weight)),
    ):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mechanisms_are_the_same_in_parts(dtype):
    sizes = (30, 20, 40, 25)
    fits = []
    for design in both(sizes, 45, dtype=dtype):
        weight = kish_weight(design.rows.num_rows, 0.01)
        generic = -2.0 * design.rows.num_rows.expand(2, -1)
        fits.append(
            fit_mechanism(
                design,
                weight=weight,
                prior_log_odds=torch.full((2, 4), -2.0).double(),
                hit_law=lambda prediction, noise, spread, generic=generic: generic,
            )
        )
    for name in ("score", "mean", "noise_variance", "target_probability", "log_ratio"):
        left, right = (getattr(fit, name) for fit in fits)
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-6)


def test_sums_of_nearly_noiseless_parts_are_exact_as_those_of_the_whole():
    whole, parts = both((5, 7, 3), 8, dtype=torch.float32)
    assert not whole.is_exact
    assert not parts.is_exact
    assert whole.exact().is_exact
    assert parts.exact().is_exact
    assert next(iter(parts.exact().parts)).features.dtype == torch.float32
