"""Draws are 0/1 forwards and relaxed backwards, and composing them with Pyro keeps it so."""

import copy
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyro.poutine import trace
from torch.distributions import kl_divergence

from pyro_metacadi.distributions import StraightThroughBernoulli

LOGITS = torch.tensor([[-3.0, -0.5, 0.0], [0.5, 2.0, 8.0]], dtype=torch.float64)
SHAPE = torch.Size([1000])
TEMPERATURES = pytest.mark.parametrize("temperature", [1e-6, 0.3, 1.0, 1e6])


def drawn(distribution, sample_shape=SHAPE, *, seed=0, method="rsample"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return getattr(distribution, method)(sample_shape)


def is_binary(value):
    return bool(((value == 0) | (value == 1)).all())


@pytest.mark.parametrize(
    "law",
    [
        StraightThroughBernoulli(LOGITS),
        StraightThroughBernoulli(LOGITS, temperature=1e-6),
        StraightThroughBernoulli(LOGITS, temperature=1e6),
        StraightThroughBernoulli(LOGITS).expand([4, 2, 3]),
        StraightThroughBernoulli(LOGITS).to_event(2),
        StraightThroughBernoulli(LOGITS).expand([4, 2, 3]).to_event(1),
        StraightThroughBernoulli(LOGITS).mask(LOGITS > 0),
        StraightThroughBernoulli(LOGITS).mask(False).to_event(1),
        StraightThroughBernoulli(LOGITS.float(), temperature=0.1),
        StraightThroughBernoulli(LOGITS.bfloat16(), temperature=0.1),
    ],
    ids=str,
)
def test_draws_are_exactly_0_or_1(law):
    value = drawn(law)
    assert value.shape == SHAPE + law.shape()
    assert value.dtype in (torch.float64, torch.float32, torch.bfloat16)
    assert is_binary(value)
    assert 0 < value.float().mean() < 1


def test_draws_in_plates_are_0_or_1_and_score_as_bernoulli():
    def model():
        with pyro.plate("tasks", 4, dim=-2), pyro.plate("variables", 3, dim=-1):
            return pyro.sample("target", StraightThroughBernoulli(LOGITS[0]))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        site = trace(model).get_trace().nodes["target"]
    assert site["value"].shape == (4, 3)
    assert is_binary(site["value"])
    expected = dist.Bernoulli(logits=LOGITS[0]).log_prob(site["value"])
    torch.testing.assert_close(site["fn"].log_prob(site["value"]), expected)


@TEMPERATURES
def test_the_frequency_of_1_is_the_sigmoid(temperature):
    draws = 20_000
    value = drawn(StraightThroughBernoulli(LOGITS, temperature=temperature), torch.Size([draws]))
    chance = torch.sigmoid(LOGITS)
    error = (value.mean(0) - chance) / (chance * (1 - chance) / draws).sqrt()
    assert error.abs().max() < 5


def test_expanded_draws_differ_and_keep_the_temperature():
    law = StraightThroughBernoulli(torch.zeros(()), temperature=0.25).expand([1000])
    assert law.temperature == 0.25
    assert isinstance(law, StraightThroughBernoulli)
    assert 400 < drawn(law, torch.Size()).sum() < 600


@TEMPERATURES
def test_log_prob_is_the_discrete_mass_of_any_copy_of_a_draw(temperature):
    law = StraightThroughBernoulli(LOGITS, temperature=temperature)
    value = drawn(law)
    chance = torch.sigmoid(LOGITS)
    mass = torch.where(value == 1, chance, 1 - chance)
    for copied in (value, value.clone(), torch.from_numpy(value.numpy()), copy.deepcopy(value)):
        torch.testing.assert_close(law.log_prob(copied).exp(), mass)


@pytest.mark.parametrize("prior", [0.5, 0.05, 0.999])
def test_kl_to_bernoulli_is_exact(prior):
    chance = torch.sigmoid(LOGITS)
    by_hand = chance * (chance / prior).log() + (1 - chance) * ((1 - chance) / (1 - prior)).log()
    q = StraightThroughBernoulli(LOGITS, temperature=0.1)
    p = dist.Bernoulli(torch.full_like(LOGITS, prior))
    mask = LOGITS > 0
    torch.testing.assert_close(kl_divergence(q, p), by_hand)
    torch.testing.assert_close(kl_divergence(q.to_event(2), p.to_event(2)), by_hand.sum())
    masked = kl_divergence(q.mask(mask), p.mask(mask))
    torch.testing.assert_close(masked, by_hand * mask)
    masked = kl_divergence(q.mask(mask).to_event(2), p.mask(mask).to_event(2))
    torch.testing.assert_close(masked, (by_hand * mask).sum())
    assert not kl_divergence(q, dist.Bernoulli(logits=LOGITS)).any()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_the_gradient_is_that_of_the_relaxed_sigmoid_at_the_same_noise(temperature):
    logits = LOGITS.clone().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        noise = torch.logit(torch.rand(SHAPE + LOGITS.shape, dtype=LOGITS.dtype))
    relaxed = torch.sigmoid((logits + noise) / temperature)
    (expected,) = torch.autograd.grad(relaxed.cos().sum() - relaxed.sum(), logits)
    value = drawn(StraightThroughBernoulli(logits, temperature=temperature), seed=3)
    assert torch.equal(value.detach(), (logits + noise > 0).double())
    outside = -relaxed.sin() - 1  # the derivative of the function above, at the relaxed value
    (got,) = torch.autograd.grad((value * outside.detach()).sum(), logits)
    torch.testing.assert_close(got, expected)


@given(st.integers(0, 2**32))
def test_sample_is_rsample_without_a_gradient(seed):
    law = StraightThroughBernoulli(LOGITS.clone().requires_grad_())
    value = drawn(law, seed=seed)
    sampled = drawn(law, seed=seed, method="sample")
    assert value.requires_grad
    assert not sampled.requires_grad
    assert torch.equal(value.detach(), sampled)


@TEMPERATURES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_extreme_logits_have_finite_values_and_gradients(dtype, temperature):
    logits = torch.tensor([-1e4, 1e4, 0.0], dtype=dtype, requires_grad=True)
    law = StraightThroughBernoulli(logits, temperature=temperature)
    value = drawn(law)
    assert is_binary(value)
    assert value[:, 0].sum() == 0
    assert value[:, 1].sum() == len(value)
    log_prob = law.log_prob(value.detach())
    (value.sum() + log_prob.sum()).backward()
    assert log_prob.isfinite().all()
    assert logits.grad.isfinite().all()


def test_noise_of_exactly_zero_keeps_the_gradient_finite(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda shape, **options: torch.zeros(shape, **options))
    logits = torch.zeros(3, requires_grad=True)
    value = StraightThroughBernoulli(logits).rsample()
    value.sum().backward()
    assert value.tolist() == [0.0] * 3
    assert logits.grad.isfinite().all()


def test_the_support_can_be_enumerated_and_its_masses_sum_to_one():
    law = StraightThroughBernoulli(LOGITS)
    total = law.log_prob(law.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones_like(LOGITS))


def test_values_other_than_0_and_1_are_refused():
    law = StraightThroughBernoulli(LOGITS, validate_args=True)
    with pytest.raises(ValueError, match="within the support"):
        law.log_prob(torch.full_like(LOGITS, 0.5))


def test_entropy_is_that_of_the_law():
    entropy = StraightThroughBernoulli(torch.zeros(1), temperature=0.1).entropy()
    assert float(entropy) == pytest.approx(math.log(2))
