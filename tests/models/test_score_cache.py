"""Scores are kept within bounds, and what was asked for is counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_metacadi.models.families import Family
from pyro_metacadi.models.score_cache import ScoreCache, Tally
from tests.helpers import evidence_fit

KEYS = st.lists(st.integers(0, 9), max_size=6)


@given(st.lists(KEYS, max_size=8), st.integers(1, 12))
def test_the_latest_are_there_and_never_too_many(rounds, most):
    cache, latest = ScoreCache(Tally(), most=most), {}
    for keys in rounds:
        new = {key: float(key) for key in keys}
        for key in new:
            latest.setdefault(key, None)
        cache.keep(new)
        latest = dict.fromkeys(list(latest)[-most:])
        assert cache.known(range(10)) == {key: float(key) for key in sorted(latest)}


def test_the_share_of_scores_that_were_there_is_counted():
    cache = ScoreCache(Tally())
    assert cache.tally.hit_rate == 0
    cache.keep({1: 0.5})
    assert cache.known([1, 2, 1, 3]) == {1: 0.5}
    assert cache.tally.hit_rate == pytest.approx(0.5)


def test_evidence_that_forgets_scores_as_much_and_counts_with_those_it_came_from():
    evidence = evidence_fit()._fit.scaling.evidence
    families = [Family(0, 0), Family(0, 2), Family(0, 0), Family(1, 1)]
    expected = evidence.with_resolution(1.0).scores(families)
    forgetful = evidence.with_resolution(1.0)
    forgetful.cache.most = 1
    before = forgetful.cache.tally.asked
    for _ in range(2):
        assert forgetful.scores(families) == pytest.approx(expected, rel=1e-6)
    assert forgetful.cache.tally.asked == before + 8
    assert forgetful.cache.tally is evidence.cache.tally
