"""The matrix product over all pairs is the textbook formula, pair by pair."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from pyro_metacadi.ops.hsic import pairwise_hsic

BOTH = pytest.mark.parametrize("estimator", ["biased", "unbiased"])
SEEDS = st.integers(0, 2**32)


def columns(samples, variables, *, seed=0, batch=(), dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, samples, variables, generator=generator, dtype=torch.float64).to(
        dtype
    )


def everything(x):
    return torch.ones(x.shape[:-1], dtype=torch.bool)


def gram(column, bandwidth):
    return torch.exp(-((column[:, None] - column) ** 2) / (2 * bandwidth**2))


def biased(first, second):
    """tr(K C L C) / n², Gretton et al. 2005."""
    n = len(first)
    centring = torch.eye(n, dtype=first.dtype) - 1 / n
    return torch.trace(first @ centring @ second @ centring) / n**2


def unbiased(first, second):
    """Song et al. 2012, Eq. 5."""
    n = len(first)
    k, l = (m - torch.diag(m.diagonal()) for m in (first, second))  # noqa: E741
    one = torch.ones(n, dtype=first.dtype)
    trace = torch.trace(k @ l)
    means = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (trace + means - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3))


FORMULAS = {"biased": biased, "unbiased": unbiased}


def pair_by_pair(x, estimator, bandwidth=1.0):
    grams = [gram(column, bandwidth) for column in x.T]
    values = [[FORMULAS[estimator](k, other) for other in grams] for k in grams]
    return torch.tensor(values, dtype=x.dtype)


@BOTH
@given(samples=st.integers(4, 15), variables=st.integers(1, 5), seed=SEEDS, width=st.floats(0.2, 5))
def test_all_pairs_at_once_are_the_formula_pair_by_pair(estimator, samples, variables, seed, width):
    x = columns(samples, variables, seed=seed)
    got = pairwise_hsic(x, everything(x), estimator=estimator, bandwidth=width)
    torch.testing.assert_close(got, pair_by_pair(x, estimator, width), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(got, got.T, rtol=0, atol=0)


@BOTH
@given(kept=st.integers(4, 9), padded=st.integers(0, 6), seed=SEEDS)
def test_masked_rows_are_dropped_wherever_they_stand(estimator, kept, padded, seed):
    x = columns(kept + padded, 3, seed=seed)
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:kept]
    mask = torch.zeros(len(x), dtype=torch.bool)
    mask[rows] = True
    got = pairwise_hsic(x, mask, estimator=estimator)
    expected = pairwise_hsic(x[mask], everything(x[mask]), estimator=estimator)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-14)


@BOTH
def test_a_batch_is_its_elements_and_shares_its_mask(estimator):
    x = columns(9, 3, batch=(4, 2))
    mask = torch.arange(9) < torch.tensor([[9], [7], [4], [2]])
    got = pairwise_hsic(x, mask.unsqueeze(1), estimator=estimator)
    for i, j in torch.cartesian_prod(torch.arange(4), torch.arange(2)):
        one = pairwise_hsic(x[i, j], mask[i], estimator=estimator)
        torch.testing.assert_close(got[i, j], one, rtol=1e-12, atol=1e-14)


@BOTH
def test_gradients_are_right(estimator):
    x = columns(7, 3, batch=(2,)).requires_grad_()
    mask = torch.arange(7) < torch.tensor([[7], [5]])

    def pairs(x):
        return pairwise_hsic(x, mask, estimator=estimator)

    assert gradcheck(pairs, [x])


@BOTH
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_too_few_rows_give_finite_values_and_gradients(estimator, rows):
    x = columns(6, 3).requires_grad_()
    mask = torch.arange(6) < rows
    got = pairwise_hsic(x, mask, estimator=estimator)
    got.sum().backward()
    assert got.isfinite().all()
    assert x.grad.isfinite().all()
    if estimator == "unbiased" or rows <= 1:  # of one row alone the centred kernel is zero
        assert not got.any()
        assert not x.grad.any()


@BOTH
def test_no_room_for_rows_gives_zeros(estimator):
    x = columns(0, 3)
    assert pairwise_hsic(x, everything(x), estimator=estimator).tolist() == [[0.0] * 3] * 3


@given(samples=st.integers(1, 20), seed=SEEDS)
def test_the_biased_statistic_is_never_negative(samples, seed):
    x = columns(samples, 4, seed=seed)
    assert pairwise_hsic(x, everything(x), estimator="biased").min() >= -1e-15


@BOTH
def test_dependence_is_seen_where_correlation_is_zero(estimator):
    x = columns(200, 2)
    x[:, 1] = x[:, 0] ** 2
    dependent = pairwise_hsic(x, everything(x), estimator=estimator)[0, 1]
    independent = pairwise_hsic(columns(200, 2), everything(x), estimator=estimator)[0, 1]
    assert dependent > 10 * independent.abs()


def standardised_mean(values):
    return float(values.mean() / (values.std() / len(values) ** 0.5))


@pytest.mark.parametrize("samples", [4, 10, 32])
def test_the_unbiased_statistic_has_mean_zero_under_independence(samples):
    x = columns(samples, 2, batch=(4000,), seed=samples)
    values = pairwise_hsic(x, everything(x))[:, 0, 1]
    assert abs(standardised_mean(values)) < 5
    positive = pairwise_hsic(x, everything(x), estimator="biased")[:, 0, 1]
    assert standardised_mean(positive) > 5  # the test would see a bias


def test_the_expected_unbiased_statistic_does_not_depend_on_the_number_of_rows():
    x = columns(30, 2, batch=(4000,), seed=1)
    x[..., 1] += 0.7 * x[..., 0]
    few, many = (pairwise_hsic(x, torch.arange(30)[None] < n)[:, 0, 1] for n in (5, 30))
    assert abs(standardised_mean(few - many)) < 5
    assert standardised_mean(many) > 5


@BOTH
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_precision_is_the_inputs(estimator, dtype, tolerance):
    x = columns(40, 4, dtype=dtype)
    got = pairwise_hsic(x, everything(x), estimator=estimator)
    assert got.dtype == dtype
    expected = pair_by_pair(x.double(), estimator)
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)
