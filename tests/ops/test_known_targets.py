"""Known targets condition the others exactly, against sums over all sets that agree with them."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.ops.known import with_known
from pyro_metacadi.ops.target_counts import CountedTargets, IndependentTargets, binomial
from tests.ops.test_target_counts import SEEDS, draw, enumerated, marginals, sizes

KNOWN = st.lists(st.sampled_from([1, 0, -1]), min_size=2, max_size=6)


def conditioned(joint, known):
    """The same law given that these are hit (1) and these are not (0)."""
    agree = np.ones(joint.shape, dtype=bool)
    for targets in product((0, 1), repeat=joint.ndim):
        agree[targets] = all(k in (-1, m) for k, m in zip(known, targets, strict=True))
    left = joint * agree
    return left / left.sum()


def known_ratio(ratio, known):
    return with_known(ratio.unsqueeze(0), torch.tensor([known], dtype=torch.int8))[0]


@given(KNOWN, SEEDS)
def test_the_posterior_is_that_of_all_sets_given_what_is_known(known, seed):
    ratio, law = draw(len(known), len(known) + 1, seed=seed)
    joint = conditioned(enumerated(ratio, law), known)
    given_known, targets = known_ratio(ratio, known), CountedTargets(law)
    got = torch.sigmoid(targets.posterior_log_odds(given_known))
    np.testing.assert_allclose(got, marginals(joint), atol=1e-10)
    for at, k in enumerate(known):
        assert k == -1 or got[at] == k  # exactly
    counts = [joint[sizes(joint) == k].sum() for k in range(len(law))]
    np.testing.assert_allclose(targets.count_posterior(given_known), counts, atol=1e-10)


@given(KNOWN, st.floats(0.01, 0.9), SEEDS)
def test_independent_targets_do_not_learn_from_known_ones(known, rate, seed):
    ratio, _ = draw(len(known), 1, seed=seed)
    prior, given_known = IndependentTargets(math.log(rate / (1 - rate))), known_ratio(ratio, known)
    joint = conditioned(enumerated(ratio, binomial(len(known), rate)), known)
    got = torch.sigmoid(prior.posterior_log_odds(given_known))
    np.testing.assert_allclose(got, marginals(joint), atol=1e-10)
    counted = CountedTargets(binomial(len(known), rate)).posterior_log_odds(given_known)
    torch.testing.assert_close(counted.sigmoid(), got, atol=1e-10, rtol=0)


@pytest.mark.parametrize("prior", [CountedTargets(draw(4, 5, seed=1)[1]), IndependentTargets(-1.0)])
def test_samples_have_the_frequencies_of_the_posterior(prior):
    ratio, number, known = draw(4, 1, seed=3, size=1.5)[0], 40_000, [-1, 1, -1, 0]
    generator = torch.Generator().manual_seed(0)
    drawn = prior.sample(known_ratio(ratio, known).expand(number, -1), generator=generator)
    assert (drawn[:, 1] == 1).all()
    assert (drawn[:, 3] == 0).all()
    law = getattr(prior, "count_probability", binomial(4, 1 / (1 + math.e)))
    joint = conditioned(enumerated(ratio, law), known)
    frequency = torch.bincount((drawn * torch.tensor([8, 4, 2, 1])).sum(-1), minlength=16) / number
    np.testing.assert_allclose(frequency, joint.ravel(), atol=0.012)


def test_more_known_targets_than_the_law_has_room_for_leave_no_others():
    ratio = torch.tensor([[math.inf, math.inf, math.inf, 5.0, -math.inf], [math.inf, 0, 0, 0, 0]])
    targets = CountedTargets(torch.tensor([0.2, 0.5, 0.3]))
    probability = torch.sigmoid(targets.posterior_log_odds(ratio.double()))
    assert probability[0].tolist() == [1, 1, 1, 0, 0]
    assert probability[1, 0] == 1
    assert (probability[1, 1:] > 0).all()
    drawn = targets.sample(ratio.double(), generator=torch.Generator().manual_seed(0))
    assert drawn[0].tolist() == [1, 1, 1, 0, 0]


@given(SEEDS)
def test_tasks_of_which_nothing_is_known_are_judged_as_in_any_company(seed):
    ratio, law = draw(5, 4, seed=seed)
    targets = CountedTargets(law)
    both = torch.stack([ratio, known_ratio(ratio, [1, -1, 0, -1, -1])])
    torch.testing.assert_close(
        targets.posterior_log_odds(both)[0], targets.posterior_log_odds(ratio), rtol=0, atol=0
    )


def test_nothing_known_changes_nothing():
    odds = torch.randn(2, 3)
    assert with_known(odds, None) is odds
    assert torch.equal(with_known(odds, torch.full((2, 3), -1, dtype=torch.int8)), odds)
