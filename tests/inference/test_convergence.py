import arviz as az
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyro_metacadi.errors import ConfigError
from pyro_metacadi.inference.convergence import chains_agree, split_rhat


def chains(*, num_chains=4, num_draws=50, apart=0.0, seed=0):
    draws = np.random.default_rng(seed).normal(size=(num_chains, num_draws))
    draws[0] += apart
    return draws


@pytest.mark.parametrize("num_draws", [4, 5, 50, 51])
@pytest.mark.parametrize("num_chains", [2, 5])
@pytest.mark.parametrize("apart", [0.0, 1.0, 5.0])
def test_split_rhat_is_that_of_arviz(num_chains, num_draws, apart):
    draws = chains(num_chains=num_chains, num_draws=num_draws, apart=apart)
    assert split_rhat(draws) == pytest.approx(float(az.rhat(draws, method="rank")), rel=1e-12)


@pytest.mark.parametrize(
    "draws",
    [
        np.round(chains()),
        chains() > 1.0,
        np.exp(5 * chains()),
        chains() * np.array([[10.0], [1.0], [1.0], [1.0]]),
        np.cumsum(chains(), axis=1),
    ],
    ids=["ties", "edges", "heavy tails", "unequal scales", "random walks"],
)
def test_split_rhat_of_unruly_draws_is_that_of_arviz(draws):
    assert split_rhat(draws) == pytest.approx(float(az.rhat(draws, method="rank")), rel=1e-12)


@given(
    draws=arrays(float, (3, 12), elements=st.floats(-100, 100)),
    scale=st.sampled_from([0.5, 2.0, -2.0, -8.0]),
)
def test_split_rhat_knows_no_units(draws, scale):
    # Powers of two keep the ties among distances to the median.
    assume(np.unique(draws).size > 1)
    np.testing.assert_allclose(split_rhat(draws * scale), split_rhat(draws), rtol=1e-9)


def test_chains_alike_agree_and_chains_apart_do_not():
    assert chains_agree(chains()) is True
    assert chains_agree(chains(apart=2.0)) is False
    assert chains_agree(np.cumsum(chains(), axis=1)) is False


def test_one_chain_or_few_draws_cannot_tell():
    assert chains_agree(chains(num_chains=1)) is None
    assert chains_agree(chains(num_draws=3)) is None


def test_chains_that_never_move_agree_only_at_one_place():
    still = np.ones((3, 20))
    assert chains_agree(still) is True
    assert chains_agree(-4e4 * still + 1e-9 * chains(num_chains=3, num_draws=20)) is True
    still[1] = 2.0
    assert chains_agree(still) is False


def test_a_chain_with_a_value_that_is_not_finite_does_not_agree():
    draws = chains()
    draws[1, 3] = -np.inf
    assert chains_agree(draws) is False


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (np.zeros((2, 3)), r"draws: expected at least 4 finite values .* shape \[2, 3\]. Draw"),
        (np.full((2, 5), np.nan), r"shape \[2, 5\] with NaN or infinity"),
    ],
)
def test_draws_without_an_rhat_are_named(draws, message):
    with pytest.raises(ConfigError, match=message):
        split_rhat(draws)
