"""Targets of one task under a law of their number, against sums over all subsets."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import binom

from pyro_metacadi.ops import target_counts
from pyro_metacadi.ops.target_counts import (
    MOST_TARGETS,
    CountedTargets,
    IndependentTargets,
    binomial,
)

SEEDS = st.integers(0, 2**32)


def draw(num_variables, num_counts, *, seed, size=4.0):
    """Log ratios of a task, and a law of the number of targets."""
    generator = torch.Generator().manual_seed(seed)
    ratio = size * torch.randn(num_variables, generator=generator, dtype=torch.float64)
    law = torch.rand(num_counts, generator=generator, dtype=torch.float64) + 0.01
    return ratio, law / law.sum()


def enumerated(ratio, law):
    """Posterior probability of every set of targets ``[0/1 of variable, ...]``."""
    d = len(ratio)
    weight = np.zeros((2,) * d)
    for targets in product((0, 1), repeat=d):
        size = sum(targets)
        if size < len(law):
            prior = float(law[size]) / math.comb(d, size)
            weight[targets] = prior * math.exp(
                sum(float(r) for r, m in zip(ratio, targets, strict=True) if m)
            )
    return weight / weight.sum()


def marginals(joint):
    return np.array([joint.take(1, axis=i).sum() for i in range(joint.ndim)])


def sizes(joint):
    return np.indices(joint.shape).sum(0)


@given(st.integers(1, 6), st.integers(1, 7), SEEDS)
def test_posteriors_are_those_of_all_sets(num_variables, num_counts, seed):
    ratio, law = draw(num_variables, min(num_counts, num_variables + 1), seed=seed)
    joint = enumerated(ratio, law)
    targets = CountedTargets(law)
    got = torch.sigmoid(targets.posterior_log_odds(ratio))
    np.testing.assert_allclose(got, marginals(joint), atol=1e-10)
    counts = [joint[sizes(joint) == k].sum() for k in range(len(law))]
    np.testing.assert_allclose(targets.count_posterior(ratio), counts, atol=1e-10)


@given(st.integers(1, 8), st.floats(0.01, 0.9), SEEDS)
def test_a_binomial_number_is_independence(num_variables, rate, seed):
    ratio, _ = draw(num_variables, 1, seed=seed)
    counted = CountedTargets(binomial(num_variables, rate)).posterior_log_odds(ratio)
    independent = IndependentTargets(math.log(rate / (1 - rate))).posterior_log_odds(ratio)
    torch.testing.assert_close(counted, independent, atol=1e-8, rtol=1e-8)


def test_one_target_is_a_softmax_and_none_is_no_target():
    ratio, _ = draw(5, 1, seed=0)
    one = CountedTargets(torch.tensor([0.0, 1.0])).posterior_log_odds(ratio)
    torch.testing.assert_close(torch.sigmoid(one), torch.softmax(ratio, 0))
    none = CountedTargets(torch.tensor([1.0])).posterior_log_odds(ratio)
    assert torch.sigmoid(none).max() == 0


@given(SEEDS)
def test_the_order_of_variables_and_the_company_of_tasks_do_not_matter(seed):
    ratio = torch.stack([draw(6, 1, seed=seed + shift)[0] for shift in range(3)])
    targets = CountedTargets(torch.tensor([0.1, 0.6, 0.2, 0.1]))
    together = targets.posterior_log_odds(ratio)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(targets.posterior_log_odds(ratio[:, order]), together[:, order])
    for task in range(3):
        torch.testing.assert_close(targets.posterior_log_odds(ratio[task]), together[task])


def test_a_sure_target_acquits_the_others_where_one_is_the_rule():
    targets = CountedTargets(torch.tensor([0.05, 0.9, 0.05]))
    alone, beside = (
        torch.sigmoid(targets.posterior_log_odds(torch.tensor([other, 3.0, -3.0, -3.0])))[1]
        for other in (-3.0, 20.0)
    )
    assert beside < 0.6 < alone


@pytest.mark.parametrize("prior", [CountedTargets(draw(4, 4, seed=1)[1]), IndependentTargets(-1.0)])
def test_samples_have_the_frequencies_of_the_posterior(prior):
    ratio, number = draw(4, 1, seed=3, size=1.5)[0], 40_000
    generator = torch.Generator().manual_seed(0)
    drawn = prior.sample(ratio.expand(number, -1), generator=generator)
    if isinstance(prior, CountedTargets):
        joint = enumerated(ratio, prior.count_probability)
    else:
        joint = enumerated(ratio, binomial(4, 1 / (1 + math.e)))
    index = (drawn * torch.tensor([8, 4, 2, 1])).sum(-1)
    frequency = torch.bincount(index, minlength=16) / number
    np.testing.assert_allclose(frequency, joint.ravel(), atol=0.012)


@pytest.mark.parametrize("size", [30.0, -30.0, 1e4])
@pytest.mark.parametrize("num_variables", [1, 20, 50, 3000])
def test_extreme_ratios_stay_finite(num_variables, size):
    law = binomial(num_variables, 0.05)
    ratio = torch.full((2, num_variables), size, dtype=torch.float64)
    ratio[1, ::2] *= -1
    for prior in (CountedTargets(law), IndependentTargets(-3.0)):
        assert not prior.posterior_log_odds(ratio).isnan().any()
    posterior = CountedTargets(law).count_posterior(ratio)
    torch.testing.assert_close(posterior.sum(-1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("num_variables", "rate"), [(3, 0.5), (20, 0.05), (400, 0.004), (3000, 0.3)]
)
def test_the_number_of_independent_targets_is_binomial(num_variables, rate):
    law = binomial(num_variables, rate)
    assert len(law) == min(num_variables, MOST_TARGETS) + 1
    log_law = binom.logpmf(range(len(law)), num_variables, rate)
    np.testing.assert_allclose(law, np.exp(log_law - logsumexp(log_law)), atol=1e-9)


def test_many_posteriors_are_computed_in_parts(monkeypatch):
    """In other parts, the same."""
    law = CountedTargets(binomial(6, 0.2))
    log_ratio = 3 * torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
    at_once = law.posterior_log_odds(log_ratio)
    monkeypatch.setattr(target_counts, "CACHED", 7 * 7 * 4)  # four at a time
    torch.testing.assert_close(law.posterior_log_odds(log_ratio), at_once)
