"""The Plackett-Luce law over orders is the one that enumeration gives."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyro_metacadi.distributions import PlackettLuce
from pyro_metacadi.errors import ConfigError

SEEDS = st.integers(0, 2**32)
FALSE_ALARM = 2e-5


def scores(size, *, seed=0, batch=()):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*batch, size, generator=generator, dtype=torch.float64)


def orders(size):
    return torch.tensor(list(itertools.permutations(range(size))))


def kl_by_enumeration(score):
    size = score.shape[-1]
    log_q = PlackettLuce(score).log_prob(orders(size))
    return (log_q.exp() * (log_q + math.lgamma(size + 1))).sum()


def drawn(law, draws, *, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return law.sample(torch.Size([draws]))


@given(st.integers(1, 6), SEEDS, st.sampled_from([0.0, 1.0, 10.0, 1e4]))
def test_masses_of_all_orders_sum_to_one(size, seed, scale):
    mass = PlackettLuce(scale * scores(size, seed=seed)).log_prob(orders(size)).exp().sum()
    assert float(mass) == pytest.approx(1, abs=1e-12)


def test_the_mass_is_that_of_choosing_one_by_one():
    strength = torch.tensor([1.0, 2.0, 5.0])
    law = PlackettLuce(strength.log())
    assert float(law.log_prob(torch.tensor([2, 0, 1])).exp()) == pytest.approx(5 / 8 * 1 / 3)
    assert float(law.log_prob(torch.tensor([0, 1, 2])).exp()) == pytest.approx(1 / 8 * 2 / 7)


@given(st.integers(2, 6), SEEDS)
def test_relabelling_variables_relabels_the_orders(size, seed):
    score, every = scores(size, seed=seed), orders(size)
    relabelling = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    expected = PlackettLuce(score).log_prob(relabelling[every])
    torch.testing.assert_close(PlackettLuce(score[relabelling]).log_prob(every), expected)


@given(st.integers(1, 6), SEEDS)
def test_only_differences_of_scores_matter(size, seed):
    score, every = scores(size, seed=seed), orders(size)
    shifted = PlackettLuce(score + 100).log_prob(every)
    torch.testing.assert_close(shifted, PlackettLuce(score).log_prob(every))


@pytest.mark.parametrize("size", [2, 3, 4])
def test_draws_follow_the_masses(size):
    law, draws = PlackettLuce(scores(size, seed=size)), 50_000
    value = drawn(law, draws)
    counts = (value[:, None] == orders(size)).all(-1).sum(0)
    expected = draws * law.log_prob(orders(size)).exp()
    assert counts.sum() == draws
    assert expected.min() > 5
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > FALSE_ALARM


def test_batches_are_their_elements():
    score = scores(4, batch=(3,))
    law = PlackettLuce(score)
    value = drawn(law, 5)
    assert value.shape == (5, 3, 4)
    assert law.log_prob(value).shape == (5, 3)
    for i in range(3):
        expected = PlackettLuce(score[i]).log_prob(value[:, i])
        torch.testing.assert_close(law.log_prob(value)[:, i], expected)


def kl_estimates(score, repeats, **options):
    """Values and gradients of independent estimates, one row each."""
    values, gradients = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(repeats):
            leaf = score.clone().requires_grad_()
            value = PlackettLuce(leaf).kl_to_uniform(**options)
            gradients.append(torch.autograd.grad(value, leaf)[0])
            values.append(value.detach())
    return torch.stack(values), torch.stack(gradients)


def largest_error(estimates, exact):
    """Of the mean of `estimates`, in standard errors."""
    error = estimates.std(0) / len(estimates) ** 0.5
    return float(((estimates.mean(0) - exact) / error).abs().max())


@pytest.mark.parametrize("num_samples", [2, 16])
def test_the_kl_to_uniform_and_its_gradient_are_unbiased(num_samples):
    score = torch.tensor([0.8, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    exact = kl_by_enumeration(score)
    (exact_gradient,) = torch.autograd.grad(exact, score)
    values, gradients = kl_estimates(score.detach(), 2000, num_samples=num_samples)
    assert largest_error(values, exact.detach()) < 5
    assert largest_error(gradients, exact_gradient) < 5
    # The gradient's coordinates sum to zero, so no coordinate is checked by another alone.
    assert (exact_gradient.abs() > 5 * gradients.std(0) / 2000**0.5).any()


@given(st.integers(1, 20), st.floats(-50, 50))
def test_equal_scores_are_the_uniform_law(size, level):
    score = torch.full((size,), level, dtype=torch.float64)
    values, gradients = kl_estimates(score, 2)
    assert values.abs().max() < 1e-10
    assert gradients.abs().max() < 1e-10


def test_the_kl_of_a_batch_is_the_sum():
    score = scores(3, batch=(2,))
    values, _ = kl_estimates(score, 500, num_samples=8)
    assert largest_error(values, sum(kl_by_enumeration(one) for one in score)) < 5


@pytest.mark.parametrize("num_samples", [1, 0, -2])
def test_fewer_than_two_orders_are_refused(num_samples):
    with pytest.raises(ConfigError, match=f"^num_samples: expected .* got {num_samples}"):
        PlackettLuce(scores(3)).kl_to_uniform(num_samples=num_samples)


def test_extreme_scores_decide_the_order():
    score = torch.tensor([-1e30, 0.0, 1e30]).requires_grad_()
    law = PlackettLuce(score)
    assert drawn(law, 100).tolist() == [[2, 1, 0]] * 100
    assert float(law.log_prob(torch.tensor([2, 1, 0])).detach()) == 0
    value = law.kl_to_uniform()
    value.backward()
    assert float(value.detach()) == pytest.approx(math.log(6))
    assert score.grad.isfinite().all()
