"""The number of targets is learned from hits that the law of the data leaves no doubt about."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_metacadi.inference.empirical_bayes import best_law, target_rate
from pyro_metacadi.inference.num_targets import _unimodal, odds_beside_others, target_counts
from pyro_metacadi.models.families import Family, families_of
from tests.inference.test_empirical_bayes import CHAIN, LAWS, chain_tasks, evidence


@pytest.fixture(params=LAWS)
def found(request):
    """Evidence of data under a law of interventions, with that law and the rate learned."""
    known = evidence(chain_tasks(LAWS[request.param][0], seed=0))
    changes = {"law": best_law(known, FAMILIES)}
    known = known.with_hyperparameters(replace(known.hyperparameters, **changes))
    rate = target_rate(known, FAMILIES)
    return known.with_hyperparameters(replace(known.hyperparameters, target_prior=rate))


FAMILIES = families_of(torch.tensor(CHAIN))


def test_the_number_of_targets_of_a_task_is_learned(found):
    law = target_counts(found, FAMILIES)
    # Half of the 16 tasks hit nothing, half one variable; two tasks of independent targets beside.
    assert len(law) == 5
    assert float(law.sum()) == pytest.approx(1)
    np.testing.assert_allclose(law[:2], [0.5, 0.5], atol=0.1)
    assert law[2:].sum() < 0.05


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        ([3, 9, 1, 0, 0, 2], [3, 9, 1, 0, 0, 0]),
        ([8, 1, 7, 2], [8, 1, 7, 2]),
        ([0, 4, 1, 6, 5, 7], [0, 1, 1, 5, 5, 7]),
        ([2, 1], [2, 1]),
    ],
)
def test_apart_from_none_the_law_of_the_number_has_one_mode(total, expected):
    assert _unimodal(torch.tensor(total)).tolist() == expected


def test_who_is_hit_acquits_the_others(found):
    odds = odds_beside_others(found, FAMILIES)
    hit = np.zeros((16, 4), dtype=bool)
    hit[np.arange(1, 16, 2), np.arange(8) % 4] = True
    assert (odds[hit.any(1)][~torch.tensor(hit[hit.any(1)])] < found.prior_log_odds[0, 0]).all()
    assert odds[torch.tensor(hit)].min() > odds[torch.tensor(~hit)].max() - 1


def test_known_targets_stay_known_beside_others(found):
    known = found.prior_log_odds.clone()
    known[0, 0], known[1, 2] = torch.inf, -torch.inf
    odds = odds_beside_others(found.with_prior(known), FAMILIES)
    assert odds.isinf().sum() == 2
    assert (odds[0, 0], odds[1, 2]) == (torch.inf, -torch.inf)
    assert odds[0, 1:].max() < found.prior_log_odds[0, 0]  # X1 is hit in the first task


@pytest.mark.parametrize("num_hit", [15, 25])
def test_a_task_that_hits_nearly_everything_leaves_little_doubt(num_hit):
    d, rng = 26, np.random.default_rng(0)
    arrays = [rng.normal(size=(30, d)) for _ in range(32)]
    for t, array in enumerate(arrays[6:]):
        array[:, t] += 8
    for array in arrays[:2]:
        array[:, :num_hit] += 8
    known, families = evidence(arrays, target_prior=0.1), [Family(i, 0) for i in range(d)]
    known = known.with_hyperparameters(
        replace(known.hyperparameters, law=best_law(known, families))
    )
    beside = known.with_prior(odds_beside_others(known, families))
    assert beside.prior_log_odds.abs().max() <= 15
    for batch, mechanism in beside.mechanisms(families):
        for family, probability in zip(batch, mechanism.target_probability, strict=True):
            hit = family.variable < num_hit
            assert (probability[:2] > 0.99).all() if hit else (probability[:2] < 0.5).all()
    law = target_counts(beside, families)
    assert law.isfinite().all()
    assert float(law.sum()) == pytest.approx(1)
