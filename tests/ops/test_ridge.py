"""Closed-form ridge weights are those of least squares on the augmented system."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.ops.ridge import ridge_solve

FEATURES = 5
REGIMES = pytest.mark.parametrize("samples", [3, 5, 8], ids=["dual", "square", "primal"])
SEEDS = st.integers(0, 2**32)


def problem(samples, *, features=FEATURES, seed=0, batch=()):
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    design = torch.randn(*batch, samples, features, **draw)
    return design, torch.randn(*batch, samples, **draw), torch.rand(*batch, samples, **draw) + 0.1


def least_squares(features, response, *, penalty, weight):
    """Weights by an orthogonal factorisation, which does not square the condition number."""
    root = weight.sqrt()
    shrink = penalty**0.5 * torch.eye(features.shape[-1], dtype=torch.float64)
    design = torch.cat([features * root[:, None], shrink])
    target = torch.cat([response * root, response.new_zeros(features.shape[-1])])
    return torch.linalg.lstsq(design, target[:, None], driver="gelsd").solution[:, 0]


def relative_error(got, expected):
    return float((got - expected).norm() / expected.norm())


@given(st.integers(1, 40), st.integers(1, 40), st.floats(-2, 6), SEEDS)
def test_weights_are_least_squares_on_the_augmented_system(samples, features, exponent, seed):
    design, response, weight = problem(samples, features=features, seed=seed)
    options = {"penalty": 10.0**exponent, "weight": weight}
    got = ridge_solve(design, response, **options)
    assert relative_error(got, least_squares(design, response, **options)) < 1e-8


@given(st.integers(1, 12), st.integers(1, 12), st.floats(-2, 2), SEEDS)
def test_dual_and_primal_agree(samples, features, exponent, seed):
    design, response, _ = problem(samples, features=features, seed=seed)
    penalty = 10.0**exponent
    dual = ridge_solve(*_widened(design, response, features + 1), penalty=penalty)
    tall = ridge_solve(*_lengthened(design, response, features + 1), penalty=penalty)
    assert relative_error(dual[:features], tall) < 1e-8


def _widened(design, response, columns):
    """Columns of zeros leave the weights of the others alone and make the dual the smaller."""
    zeros = design.new_zeros(len(design), columns + len(design))
    return torch.cat([design, zeros], -1), response


def _lengthened(design, response, rows):
    """Rows of zeros leave the weights alone and make the primal the smaller."""
    zeros = design.new_zeros(rows, design.shape[-1])
    return torch.cat([design, zeros]), torch.cat([response, response.new_zeros(rows)])


@given(st.integers(1, 20), st.integers(1, 20), SEEDS)
def test_the_error_grows_no_faster_than_the_condition_number(samples, features, seed):
    """Rank one, as the features of a variable without parents, is the worst case."""
    design, response, weight = problem(samples, features=features, seed=seed)
    for scale in (1.0, 1e2, 1e4):
        rank_one = scale * design[:1].expand(samples, -1)
        got = ridge_solve(rank_one, response, penalty=1.0, weight=weight)
        expected = least_squares(rank_one, response, penalty=1.0, weight=weight)
        assume(abs((weight * response).sum()) > 0.05)  # else there is nothing to be relative to
        assert relative_error(got, expected) < 1e-14 * (1 + float(rank_one.square().sum()))


@REGIMES
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_do_not_matter(samples, scale):
    design, response, weight = problem(samples)
    expected = ridge_solve(design, response, penalty=0.3, weight=weight)
    same = ridge_solve(scale * design, scale * response, penalty=0.3 * scale**2, weight=weight)
    larger = ridge_solve(design, scale * response, penalty=0.3, weight=weight)
    assert relative_error(same, expected) < 1e-12
    assert relative_error(larger / scale, expected) < 1e-12


@pytest.mark.parametrize(("samples", "features"), [(5, 9), (9, 5), (30, 8), (8, 30)])
def test_features_of_scale_a_million_are_accurate(samples, features):
    design, response, weight = problem(samples, features=features)
    options = {"penalty": 1.0, "weight": weight}
    got = ridge_solve(1e6 * design, response, **options)
    assert relative_error(got, least_squares(1e6 * design, response, **options)) < 1e-8


@REGIMES
def test_gradients_are_right(samples):
    inputs = [tensor.requires_grad_() for tensor in problem(samples, batch=(2,))]

    def solve(features, response, weight):
        return ridge_solve(features, response, penalty=0.5, weight=weight)

    assert gradcheck(solve, inputs)


@given(st.integers(1, 12), st.integers(0, 12), SEEDS)
def test_weight_zero_is_dropping_the_row(kept, padded, seed):
    design, response, weight = problem(kept + padded, seed=seed)
    weight[kept:] = 0
    got = ridge_solve(design, response, penalty=0.5, weight=weight)
    expected = ridge_solve(design[:kept], response[:kept], penalty=0.5, weight=weight[:kept])
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@REGIMES
def test_a_padded_row_has_no_gradient_and_spoils_none(samples):
    design, response, precision = (t.requires_grad_() for t in problem(samples))
    mask = torch.arange(samples) < samples - 1
    ridge_solve(design, response, penalty=0.5, weight=precision * mask).sum().backward()
    for tensor in (design, response, precision):
        assert tensor.grad.isfinite().all()
        assert not tensor.grad[-1].any()
        assert tensor.grad[:-1].any()


def test_no_rows_at_all_give_the_prior_mean():
    design, response, weight = problem(4)
    assert not ridge_solve(design, response, penalty=1.0, weight=0 * weight).any()
    assert ridge_solve(design[:0], response[:0], penalty=1.0).tolist() == [0.0] * FEATURES


@REGIMES
def test_a_batch_is_its_elements_and_shares_its_weight(samples):
    design, response, weight = problem(samples, batch=(4, 3))
    shared = weight[:, :1]
    got = ridge_solve(design, response, penalty=0.5, weight=shared)
    for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(3)):
        one = ridge_solve(design[i, j], response[i, j], penalty=0.5, weight=shared[i, 0])
        torch.testing.assert_close(got[i, j], one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@REGIMES
def test_low_precision_is_float64_inside(samples, dtype):
    design, response, _ = (t.to(dtype) for t in problem(samples))
    nearly_rank_one = (design[:1] + 1e-3 * design).to(dtype)
    got = ridge_solve(nearly_rank_one, response, penalty=1e-4)
    exact = ridge_solve(nearly_rank_one.double(), response.double(), penalty=1e-4)
    assert got.dtype == dtype
    assert torch.equal(got, exact.to(dtype))


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan")])
def test_a_penalty_that_is_not_positive_is_refused(penalty):
    design, response, _ = problem(4)
    with pytest.raises(ConfigError, match=rf"^penalty: expected a number > 0, got {penalty}\. Try"):
        ridge_solve(design, response, penalty=penalty)
